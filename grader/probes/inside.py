"""What runs inside the kernel that holds a student's answer: inputs from a seed, observations, how they are sent.

In: the text of an answer, the text of a probe, a seed. Out: what the answer did, as data. Nothing here knows what is
right or judges, and nothing that comes out of a kernel is trusted. The kernel has this file as module `lab3_probes`;
the grader runs the reference answers through the same functions.
"""

import base64
import contextlib
import ctypes
import functools
import itertools
import json
import math
import os
import random
import re
import sys
import warnings
from types import FunctionType

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import lab3
from lab3.common.files import InputError
from lab3.exercises.answers import answer_file, defined, link, run_answer
from lab3.exercises.checks import attention
from lab3.exercises.checks.tools import SEED
from lab3.exercises.table import EXERCISES

__all__ = ["EXERCISES", "F", "lab3", "math", "nn", "np", "torch"]

MIME = "application/vnd.lab3.observation"
namespaces = {}  # of the answers in this kernel, by exercise
current = {}  # the namespace of the answer that is being observed
observed = None  # its exercise


class Draw:
    """Inputs of a probe: the same seed gives the same ones."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def integer(self, low, high):
        """An int in low ... high."""
        return int(self.rng.integers(low, high + 1))

    def number(self, low, high):
        """A float in [low, high)."""
        return float(self.rng.uniform(low, high))

    def one_of(self, options):
        """One item of a sequence."""
        return options[self.integer(0, len(options) - 1)]

    def shuffled(self, items):
        """A list of the items in another order."""
        items = list(items)
        return [items[i] for i in self.rng.permutation(len(items))]

    def normal(self, *shape, scale=1.0):
        """A float32 tensor of normal draws."""
        return torch.from_numpy(self.rng.normal(scale=scale, size=shape).astype(np.float32))

    def tokens(self, *shape, V):
        """A long tensor of codes 0 ... V - 1."""
        return torch.from_numpy(self.rng.integers(V, size=shape))

    def mask(self, tokens, *counts):
        """A mask (len(counts), tokens) that hides so many tokens in each row, at random places."""
        ranks = torch.from_numpy(np.stack([self.rng.permutation(tokens) for _ in counts]))
        return ranks < torch.tensor(counts)[:, None]

    def alike(self, *counts, V):
        """Logits (T, V + 1): each of T places chooses among so many random codes, all equally likely.

        log p(chosen) of a place is then -log(count), whatever is drawn.
        """
        logits = torch.full((len(counts), V + 1), -60.0)
        for place, count in enumerate(counts):
            logits[place, torch.from_numpy(self.rng.permutation(V)[:count])] = 0.0
        return logits

    def ladder(self, T, V):
        """Logits (T, V + 1) with one likeliest code a place, and the places' ranks, 0 the one least sure of it.

        Each place has a constant of its own on top, which moves no probability.
        """
        rank, best = torch.from_numpy(self.rng.permutation(T)), self.tokens(T, V=V)
        logits = torch.zeros(T, V + 1)
        logits[torch.arange(T), best] = 0.5 + 6 * rank / T
        logits += self.normal(T, 1, scale=5)
        logits[:, V] = -60.0
        return logits, rank

    def generator(self):
        """A torch.Generator in a state of its own."""
        return torch.Generator().manual_seed(int(self.rng.integers(2**62)))

    def generators(self):
        """Seven generators: three in one state (0, 3, 4), two in a later one of it (1, 2), two in another (5, 6)."""
        first, other = self.generator(), self.generator()
        later = first.clone_state()
        torch.rand(1000, generator=later)
        return [one.clone_state() for one in (first, later, later, first, first, other, other)]


def attempt(call, *args, **options):
    """What a call gives: {"value": ...}, or {"error": ...} as `describe` gives it."""
    try:
        return {"value": call(*args, **options)}
    except (Exception, SystemExit) as error:
        return {"error": describe(error)}


def describe(error):
    """An exception as data: its name, whether it is a ValueError, its text, and the line of the answer it left.

    The name is that of the first of its classes that is Python's own.
    """
    lines, entry = [], error.__traceback__
    while entry:
        if entry.tb_frame.f_code.co_filename == f"{observed}.py":
            lines.append(entry.tb_lineno)
        entry = entry.tb_next
    kind = next(one for one in type(error).__mro__ if one.__module__ == "builtins")
    return {"type": kind.__name__, "value_error": isinstance(error, ValueError), "text": str(error)[:2000],
            "line": lines[-1] if lines else None}


@contextlib.contextmanager
def using(**names):
    """Other globals for the answer inside the block, such as `sample_mask=...`."""
    before = dict(current)
    current.update(names)
    try:
        yield
    finally:
        for name in names:
            if name in before:
                current[name] = before[name]
            else:
                current.pop(name, None)


def weighted(module, **weights):
    """A module in eval mode, with these weights in its linear layers of those names, and biases of 0."""
    with torch.no_grad():
        for name, weight in weights.items():
            layer = getattr(module, name)
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.zero_()
    return module.eval()


def heard(attention, x):
    """An attention's output less that for values of 0: what else is added, such as x, is another probe's question."""
    whole, weight = attention(x.clone()), attention.value.weight.clone()
    nothing = weighted(attention, value=0 * weight)(x.clone())
    weighted(attention, value=weight)
    return whole - nothing


def every_nth(width, heads):
    """The columns of a width, every `heads`-th one beside one another."""
    return np.arange(width).reshape(-1, heads).T.flatten()


def one_by_one(attention, x):
    """What each place of x (B, T, dim) gets where it sees none after it: (B, T, dim)."""
    return torch.cat([attention(x[:, :t + 1])[:, -1:] for t in range(x.shape[1])], dim=1).detach()


def known(name):
    """What the answer finds under that global name, such as the earlier answer `sample_mask`."""
    return current[name]


def along(gamma, draw):
    """Ratios from 0 to 1, both included, and a schedule's values there."""
    ratio = [0.0, 1.0, *(draw.number(0.05 + 0.1 * i, 0.15 + 0.1 * i) for i in range(9))]
    return {"ratio": ratio, "values": np.array([float(gamma(r)) for r in ratio])}


