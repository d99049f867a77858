"""The schedule explorer: its numbers, decodings and figure, what its widgets show, driven in this process."""

import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lab3.common.files import InputError
from lab3.common.plots import png
from lab3.decoding.generate import in_order
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.exercises.table import DECODING
from lab3.explorer import core, filmstrip, widgets
from lab3.explorer.core import (
    DRAWN,
    KITS,
    MOST_STEPS,
    TYPED,
    YOURS,
    Dropped,
    Setting,
    choices_of,
    confidences,
    draw,
    hidden_after,
    masks_after,
    steps_of,
    trace,
    unlike_the_rule,
)
from lab3.explorer.formula import FORMULAS, HANDLES
from lab3.explorer.widgets import Newest, explore
from lab3.metrics.truth import identify, words
from lab3.model.transformer import MASK_TOKEN_ID
from lab3.presets import SCHEDULES, DecodingConfig

CAT = 27
GIVEN = Setting("cosine", total_iter=4, sweet_spot=4)


@pytest.fixture(autouse=True)
def interactive(monkeypatch):
    """As in a notebook that somebody looks at."""
    monkeypatch.delenv("LAB3_STATIC", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)


@pytest.fixture
def kit(cats, tokenizer, tmp_path):
    """What the explorer needs of a lab in which nothing is written yet."""
    return SimpleNamespace(data=cats, tokenizer=tokenizer, device=torch.device("cpu"), work=tmp_path,
                           missing={}, reports={}, answers=SimpleNamespace())


@pytest.fixture
def choices(kit):
    return choices_of(kit)


@pytest.fixture(scope="module")
def decoded(cats, tokenizer):
    """One decoding of the kit's."""
    lab = SimpleNamespace(data=cats, tokenizer=tokenizer, device=torch.device("cpu"), work=core.SHIPPED / "none",
                          missing={}, answers=SimpleNamespace())
    return trace(choices_of(lab), GIVEN, cats.test[CAT], cats.holes[CAT])


def linear(r):
    return 1 - r


# The numbers.


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


def test_a_schedule_without_a_finite_number_is_refused():
    with pytest.raises(InputError, match="nan at r = 0.25"):
        hidden_after(lambda r: math.nan, 4, 4, 8)
    with pytest.raises(InputError, match="inf at r = 0:"):
        steps_of(lambda r: 1 / r - 1 if r else math.inf, 4, 4, 8)


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


def test_the_chart_gets_a_mark_for_every_step():
    steps = steps_of(linear, 8, 5, 80)
    assert [mark["hidden"] for mark in steps["marks"][:5]] == [70, 60, 50, 40, 30]
    assert [mark["revealed"] for mark in steps["marks"]] == [10] * 5 + [0] * 3
    assert [mark["rest"] for mark in steps["marks"]] == [0, 0, 0, 0, 30, 0, 0, 0]
    assert [mark["made"] for mark in steps["marks"]] == [True] * 5 + [False] * 3
    assert steps["line"][0] == [0, 1] and steps["line"][-1] == [1, 0]


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


@pytest.mark.parametrize("total_iter, sweet_spot", [(1, 1), (8, 3), (11, 11), (MOST_STEPS, MOST_STEPS)])
def test_the_figure_shows_every_step(answers, cats, total_iter, sweet_spot):
    page = draw(answers.gamma_func("square"), "square", total_iter, sweet_spot, cats.masked[5], cats.holes[5])
    titles = [axes.get_title() for part in page.subfigs for axes in part.axes]
    assert sum(title.startswith(("hole", "step")) for title in titles) == sweet_spot + 1
    _, curve, bars = page.subfigs[0].axes
    n_hidden = hidden_after(answers.gamma_func("square"), total_iter, sweet_spot, 62)[0]
    assert sum(bar.get_height() for bar in bars.patches) == n_hidden
    markers = [line for line in curve.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in markers) == total_iter


# The choices.


def test_without_answers_the_kits_are_there(choices):
    assert list(choices.schedules) == [*SCHEDULES, *FORMULAS]
    assert list(choices.decodings) == [KITS] and list(choices.models) == [KITS] and choices.notes == ()


