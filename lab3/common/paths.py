"""Where things are kept: the reference answers, the shipped models, caches, and the names of a run's files.

In: nothing but the environment. Out: paths.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# Data and notebooks: the project's folder, or the part of it that comes inside an installed package.
INSTALLED = not (PACKAGE.parent / "data" / "checkpoints").is_dir()
ROOT = PACKAGE / "kit" if INSTALLED else PACKAGE.parent
# The reference answers: an installed grader brings them.
SOLUTIONS = (PACKAGE.parent / "grader" if INSTALLED else ROOT) / "solutions" / "work"
FAST = SOLUTIONS.parent / "fast"  # those answers that can be faster with what an exercise does not allow
OWN = (Path.cwd() if INSTALLED else ROOT) / "work"  # a student's answers, where `LAB3_WORK` does not say otherwise
# The folders of answers that commands use unless others are named; students' copies hold their own answers alone.
ANSWERS = (FAST, SOLUTIONS) if SOLUTIONS.is_dir() else (OWN,)
SHIPPED = ROOT / "data" / "checkpoints"
LABELLED = SHIPPED / "labels"  # the folder of the shipped transformer that knows a cat's parts
LITE0 = SHIPPED / "lite0" / "lite0.safetensors"
TOKENIZER = "tokenizer.safetensors"
WEIGHTS, SUMMARY = "maskgit.safetensors", "maskgit.json"  # a trained transformer, and how it was trained


def answer_folders():
    """The folders of answers that commands use unless others are named. Raises `InputError`."""
    return list(ANSWERS) if SOLUTIONS.is_dir() else [work_folder()]


def work_folder(default=OWN):
    """The folder of a student's answers: `LAB3_WORK` where that is set, else `default`. Raises `InputError`."""
    return _expanded(os.environ.get("LAB3_WORK") or default, "LAB3_WORK")


def cache_folder():
    """Where caches are kept: `LAB3_CACHE` where that is set, else `lab3` in the user's cache folder.

    Raises:
        InputError: the user has no home folder, and `LAB3_CACHE` does not name another.
    """
    chosen = os.environ.get("LAB3_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "lab3")
    return _expanded(chosen, "LAB3_CACHE")


def _expanded(path, variable):
    try:
        return Path(path).expanduser()
    except RuntimeError:
        from lab3.common.files import InputError  # not above: it needs PyTorch, and `lab3 --help` needs this module

        raise InputError(f"{path}: you have no home folder on this machine. Set {variable} to a folder's full "
                         "path.") from None
