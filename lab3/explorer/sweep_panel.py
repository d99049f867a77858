"""A panel of sweeps for notebooks: the kit's own at once, and one that fills in while other cells run.

In: a `Lab`. Out: widgets.
"""

import html
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

from lab3.common.plots import png, tag
from lab3.metrics.sweep import PRECOMPUTED, describe, draw, read_sweep, subject, sweep, sweep_key


def panel(lab, grid=None):
    """Show sweeps: the kit's own at once, and one of your own that fills in while you go on working.

    Where nobody can use widgets, because `LAB3_STATIC` or nbgrader's `NBGRADER_EXECUTION` is set in the environment, it
    is the figure of the kit's sweep alone.

    Args:
        lab: what `lab3.start` gives; sweeps of its models are kept in `work/sweeps/`.
        grid: a `Grid`; None: the kit's.

    Returns:
        A `VBox` of widgets; its children are the controls, one line of text, and the picture. Or a figure.
    """
    ready = read_sweep(PRECOMPUTED)
    if os.environ.get("LAB3_STATIC") or os.environ.get("NBGRADER_EXECUTION"):
        return draw(ready)

    grid = grid or ready.grid
    models = {"the kit's model, swept beforehand": None,
              "the kit's model, your decoding": lab.shipped, "your model, your decoding": lab.trained}
    now, stopped = _controls(list(models), grid.pictures), threading.Event()

    def begin(_):
        stopped.clear()
        _lock(now, True)
        now.said.value = "Getting ready."
        wanted = replace(grid, pictures=now.pictures.value)
        now.box.thread = threading.Thread(
            target=_run, args=(now, lab, now.model.value, models[now.model.value], wanted, stopped), daemon=True)
        now.box.thread.start()

    def halt(_):
        now.stop.disabled = True
        stopped.set()

    def choose(_):
        now.start.disabled = now.pictures.disabled = models[now.model.value] is None
        if now.start.disabled:
            _show(now, ready)
        else:
            now.said.value = "Start runs what is missing, some minutes; you can go on working, and stop at any time."

    now.start.on_click(begin)
    now.stop.on_click(halt)
    now.model.observe(choose, "value")
    choose(None)
    return now.box


def _controls(models, pictures):
    """The panel's widgets by name."""
    import ipywidgets as widgets

    wide = {"style": {"description_width": "5em"}}
    row = {
        "model": widgets.Dropdown(description="Model", options=models, layout={"width": "26em"}, **wide),
        "pictures": widgets.Dropdown(description="Pictures", options=sorted({16, 32, 64, pictures}), value=pictures,
                                     layout={"width": "11em"}, **wide),
        "start": widgets.Button(description="Start", icon="play", tooltip="Decode what is missing", disabled=True),
        "stop": widgets.Button(description="Stop", icon="stop", tooltip="Stop after this decoding", disabled=True),
        "bar": widgets.IntProgress(description="Done", min=0, max=1, value=1, layout={"width": "20em"}, **wide)}
    said, picture = widgets.HTML(), widgets.HTML()
    box = widgets.VBox([widgets.Box([*row.values()], layout={"flex_flow": "row wrap"}), said, picture])
    return SimpleNamespace(**row, said=said, picture=picture, box=box)


def _lock(now, running):
    now.model.disabled = now.pictures.disabled = now.start.disabled = running
    now.stop.disabled = not running


def _show(now, found):
    now.bar.max, now.bar.value = found.total, found.done
    now.said.value = html.escape(f"{found.done} of {found.total} decodings. {describe(found)}")
    now.picture.value = tag(png(draw(found)), "Heat maps of the distance")


def _run(now, lab, name, load_model, grid, stopped):
    """Run a sweep until it is done or stopped; the panel can be used again however it ends."""
    try:
        about = subject(lab.data, lab.tokenizer, load_model(), lab.answers, lab.work, name)
        for found in sweep(lab.work / "sweeps" / f"{sweep_key(about, grid)}.json", grid, about):
            _show(now, found)
            if stopped.is_set():
                break
    except Exception as error:  # also of a student's answer; a thread would drop it in silence
        now.said.value = html.escape(f"{type(error).__name__}: {error}")
    finally:
        _lock(now, False)
