"""A panel of sweeps for notebooks: the kit's own at once, and one that fills in while other cells run.

In: a `Lab`. Out: widgets.
"""

import html
import os
import threading
from dataclasses import replace

from lab3.common import plots
from lab3.common.plots import tag
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

    import ipywidgets as widgets

    grid = grid or ready.grid
    models = {"the kit's model, swept beforehand": None,
              "the kit's model, your decoding": lab.shipped, "your model, your decoding": lab.trained}
    wide = {"style": {"description_width": "5em"}}
    model = widgets.Dropdown(description="Model", options=list(models), layout={"width": "26em"}, **wide)
    pictures = widgets.Dropdown(description="Pictures", options=sorted({16, 32, 64, grid.pictures}),
                                value=grid.pictures, layout={"width": "11em"}, **wide)
    start = widgets.Button(description="Start", icon="play", tooltip="Decode what is missing", disabled=True)
    stop = widgets.Button(description="Stop", icon="stop", tooltip="Stop after this decoding", disabled=True)
    bar = widgets.IntProgress(description="Done", min=0, max=1, value=1, layout={"width": "20em"}, **wide)
    said, picture = widgets.HTML(), widgets.HTML()
    stopped = threading.Event()

    def put(found):
        bar.max, bar.value = found.total, found.done
        said.value = html.escape(f"{found.done} of {found.total} decodings. {describe(found)}")
        picture.value = tag(plots.png(draw(found)), "Heat maps of the distance")

    def work(name, wanted):
        """Run a sweep until it is done or stopped; whatever ends it, the panel can be used again."""
        try:
            about = subject(lab.data, lab.tokenizer, models[name](), lab.answers, lab.work, name)
            path = lab.work / "sweeps" / f"{sweep_key(about, wanted)}.json"
            for found in sweep(path, wanted, about):
                put(found)
                if stopped.is_set():
                    break
        except Exception as error:  # also of a student's answer; a thread would drop it in silence
            said.value = html.escape(f"{type(error).__name__}: {error}")
        finally:
            model.disabled = pictures.disabled = start.disabled = False
            stop.disabled = True

    def begin(_):
        stopped.clear()
        model.disabled = pictures.disabled = start.disabled = True
        stop.disabled = False
        said.value = "Getting ready."
        wanted = replace(grid, pictures=pictures.value)
        box.thread = threading.Thread(target=work, args=(model.value, wanted), daemon=True)
        box.thread.start()

    def halt(_):
        stop.disabled = True
        stopped.set()

    def choose(_):
        start.disabled = models[model.value] is None
        pictures.disabled = start.disabled
        if start.disabled:
            put(ready)
        else:
            said.value = "Start runs what is missing, some minutes; you can go on working, and stop at any time."

    start.on_click(begin)
    stop.on_click(halt)
    model.observe(choose, "value")
    box = widgets.VBox([widgets.Box([model, pictures, start, stop, bar], layout={"flex_flow": "row wrap"}), said,
                        picture])
    choose(None)
    return box
