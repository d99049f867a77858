"""The exercises: their ids, where answers are kept, how they are read and exported.

In: a folder of answers, `work/` or `solutions/work/`: one file an exercise. Out: the answers, by name.
"""

import linecache
from pathlib import Path
from types import SimpleNamespace

from lab3.files import InputError, write_text

# Each exercise's id, the name that its answer defines, and the notebook that asks for it.
EXERCISES = {
    "multi_head_attention": ("MultiHeadAttention", "01"),
    "sample_mask": ("sample_mask", "02"),
    "masked_forward": ("masked_forward", "02"),
    "mvtm_loss": ("mvtm_loss", "02"),
    "configure_optimizers": ("configure_optimizers", "03"),
    "train_one_epoch": ("train_one_epoch", "03"),
    "eval_one_epoch": ("eval_one_epoch", "03"),
    "gamma_func": ("gamma_func", "04"),
    "inpainting": ("inpainting", "05"),
    "iterative_decode": ("iterative_decode", "05"),
    "frechet_distance": ("frechet_distance", "06"),
}

MARK = "#| exercise:"

# What every notebook imports in its first cell, so that an answer's cell can count on it.
IMPORTS = """\
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3
"""


def exercise_of(cell):
    """The exercise id in a cell's first line, or None. Raises `InputError` for an id that does not exist."""
    first = cell.lstrip().split("\n", 1)[0].strip()
    if not first.startswith(MARK):
        return None
    name = first.removeprefix(MARK).strip()
    if name not in EXERCISES:
        raise InputError(f"exercise {name!r} does not exist. The exercises are: {', '.join(EXERCISES)}.")
    return name


def answer_file(cell):
    """The text of an answer's file: the imports it counts on, then the cell."""
    return f"{IMPORTS}\n\n{cell.strip()}\n"


def export_answers(sources, folder):
    """Write the answers in jupytext sources (paths) to `folder`, one file an exercise; returns the paths written."""
    import jupytext

    written = []
    for source in sources:
        for cell in jupytext.read(source).cells:
            name = exercise_of(cell.source) if cell.cell_type == "code" else None
            if name:
                code = "\n".join(line for line in cell.source.splitlines()
                                 if line.strip() not in ("### BEGIN SOLUTION", "### END SOLUTION"))
                path = Path(folder) / f"{name}.py"
                write_text(path, answer_file(code))
                written.append(path)
    return written


def load_answers(folder, names=tuple(EXERCISES)):
    """Run the answers in `folder` and give what they define.

    All run in one namespace, so an answer finds the others that it builds on by name.

    Args:
        folder: holds `NAME.py` for each exercise.
        names: the exercises wanted.

    Returns:
        A namespace with the answers, such as `.MultiHeadAttention` and `.sample_mask`.

    Raises:
        InputError: an answer is missing, fails when it runs, or does not define its name.
    """
    shared = {"__name__": "lab3_answers"}
    for name in names:
        defines, notebook = EXERCISES[name]
        path = Path(folder) / f"{name}.py"
        if not path.is_file():
            raise InputError(f"{path}: no answer to {name} yet. Run its cell in notebook {notebook}.")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable as text ({error}). "
                             f"Run its cell in notebook {notebook} again.") from None
        # Tracebacks and inspect.getsource show the answer's lines also when the file changes later.
        linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
        try:
            exec(compile(text, str(path), "exec"), shared)
        except Exception as error:
            raise InputError(f"{path}: the answer to {name} fails when it runs ({type(error).__name__}: {error}). "
                             f"Mend it in notebook {notebook} and run its cell again.") from error
        if defines not in shared:
            raise InputError(f"{path}: the answer to {name} does not define {defines}. "
                             f"Keep that name in notebook {notebook}.")
    return SimpleNamespace(**{EXERCISES[name][0]: shared[EXERCISES[name][0]] for name in names})


if __name__ == "__main__":
    solutions = Path(__file__).resolve().parent.parent / "solutions"
    for path in export_answers(sorted((solutions / "source").glob("*.py")), solutions / "work"):
        print(path)
