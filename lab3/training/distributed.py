"""One training in many processes: torchrun starts them, each computes the transformer for its share of every batch.

In: what torchrun says in the environment, a transformer. Out: one that spreads its rows over the processes.
Every process runs the same program on the whole batch: the training function draws the same masks, computes the same
loss and takes the same step in all of them. Only the transformer is shared out, so one process or many give one curve.
"""

import gc
import signal
import sys
import time
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from os import devnull, environ, getppid

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from lab3.common.files import InputError
from lab3.model.transformer import BidirectionalTransformer

PARENT = getppid()  # torchrun, where that started this process


def processes():
    """How many processes train together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """The number of this process among them, from 0."""
    return dist.get_rank() if processes() > 1 else 0


@contextmanager
def joined():
    """Work with the other processes that torchrun started; without it, alone.

    Process 0 alone shows what is printed. When the work fails, each process ends with the exit status of its own error,
    though torchrun sends SIGTERM to those that are left as soon as the first has ended.

    Yields:
        `tell(line)`, which says an error on standard error: in the process that fails first, since others only follow.
    """
    if int(environ.get("WORLD_SIZE", 1)) == 1 or not dist.is_torchelastic_launched():
        yield lambda line: print(line, file=sys.stderr)
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    store, number, count = next(dist.rendezvous("env://"))
    # A day: others wait while process 0 encodes pictures. torchrun, not a time limit, notices a process that died.
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=timedelta(days=1))
    stderr, failed = sys.stderr, False

    def tell(line):
        nonlocal failed
        failed = True
        if store.add("told", 1) == 1:
            print(line, file=stderr, flush=True)

    with ExitStack() as stack:
        if number > 0:
            nowhere = stack.enter_context(open(devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield tell
        except BaseException:
            failed = True
            raise
        finally:
            if failed:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                began = time.monotonic()
                with suppress(dist.DistError):  # torchrun keeps the store, and may be gone
                    store.add("failed", 1)
                    while store.add("failed", 0) < count and time.monotonic() < began + 5:  # some may hang elsewhere
                        time.sleep(0.02)
            else:
                # What still holds the group would keep its threads alive, and Python aborts where one of them drops a
                # tensor while the interpreter ends. Without holders, destroying the group waits for its threads.
                gc.collect()
                dist.destroy_process_group()


def claim_device():
    """Make a GPU of its own the `cuda` of this process; nothing on a CPU.

    Raises:
        InputError: there are more processes than GPUs.
    """
    if processes() == 1 or not torch.cuda.is_available():
        return
    if int(environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise InputError(f"{environ['LOCAL_WORLD_SIZE']} processes cannot share {torch.cuda.device_count()} GPUs. "
                         f"Pass --nproc-per-node={torch.cuda.device_count()} to torchrun.")
    torch.cuda.set_device(int(environ["LOCAL_RANK"]))


def on_first(work):
    """Do `work()` in process 0 alone, for files and other things that are there once.

    Returns:
        What it returns (picklable), in all processes. An error of it is raised in all of them too.

    Raises:
        SystemExit: torchrun was killed.
    """
    if processes() == 1:
        return work()
    if getppid() != PARENT:  # torchrun was killed: what it left behind must not write where its successor does
        raise SystemExit(1)
    outcome = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        raise error
    return result


def shared(transformer):
    """The transformer as training functions see it: spread over the processes where there are many."""
    return transformer if processes() == 1 else SharedTransformer(transformer)


class SharedTransformer(BidirectionalTransformer):
    """A transformer that computes its rows in all processes, (B, T) -> (B, T, V + 1) in each.

    All processes call it with the same batch. Each computes a share of the rows, as equal as can be, and gets the
    logits of all. From the same logits all compute the same loss; each takes its gradient back through its own
    rows, and DistributedDataParallel adds the parts up. The price is that each process holds the whole batch's logits.

    Args:
        transformer: a `BidirectionalTransformer`, whose parameters are trained.
    """

    def __init__(self, transformer):
        torch.nn.Module.__init__(self)  # it has no layers of its own
        self.config = transformer.config
        self.parallel = DistributedDataParallel(transformer)

    def forward(self, z_indices, where=None):
        """Logits for every place, or for some, as those of `BidirectionalTransformer`."""
        count, number = processes(), rank()
        rows = z_indices.tensor_split(count)
        counts = [len(part) for part in rows]  # of logits along their first axis, for each process
        places = [None] * count
        if where is not None:
            places = where.tensor_split(count)
            counts = torch.stack([part.sum() for part in places]).tolist()
        mine, wanted = rows[number], places[number]
        if len(mine) == 0:  # fewer rows than processes; an answer's attention need not take a batch of none
            mine, wanted = z_indices[:1], None if where is None else where[:1]
        logits = self.parallel(mine, wanted)[:counts[number]]
        return GatherLogits.apply(logits, counts)


class GatherLogits(torch.autograd.Function):
    """The logits of all processes in one tensor; the gradient goes back to those that this process computed."""

    @staticmethod
    def forward(ctx, logits, counts):
        ctx.counts = counts
        padded = logits.new_zeros(max(counts), *logits.shape[1:])  # gloo gathers tensors of one shape
        padded[:len(logits)] = logits
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient):
        # Of parts that add up DistributedDataParallel takes the mean: times their number gives the sum.
        return gradient.split(ctx.counts)[rank()] * len(ctx.counts), None