def test_answers_are_choices_beside_the_kits(kit, answers):
    kit.answers = answers
    found = choices_of(kit, others={"convex": lambda r: (1 - r) ** 2})
    assert list(found.schedules) == [*(f"{YOURS}: {name}" for name in SCHEDULES), *SCHEDULES, *FORMULAS, "convex"]
    assert list(found.decodings) == [YOURS, KITS]


def test_what_students_get_works_without_any_answer(kit, monkeypatch, tmp_path):
    monkeypatch.setattr(core, "SOLUTIONS", tmp_path)
    found = choices_of(kit)
    assert list(found.schedules) == list(FORMULAS) and found.decodings == {}
    assert "gamma_func" in found.notes[0] and "iterative_decode" in found.notes[1]
    only = trace(found, Setting("cubic"), kit.data.test[CAT], kit.data.holes[CAT])
    assert only.masks.sum(dim=1).tolist() == hidden_after(found.schedules["cubic"], 8, 8, 97)
    assert only.tokens is only.pictures is only.confidence is only.psnr_hole is None


def test_unwritten_and_broken_answers_are_left_out_with_a_word(kit, answers, monkeypatch, tmp_path):
    monkeypatch.setattr(core, "SOLUTIONS", tmp_path)

    def gamma_func(mode):
        return {"linear": linear}[mode]

    kit.answers = SimpleNamespace(gamma_func=gamma_func, inpainting=None, iterative_decode=answers.iterative_decode)
    kit.reports = {"inpainting": SimpleNamespace(written=False), "iterative_decode": SimpleNamespace(written=True)}
    found = choices_of(kit)
    assert list(found.schedules) == [f"{YOURS}: linear", *FORMULAS] and found.decodings == {}
    assert [note.split(" is left out")[0] for note in found.notes[:2]] == [f"{YOURS}: cosine", f"{YOURS}: square"]
    assert "KeyError" in found.notes[0]
    kit.missing = {"gamma_func": "not there yet"}
    assert list(choices_of(kit).schedules) == list(FORMULAS)


def test_a_typed_formula_and_a_drawn_curve_are_schedules(choices):
    assert choices.gamma(Setting(TYPED, formula="1 - r^5"))(0.5) == 1 - 0.5**5
    assert choices.gamma(Setting(DRAWN, heights=tuple(1 - HANDLES)))(0.3) == pytest.approx(0.7)
    with pytest.raises(InputError, match="“x” is not known"):
        choices.gamma(Setting(TYPED, formula="1 - x"))


# A decoding.


def test_a_decoding_is_the_one_of_inpaint(decoded, answers, cats, tokenizer, choices):
    filled = fill(cats.masked[CAT:CAT + 1], cats.holes[CAT:CAT + 1], tokenizer, choices.models[KITS](), answers,
                  DecodingConfig("cosine", 4, 4), seed=0, progress=False)
    assert torch.equal(decoded.masks, filled.masks[0]) and torch.equal(decoded.tokens, filled.predictions[0])
    assert torch.equal(decoded.pasted, filled.pasted[0]) and torch.equal(decoded.pictures[-1], filled.decoded[0])
    assert torch.equal(decoded.masked, cats.masked[CAT]) and torch.equal(decoded.original, cats.test[CAT])
    assert 10 < decoded.psnr_hole < 60


def test_another_order_is_the_one_of_generate(decoded, answers, cats, tokenizer, choices):
    changed = load_answers(core.SOLUTIONS, DECODING, {"inpainting": lambda answer: in_order(answer, "halton")})
    filled = fill(cats.masked[CAT:CAT + 1], cats.holes[CAT:CAT + 1], tokenizer, choices.models[KITS](), changed,
                  DecodingConfig("cosine", 4, 4), seed=0, progress=False)
    found = trace(choices, replace(GIVEN, order="halton"), cats.test[CAT], cats.holes[CAT])
    assert torch.equal(found.masks, filled.masks[0]) and torch.equal(found.tokens, filled.predictions[0])
    assert not torch.equal(found.masks, decoded.masks)


