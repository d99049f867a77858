"""What a notebook prints as it begins: what the machine and the kit have, and how long its long cells take here.

In: a notebook's number, a preset, a device, the folder of answers. Out: lines of text.
"""

import os
import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from lab3.common.files import read_json
from lab3.common.machine import bfloat16_pays
from lab3.common.paths import OWN, SHIPPED, SUMMARY, TOKENIZER, WEIGHTS
from lab3.common.progress import in_notebook
from lab3.presets import TransformerConfig
from lab3.training.expected_time import as_words, decoding_seconds, training_seconds

# What a notebook's cells compute in the preset `cpu`, a training aside: as much as filling so many pictures.
WORK = {"03": 900, "05": 2100, "06": 7100, "07": 2050}
COLOURS = {"[OK]": 32, "[FAIL]": 31, "[TODO]": 33}  # ANSI: green, red, yellow


def say(text):
    """Print a message; in a notebook, a first line that begins with a verdict in the verdict's colour."""
    first, *others = text.split("\n")
    colour = COLOURS.get(first.split(" ")[0])
    if colour and in_notebook() and "LAB3_STATIC" not in os.environ:
        first = f"\x1b[{colour}m{first}\x1b[0m"
    print("\n".join([first, *others]))


def print_environment(notebook, preset, device, work):
    """Print what the machine and the kit have, a line each; makes the folder `work`."""
    number = "bfloat16" if bfloat16_pays(device.type) else "float32"
    print(f"lab3, notebook {notebook}, preset {preset.name}")
    _line(sys.version_info >= (3, 11), f"Python {platform.python_version()}", "lab3 needs Python 3.11 or later")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"threads: {torch.get_num_threads()}"
    _line(True, f"PyTorch {torch.__version__} on {device.type} ({where}), {number}")
    _line(all((SHIPPED / name).is_file() for name in (TOKENIZER, WEIGHTS)), "the kit's tokenizer and transformer",
          f"{SHIPPED} has no weights: download the kit again")
    try:
        work.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(work).free / 1e9
        near = work.is_relative_to(OWN.parent) and work.drive == Path.cwd().drive
        shown = os.path.relpath(work) if near else work
        _line(os.access(work, os.W_OK) and free > 0.5, f"answers go to {shown} ({free:.0f} GB free)",
              f"{work} cannot be written or is nearly full: set LAB3_WORK to another folder")
    except OSError as error:
        _line(False, "", f"{work}: {error.strerror}. Set LAB3_WORK to another folder")


def print_expected_time(notebook, preset, device, data):
    """Print how long this notebook's cells take here, if that is long."""
    if notebook not in WORK:
        return
    share = len(data.test[:preset.decoding.test_pictures]) / len(data.test)
    kits = TransformerConfig(**read_json(SHIPPED / SUMMARY)["transformer"])
    training = training_seconds(preset, device, len(data.train)) if notebook == "03" else 0
    seconds = training + decoding_seconds(replace(preset, transformer=kits), device, round(share * WORK[notebook]))
    print(f"       Expected here: the cells take about {as_words(seconds)} in all"
          + (f", the training {as_words(training)} of it." if training else "."))


def _line(good, text, remedy=""):
    say(f"[OK]   {text}" if good else f"[FAIL] {remedy}")
