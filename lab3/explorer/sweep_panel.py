"""A panel of sweeps for notebooks: the kit's own at once, and one that fills in while other cells run.

In: a `Lab`. Out: widgets.
"""

import html
import os
import threading
from dataclasses import replace

from lab3.common import plots
from lab3.common.paths import WEIGHTS
from lab3.common.plots import tag
from lab3.metrics.sweep import PRECOMPUTED, describe, draw, read_sweep, subject, sweep, sweep_key


def panel(lab, grid=None):
    """Show sweeps: the kit's own at once, and one of your own that fills in while you go on working.

    With `LAB3_STATIC` or nbgrader's `NBGRADER_EXECUTION` set in the environment, where widgets are of no use, it is the
    figure of the kit's sweep alone.

    Args:
        lab: what `lab3.start` gives; sweeps of its models are kept in `work/sweeps/`.
        grid: a `Grid`; None: the kit's.

    Returns:
        A `VBox` of widgets; its children are the controls, one line of text, and the picture. Or a figure.
    """
    ready = read_sweep(PRECOMPUTED)
    if os.environ.get("LAB3_STATIC") or os.environ.get("NBGRADER_EXECUTION"):
        return draw(ready)
    return _Panel(lab, grid or ready.grid, ready).box


class _Panel:
    """The controls, and the thread that a sweep runs in."""

    def __init__(self, lab, grid, ready):
        import ipywidgets as widgets

        self.lab, self.grid, self.ready, self.stopped = lab, grid, ready, threading.Event()
        self.models = {"the kit's model, swept beforehand": None,
                       "the kit's model, your decoding": lab.shipped}
        if (lab.work / WEIGHTS).is_file():
            self.models["your model, your decoding"] = lab.trained
        wide = {"style": {"description_width": "5em"}}
        self.model = widgets.Dropdown(description="Model", options=list(self.models), layout={"width": "26em"}, **wide)
        self.pictures = widgets.Dropdown(description="Pictures", options=sorted({16, 32, 64, grid.pictures}),
                                         value=grid.pictures, layout={"width": "11em"}, **wide)
        self.start = widgets.Button(description="Start", icon="play", tooltip="Decode what is missing", disabled=True)
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="Stop after this decoding", disabled=True)
        self.bar = widgets.IntProgress(description="Done", min=0, max=1, value=1, layout={"width": "20em"}, **wide)
        self.said, self.picture = widgets.HTML(), widgets.HTML()
        controls = [self.model, self.pictures, self.start, self.stop, self.bar]
        self.box = widgets.VBox([widgets.Box(controls, layout={"flex_flow": "row wrap"}), self.said, self.picture])
        self.start.on_click(self._start)
        self.stop.on_click(self._stop)
        self.model.observe(self._choose, "value")
        self._choose()

    def _show(self, found):
        self.bar.max, self.bar.value = found.total, found.done
        self.said.value = html.escape(f"{found.done} of {found.total} decodings. {describe(found)}")
        self.picture.value = tag(plots.png(draw(found)), "Heat maps of the distance")

    def _sweep(self, name, grid):
        """Run a sweep until it is done or stopped; however it ends, the panel can be used again."""
        try:
            lab = self.lab
            about = subject(lab.data, lab.tokenizer, self.models[name](), lab.answers, lab.work, name)
            path = lab.work / "sweeps" / f"{sweep_key(about, grid)}.json"
            for found in sweep(path, grid, about):
                self._show(found)
                if self.stopped.is_set():
                    break
        except Exception as error:  # also of a student's answer; a thread would drop it in silence
            self.said.value = html.escape(f"{type(error).__name__}: {error}")
        finally:
            self.model.disabled = self.pictures.disabled = self.start.disabled = False
            self.stop.disabled = True

    def _start(self, _):
        self.stopped.clear()
        self.model.disabled = self.pictures.disabled = self.start.disabled = True
        self.stop.disabled = False
        self._clear("Getting ready.")
        wanted = replace(self.grid, pictures=self.pictures.value)
        self.box.thread = threading.Thread(target=self._sweep, args=(self.model.value, wanted), daemon=True)
        self.box.thread.start()

    def _clear(self, text):
        """Say something; what was shown belongs to another sweep."""
        self.bar.value, self.said.value, self.picture.value = 0, text, ""

    def _stop(self, _):
        self.stop.disabled = True
        self.stopped.set()

    def _choose(self, _=None):
        self.start.disabled = self.pictures.disabled = self.models[self.model.value] is None
        if self.start.disabled:
            self._show(self.ready)
        else:
            self._clear("Start decodes what is missing, some minutes. You can go on working, or stop at any time.")
