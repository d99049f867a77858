"""The schedule explorer's widgets: controls, a chart to drag, a pad to draw holes on, and a decoding beside other work.

In: what `core.Choices` offers. Out: widgets for a notebook or a page. They compute nothing themselves: each hands
its values to the functions of `core`, `formula` and `filmstrip`.
"""

import html
import os
import threading
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import anywidget
import ipywidgets as widgets
import torch
import traitlets

from lab3.common.files import InputError
from lab3.common.plots import COLOURS
from lab3.data.masks import hidden_tokens, random_holes
from lab3.explorer import filmstrip
from lab3.explorer.core import (
    DRAWN,
    KITS,
    MOST_STEPS,
    TOTAL_ITER,
    TYPED,
    YOURS,
    Dropped,
    Setting,
    choices_of,
    draw,
    steps_of,
    trace,
    unlike_the_rule,
)
from lab3.explorer.formula import HANDLES, remarks
from lab3.presets import SAMPLINGS

WEB = Path(__file__).parent / "web"
LOOKS = {"A": {"colour": COLOURS["blue"], "dash": "", "shape": "circle"},
         "B": {"colour": COLOURS["red"], "dash": "7 4", "shape": "square"}}
OWN, RANDOM, PAINTED = "the picture's own", "random", "drawn by you"
KEPT = 64  # decodings that are kept
_WIDE = {"style": {"description_width": "6.5em"}, "layout": {"width": "96%", "max_width": "26em"}}
WORKING = "<span class='l3' role='status'><span style='display: inline-block; animation: l3 1s linear infinite'>◐" \
          "</span> decoding<style>@keyframes l3 { to { transform: rotate(360deg) } }</style></span>"
LABELS = {"schedule": "schedule", "formula": "formula", "total_iter": "total_iter", "sweet_spot": "sweet_spot",
          "choice_temperature": "temperature", "sampling": "sampling", "seed": "seed", "decoding": "decoding",
          "model": "model"}


class Chart(anywidget.AnyWidget):
    """Curves with a marker a step, bars of the tokens revealed, and handles for a drawn curve."""

    _esm, _css = WEB / "curve.js", WEB / "pads.css"
    curves = traitlets.List().tag(sync=True)
    heights = traitlets.List((1 - HANDLES**2).round(2).tolist()).tag(sync=True)
    editable = traitlets.Bool(False).tag(sync=True)


class HolePad(anywidget.AnyWidget):
    """A picture to paint a hole on; `hole` is 64 x 64 characters, 1 in the hole."""

    _esm, _css = WEB / "hole.js", WEB / "pads.css"
    picture = traitlets.Unicode("").tag(sync=True)
    hole = traitlets.Unicode("0" * 4096).tag(sync=True)
    brush = traitlets.Int(8).tag(sync=True)


class Newest:
    """Works on one request at a time, beside other work; a request that a newer one has overtaken is dropped.

    Args:
        work: `work(request, unwanted)` gives a result; it may raise `Dropped` once `unwanted()` is True.
        done: is called with request and result.
        failed: is called with the exception.
    """

    def __init__(self, work, done, failed):
        self.work, self.done, self.failed = work, done, failed
        self.lock, self.waiting, self.number, self.busy = threading.RLock(), [], 0, False
        self.idle = threading.Event()
        self.idle.set()

    def ask(self, request):
        """Put a request in place of all that waits or runs."""
        self._put([request])

    def drop(self):
        """Drop what waits or runs."""
        self._put([])

    def _put(self, waiting):
        with self.lock:
            self.waiting, self.number = waiting, self.number + 1
            start, self.busy = bool(waiting) and not self.busy, self.busy or bool(waiting)
            if start:
                self.idle.clear()
        if start:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            with self.lock:
                if not self.waiting:
                    self.busy = False
                    self.idle.set()
                    return
                request, number = self.waiting.pop(), self.number

            def unwanted(number=number):
                return self.number != number

            try:
                result = self.work(request, unwanted)
                with self.lock:  # whoever asks for something newer now waits until this is shown
                    if not unwanted():
                        self.done(request, result)
            except Dropped:
                continue
            except Exception as error:  # of a student's decoding too; a thread would drop it in silence
                with self.lock:
                    if not unwanted():
                        self.failed(error)