def rates(optimizer, scheduler, steps, lr=1.0):
    """The learning rate, divided by lr, before each of so many steps."""
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"] / lr))
        optimizer.step()
        scheduler.step()
    return found


def distance_of(frechet_distance, *arguments):
    """A distance as (real, imaginary), None where nothing comes back."""
    value = frechet_distance(*arguments)
    return None if value is None else [float(np.real(value)), float(np.imag(value))]


def dealt(mask, strict=False):
    """A `sample_mask` that deals out the rows of a mask (N, T) in their order, over and over.

    Where it is strict, and asked for another prob_type than the default, for one ratio or without a device, it inverts
    them.
    """
    rows = itertools.cycle(mask)

    def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
        other = prob_type != "topk" or (ratio is not None and np.ndim(ratio) == 0) or device is None
        return torch.stack([next(rows) for _ in range(batch)]) ^ (strict and other)

    return sample_mask


def sloped(slopes, values=None):
    """An `mvtm_loss` for batches that hold one token n alone: slopes[n] * the mean logit + values[n].

    A step of plain gradient descent then takes lr * slopes[n] off the sum of a `ByToken`'s table, whatever is hidden.
    """
    def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
        n = int(targets.flatten()[0])
        return slopes[n] * logits.mean() + (values[n] if values else 0.0)

    return mvtm_loss


def watched(model, note):
    """A list that grows by note(module, z_indices, logits) whenever the model, or a copy of it, makes a pass."""
    notes = []
    model.register_forward_hook(lambda module, args, logits: notes.append(note(module, *args, logits)))
    return notes


def trained(train_one_epoch, model, loader, V, lr=0.1, **options):
    """What an epoch of plain gradient descent gives back."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0)
    options = {"mask_token_id": V, "device": "cpu"} | options
    return train_one_epoch(model, loader, optimizer, scheduler, **options)


class Loader:
    """Batches to be counted and gone through, as those of a DataLoader; after the last one comes `error`, if any."""

    def __init__(self, batches, error=None):
        self.batches, self.error = list(batches), error

    def __len__(self):
        return len(self.batches) + (self.error is not None)

    def __iter__(self):
        yield from self.batches
        if self.error is not None:
            raise self.error


def loaders(draw, V, T):
    """Loaders with and without a batch of tokens (B, T), as (what it is, loader), in any order."""
    return draw.shuffled([
        ("a list without a batch", []), ("no batch", Loader([])), ("one row", [draw.tokens(1, T, V=V)]),
        ("an empty data set", torch.utils.data.DataLoader(draw.tokens(0, T, V=V), batch_size=2)),
        ("two batches", torch.utils.data.DataLoader(draw.tokens(5, T, V=V), batch_size=3)),
        ("one batch", Loader([draw.tokens(3, T, V=V)]))])


class Stub(nn.Module):
    """A transformer with the same logits (T, V + 1) in every row, whatever it sees; it notes what it saw."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = nn.Parameter(logits, requires_grad=False), []

    def forward(self, z_indices):
        self.seen.append(z_indices.clone())
        return self.logits.expand(len(z_indices), -1, -1).clone()


class ByToken(nn.Module):
    """A transformer whose logits at a place depend on the token that it sees there alone: a table (V + 1, V + 1)."""

    def __init__(self, table):
        super().__init__()
        self.table, self.seen = nn.Parameter(table), []

    def forward(self, z_indices):
        self.seen.append(z_indices.clone())
        return F.embedding(z_indices, self.table)


