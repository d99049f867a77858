"""The explorer as a page of its own: `make explore` serves it with Voila.

In: the folder of answers, where there is one. Out: the explorer, and under it what the kit's sweep found.
"""

from pathlib import Path
from types import SimpleNamespace

import ipywidgets as widgets

from lab3.common.files import InputError
from lab3.common.machine import best_device
from lab3.common.paths import SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS, work_folder
from lab3.common.plots import png, tag
from lab3.data.cats import Cats
from lab3.exercises.answers import link, load_answers
from lab3.exercises.examine import examine
from lab3.exercises.table import DECODING
from lab3.explorer.core import load_model
from lab3.explorer.sweep_panel import panel
from lab3.explorer.widgets import explore
from lab3.metrics.sweep import PRECOMPUTED, draw, read_sweep
from lab3.model.tokenizer import load_tokenizer

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
    work, device = Path(work or work_folder()), best_device()
    found = {name: namespace for name, namespace, report in examine(work) if report.passed}
    lab = SimpleNamespace(
        data=Cats(), tokenizer=load_tokenizer(SHIPPED / TOKENIZER).to(device), device=device, work=work, missing={},
        answers=SimpleNamespace(**link(found)), shipped=lambda: load_model(SHIPPED / WEIGHTS, device),
        trained=lambda: load_model(work / WEIGHTS, device))
    shown = [widgets.HTML(INTRODUCTION), explore(lab), widgets.HTML(SWEEP)]
    if not set(DECODING) <= found.keys():
        try:
            lab.answers = load_answers(SOLUTIONS)
        except InputError:  # students' copies have none
            ready = png(draw(read_sweep(PRECOMPUTED)))
            return widgets.VBox([*shown, widgets.HTML(tag(ready, "Heat maps of the distance"))])
    return widgets.VBox([*shown, panel(lab)])
