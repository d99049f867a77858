"""How soon the explorer answers: its curves after a slider, a decoding on screen for the first time and again.

    python -m benchmarks.explorer [--repeats 15] [--json FILE]

Drives the explorer's own widgets in this process, from a control's new value to the value of the widget that shows it;
what a browser needs to draw it comes on top. Wall time.
"""

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.timing import table
from lab3.common.files import write_json
from lab3.common.machine import best_device, machine_kind
from lab3.common.paths import ROOT, SHIPPED, TOKENIZER
from lab3.data.cats import Cats
from lab3.explorer.core import TYPED
from lab3.explorer.widgets import explore
from lab3.model.tokenizer import load_tokenizer


def controls(box):
    """All widgets of an explorer: a dict, label -> the first that bears it, and the chart as "chart"."""
    found, todo = {}, [box]
    while todo:
        widget = todo.pop(0)
        found.setdefault("chart" if hasattr(widget, "curves") else getattr(widget, "description", None), widget)
        todo += getattr(widget, "children", ())
    return found


def measure(repeats):
    """Seconds, a dict, what was measured -> a list."""
    device = best_device()
    lab = SimpleNamespace(data=Cats(), tokenizer=load_tokenizer(SHIPPED / TOKENIZER).to(device), device=device,
                          work=ROOT / "none", missing={}, reports={}, answers=SimpleNamespace())
    lab.data.masked, lab.data.holes  # drawn once, when the first notebook begins
    began = time.perf_counter()
    box = explore(lab)
    opened = time.perf_counter()
    worker, by_label = box.worker, controls(box)
    worker.idle.wait()
    seconds = {"the explorer opens": [opened - began], "its first decoding is shown": [time.perf_counter() - began]}

    def change(label, value, wait):
        began = time.perf_counter()
        by_label[label].value = value
        if wait:
            assert worker.idle.wait(60)
        return time.perf_counter() - began

    def note(name, *one):
        seconds.setdefault(name, []).append(change(*one))

    by_label["schedule"].value = TYPED
    worker.idle.wait()
    for number in range(repeats):
        before = by_label["chart"].curves
        note("curves redrawn, the decoding in the background", "formula", f"1 - r^{number + 2}.5", False)
        assert by_label["chart"].curves != before
        worker.idle.wait()
    by_label["schedule"].value = "cosine"
    for total_iter in (8, 21):
        by_label["total_iter"].value = by_label["sweet_spot"].value = total_iter
        worker.idle.wait()
        for number in range(repeats):
            note(f"{total_iter} steps, decoded and shown", "seed", 100 * total_iter + number, True)
        for number in range(repeats):
            note(f"{total_iter} steps, shown again", "seed", 100 * total_iter + number, True)
    by_label["total_iter"].value = 8
    worker.idle.wait()
    drag = "a slider dragged over ten values: from the last one to its decoding"
    for number in range(repeats):  # ten decodings are asked for, of which the last one counts
        by_label["temperature"].value = 15
        by_label["seed"].value = 9_999 - number  # none of the ten is kept
        worker.idle.wait()
        for part in range(9):
            change("temperature", part, False)
            time.sleep(0.03)
        note(drag, "temperature", 9.0, True)
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = f"{machine_kind()}, threads: {torch.get_num_threads()}, PyTorch {torch.__version__}"
    print(f"{about}\n")
    seconds = measure(options.repeats)
    print(table(("", "median (ms)", "worst (ms)", "repeats"), [
        (name, f"{1000 * statistics.median(values):.0f}", f"{1000 * max(values):.0f}", len(values))
        for name, values in seconds.items()]))
    if options.json:
        write_json(options.json, {"machine": about, "seconds": seconds})