def test_an_order_that_a_decoding_does_not_follow_is_said(choices, cats, tmp_path):
    (tmp_path / "inpainting.py").write_text("def inpainting(*_, **__):\n    pass\n")
    (tmp_path / "iterative_decode.py").write_text("def iterative_decode(*_, **__):\n    return None, []\n")
    wrong = replace(choices, folders={KITS: tmp_path})
    with pytest.raises(InputError, match="does not call inpainting"):
        trace(wrong, replace(GIVEN, order="random"), cats.test[CAT], cats.holes[CAT])


@pytest.mark.parametrize("mistake", ["no scaling", "mask inverted", "linear for cosine", "temperature grows"])
def test_a_mistake_changes_the_decoding_and_the_next_one_is_right(decoded, choices, cats, mistake):
    wrong = trace(choices, replace(GIVEN, mistake=mistake), cats.test[CAT], cats.holes[CAT])
    assert not torch.equal(wrong.tokens, decoded.tokens) and torch.equal(wrong.masks[0], decoded.masks[0])
    if mistake == "mask inverted":
        assert torch.equal(wrong.tokens[-1][decoded.masks[0]], choices.tokenizer.encode(wrong.masked[None])[0][
            decoded.masks[0]]), "the hole stays"
    if mistake == "linear for cosine":
        assert wrong.masks.sum(1).tolist() == hidden_after(linear, 4, 4, int(wrong.masks[0].sum()))
    if mistake == "no scaling":
        assert torch.equal(trace(choices, GIVEN, cats.test[CAT], cats.holes[CAT]).tokens, decoded.tokens)


def test_a_mistake_over_the_batch_is_made_beside_other_pictures(decoded, choices, cats):
    setting = replace(GIVEN, mistake="top-k over the batch")
    wrong = trace(choices, setting, cats.test[CAT], cats.holes[CAT])
    assert wrong.tokens.shape == decoded.tokens.shape and torch.equal(wrong.masks[0], decoded.masks[0])
    assert "by the counting rule" in unlike_the_rule(wrong, choices.gamma(setting), setting)


def test_a_mistake_is_explained_beside_its_result(driver):
    driver["mistake"].value = "nothing is kept"
    assert "A: nothing is kept. Finished tokens are hidden again" in driver.text
    driver["mistake"].value = "none"
    assert "Finished tokens" not in driver.text


def test_tokens_chosen_by_hand_are_kept_in_the_same_loop(decoded, choices, cats):
    own = tuple(decoded.masks[:-2] & ~decoded.masks[1:-1])
    again = trace(choices, GIVEN, cats.test[CAT], cats.holes[CAT], kept=own)
    assert torch.equal(again.tokens, decoded.tokens) and torch.equal(again.masks, decoded.masks)
    other = decoded.masks[1] & (decoded.masks[1].cumsum(0) <= own[0].sum())  # what MaskGIT does not keep
    found = trace(choices, GIVEN, cats.test[CAT], cats.holes[CAT], kept=(other,))
    assert torch.equal(found.masks[1], decoded.masks[0] & ~other) and torch.equal(found.tokens[0], decoded.tokens[0])
    assert torch.equal(found.tokens[-1][other], decoded.tokens[0][other])
    assert found.masks.sum(dim=1).tolist() == decoded.masks.sum(dim=1).tolist()


def test_a_cat_from_nothing_has_words_but_no_original(choices, cats):
    found = trace(choices, GIVEN, cats.test[CAT], torch.ones(64, 64, dtype=torch.bool))
    assert found.from_nothing and found.psnr_hole is found.same is None
    shown = filmstrip.outcome({"A": found})
    assert "drawn from nothing" in shown and "original" not in shown and "PSNR" not in shown
    assert words(identify(found.pictures[-1:]))[0].split("; ")[0] in shown
    assert "original" not in filmstrip.scores({"you": found, "MaskGIT": found})


