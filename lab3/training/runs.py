"""A training run's folder: checkpoints that resume exactly, and metrics.

In: modules, optimizers, numbers. Out: `checkpoint.safetensors`, `metrics.jsonl` and TensorBoard files in one folder.
A checkpoint is one file, replaced as a whole, and holds no pickle.
"""

import json
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from lab3.common.files import InputError, SaveError, atomic_path, load_tensors, load_weights, save_tensors
from lab3.common.paths import SHIPPED, TOKENIZER
from lab3.data.cats import Cats
from lab3.model.tokenizer import load_tokenizer, save_tokenizer
from lab3.model.tokens import weights_key

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
WRITTEN_WITH = "answers.txt"  # in a run's folder: the key of the answers that it began with


def save_training(path, modules, optimizers, about):
    """Save modules and optimizers (dicts by name) and `about` (JSON-able) into one file. Raises `SaveError`."""
    tensors, groups = {}, {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        for index, entry in state["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in entry.items()}
    save_tensors(path, tensors, about | {"param_groups": groups})


def load_training(path, modules, optimizers, identity=None):
    """Put back what `save_training` saved, and return its `about`.

    Args:
        identity: the settings of the training that is to go on; the checkpoint's must be the same.

    Raises:
        InputError: no such file, a damaged one, or one of another training.
    """
    tensors, about = load_tensors(path)
    if identity is not None:
        _same_training(path, about.get("identity", {}), json.loads(json.dumps(identity)))
    for name, module in modules.items():
        load_weights(module, _part(tensors, name), path)
    for name, optimizer in optimizers.items():
        state = {}
        for key, value in _part(tensors, name).items():
            index, entry = key.split("/", 1)
            state.setdefault(int(index), {})[entry] = value
        groups = about.get("param_groups", {}).get(name)
        if groups is None:
            raise InputError(f"{path}: holds no state of {name!r}, so it is no training checkpoint. "
                             "Start without --resume in another folder.")
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return about


def _same_training(path, saved, wanted):
    for name in wanted | saved:
        before, now = saved.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            _same_training(path, before, now)
        elif (before or None) != (now or None):  # an option that an older checkpoint lacks is off
            raise InputError(f"{path}: was made with {name} {before}, this training has {now}. "
                             "Use the settings it began with, or name another folder.")


@contextmanager
def locked(folder):
    """Keep other processes from training in a run's folder inside the block. Raises `InputError` if one does already.

    The system ends the lock with its process. Where a file system has no locks, there is none.
    """
    lock = FileLock(Path(folder) / ".lock")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another process is training here, such as the same notebook opened twice. "
                         "Stop that one, or wait until it is done.") from None
    except (OSError, NotImplementedError):  # where nothing can be written, saving says so
        pass
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder):
    """Delete the half-written files that a killed process left in a run's folder."""
    for path in Path(folder).glob(".*.part"):
        path.unlink(missing_ok=True)


def _part(tensors, name):
    return {key[len(name) + 1:]: value for key, value in tensors.items() if key.startswith(f"{name}/")}


class Metrics:
    """One line of JSON a step, and the same numbers for TensorBoard where it is installed (extra `tensorboard`).

    Args:
        folder: the run's folder.
        resume_from: lines after this step are dropped: they belong to work that was lost and is done again.
    """

    def __init__(self, folder, resume_from=0):
        self.path = Path(folder) / METRICS
        kept = [row for row in read_metrics(folder) if row["step"] <= resume_from] if resume_from else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder), purge_step=resume_from + 1)
        except ImportError:
            self.board = None

    def write(self, step, **values):
        """Note `values` (floats) for this step."""
        row = {"step": step, **values, "time": round(time.time(), 2)}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            for name, value in values.items() if self.board else ():
                self.board.add_scalar(name, value, step)
        except OSError as error:
            raise SaveError(f"{self.path}: could not be written ({error.strerror or error}). "
                            "Free some space; --resume goes on from the last checkpoint.") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with suppress(OSError):  # a full disk has been reported by then
            if self.board:
                self.board.close()


def read_metrics(folder):
    """The rows of a run's metrics, as dicts; a line that a kill cut short is left out."""
    path = Path(folder) / METRICS
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def part_generator(seed, part, device="cpu", rank=0):
    """Seed torch for one part of a training and give a generator on `device` for it.

    Every part draws from a seed of its own, so a training that resumes at a part draws what it would have drawn.

    Args:
        rank: the number of this process where many train together. The generator is the same in all, torch's own
            (dropout's) in none.
    """
    part_seed = (seed * 1_000_003 + part) % 2**63
    torch.manual_seed((part_seed + rank * 15_485_863) % 2**63)
    return torch.Generator(device).manual_seed(part_seed)


def milestone_file(percent):
    """The name of the weights that a run keeps after so many per cent of its training."""
    return f"maskgit-{percent:02d}.safetensors"


def tokenizer_of(run, data, path=None):
    """The tokenizer of a run's folder; where it has none, that of `path`, or the shipped one for the embedded cats.

    Raises:
        InputError: there is none for this data, its training is not finished, or the run has another one than `path`.
    """
    run = Path(run)
    kept = kept_tokenizer(run)
    if kept.is_file():
        tokenizer = load_tokenizer(kept)
        if path is not None and weights_key(load_tokenizer(path)) != weights_key(tokenizer):
            raise InputError(f"{run}: has a tokenizer of its own, another than {path}. Name another folder.")
        return tokenizer
    if (kept.parent / CHECKPOINT).is_file() and run.resolve() != SHIPPED:
        raise InputError(f"{kept.parent}: the tokenizer is not trained to the end. "
                         "Pass --resume to train-tokenizer first.")
    if path is None and isinstance(data, Cats):
        path = SHIPPED / TOKENIZER
    if path is None:
        raise InputError(f"{kept}: no tokenizer for the pictures in {data.name} yet. "
                         f"Train one first: python -m lab3 train-tokenizer --data DIR --out {run}")
    return load_tokenizer(path)


def kept_tokenizer(run):
    """Where a run's folder keeps its tokenizer."""
    return run / TOKENIZER if run.resolve() == SHIPPED else run / "tokenizer" / TOKENIZER


def keep_tokenizer(run, tokenizer):
    """Copy the tokenizer that a transformer was trained with into its run's folder, if it is not there."""
    if not kept_tokenizer(Path(run)).is_file():
        save_tokenizer(kept_tokenizer(Path(run)), tokenizer)