def explore(lab, hole=27, others=None):
    """Show the explorer.

    Where nobody can use widgets, because `LAB3_STATIC` or nbgrader's `NBGRADER_EXECUTION` is set in the environment,
    it is a figure of one setting alone.

    Args:
        lab: what `lab3.start` gives.
        hole: the number of the test picture to begin with.
        others: a dict, name -> gamma, schedules of your own beside the others.

    Returns:
        A `VBox` of widgets, or a figure.

    Raises:
        InputError: no such picture, or no schedule here.
    """
    data, choices = lab.data, choices_of(lab, others)
    if not 0 <= hole < len(data.test):
        raise InputError(f"hole must lie in 0 ... {len(data.test) - 1}, not {hole}.")
    first = next(name for name in (f"{YOURS}: cosine", "cosine", *choices.schedules) if name in choices.schedules)
    if os.environ.get("LAB3_STATIC") or os.environ.get("NBGRADER_EXECUTION"):
        return draw(choices.schedules[first], first, TOTAL_ITER, TOTAL_ITER, data.masked[hole], data.holes[hole])
    return _assemble(choices, first, hole)


def _assemble(choices, first, number):
    """Connect all widgets: a new value draws the curves at once, and requests what has to be decoded."""
    a, b = _panel("A", choices, first), _panel("B", choices, first)
    scene, results = _scene(choices.data, number), _results(choices)
    chart, noted, kept = Chart(), widgets.HTML(), OrderedDict()
    worker = Newest(lambda *request: _decoded(choices, kept, *request), results.present, results.failed)

    def update(_=None):
        panels, inside = [a, b] if scene.compare.value else [a], scene.hole()
        settings, curves, notes = _curves(choices, panels, chart.heights, int(hidden_tokens(inside[None]).sum()))
        chart.editable = any(panel.schedule.value == DRAWN for panel in panels)
        if curves:
            chart.curves = curves
        noted.value = f"<div class='l3'>{'<br>'.join(map(html.escape, [*notes, *choices.notes]))}</div>"
        if len(settings) < len(panels):
            return
        request = settings, scene.picture.value, inside
        found = {name: kept.get(_key(setting, *request[1:])) for name, setting in settings.items()}
        if all(found.values()):
            worker.drop()
            results.present(request, found)
        else:
            with worker.lock:  # an older result that is just being shown must not take the sign away
                results.said.value = WORKING
                worker.ask(request)

    def compare(change):
        b.box.layout.display = "" if change["new"] else "none"
        update()

    def show_step(_):
        with worker.lock:
            results.show_step()

    for control in (*a.controls, *b.controls, *scene.controls):
        control.observe(update, "value")
    scene.compare.observe(compare, "value")
    scene.pad.observe(update, "hole")
    results.step.observe(show_step, "value")
    chart.observe(update, "heights")
    chart.on_msg(lambda *_: [one.send_state() for one in (noted, *results.followers)])
    update()
    b.box.layout.display = "none"
    for column in (a.box, b.box, scene.box):
        column.layout.flex, column.layout.min_width = "0 1 24em", "min(100%, 20em)"
    chart.layout.flex = "1 1 36em"  # beside the controls where there is room, else below them
    top = widgets.Box([a.box, b.box, scene.box, chart], layout={"flex_flow": "row wrap", "grid_gap": "4px 16px"})
    box = widgets.VBox([top, noted, *results.boxes])
    box.worker = worker  # for those who wait for it
    return box


def _curves(choices, panels, heights, n_hidden):
    """The settings of those panels whose schedule works, a dict by panel, with their curves and notes on them."""
    settings, curves, notes = {}, [], []
    for panel in panels:
        setting = panel.setting(heights)
        try:
            gamma = choices.gamma(setting)
            steps = steps_of(gamma, setting.total_iter, setting.sweet_spot, n_hidden)
            found = remarks(gamma)
        except Exception as error:  # of a formula, or of a student's schedule
            panel.wrong(error)
            continue
        panel.wrong(None)
        settings[panel.name] = setting
        curves.append({"name": f"{panel.name}: {setting.schedule}", **LOOKS[panel.name], **steps})
        notes += [f"{panel.name}: {text}" for text in found]
    return settings, curves, notes


