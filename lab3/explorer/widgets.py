"""The schedule explorer's widgets: controls, a chart to drag, a pad to draw holes on, and a decoding beside other work.

In: what `core.Choices` offers. Out: widgets for a notebook or a page. They compute nothing themselves: they
call `core`, `formula` and `filmstrip`.
"""

import html
import os
import threading
from collections import OrderedDict
from dataclasses import asdict
from types import SimpleNamespace

import ipywidgets as widgets
import torch

from lab3.common.files import InputError
from lab3.data.masks import hidden_tokens, random_holes
from lab3.decoding.generate import ORDERS
from lab3.decoding.mistakes import MISTAKES
from lab3.explorer import filmstrip
from lab3.explorer.core import (
    DRAWN,
    KITS,
    MOST_STEPS,
    NO_MISTAKE,
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
from lab3.explorer.formula import remarks
from lab3.explorer.pads import Chart, HolePad
from lab3.explorer.sampler_panel import SamplerPanel
from lab3.presets import SAMPLINGS

OWN, RANDOM, PAINTED, EVERYTHING = "the picture's own", "random", "drawn by you", "everything"
KEPT = 64  # decodings that are kept
WORKING = "<span class='l3' role='status'><span style='display: inline-block; animation: l3 1s linear infinite'>◐" \
          "</span> decoding<style>@keyframes l3 { to { transform: rotate(360deg) } }</style></span>"
LABELS = {"schedule": "schedule", "formula": "formula", "total_iter": "total_iter", "sweet_spot": "sweet_spot",
          "choice_temperature": "temperature", "sampling": "sampling", "order": "order", "seed": "seed",
          "decoding": "decoding", "model": "model", "exact": "exact", "mistake": "mistake"}


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
    return _Explorer(choices, first, hole).box


class _Explorer:
    """The widgets of the explorer and what they do to one another; `box` holds them all.

    `shown` are the traces that are seen now, `kept` those of earlier settings.
    """

    def __init__(self, choices, first, number):
        self.choices, self.kept, self.shown, self.valid = choices, OrderedDict(), {}, {}
        self._make_controls(first, number)
        self.worker = Newest(self._decoded, self._present, self._failed)
        self._connect()
        self.box = self._laid_out()
        self.box.worker = self.worker  # for those who wait for it
        self.b.box.layout.display = "none"
        self.pad.picture = filmstrip.data_url(choices.data.test[number])
        self._choose_hole()

    def _make_controls(self, first, number):
        self.a, self.b = _panel("A", self.choices, first), _panel("B", self.choices, first)
        last = len(self.choices.data.test) - 1
        self.picture = widgets.BoundedIntText(description="picture", value=number, min=0, max=last, **_WIDE)
        self.hole = widgets.Dropdown(description="hole", options=[OWN, RANDOM, PAINTED, EVERYTHING], **_WIDE)
        self.hole_seed = widgets.IntSlider(description="hole's seed", min=0, max=99, **_WIDE)
        self.brush = widgets.IntSlider(description="brush", value=8, min=2, max=48, step=2, **_WIDE)
        self.clear = widgets.Button(description="Clear the hole", icon="eraser", layout={"width": "12em"})
        self.compare = widgets.Checkbox(description="compare with a second setting, B", indent=False,
                                        layout={"width": "22em"})
        self.by_hand = widgets.Checkbox(description="be the sampler, with setting A", indent=False,
                                        layout={"width": "22em"})
        self.chart, self.pad, self.sampler = Chart(), HolePad(), SamplerPanel(self._ask_by_hand)
        self.play = widgets.Play(description="play the steps", value=TOTAL_ITER, min=0, max=TOTAL_ITER, interval=700)
        self.step = widgets.IntSlider(description="step", value=TOTAL_ITER, min=0, max=TOTAL_ITER, **_WIDE)
        self.said, self.noted, self.old, self.staged, self.strips, self.outcome = (widgets.HTML() for _ in range(6))

    def _connect(self):
        """Let each control's change reach those that show it."""
        widgets.jslink((self.play, "value"), (self.step, "value"))
        widgets.jslink((self.brush, "value"), (self.pad, "brush"))
        for panel in (self.a, self.b):
            for control in panel.controls:
                control.observe(self._update, "value")
        for control, then in ((self.picture, self._choose_picture), (self.hole, self._choose_hole),
                              (self.hole_seed, self._update), (self.compare, self._choose_compare),
                              (self.by_hand, self._choose_by_hand), (self.step, self._show_step)):
            control.observe(then, "value")
        self.play.observe(self._play_again, "playing")
        self.chart.observe(self._update, "heights")
        self.chart.on_msg(lambda *_: [one.send_state() for one in (
            self.said, self.noted, self.old, self.outcome, self.staged, self.strips, self.step, self.play)])
        self.pad.observe(self._update, "marked")
        self.clear.on_click(lambda _: setattr(self.pad, "marked", "0" * 4096))

    def _laid_out(self):
        """Controls on the left, what they do on the right; one below the other where a page is narrow."""
        scene = widgets.VBox([self.picture, self.hole, self.hole_seed, self.brush, self.clear, self.pad, self.compare,
                              self.by_hand])
        left = widgets.VBox([self.a.box, self.b.box, scene],
                            layout={"flex": "0 1 22em", "min_width": "min(100%, 20em)"})
        self.staged.layout.flex = "1 1 12em"
        player = widgets.Box([widgets.VBox([self.play, self.step], layout={"flex": "1 1 16em"}), self.staged],
                             layout={"flex_flow": "row wrap", "grid_gap": "4px 16px"})
        pictures = widgets.VBox([self.outcome, player])  # the four of one setting fit into one row
        self.charted = widgets.VBox([self.chart])
        right = widgets.VBox([self.old, self.charted, self.noted, self.said, pictures],
                             layout={"flex": "1 1 36em", "min_width": "min(100%, 20em)"})
        top = widgets.Box([left, right], layout={"flex_flow": "row wrap", "grid_gap": "4px 16px"})
        return widgets.VBox([top, self.sampler.box, self.strips])

    def _panels(self):
        return {"A": self.a, "B": self.b} if self.compare.value else {"A": self.a}

    def _hole_now(self):
        """The hole in use, (64, 64) bool."""
        if self.hole.value == RANDOM:
            return random_holes(1, self.hole_seed.value)[0]
        if self.hole.value == PAINTED:
            return torch.tensor([character == "1" for character in self.pad.marked]).view(64, 64)
        if self.hole.value == EVERYTHING:
            return torch.ones(64, 64, dtype=torch.bool)
        return self.choices.data.holes[self.picture.value]

    def _update(self, _=None):
        """Draw the curves at once, and ask for what has to be decoded."""
        settings, curves, notes, inside = {}, [], [], self._hole_now()
        n_hidden = int(hidden_tokens(inside[None]).sum())
        for name, panel in self._panels().items():
            setting = panel.setting(self.chart.heights)
            try:
                gamma = self.choices.gamma(setting)
                steps = steps_of(gamma, setting.total_iter, setting.sweet_spot, n_hidden)
                found = remarks(gamma)
            except Exception as error:  # of a formula, or of a student's schedule
                panel.wrong(error)
                continue
            panel.wrong(None)
            settings[name] = setting
            curves.append({"name": f"{name}: {_schedule(setting)}", **steps})
            notes += [f"{name}: {text}" for text in found]
            if setting.mistake != NO_MISTAKE:
                notes.append(f"{name}: {setting.mistake}. {MISTAKES[setting.mistake].says}")
        self.chart.editable = any(panel.schedule.value == DRAWN for panel in self._panels().values())
        self.noted.value = f"<div class='l3'>{'<br>'.join(map(html.escape, [*notes, *self.choices.notes]))}</div>"
        self._mark_old(settings)
        if settings.keys() == self._panels().keys():
            self.chart.curves, self.valid = curves, settings
            request = settings, self.picture.value, inside, ()
            found = {name: self.kept.get(_key(setting, *request[1:])) for name, setting in settings.items()}
            if all(found.values()):
                self.worker.drop()
                self._present(request, found)
            else:
                self._ask(request)

    def _ask(self, request):
        with self.worker.lock:  # an older result that is just being shown must not take the sign away
            self.said.value = WORKING
            self.worker.ask(request)

    def _mark_old(self, settings):
        """Say that what is shown is not of the schedules typed now, where one of them is none."""
        wrong = [name for name in self._panels() if name not in settings]
        said = "; ".join(f"{name}: {_schedule(one)}" for name, one in self.valid.items())
        self.old.value = f"{filmstrip.STYLE}<div class='l3'><p class='old' role='status'><b>Not updated.</b> " \
            f"{' and '.join(wrong)} cannot be used as it stands. Everything below still shows the last valid " \
            f"setting, <b>{html.escape(said)}</b>.</p></div>" if wrong and self.valid else ""
        for widget in (self.charted, self.noted, self.said, self.outcome, self.staged, self.strips, self.sampler.box):
            (widget.add_class if self.old.value else widget.remove_class)("l3-old")

    def _decoded(self, request, unwanted):
        """The traces of a request, a dict by panel; what was decoded before is not decoded again."""
        settings, at, inside, by_hand = request
        for setting in settings.values():
            key = _key(setting, *request[1:])
            if key not in self.kept:
                self.kept[key] = trace(self.choices, setting, self.choices.data.test[at], inside, unwanted, by_hand)
            self.kept.move_to_end(key)
        found = {name: self.kept[_key(setting, *request[1:])] for name, setting in settings.items()}
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return found

    def _ask_by_hand(self, by_hand):
        """Ask for A's decoding with tokens chosen by hand in its first steps."""
        settings, *scene, _ = self.presented
        self.worker.ask(({"A": settings["A"]}, *scene, by_hand))

    def _present(self, request, traces):
        settings, _, _, by_hand = request
        if by_hand:
            self.sampler.go_on(traces["A"])
            return
        self.presented = request
        self.shown.clear()
        self.shown.update(traces)
        last = max(len(one.masks) for one in traces.values()) - 1
        at_end = self.step.value == self.step.max
        self.play.max = self.step.max = last
        self.step.value = self.play.value = last if at_end else min(self.step.value, last)
        labels = [{LABELS[key]: value for key, value in asdict(setting).items() if key in LABELS}
                  for setting in settings.values()]
        self.outcome.value = (f"{filmstrip.STYLE}<div class='l3'>{filmstrip.outcome(traces)}"
                              f"{filmstrip.differences(*labels) if len(labels) == 2 else ''}</div>")
        counts = {name: ", ".join(str(int(mask.sum())) for mask in one.masks) for name, one in traces.items()}
        self.said.value = "<div class='l3' role='status'>" + "<br>".join(
            [f"{name}: tokens hidden before the first step and after each: {text}" for name, text in counts.items()]
            + [html.escape(f"{name}: {text}") for name, setting in settings.items()
               if (text := unlike_the_rule(traces[name], self.choices.gamma(setting), setting))]) + "</div>"
        self._show_step()
        self._choose_by_hand()

    def _failed(self, error):
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        self.said.value = f"<div class='l3' role='alert'><b>✗ Not decoded.</b> {html.escape(text)}</div>"
        self.shown.clear()  # what is there belongs to other settings
        self.outcome.value = self.staged.value = self.strips.value = ""
        self._choose_by_hand()

    def _show_step(self, _=None):
        with self.worker.lock:
            if not self.shown:
                return
            self.staged.value = f"{filmstrip.STYLE}<div class='l3'>{filmstrip.stage(self.shown, self.step.value)}</div>"
            parts = [f"<h4>{name}</h4>{filmstrip.strip(one, min(self.step.value, len(one.masks) - 1))}"
                     for name, one in self.shown.items()]
            legend = filmstrip.legend(self.shown["A"])
            self.strips.value = f"{filmstrip.STYLE}<div class='l3'>{''.join(parts)}{legend}</div>"

    def _choose_hole(self, _=None):
        self.hole_seed.layout.display = "" if self.hole.value == RANDOM else "none"
        for control in (self.pad, self.brush, self.clear):
            control.layout.display = "" if self.hole.value == PAINTED else "none"
        self.picture.layout.display = "none" if self.hole.value == EVERYTHING else ""
        self._update()

    def _choose_picture(self, _=None):
        self.pad.picture = filmstrip.data_url(self.choices.data.test[self.picture.value])
        self._update()

    def _choose_compare(self, _=None):
        self.b.box.layout.display = "" if self.compare.value else "none"
        self._update()

    def _choose_by_hand(self, _=None):
        """Show the sampler's panel where it is wanted and can go on; it begins again with another setting."""
        mine = self.shown.get("A")
        wanted = self.by_hand.value and mine is not None and mine.tokens is not None
        self.sampler.box.layout.display = "" if wanted else "none"
        if wanted:
            self.sampler.begin(mine)

    def _play_again(self, change):
        if change["new"] and self.step.value == self.step.max:
            self.step.value = self.play.value = 0


_WIDE = {"style": {"description_width": "6.5em"}, "layout": {"width": "96%", "max_width": "26em"}}


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
    order = widgets.Dropdown(description="order", options=ORDERS, **_WIDE)
    seed = widgets.BoundedIntText(description="seed", min=0, max=9999, **_WIDE)
    decoding = widgets.Dropdown(description="decoding", options=list(choices.decodings) or [KITS], **_WIDE)
    model = widgets.Dropdown(description="model", options=list(choices.models), **_WIDE)
    exact = widgets.Checkbox(description="exact: every token in each step", indent=False, **_WIDE)
    mistake = widgets.Dropdown(description="mistake", options=[NO_MISTAKE, *MISTAKES], **_WIDE)
    mistake.layout.display = "" if choices.decodings else "none"
    note = widgets.HTML()
    for control, options in ((decoding, choices.decodings), (model, choices.models)):
        control.layout.display = "" if len(options) > 1 else "none"

    def setting(heights):
        """The `Setting` that the controls have now."""
        typed, dragged = schedule.value == TYPED, schedule.value == DRAWN
        return Setting(
            schedule.value, total_iter.value, min(sweet_spot.value, total_iter.value), temperature.value,
            sampling.value, order.value, seed.value, decoding.value, model.value, formula.value if typed else "",
            tuple(heights) if dragged else (), exact.value, mistake.value)

    def wrong(error):
        """Say beside the field what is wrong with the schedule, or nothing."""
        text = "" if error is None else str(error) if isinstance(error, InputError) else \
            f"{schedule.value}: {type(error).__name__}: {error}"
        place = getattr(error, "place", None)  # in the formula
        arrow = "" if place is None else \
            f"<pre style='margin: 0; font-family: monospace'>{html.escape(formula.value)}\n{' ' * place}▲</pre>"
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
    controls = [schedule, formula, total_iter, sweet_spot, temperature, sampling, order, seed, decoding, model, exact,
                mistake]
    box = widgets.VBox([widgets.HTML(f"<b>Setting {name}</b>"), schedule, formula, note, *controls[2:]])
    return SimpleNamespace(name=name, box=box, controls=controls, setting=setting, wrong=wrong, schedule=schedule)


def _schedule(setting):
    """What to call a setting's schedule: the formula where one is typed."""
    return setting.formula.strip() if setting.schedule == TYPED else setting.schedule


def _key(setting, at, inside, by_hand):
    return setting, at, inside.numpy().tobytes(), tuple(tokens.numpy().tobytes() for tokens in by_hand)
