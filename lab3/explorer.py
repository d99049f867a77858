"""The schedule explorer: what a schedule, the number of steps and an early stop do to a hole, tried out by hand.

In: schedules, holes. Out: the numbers of a decoding's steps, a figure of them, and in a notebook the widgets that draw
it anew. The widgets only hand their values to the pure functions above them. No model runs here: how sure it would be
of each token is drawn at random, once, so that the order is the same for all schedules and only their pace differs.
"""

import html
import io
import math
import os

import numpy as np
import torch

from lab3.cats import Cats
from lab3.exercises import load_answers
from lab3.files import InputError
from lab3.masks import hidden_tokens
from lab3.places import SOLUTIONS
from lab3.plots import COLOURS, bare, figure, half_frame, mask_picture, show
from lab3.presets import SCHEDULES

TOTAL_ITER, MOST_STEPS = 8, 21
HOLES = 40  # so many test pictures to choose from
IN_A_ROW = 11  # masks in one row of the figure


def hidden_after(gamma, total_iter, sweet_spot, n_hidden):
    """How many tokens of a hole are hidden before the first step and after each one.

    After step t (from 0) it is `floor(gamma(r) * n_hidden)` with r = (t + 1) / total_iter, at least one fewer than
    before, and none at r = 1.

    Args:
        gamma: the schedule, a function of progress r in [0, 1].
        total_iter: how many steps the schedule has.
        sweet_spot: how many of them are made.
        n_hidden: how many tokens the hole hides.

    Returns:
        sweet_spot + 1 ints, the first of them n_hidden. The last is what takes its last prediction all at once.

    Raises:
        InputError: not 1 <= sweet_spot <= total_iter.
    """
    if not 1 <= sweet_spot <= total_iter:
        raise InputError(f"sweet_spot must lie in 1 ... total_iter ({total_iter}), not {sweet_spot}.")
    hidden = [n_hidden]
    for t in range(sweet_spot):
        share = float(gamma((t + 1) / total_iter)) if t + 1 < total_iter else 0.0
        hidden.append(max(0, min(math.floor(share * n_hidden), hidden[-1] - 1)))
    return hidden


def masks_after(mask, hidden, seed=0):
    """Which tokens are hidden where confidence is random: in each mask the least confident of the hole.

    Args:
        mask: (256,) bool, True where the hole hides a token.
        hidden: how many are hidden in each mask, such as `hidden_after` gives.
        seed: an int; a seed gives each token its confidence, so all schedules reveal tokens in one order.

    Returns:
        (len(hidden), 256) bool, True means hidden.
    """
    confidence = torch.rand(len(mask), generator=torch.Generator().manual_seed(seed))
    rank = confidence.masked_fill(~mask, torch.inf).argsort().argsort()  # 0 is the least sure; known tokens come last
    return mask & (rank < torch.tensor(hidden)[:, None])


def draw(gamma, name, total_iter, sweet_spot, picture, hole):
    """The explorer's figure: gamma with a marker a step, the tokens that each step reveals, the mask after each step.

    Args:
        gamma: the schedule, a function of progress, also of an array of it.
        name: what to call it.
        total_iter, sweet_spot: as `hidden_after` takes them.
        picture: (3, 64, 64) uint8, the masked picture.
        hole: (64, 64) bool, True in the hole.
    """
    mask = hidden_tokens(hole[None])[0]
    hidden = hidden_after(gamma, total_iter, sweet_spot, int(mask.sum()))
    rows = math.ceil(len(hidden) / IN_A_ROW)
    page = figure(10.5, 2.9 + 1.15 * rows)
    above, below = page.subfigures(2, 1, height_ratios=(2.9, 1.15 * rows))
    cat, curve, bars = above.subplots(1, 3, width_ratios=(0.8, 1, 1.3))
    show(cat, picture, f"{hidden[0]} of {len(mask)} tokens hidden")

    progress, steps = np.linspace(0, 1, 200), np.arange(1, total_iter + 1) / total_iter
    made, left = steps[:sweet_spot], steps[sweet_spot:]
    curve.plot(progress, gamma(progress), color=COLOURS["blue"])
    curve.plot(made, gamma(made), "o", color=COLOURS["blue"], markersize=5)
    curve.plot(left, gamma(left), "o", color=COLOURS["blue"], markersize=5, markerfacecolor="white")
    curve.set_title(name, fontsize=9)
    curve.set_xlabel("progress r")
    curve.set_ylabel("gamma(r)")

    numbers, revealed = range(1, sweet_spot + 1), -np.diff(hidden)
    bars.bar(numbers, revealed, color=COLOURS["blue"], label="revealed by the step")
    if hidden[-1]:
        bars.bar(sweet_spot, hidden[-1], bottom=revealed[-1], color=COLOURS["orange"], label="taken all at once")
    bars.set_xlim(0.4, total_iter + 0.6)
    bars.xaxis.get_major_locator().set_params(integer=True)
    bars.set_title(f"{hidden[0]} tokens in {sweet_spot} of {total_iter} steps", fontsize=9)
    bars.set_xlabel("step")
    bars.set_ylabel("tokens")
    bars.legend(fontsize=8, frameon=False)
    for axes in (curve, bars):
        half_frame(axes)

    places = list(below.subplots(rows, IN_A_ROW, squeeze=False).flat)
    for step, (axes, masked) in enumerate(zip(places, masks_after(mask, hidden))):
        show(axes, mask_picture(masked), f"step {step}: {hidden[step]}" if step else f"hole: {hidden[0]}")
    for axes in places[len(hidden):]:
        bare(axes)
    page.supxlabel("Dark: hidden. Confidences are random here, the same for all schedules.", fontsize=9)
    return page


