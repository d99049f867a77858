"""Where things are kept: the reference answers, the shipped models, caches, and the names of a run's files.

In: nothing but the environment. Out: paths.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = ROOT / "solutions" / "work"
FAST = ROOT / "solutions" / "fast"  # those answers that can be faster with what an exercise does not allow
# The folders of answers that commands use unless others are named; students' copies hold their own answers alone.
ANSWERS = (FAST, SOLUTIONS) if SOLUTIONS.is_dir() else (ROOT / "work",)
SHIPPED = ROOT / "data" / "checkpoints"
LABELLED = SHIPPED / "labels"  # the folder of the shipped transformer that knows a cat's parts
TOKENIZER = "tokenizer.safetensors"
WEIGHTS, SUMMARY = "maskgit.safetensors", "maskgit.json"  # a trained transformer, and how it was trained


def cache_folder():
    """Where caches are kept: `LAB3_CACHE` where that is set, else `lab3` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LAB3_CACHE") or Path(base) / "lab3")