def test_the_truth_is_said_of_the_kits_cats_alone(decoded, choices, cats):
    shown = filmstrip.outcome({"A": decoded})
    assert "cream, tabby, oval eyes, tiny mouth, pink bow, on magenta" in shown and decoded.same < 97
    assert f"{decoded.same} of 97" in filmstrip.scores({"A": decoded})
    own = replace(choices, data=SimpleNamespace(test=cats.test))
    found = trace(own, replace(GIVEN, total_iter=1, sweet_spot=1), cats.test[CAT], cats.holes[CAT])
    assert found.truth is None and "cream" not in filmstrip.outcome({"A": found})
    assert "composable" not in filmstrip.scores({"A": found}) and "PSNR" in filmstrip.scores({"A": found})


def test_confidence_is_log_p_of_what_was_predicted_where_hidden(decoded, tokenizer, choices, cats):
    hidden = decoded.masks[:-1]
    assert torch.equal(decoded.confidence.isnan(), ~hidden) and (decoded.confidence[hidden] <= 0).all()
    z_indices = tokenizer.encode(cats.masked[CAT:CAT + 1])
    with torch.no_grad():
        logits = choices.models[KITS]()(torch.where(hidden[:1], MASK_TOKEN_ID, z_indices))[0, :, :MASK_TOKEN_ID]
    log_p = -F.cross_entropy(logits.float(), decoded.tokens[0], reduction="none")
    assert (decoded.confidence[0] - log_p)[hidden[0]].abs().median() < 0.05  # the trace may come from bfloat16


def test_confidence_finds_the_question_of_each_step():
    masks = torch.zeros(4, 256, dtype=torch.bool)
    masks[0, :4] = masks[1, :2] = True  # the last step has nothing to ask
    tokens = torch.zeros(3, 256, dtype=torch.long)
    logits = torch.zeros(1, 256, MASK_TOKEN_ID + 1)
    first, second = (torch.where(mask, MASK_TOKEN_ID, 0)[None] for mask in masks[:2])
    guess = -math.log(MASK_TOKEN_ID)
    for asked in ([first, second], [first, torch.zeros_like(first), second], [first, first, second, second]):
        found = confidences([(z, logits) for z in asked], tokens, masks)
        assert found[0, :4].allclose(torch.tensor(guess)) and found[1, :2].allclose(torch.tensor(guess))
        assert found.isnan().sum() == found.numel() - 6
    assert confidences([(second, logits)], tokens, masks)[0].isnan().all()
    assert confidences([], tokens, masks).isnan().all()


def test_an_early_stop_takes_the_last_prediction(choices, cats):
    found = trace(choices, replace(GIVEN, sweet_spot=2), cats.test[CAT], cats.holes[CAT])
    assert found.masks.shape == (3, 256) and found.pictures.shape == (2, 3, 64, 64) and found.masks[-1].any()
    assert torch.equal(found.pasted, torch.where(cats.holes[CAT], found.pictures[-1], found.masked))


def test_a_decoding_that_nobody_waits_for_ends_at_its_next_step(choices, cats):
    calls = []

    def unwanted():
        calls.append(None)
        return len(calls) == 3

    with pytest.raises(Dropped):
        trace(choices, GIVEN, cats.test[CAT], cats.holes[CAT], unwanted)
    assert len(calls) == 3


def test_an_empty_hole_is_refused_in_words(choices, cats):
    with pytest.raises(InputError, match="hole is empty"):
        trace(choices, GIVEN, cats.test[CAT], torch.zeros(64, 64, dtype=torch.bool))


FILLED, NONE = torch.zeros(1, 256, dtype=torch.long), torch.zeros(1, 256, dtype=torch.bool)


@pytest.mark.parametrize("given, said", [
    ((FILLED, [(FILLED, NONE)] * 3), "history of 3 entries"), ((FILLED, None), "history of NoneType"),
    ((FILLED, [FILLED] * 4), "no pairs"), ((FILLED, [(FILLED, NONE.float())] * 4), "next_mask that is torch.float32"),
    ((FILLED[:, :9], [(FILLED, NONE)] * 4), r"z_final that is torch.int64 \(1, 9\)"),
    (([0], [(FILLED, NONE)] * 4), "z_final that is no tensor"),
    ((FILLED + MASK_TOKEN_ID, [(FILLED, NONE)] * 4), "no codes")])
