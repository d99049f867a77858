"""Where things are kept: the shipped models, the reference answers, a run's tokenizer, the data set of a folder.

In: what the user named, or nothing. Out: paths and loaded objects.
"""

from pathlib import Path

from lab3.cats import Cats
from lab3.files import InputError
from lab3.photos import open_photos
from lab3.tokenizer import load_tokenizer, save_tokenizer

ROOT = Path(__file__).resolve().parent.parent
SOLUTIONS = ROOT / "solutions" / "work"
SHIPPED = ROOT / "data" / "checkpoints"
TOKENIZER = "tokenizer.safetensors"


def open_data(folder, *, skip_unreadable=False):
    """The pictures of a folder, or the embedded cats where `folder` is None. Raises `InputError`."""
    return Cats() if folder is None else open_photos(folder, skip_unreadable=skip_unreadable)


def tokenizer_of(run, data, path=None):
    """The tokenizer of a run's folder. A run without one gets a copy: of `path`, or of the shipped one for the cats.

    Raises:
        InputError: there is none for this data.
    """
    run = Path(run)
    kept = run / TOKENIZER if run.resolve() == SHIPPED else run / "tokenizer" / TOKENIZER
    if path is None and kept.is_file():
        return load_tokenizer(kept)
    if path is None and isinstance(data, Cats):
        path = SHIPPED / TOKENIZER
    if path is None:
        raise InputError(f"{kept}: no tokenizer for the pictures in {data.name} yet. "
                         f"Train one first: python -m lab3 train-tokenizer --data DIR --out {run}")
    tokenizer = load_tokenizer(path)
    save_tokenizer(kept, tokenizer)
    return tokenizer