def _decoded(choices, kept, request, unwanted):
    """The traces of a request, a dict by panel; what was decoded before is not decoded again."""
    settings, at, inside = request
    for setting in settings.values():
        key = _key(setting, at, inside)
        if key not in kept:
            kept[key] = trace(choices, setting, choices.data.test[at], inside, unwanted)
        kept.move_to_end(key)
    found = {name: kept[_key(setting, at, inside)] for name, setting in settings.items()}
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return found


def _scene(data, number):
    """The controls of the picture and its hole."""
    picture = widgets.BoundedIntText(description="picture", value=number, min=0, max=len(data.test) - 1, **_WIDE)
    kind = widgets.Dropdown(description="hole", options=[OWN, RANDOM, PAINTED], **_WIDE)
    seed = widgets.IntSlider(description="hole's seed", min=0, max=99, **_WIDE)
    brush = widgets.IntSlider(description="brush", value=8, min=2, max=24, step=2, **_WIDE)
    clear = widgets.Button(description="Clear the hole", icon="eraser", layout={"width": "12em"})
    compare = widgets.Checkbox(description="compare with a second setting, B", indent=False, layout={"width": "22em"})
    pad = HolePad()

    def hole():
        """The hole in force, (64, 64) bool."""
        if kind.value == RANDOM:
            return random_holes(1, seed.value)[0]
        if kind.value == PAINTED:
            return torch.tensor([character == "1" for character in pad.hole]).view(64, 64)
        return data.holes[picture.value]

    def choose_kind(_=None):
        seed.layout.display = "" if kind.value == RANDOM else "none"
        for control in (pad, brush, clear):
            control.layout.display = "" if kind.value == PAINTED else "none"

    def choose_picture(_=None):
        pad.picture = _data_url(data.test[picture.value])

    kind.observe(choose_kind, "value")
    picture.observe(choose_picture, "value")
    clear.on_click(lambda _: setattr(pad, "hole", "0" * 4096))
    widgets.jslink((brush, "value"), (pad, "brush"))
    choose_kind()
    choose_picture()
    box = widgets.VBox([picture, kind, seed, brush, clear, pad, compare])
    return SimpleNamespace(box=box, controls=(picture, kind, seed), picture=picture, pad=pad, compare=compare,
                           hole=hole)


def _results(choices):
    """The widgets that show what was decoded, and a slider through its steps."""
    play = widgets.Play(description="play the steps", min=0, max=TOTAL_ITER, interval=700)
    step = widgets.IntSlider(description="step", min=0, max=TOTAL_ITER, **_WIDE)
    said, staged, strips, outcome = (widgets.HTML() for _ in range(4))
    widgets.jslink((play, "value"), (step, "value"))
    shown = {}

    def present(request, traces):
        settings = request[0]
        shown.clear()
        shown.update(traces)
        last = max(len(one.masks) for one in traces.values()) - 1
        at_end = step.value == step.max
        play.max = step.max = last
        step.value = play.value = last if at_end else min(step.value, last)
        labels = [{LABELS[key]: value for key, value in asdict(setting).items() if key in LABELS}
                  for setting in settings.values()]
        outcome.value = _styled(filmstrip.outcome(traces), filmstrip.differences(*labels) if len(labels) == 2 else "")
        said.value = _counts(choices, settings, traces)
        show_step()

    def failed(error):
        said.value = f"<div class='l3' role='alert'><b>✗ Not decoded.</b> {html.escape(_told(error))}</div>"
        shown.clear()  # what is there belongs to other settings
        outcome.value = staged.value = strips.value = ""

    def show_step():
        if not shown:
            return
        staged.value = _styled(filmstrip.stage(shown, step.value))
        strips.value = _styled(*(f"<h4>{name}</h4>{filmstrip.strip(one, min(step.value, len(one.masks) - 1))}"
                                 for name, one in shown.items()), filmstrip.legend(shown["A"]))

    outcome.layout.flex, outcome.layout.max_width = "0 0 auto", "100%"
    player = widgets.VBox([widgets.Box([play, step], layout={"flex_flow": "row wrap"}), staged])
    pictures = widgets.Box([outcome, player], layout={"flex_flow": "row wrap", "grid_gap": "4px 32px"})
    return SimpleNamespace(boxes=[said, pictures, strips], followers=(said, outcome, staged, strips, step, play),
                           said=said, step=step, present=present, failed=failed, show_step=show_step)