def test_a_decoding_that_gives_something_else_is_said(choices, cats, given, said):
    wrong = replace(choices, decodings={KITS: SimpleNamespace(iterative_decode=lambda *_, **__: given)})
    with pytest.raises(InputError, match=said):
        trace(wrong, GIVEN, cats.test[CAT], cats.holes[CAT])


def test_other_counts_than_the_rules_are_said(decoded, choices, kit, answers):
    assert unlike_the_rule(decoded, choices.schedules["cosine"], GIVEN) is None
    assert unlike_the_rule(decoded, linear, GIVEN) == (
        "After step 1 this decoding leaves 89 tokens hidden; by the counting rule it is 72.")

    def iterative_decode(*args, gamma, **options):
        return answers.iterative_decode(*args, gamma=lambda r: gamma(r) / 2, **options)

    kit.answers = SimpleNamespace(inpainting=answers.inpainting, iterative_decode=iterative_decode)
    assert "by the counting rule" in Driver(explore(kit, CAT)).text


# What is shown of it.


def test_a_strip_shows_every_step(decoded):
    shown = filmstrip.strip(decoded, now=2)
    assert shown.count("<li") == 5 and shown.count("<img") == 15 and shown.count("aria-current") == 1
    assert "step 2: mask, 68 tokens hidden" in shown and "src=\"http" not in shown
    only_masks = replace(decoded, tokens=None, confidence=None, pictures=None, pasted=None, psnr_hole=None)
    assert filmstrip.strip(only_masks).count("<img") == 5
    assert "drawn at random" in filmstrip.legend(only_masks)


def test_two_settings_are_compared(decoded, choices, cats):
    other = trace(choices, replace(GIVEN, seed=1), cats.test[CAT], cats.holes[CAT])
    differ = int((decoded.tokens[-1] != other.tokens[-1]).sum())
    assert differ and f"{differ} of 97 tokens differ" in filmstrip.outcome({"A": decoded, "B": other})
    said = filmstrip.differences({"seed": 0, "<b>": 1}, {"seed": 1, "<b>": 1})
    assert "seed" in said and "&lt;b&gt;" not in said
    assert "the same settings" in filmstrip.differences({"seed": 0}, {"seed": 0})


# The thread beside the widgets.


@pytest.fixture
def bench():
    """A worker whose requests are dicts of events, and what it showed."""
    shown, failed = [], []

    def work(request, unwanted):
        request.get("begun", threading.Event()).set()
        if "go" in request:
            assert request["go"].wait(5)
        if unwanted():
            raise Dropped
        if "error" in request:
            raise request["error"]
        return request["name"]

    return SimpleNamespace(worker=Newest(work, lambda request, result: shown.append(result), failed.append),
                           shown=shown, failed=failed)


def test_a_newer_request_drops_an_older_one(bench):
    begun, go = threading.Event(), threading.Event()
    bench.worker.ask({"name": "old", "begun": begun, "go": go})
    assert begun.wait(5)
    for name in ("between", "newest"):
        bench.worker.ask({"name": name})
    go.set()
    assert bench.worker.idle.wait(5)
    assert bench.shown == ["newest"] and bench.failed == []


def test_an_error_is_told_and_the_next_request_works(bench):
    bench.worker.ask({"name": "bad", "error": ValueError("of a student")})
    assert bench.worker.idle.wait(5)
    bench.worker.ask({"name": "good"})
    assert bench.worker.idle.wait(5)
    assert bench.shown == ["good"] and [str(error) for error in bench.failed] == ["of a student"]


def test_a_dropped_request_shows_nothing_and_tells_nothing(bench):
    begun, go = threading.Event(), threading.Event()
    bench.worker.ask({"name": "old", "begun": begun, "go": go, "error": ValueError("late")})
    assert begun.wait(5)
    bench.worker.drop()
    go.set()
    assert bench.worker.idle.wait(5)
    assert bench.shown == [] and bench.failed == []


