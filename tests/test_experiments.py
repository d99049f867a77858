"""The experiments: each case changes what its name says, and what was measured is not measured again."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import experiments
from benchmarks.experiments import SMALL, Case, Lab, Training, cases, loss_of, run, spread
from benchmarks.threshold import answers_with
from lab3.common.files import InputError, read_json
from lab3.common.paths import SOLUTIONS
from lab3.decoding.generate import halton_rank
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer
from lab3.presets import CODES


@pytest.fixture
def batch():
    torch.manual_seed(0)
    model = BidirectionalTransformer(SMALL, TorchAttention)
    return model, torch.randint(0, CODES, (3, 256)), torch.rand(3, 256) < torch.tensor([[0.2], [0.5], [0.9]])


@pytest.mark.parametrize("training, all_tokens, smoothing", [
    (Training(), False, 0.0), (Training(hidden_only=False), True, 0.0), (Training(label_smoothing=0.1), False, 0.1)])
def test_losses_are_the_contracts(batch, training, all_tokens, smoothing):
    model, z_indices, mask = batch
    answers = load_answers(SOLUTIONS)
    logits, targets = answers.masked_forward(model, z_indices, mask, MASK_TOKEN_ID)
    wanted = answers.mvtm_loss(logits, targets, None if all_tokens else mask, smoothing)
    torch.testing.assert_close(loss_of(model, z_indices, mask, training), wanted)


def test_the_softmax_over_places_is_another_loss(batch):
    right, wrong = (loss_of(*batch, Training(over_places=over, hidden_only=False)) for over in (False, True))
    assert abs(right - wrong) > 0.5  # ln 1024 at first; over places ln 256


def test_a_batch_without_hidden_tokens_has_a_loss(batch):
    model, z_indices, mask = batch
    loss = loss_of(model, z_indices, torch.zeros_like(mask), Training())
    loss.backward()
    assert loss == 0


@pytest.mark.nightly
def test_every_case_can_be_made():
    names = [name for some in cases().values() for name in some]
    assert len(set(names)) > 30
    for name, case in {name: case for some in cases().values() for name, case in some.items()}.items():
        answers_with(case.words, None)
        assert isinstance(case, Case), name
    for name in set(names):  # a name means one thing in all experiments
        assert len({repr(some[name]) for some in cases().values() if name in some}) == 1


def test_halton_order_keeps_the_first_places():
    answers = answers_with(experiments.HALTON, None)
    mask = torch.ones(2, 256, dtype=torch.bool)
    torch.manual_seed(0)
    _, left = answers.inpainting(
        lambda z: torch.randn(*z.shape, CODES + 1), torch.zeros(2, 256, dtype=torch.long), mask, 0.5, mask.sum(1),
        gamma=lambda r: 1 - r, choice_temperature=4.5, mask_token_id=MASK_TOKEN_ID)
    assert torch.equal(~left, (halton_rank() < 128).expand(2, -1))


def lab_that(measure):
    return SimpleNamespace(measure=measure, test=[1], data=SimpleNamespace(name="x"),
                           compare=SimpleNamespace(distance_floor=0.5, distance_holes=9.0))


def test_a_run_goes_on_where_it_stopped(tmp_path):
    measured = []

    def measure(case, seed):
        measured.append((case.settings["total_iter"], seed))
        if measured == [(1, 0), (2, 0), (1, 1)]:
            raise KeyboardInterrupt
        return {"scores": {"1": {"distance": 1.0, "distance_pasted": 1.0}}, "val_loss": None, "seconds": 1}

    lab = lab_that(measure)
    chosen = {"one": Case({"total_iter": 1}), "two": Case({"total_iter": 2})}
    with pytest.raises(KeyboardInterrupt):
        run(lab, chosen, 2, tmp_path / "rows.json")
    rows = run(lab, chosen, 2, tmp_path / "rows.json")
    assert measured == [(1, 0), (2, 0), (1, 1), (1, 1), (2, 1)]
    assert {name: list(row) for name, row in rows.items()} == {"one": ["0", "1"], "two": ["0", "1"]}
    assert read_json(tmp_path / "rows.json")["floor"] == 0.5


def test_a_mistake_that_ends_in_an_error_stops_no_other_case(tmp_path, capsys):
    def measure(case, seed):
        if case.settings["total_iter"] == 1:
            raise InputError("a mask token is left")
        return {"scores": {"1": {"distance": 1.0, "distance_pasted": 1.0}}, "val_loss": None, "seconds": 1}

    rows = run(lab_that(measure), {"one": Case({"total_iter": 1}), "two": Case({"total_iter": 2})}, 1,
               tmp_path / "rows.json")
    assert list(rows) == ["two"]
    assert "one, seed 0: a mask token is left" in capsys.readouterr().out


def test_the_learning_rate_by_epochs_begins_at_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "EPOCHS", 2)
    monkeypatch.setattr(experiments, "tokens", lambda pictures, *_, **__: torch.zeros(len(pictures), 256).short())
    lab = SimpleNamespace(data=SimpleNamespace(train=range(64)), tokenizer=None, device=torch.device("cpu"),
                          an_epoch=2 * experiments.BATCH, fast=load_answers(SOLUTIONS))
    torch.manual_seed(0)
    start = BidirectionalTransformer(SMALL, TorchAttention).bias.clone()
    first = Lab.train(lab, Training(rate_by_epoch=True, share=0.5), 0)[0].bias
    assert torch.equal(first, start)
    assert not torch.equal(Lab.train(lab, Training(share=0.5), 0)[0].bias, start)


def test_spread_says_mean_and_deviation():
    assert spread([1.0, 3.0]) == "2.00 ± 1.41"
    assert spread([2.0]) == "2.00"
    assert spread([float("nan"), 1.0, 3.0], 1) == "2.0 ± 1.4"
    assert spread([float("nan")]) == ""
