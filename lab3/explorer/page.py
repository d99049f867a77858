"""The explorer as a page of its own: `make explore` serves it with Voila.

In: the folder of answers, where there is one. Out: the explorer, and under it what the kit's sweep found.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import ipywidgets as widgets

from lab3.common import plots
from lab3.common.files import InputError
from lab3.common.machine import best_device
from lab3.common.paths import ROOT, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.common.plots import tag
from lab3.data.cats import Cats
from lab3.exercises.answers import link, load_answers
from lab3.exercises.examine import examine
from lab3.exercises.fallbacks import TorchAttention
from lab3.exercises.table import DECODING
from lab3.explorer.sweep_panel import panel
from lab3.explorer.widgets import explore
from lab3.metrics import sweep
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer

INTRODUCTION = """<h1>The schedule explorer</h1>
<p style="line-height: 1.45; max-width: 52em">A masked image model fills a hole step by step. A schedule, gamma,
says how many tokens stay hidden after each step; the model's confidence says which. Change anything and see what it
does.</p>"""
SWEEP = """<h2>All settings at once</h2>
<p>The distance of filled pictures to their originals, for schedules, steps and temperatures.</p>"""


def page(work=None):
    """The page's widgets.

    Args:
        work: the folder of answers; None: what `LAB3_WORK` says, else `work/`. Answers that pass their checks are
            choices beside the kit's.
    """
    work, device = Path(work or os.environ.get("LAB3_WORK") or ROOT / "work"), best_device()
    found = {name: namespace for name, namespace, report in examine(work) if report.passed}
    lab = SimpleNamespace(
        data=Cats(), tokenizer=load_tokenizer(SHIPPED / TOKENIZER).to(device), device=device, work=work, missing={},
        answers=SimpleNamespace(**link(found)), shipped=lambda: _model(SHIPPED / WEIGHTS, device),
        trained=lambda: _model(work / WEIGHTS, device))
    shown = [widgets.HTML(INTRODUCTION), explore(lab), widgets.HTML(SWEEP)]
    if not set(DECODING) <= found.keys():
        try:
            lab.answers = load_answers(SOLUTIONS)
        except InputError:  # students' copies have none
            ready = plots.png(sweep.draw(sweep.read_sweep(sweep.PRECOMPUTED)))
            return widgets.VBox([*shown, widgets.HTML(tag(ready, "Heat maps of the distance"))])
    return widgets.VBox([*shown, panel(lab)])


def _model(path, device):
    return load_transformer(path, TorchAttention).to(device)