def test_a_result_that_is_being_shown_is_shown_whole_before_anything_newer():
    """Whoever drops a request can show something else right after: nothing older comes on top of it."""
    screen, showing, go = [], threading.Event(), threading.Event()

    def show(request, result):
        showing.set()
        go.wait(0.5)
        screen.append(result)

    worker = Newest(lambda request, unwanted: request, show, lambda error: None)
    worker.ask("old")
    assert showing.wait(5)
    threading.Timer(0.1, go.set).start()
    worker.drop()
    screen.append("new")
    assert worker.idle.wait(5)
    assert screen[-1] == "new"


def test_many_requests_at_once_end_with_the_newest():
    shown = []

    def work(request, unwanted):
        time.sleep(0.002)
        if unwanted():
            raise Dropped
        return request

    worker = Newest(work, lambda request, result: shown.append(result), lambda error: None)
    for request in range(200):
        worker.ask(request)
        time.sleep(0.0005)
    assert worker.idle.wait(5)
    assert shown[-1] == 199 and shown == sorted(shown)


# The widgets.


class Driver:
    """Finds an explorer's controls by their labels and waits for what it shows."""

    def __init__(self, box):
        self.box, self.all = box, []
        todo = [box]
        while todo:
            widget = todo.pop()
            self.all.append(widget)
            todo += getattr(widget, "children", ())
        self.all.reverse()  # in the order of the page

    def __getitem__(self, label):
        return next(one for one in self.all if getattr(one, "description", None) == label)

    def second(self, label):
        return [one for one in self.all if getattr(one, "description", None) == label][1]

    @property
    def text(self):
        assert self.box.worker.idle.wait(30)
        return "\n".join(one.value for one in self.all if type(one).__name__ == "HTML")


@pytest.fixture(scope="module")
def memory():
    """The traces that drivers have shown: a dict."""
    return {}


@pytest.fixture
def driver(kit, memory, monkeypatch):
    """An explorer without answers. What another test has decoded, such as the setting that it opens with, is kept."""
    def remembered(choices, setting, picture, hole, unwanted, by_hand):
        if by_hand:
            return trace(choices, setting, picture, hole, unwanted, by_hand)
        key = setting, picture.numpy().tobytes(), hole.numpy().tobytes()
        if key not in memory:
            memory[key] = trace(choices, setting, picture, hole, unwanted)
        return memory[key]

    monkeypatch.setattr(widgets, "trace", remembered)
    return Driver(explore(kit, CAT))


def test_every_control_has_a_label(driver):
    from ipywidgets import HTML, Button, Layout
    from ipywidgets.widgets.widget_description import DescriptionWidget

    controls = [one for one in driver.all if isinstance(one, (DescriptionWidget, Button))
                and not isinstance(one, (HTML, Layout))]
    assert len(controls) > 15
    assert all(one.description or getattr(one, "tooltip", None) for one in controls)


def test_it_opens_with_the_kits_cosine_decoded(driver, choices, cats):
    assert (driver["schedule"].value, driver["total_iter"].value, driver["sweet_spot"].value) == ("cosine", 8, 8)
    expected = trace(choices, Setting("cosine"), cats.test[CAT], cats.holes[CAT])
    assert f"{expected.psnr_hole:.1f} dB" in driver.text
    assert "97, 95" in driver.text


def test_every_control_changes_what_is_shown(driver):
    for label, value in [("total_iter", 5), ("sweet_spot", 3), ("schedule", "linear"), ("schedule", "square root"),
                         ("sampling", "argmax"), ("sampling", "categorical"), ("temperature", 9.0), ("seed", 3),
                         ("order", "halton"), ("order", "random"), ("hole", "everything"),
                         ("hole", "random"), ("hole's seed", 4), ("picture", 3)]:
        before = driver.text
        driver[label].value = value
        assert driver.text != before, label
        assert "role='alert'" not in driver.text, label


def test_the_same_settings_give_the_same_page_and_are_decoded_once(driver, monkeypatch):

    before, made = driver.text, []
    monkeypatch.setattr(widgets, "trace", lambda *args: made.append(None) or trace(*args))
    driver["seed"].value = 5
    assert driver.text != before and len(made) == 1
    driver["seed"].value = 0
    assert driver.text == before and len(made) == 1


