"""The schedule explorer: its numbers, its figure, and its widgets, driven in this process."""

import math

import pytest
import torch

from lab3.explorer import HOLES, MOST_STEPS, draw, explore, hidden_after, masks_after, png
from lab3.files import InputError
from lab3.presets import SCHEDULES

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def interactive(monkeypatch):
    """As in a notebook that somebody looks at."""
    monkeypatch.delenv("LAB3_STATIC", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)


@pytest.fixture
def explorer(answers, cats):
    return explore(answers, hole=27, data=cats)


def controls(explorer):
    return {control.description: control for control in explorer.children[0].children}


def said(explorer):
    return explorer.children[1].value


def picture(explorer):
    return bytes(explorer.children[2].value)


def linear(r):
    return 1 - r


def test_hidden_tokens_are_counted_after_each_step():
    assert hidden_after(linear, 4, 4, 8) == [8, 6, 4, 2, 0]
    assert hidden_after(linear, 4, 2, 8) == [8, 6, 4]
    assert hidden_after(lambda r: math.cos(math.pi / 2 * r), 8, 8, 85) == [85, 83, 78, 70, 60, 47, 32, 16, 0]


def test_each_step_reveals_a_token_and_the_last_one_all():
    assert hidden_after(lambda r: 1.0, 4, 4, 9) == [9, 8, 7, 6, 0]
    assert hidden_after(linear, 8, 8, 3) == [3, 2, 1, 0, 0, 0, 0, 0, 0]
    assert hidden_after(lambda r: r, 4, 4, 8) == [8, 2, 1, 0, 0]
    assert hidden_after(linear, 1, 1, 0) == [0, 0]


@pytest.mark.parametrize("sweet_spot", [0, 5, -1])
def test_a_sweet_spot_beyond_the_steps_is_refused(sweet_spot):
    with pytest.raises(InputError, match="sweet_spot"):
        hidden_after(linear, 4, sweet_spot, 8)


@pytest.mark.parametrize("mode", SCHEDULES)
def test_steps_agree_with_the_reference_decoding(answers, mode):
    """The same counts as `iterative_decode`, for holes of all sizes."""
    sizes = torch.arange(1, 41)
    mask = torch.arange(40) < sizes[:, None]
    _, history = answers.iterative_decode(
        lambda z: torch.zeros(*z.shape, 4), torch.zeros(40, 40, dtype=torch.long), mask, total_iter=8,
        gamma=answers.gamma_func(mode), mask_token_id=3, generator=torch.Generator().manual_seed(0))
    for row, size in enumerate(sizes.tolist()):
        counts = [size] + [int(next_mask[row].sum()) for _, next_mask in history]
        assert hidden_after(answers.gamma_func(mode), 8, 8, size) == counts


def test_masks_hide_so_many_of_the_hole_and_nothing_comes_back():
    mask = torch.arange(256) % 3 == 0
    counts = [86, 50, 20, 7, 0]
    masks = masks_after(mask, counts)
    assert masks.shape == (5, 256) and masks.dtype == torch.bool
    assert masks.sum(dim=1).tolist() == counts
    assert torch.equal(masks[0], mask)
    assert all((after <= before).all() for before, after in zip(masks, masks[1:]))
    assert torch.equal(masks, masks_after(mask, counts))
    assert not torch.equal(masks, masks_after(mask, counts, seed=1))


@pytest.mark.parametrize("total_iter, sweet_spot", [(1, 1), (8, 3), (10, 10), (11, 11), (MOST_STEPS, MOST_STEPS)])
def test_the_figure_shows_every_step(answers, cats, total_iter, sweet_spot):
    page = draw(answers.gamma_func("square"), "square", total_iter, sweet_spot, cats.masked[5], cats.holes[5])
    titles = [axes.get_title() for part in page.subfigs for axes in part.axes]
    assert sum(title.startswith(("hole", "step")) for title in titles) == sweet_spot + 1
    _, curve, bars = page.subfigs[0].axes
    n_hidden = hidden_after(answers.gamma_func("square"), total_iter, sweet_spot, 62)[0]
    assert sum(bar.get_height() for bar in bars.patches) == n_hidden
    markers = [line for line in curve.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in markers) == total_iter
    assert png(page).startswith(PNG)