def _styled(*parts):
    return f"{filmstrip.STYLE}<div class='l3'>{''.join(parts)}</div>"


def _counts(choices, settings, traces):
    """How many tokens each step left hidden, and where that is not what the schedule asks for."""
    counts = {name: ", ".join(str(int(mask.sum())) for mask in one.masks) for name, one in traces.items()}
    return "<div class='l3' role='status'>" + "<br>".join(
        [f"{name}: tokens hidden before the first step and after each: {text}" for name, text in counts.items()]
        + [html.escape(f"{name}: {text}") for name, setting in settings.items()
           if (text := unlike_the_rule(traces[name], choices.gamma(setting), setting))]) + "</div>"


def _told(error, about=""):
    """What to say of an error: the message alone where it was written for the reader."""
    return str(error) if isinstance(error, InputError) else f"{about}{type(error).__name__}: {error}"


def _panel(name, choices, first):
    """The controls of one setting."""
    schedule = widgets.Dropdown(description="schedule", value=first, options=[*choices.schedules, TYPED, DRAWN],
                                **_WIDE)
    formula = widgets.Text(description="formula", value="1 - r^2", continuous_update=True,
                           placeholder="a formula in r, such as cos(pi * r / 2)", **_WIDE)
    total_iter = widgets.IntSlider(description="total_iter", value=TOTAL_ITER, min=1, max=MOST_STEPS, **_WIDE)
    sweet_spot = widgets.IntSlider(description="sweet_spot", value=TOTAL_ITER, min=1, max=TOTAL_ITER, **_WIDE)
    temperature = widgets.FloatSlider(description="temperature", value=4.5, min=0, max=15, step=0.5,
                                      readout_format=".1f", **_WIDE)
    sampling = widgets.Dropdown(description="sampling", options=list(SAMPLINGS), **_WIDE)
    seed = widgets.BoundedIntText(description="seed", min=0, max=9999, **_WIDE)
    decoding = widgets.Dropdown(description="decoding", options=list(choices.decodings) or [KITS], **_WIDE)
    model = widgets.Dropdown(description="model", options=list(choices.models), **_WIDE)
    note = widgets.HTML()
    for control, options in ((decoding, choices.decodings), (model, choices.models)):
        control.layout.display = "" if len(options) > 1 else "none"

    def setting(heights):
        """The `Setting` that the controls have now."""
        typed, dragged = schedule.value == TYPED, schedule.value == DRAWN
        return Setting(schedule.value, total_iter.value, min(sweet_spot.value, total_iter.value), temperature.value,
                       sampling.value, seed.value, decoding.value, model.value, formula.value if typed else "",
                       tuple(heights) if dragged else ())

    def wrong(error):
        """Say beside the field what is wrong with the schedule, or nothing."""
        text = "" if error is None else _told(error, f"{schedule.value}: ")
        place = getattr(error, "place", None)  # in the formula
        arrow = "" if place is None else \
            f"<pre style='margin: 0'>{html.escape(formula.value.strip())}\n{' ' * place}▲</pre>"
        note.value = f"<div class='l3' role='alert'><b>✗</b> {html.escape(text)}{arrow}</div>" if text else (
            "<div class='l3'>Drag the orange handles in the chart, or reach them with tab and move them with the arrow "
            "keys.</div>" if schedule.value == DRAWN else "")

    def choose(_=None):
        formula.layout.display = "" if schedule.value == TYPED else "none"

    def follow(change):
        """Keep sweet_spot in 1 ... total_iter; all steps stay all steps."""
        everything = sweet_spot.value == change["old"]
        sweet_spot.max = change["new"]
        if everything:
            sweet_spot.value = change["new"]

    schedule.observe(choose, "value")
    total_iter.observe(follow, "value")
    choose()
    controls = [schedule, formula, total_iter, sweet_spot, temperature, sampling, seed, decoding, model]
    box = widgets.VBox([widgets.HTML(f"<b>Setting {name}</b>"), schedule, formula, note, *controls[2:]])
    return SimpleNamespace(name=name, box=box, controls=controls, setting=setting, wrong=wrong, schedule=schedule)


def _key(setting, at, inside):
    return setting, at, inside.numpy().tobytes()


def _data_url(picture):
    """A picture (3, H, W) uint8 as a data URL."""
    return filmstrip.image(picture, "").split('src="')[1].rstrip('">')