def test_sweet_spot_stays_within_total_iter(driver):
    total_iter, sweet_spot = driver["total_iter"], driver["sweet_spot"]
    total_iter.value = 16
    assert sweet_spot.value == sweet_spot.max == 16, "all steps stay all steps"
    sweet_spot.value = 6
    total_iter.value = 10
    assert (sweet_spot.value, sweet_spot.max) == (6, 10)
    total_iter.value = 4
    assert (sweet_spot.value, sweet_spot.max) == (4, 4)
    sweet_spot.value = 9
    assert sweet_spot.value == 4


def test_a_wrong_formula_is_said_and_the_last_one_stays(driver):
    driver["schedule"].value = TYPED
    driver["formula"].value = "1 - r^4"
    right = driver.text
    driver["formula"].value = "1 - q^4"
    assert "“q” is not known" in driver.text and driver.text.count("role='alert'") == 1
    assert "1 - q^4\n    ▲<" in driver.text
    driver["formula"].value = "1 - r^4"
    assert driver.text == right
    driver["formula"].value = "<b>"
    assert "&lt;b&gt;" in driver.text and "<b> " not in driver.text and "<b><" not in driver.text


def test_what_is_of_an_older_formula_is_marked(driver):
    driver["schedule"].value = TYPED
    curves = next(one for one in driver.all if hasattr(one, "curves"))
    driver["formula"].value = "1 - r"
    driver.box.worker.idle.wait(30)

    def marked():
        return sum("l3-old" in getattr(one, "_dom_classes", ()) for one in driver.all)

    for wrong in ("1 - r^", "1-x", "max(0, 1-2r)"):
        driver["formula"].value = wrong
        assert "Not updated." in driver.text and "<b>A: 1 - r</b>" in driver.text and marked() == 7
        assert [curve["name"] for curve in curves.curves] == ["A: 1 - r"]
    driver["formula"].value = "1 - r^2"
    assert "Not updated." not in driver.text and marked() == 0
    assert [curve["name"] for curve in curves.curves] == ["A: 1 - r^2"]


def test_the_player_opens_at_the_last_step_and_plays_from_the_first(driver):
    assert "step 8 of 8" in driver.text and driver["step"].value == 8
    driver["play the steps"].playing = True
    assert driver["step"].value == 0 and "step 0 of 8" in driver.text


@pytest.fixture
def sampler(driver):
    """A game of four steps, of which three leave a choice."""
    driver["total_iter"].value = 4
    driver.box.worker.idle.wait(30)
    driver["be the sampler, with setting A"].value = True
    return SimpleNamespace(driver=driver, pad=next(one for one in driver.all if hasattr(one, "most")))


def choose(sampler, n):
    """Choose the first n tokens that are free."""
    free = [place for place, one in enumerate(sampler.pad.free) if one == "1"][:n]
    sampler.pad.marked = "".join("01"[place in free] for place in range(256))
    return free


def test_the_sampler_asks_for_as_many_tokens_as_the_schedule_keeps(sampler):
    driver, pad = sampler.driver, sampler.pad
    assert "step 1 of 4" in driver.text and pad.most == 8 and pad.free.count("1") == 97
    keep = driver["Keep these 8"]
    choose(sampler, 7)
    assert keep.disabled
    chosen = choose(sampler, 8)
    assert not keep.disabled
    keep.click()
    assert "step 2 of 4" in driver.text and pad.free.count("1") == 89 and pad.most == 21
    assert pad.marked == "0" * 256 and all(pad.free[place] == "0" for place in chosen)
    driver["Undo a step"].click()
    assert "step 1 of 4" in driver.text and pad.most == 8 and driver["Undo a step"].disabled


def test_the_sampler_is_scored_against_maskgit(sampler):
    driver = sampler.driver
    choose(sampler, 8)
    driver["Keep these 8"].click()
    driver.box.worker.idle.wait(30)
    for _ in range(2):
        driver["Let MaskGIT choose this step"].click()
    assert "You chose 1 of 3 steps" in driver.text and "a composable cat" in driver.text
    assert driver.text.count(" of 97</td>") == 2 and "parts as in the original" in driver.text
    driver["Start over"].click()
    for _ in range(3):
        driver["Let MaskGIT choose this step"].click()
    assert "You chose 0 of 3 steps" in driver.text
    driver["seed"].value = 1
    assert "Be the sampler: step 1 of 4" in driver.text, "another setting is another game"