def test_every_control_has_a_label_and_changes_the_picture(explorer):
    assert set(controls(explorer)) == {"Schedule", "Test picture", "total_iter", "sweet_spot"}
    assert picture(explorer).startswith(PNG) and "97, 95" in said(explorer)
    for label, value in {"Schedule": "linear", "total_iter": 12, "sweet_spot": 5, "Test picture": 3}.items():
        before = picture(explorer), said(explorer)
        controls(explorer)[label].value = value
        assert picture(explorer).startswith(PNG)
        assert picture(explorer) != before[0] and said(explorer) != before[1], label


def test_the_same_settings_give_the_same_picture(explorer):
    before = picture(explorer)
    schedule = controls(explorer)["Schedule"]
    schedule.value = "square"
    schedule.value = "cosine"
    assert picture(explorer) == before


def test_sweet_spot_stays_within_total_iter(explorer):
    total_iter, sweet_spot = (controls(explorer)[name] for name in ("total_iter", "sweet_spot"))
    total_iter.value = 16
    assert sweet_spot.value == sweet_spot.max == 16, "all steps stay all steps"
    sweet_spot.value = 6
    total_iter.value = 10
    assert (sweet_spot.value, sweet_spot.max) == (6, 10)
    total_iter.value = 4
    assert (sweet_spot.value, sweet_spot.max) == (4, 4)
    sweet_spot.value = 9
    assert sweet_spot.value == 4
    assert said(explorer).count(",") == 4


def test_all_steps_and_holes_can_be_chosen(explorer, cats):
    box = controls(explorer)
    assert len(box["Test picture"].options) == min(HOLES, len(cats.holes))
    box["total_iter"].value = MOST_STEPS
    box["Test picture"].value = HOLES - 1
    assert said(explorer).count(",") == MOST_STEPS


class Answers:
    def __init__(self, gamma):
        self.gamma_func = lambda mode: gamma


def test_schedules_come_from_the_answers(cats, explorer):
    mine = explore(Answers(linear), hole=27, data=cats)
    assert said(mine) != said(explorer)
    controls(explorer)["Schedule"].value = "linear"
    assert said(mine) == said(explorer)


def test_schedules_of_ones_own_can_be_added(answers, cats):
    mine = explore(answers, data=cats, others={"convex": lambda r: (1 - r) ** 2})
    controls(mine)["Schedule"].value = "convex"
    assert picture(mine).startswith(PNG)


def test_a_schedule_that_fails_says_so(answers, cats):
    def broken(r):
        raise RuntimeError("r is <lost>")

    mine = explore(answers, data=cats, others={"broken": broken})
    before = picture(mine)
    controls(mine)["Schedule"].value = "broken"
    assert "broken: RuntimeError: r is &lt;lost&gt;" in said(mine)
    controls(mine)["Schedule"].value = "cosine"
    assert picture(mine) == before and said(mine).startswith("Hidden")


@pytest.mark.parametrize("variable, value", [("LAB3_STATIC", "1"), ("NBGRADER_EXECUTION", "autograde")])
def test_where_nobody_looks_it_is_a_figure(answers, cats, monkeypatch, explorer, variable, value):
    monkeypatch.setenv(variable, value)
    page = explore(answers, hole=27, data=cats)
    assert png(page) == picture(explorer)


def test_without_answers_it_takes_the_reference(cats, explorer):
    assert picture(explore(hole=27, data=cats)) == picture(explorer)


@pytest.mark.parametrize("hole", [-1, HOLES])
def test_a_hole_that_is_not_there_is_refused(answers, cats, hole):
    with pytest.raises(InputError, match="hole"):
        explore(answers, hole=hole, data=cats)