class ByContext(nn.Module):
    """A transformer with one of several tables of logits (K, T, V + 1): all that a row shows decides which one.

    Where K is a prime larger than T and V, one other token in a row always leads to another table.
    """

    def __init__(self, tables):
        super().__init__()
        self.tables = nn.Parameter(tables, requires_grad=False)

    @staticmethod
    def key(z_indices, K):
        """The table of each row, (B,)."""
        weights = torch.arange(1, z_indices.shape[1] + 1, device=z_indices.device)
        return ((z_indices + 1) * weights).sum(dim=1) % K

    def forward(self, z_indices):
        return self.tables[self.key(z_indices, len(self.tables))]


def take_attention_away():
    """Let all ready-made attention raise a RuntimeError in this process from now on, whatever calls it.

    Nothing that an answer can reach holds what was there before: no name, no frame, not the garbage collector.
    """
    def gone(*args, **options):
        raise RuntimeError("ready-made attention is not allowed in this exercise")

    modules = {name: one for name, one in sys.modules.items() if re.match(r"torch\..*attention", name)}
    functions = [F.multi_head_attention_forward, *vars(nn.MultiheadAttention).values()]
    functions += [one for module in modules.values() for one in vars(module).values()
                  if getattr(one, "__module__", None) in modules]  # not what it imports, such as dataclass
    for one in functions:
        if isinstance(one, FunctionType) and not one.__code__.co_freevars:
            code = one.__code__
            one.__code__ = gone.__code__.replace(co_name=code.co_name, co_qualname=code.co_qualname)
    sys.modules["torch.nn.attention.flex_attention"] = None
    operators = torch._C._dispatch_library("IMPL", "aten", "")
    ready_made = [name for name in torch._C._dispatch_get_all_op_names()
                  if re.match(r"aten::.*(attention|transformer_encoder)", name)]
    keys = [key for key in torch._C.DispatchKey.__members__ if torch._C._parse_dispatch_key(key) is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that they are overridden
        for name, key in itertools.product(ready_made, keys):
            if torch._C._dispatch_has_kernel_for_dispatch_key(name, key):
                operators.impl(name.removeprefix("aten::"), key, gone, False)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(operators))  # else they would come back with its end


def eager(model=None, **options):
    """`torch.compile` where there is no compiler: what it is given, as it is."""
    return functools.partial(eager, **options) if model is None else model


def load(exercise, text):
    """Run the text of an answer's cell in a namespace of its own, and let the answers of this kernel find it.

    Raises whatever the answer raises, or `InputError` where it does not define its name.
    """
    global observed
    observed = exercise
    if exercise == "multi_head_attention":
        attention.formulas(SEED)  # of the public checks
        take_attention_away()
    try:
        namespaces[exercise] = run_answer(exercise, answer_file(text), f"{exercise}.py", defined(namespaces))
    except InputError as error:
        raise error.__cause__ or error from None
    link(namespaces)


def observe(look, exercise, seed, given=None):
    """Call a probe's function on an answer.

    Args:
        look: a function (answer, draw) -> an observation.
        exercise: the answer's id.
        seed: an int, for `draw` and the global random states.
        given: the namespaces of answers, by exercise; default: those of this kernel.

    Returns:
        {"seen": observation}, or {"error": ...} as `describe` gives it.
    """
    global current, observed
    current, observed = (namespaces if given is None else given)[exercise], exercise
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = attempt(look, current[EXERCISES[exercise].defines], Draw(seed))
    return {"seen": result["value"]} if "value" in result else result


def encode(value):
    """An observation as JSON text: dicts, lists, numbers, texts; arrays and tensors as their bytes."""
    return json.dumps(value, default=_array, allow_nan=True)


def _array(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).contiguous().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return {"array": [str(value.dtype), list(value.shape), base64.b64encode(np.ascontiguousarray(value)).decode()]}
    return {"other": type(value).__name__}


def load_ipython_extension(shell):
    """Give a kernel the cells `%%answer EXERCISE`, `%%probe EXERCISE NAME SEED` and `%%check EXERCISE`."""
    def show(result):
        display({MIME: encode(result)}, raw=True)

    def answer(line, cell):
        with quiet():
            result = attempt(load, line.strip(), cell)
        show({"seen": None} if "value" in result else result)

    def probe(line, cell):
        exercise, name, seed = line.split()
        scope = dict(globals())
        exec(compile(cell, f"<{name}>", "exec"), scope)
        with quiet():
            result = observe(scope[name], exercise, int(seed))
        show(result)

    def check(line, cell):
        exercise = line.strip()
        report = checks.check(exercise, namespaces[exercise])
        show({"seen": {"passed": report.passed, "message": report.message}})

    from IPython.display import display

    from lab3.exercises import checks

    torch.compile = eager
    for magic in (answer, probe, check):
        shell.register_magic_function(magic, "cell")


@functools.cache
def nowhere():
    """Where goes what an answer prints; it stays open, since an answer may keep it: `def log(text, out=sys.stdout)`."""
    return open(os.devnull, "w", encoding="utf-8", errors="replace")


@contextlib.contextmanager
def quiet():
    """What an answer prints costs nothing: it goes nowhere."""
    with contextlib.redirect_stdout(nowhere()), contextlib.redirect_stderr(nowhere()):
        yield
