"""Where things are kept: the shipped models, the reference answers, a run's tokenizer, the data set of a folder.

In: what the user named, or nothing. Out: paths and loaded objects.
"""

from pathlib import Path

from lab3.cats import Cats
from lab3.files import InputError
from lab3.photos import open_photos
from lab3.runs import CHECKPOINT
from lab3.tokenizer import load_tokenizer, save_tokenizer
from lab3.tokens import tokenizer_key

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS = ROOT / "solutions" / "work"
FAST = ROOT / "solutions" / "fast"  # those answers that can be faster with what an exercise does not allow
# The folders of answers that commands use unless others are named; students' copies hold their own answers alone.
ANSWERS = (FAST, SOLUTIONS) if SOLUTIONS.is_dir() else (ROOT / "work",)
SHIPPED = ROOT / "data" / "checkpoints"
TOKENIZER = "tokenizer.safetensors"


def open_data(folder, *, skip_unreadable=False):
    """The pictures of a folder, or the embedded cats where `folder` is None. Raises `InputError`."""
    return Cats() if folder is None else open_photos(folder, skip_unreadable=skip_unreadable)


def tokenizer_of(run, data, path=None):
    """The tokenizer of a run's folder; where it has none, that of `path`, or the shipped one for the embedded cats.

    Raises:
        InputError: there is none for this data, its training is not finished, or the run has another one than `path`.
    """
    run = Path(run)
    kept = kept_tokenizer(run)
    if kept.is_file():
        tokenizer = load_tokenizer(kept)
        if path is not None and tokenizer_key(load_tokenizer(path)) != tokenizer_key(tokenizer):
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