def test_a_sampler_without_a_choice_is_said(sampler):
    sampler.driver["total_iter"].value = 1
    assert "No step of this setting leaves a choice" in sampler.driver.text


def test_a_schedule_that_rises_is_shown_and_explained(driver):
    driver["schedule"].value = TYPED
    driver["formula"].value = "0.5 + r / 4"
    text = driver.text
    assert "begins at 0.50" in text and "rises after" in text and "97, 51" in text


def test_a_curve_is_dragged_and_a_hole_is_drawn(driver):
    chart = next(one for one in driver.all if hasattr(one, "heights"))
    pad = next(one for one in driver.all if hasattr(one, "brush"))
    assert not chart.editable
    driver["schedule"].value = DRAWN
    before = driver.text
    assert chart.editable
    chart.heights = [1.0] * 8 + [0.0]
    assert driver.text != before and "97, 96, 95, 94, 93, 92, 91, 90, 0" in driver.text
    driver["hole"].value = "drawn by you"
    pad.marked = "1" * 256 + "0" * (4096 - 256)
    assert "16, 15" in driver.text
    driver["Clear the hole"].click()
    assert "hole is empty" in driver.text


def test_a_page_that_has_just_opened_is_sent_everything_again(driver, monkeypatch):
    from ipywidgets import HTML

    chart, sent = next(one for one in driver.all if hasattr(one, "heights")), []
    assert "PSNR" in driver.text
    monkeypatch.setattr(HTML, "send_state", lambda widget, key=None: sent.append(widget.value))
    chart._handle_custom_msg({"shown": True}, [])
    assert any("PSNR" in value for value in sent) and any("tokens hidden before" in value for value in sent)


def test_two_settings_side_by_side(driver):
    driver["compare with a second setting, B"].value = True
    assert "0 of 97 tokens differ" in driver.text and "the same settings" in driver.text
    driver.second("schedule").value = "linear"
    text = driver.text
    assert "of 97 tokens differ" in text and " 0 of 97 tokens differ" not in text
    assert "cosine" in text and "linear" in text and text.count("PSNR in the hole") >= 2


def test_errors_of_a_student_are_said_and_stop_nothing(kit, answers):
    def gamma_func(mode):
        if mode == "square":
            return lambda r: {}[r]
        return lambda r: complex(1 - r) if mode == "cosine" else 1 - r

    def iterative_decode(*_, **__):
        raise NotImplementedError("write <me>")

    kit.answers = SimpleNamespace(
        gamma_func=gamma_func, inpainting=answers.inpainting, iterative_decode=iterative_decode)
    driver = Driver(explore(kit, CAT))
    assert driver["schedule"].value == f"{YOURS}: cosine" and "TypeError" in driver.text
    driver["schedule"].value = f"{YOURS}: square"
    assert "KeyError" in driver.text
    driver["schedule"].value = f"{YOURS}: linear"
    assert "NotImplementedError: write &lt;me&gt;" in driver.text
    driver["decoding"].value = KITS
    assert "dB" in driver.text and "Error" not in driver.text


def test_without_any_answer_the_pace_is_shown(kit, monkeypatch, tmp_path):
    monkeypatch.setattr(core, "SOLUTIONS", tmp_path)
    driver = Driver(explore(kit, CAT))
    text = driver.text
    assert driver["schedule"].value == "cubic" and "drawn at random" in text and "PSNR" not in text
    assert "gamma_func" in text, "what is not there is said"


def test_another_picture_number_is_refused(kit):
    with pytest.raises(InputError, match="hole"):
        explore(kit, -1)


@pytest.mark.parametrize("variable", ["LAB3_STATIC", "NBGRADER_EXECUTION"])
def test_without_widgets_it_is_a_figure(kit, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    page = explore(kit, CAT)
    assert type(page).__name__ == "Figure" and png(page).startswith(b"\x89PNG")