def explore(answers=None, hole=0, data=None, others=None):
    """Show the explorer: choose schedule, steps and hole, and see the figure change.

    Where nobody can use widgets, because `LAB3_STATIC` or nbgrader's `NBGRADER_EXECUTION` is set in the environment,
    it is the figure alone, at the settings that the explorer begins with.

    Args:
        answers: with `gamma_func`, which gives the three schedules; None: the kit's reference answers.
        hole: the number of the test picture to begin with, below `HOLES`.
        data: with `.masked` and `.holes`; None: the embedded `Cats`.
        others: a dict, name -> gamma, schedules of your own beside the three.

    Returns:
        A `VBox` of widgets; its children are the controls, one line of text, and the picture. Or a figure.

    Raises:
        InputError: no such hole, or no reference answers here.
    """
    answers, data = answers or load_answers(SOLUTIONS, ["gamma_func"]), data or Cats()
    masked, holes = data.masked[:HOLES], data.holes[:HOLES]
    if not 0 <= hole < len(holes):
        raise InputError(f"hole must lie in 0 ... {len(holes) - 1}, not {hole}.")
    schedules = {name: answers.gamma_func(name) for name in SCHEDULES} | (others or {})
    first = "cosine"
    if os.environ.get("LAB3_STATIC") or os.environ.get("NBGRADER_EXECUTION"):
        return draw(schedules[first], first, TOTAL_ITER, TOTAL_ITER, masked[hole], holes[hole])

    import ipywidgets as widgets

    wide = {"style": {"description_width": "7em"}, "layout": {"width": "24em"}}
    schedule = widgets.Dropdown(description="Schedule", options=list(schedules), value=first, **wide)
    number = widgets.Dropdown(description="Test picture", options=range(len(holes)), value=hole, **wide)
    # A slider that is dragged draws once, where it is let go; arrow keys draw at each step.
    total_iter = widgets.IntSlider(description="total_iter", value=TOTAL_ITER, min=1, max=MOST_STEPS,
                                   continuous_update=False, **wide)
    sweet_spot = widgets.IntSlider(description="sweet_spot", value=TOTAL_ITER, min=1, max=TOTAL_ITER,
                                   continuous_update=False, **wide)
    said, picture = widgets.HTML(), widgets.Image(format="png", layout={"max_width": "100%"})
    shown = None

    def redraw(_=None):
        nonlocal shown
        wanted = schedule.value, total_iter.value, sweet_spot.value, number.value
        if wanted == shown:
            return
        shown, gamma, settings = wanted, schedules[schedule.value], wanted[1:3]
        try:
            mask = hidden_tokens(holes[number.value][None])
            hidden = hidden_after(gamma, *settings, int(mask.sum()))
            page = draw(gamma, schedule.value, *settings, masked[number.value], holes[number.value])
        except Exception as error:  # of a student's schedule; a widget's callback would drop it in silence
            said.value = html.escape(f"{schedule.value}: {type(error).__name__}: {error}")
            return
        said.value = f"Hidden before the first step and after each: {', '.join(map(str, hidden))}"
        picture.value = png(page)

    def follow(change):
        """Keep sweet_spot in 1 ... total_iter; all steps stay all steps."""
        everything = sweet_spot.value == change["old"]
        sweet_spot.max = change["new"]
        if everything:
            sweet_spot.value = change["new"]
        redraw()

    total_iter.observe(follow, "value")
    for control in (schedule, sweet_spot, number):
        control.observe(redraw, "value")
    redraw()
    controls = widgets.GridBox([schedule, total_iter, number, sweet_spot],
                               layout={"grid_template_columns": "repeat(auto-fit, 25em)"})
    return widgets.VBox([controls, said, picture])


def png(page):
    """A figure as the bytes of a PNG."""
    data = io.BytesIO()
    page.savefig(data, format="png")
    return data.getvalue()
