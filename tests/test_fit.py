"""Training: it learns, and stopping it at any moment changes nothing."""

import random
import shutil
import time
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from conftest import lab3

from lab3 import cli
from lab3.common.files import InputError, SaveError, load_tensors, read_json, save_tensors
from lab3.common.plots import training_curve
from lab3.model.likelihood import bits
from lab3.presets import PRESETS
from lab3.training.fit import Batches, drop_labels, fit
from lab3.training.runs import read_metrics

SMOKE = PRESETS["smoke"]
SHORT = replace(SMOKE, training=replace(SMOKE.training, batch_size=8, part_steps=2))


@pytest.fixture(scope="module")
def rows():
    """Tokens with something to learn: 40 rows that each repeat one code."""
    codes = torch.randint(0, 1024, (40, 1), generator=torch.Generator().manual_seed(0))
    return codes.expand(40, 256).to(torch.int16)


@pytest.fixture(scope="module")
def whole(rows, answers, tmp_path_factory):
    """The folder of a training that nothing stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(rows, rows[:8], SHORT, answers, run, progress=False)
    return run


@pytest.fixture
def copied(whole, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(whole, tmp_path / "run")


def weights(run):
    return load_tensors(run / "maskgit.safetensors")[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls_and_every_validation_measures_bits_and_says_so(rows, answers, tmp_path, capsys):
    config = replace(SHORT.training, epochs=4, lr=2e-2, train_pictures=None)
    transformer = fit(rows, rows[:20], replace(SHORT, training=config), answers, tmp_path)
    metrics = read_metrics(tmp_path)
    measured = [row for row in metrics if "val_bits" in row]
    assert len(measured) == 5 and measured == [row for row in metrics if "val_loss" in row]
    assert measured[-1]["val_loss"] < measured[0]["val_loss"] - 1
    assert (measured[-1]["val_bits"], measured[-1]["val_bits_error"]) == bits(transformer, rows[:4])
    assert f"val_bits={measured[-1]['val_bits']:.0f}" in capsys.readouterr().err
    assert measured[-1]["val_bits"] < 2560 < 2 * measured[-1]["val_bits"]
    assert training_curve(metrics, "").axes[2].get_ylabel() == "bits a picture (validation)"
    older = [{name: value for name, value in row.items() if "bits" not in name} for row in metrics]
    assert len(training_curve(older, "").axes) == 2, "a run from before there were bits"


def test_a_stopped_training_goes_on_as_if_it_had_not_been(rows, answers, whole, tmp_path):
    calls = 0

    def stopping(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return answers.train_one_epoch(*arguments, **keywords)

    stopped = type(answers)(**vars(answers) | {"train_one_epoch": stopping})
    with pytest.raises(KeyboardInterrupt):
        fit(rows, rows[:8], SHORT, stopped, tmp_path / "cut", progress=False)
    assert len(read_metrics(tmp_path / "cut")) == 3, "all finished parts are kept"
    fit(rows, rows[:8], SHORT, answers, tmp_path / "cut", resume=True, progress=False)
    assert same(weights(whole), weights(tmp_path / "cut"))
    for one, other in zip(read_metrics(whole), read_metrics(tmp_path / "cut"), strict=True):
        assert {**one, "time": 0} == {**other, "time": 0}


def test_a_finished_training_resumes_to_itself(rows, answers, whole, copied):
    fit(rows, rows[:8], SHORT, answers, copied, resume=True, progress=False)
    assert same(weights(whole), weights(copied))
    assert read_json(whole / "maskgit.json") == read_json(copied / "maskgit.json")


def test_a_training_is_not_overwritten_or_mixed_with_another(rows, answers, whole, copied):
    with pytest.raises(InputError, match="Pass --resume"):
        fit(rows, rows[:8], SHORT, answers, copied, progress=False)
    other = replace(SHORT, training=replace(SHORT.training, lr=1e-3))
    with pytest.raises(InputError, match="training"):
        fit(rows, rows[:8], other, answers, copied, resume=True, progress=False)
    with pytest.raises(InputError, match="tokenizer_key"):
        fit(rows, rows[:8], SHORT, answers, copied, resume=True, progress=False, about={"tokenizer_key": "x"})
    assert same(weights(whole), weights(copied))


def test_a_full_disk_is_one_clear_error_and_keeps_the_last_checkpoint(rows, answers, whole, tmp_path, monkeypatch):
    from lab3.common import files

    saved, save = 0, files.save_file

    def filling_up(tensors, path, metadata=None):
        nonlocal saved
        saved += 1
        if saved == 3:
            raise OSError(28, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(files, "save_file", filling_up)
    with pytest.raises(SaveError, match="No space left on device"):
        fit(rows, rows[:8], SHORT, answers, tmp_path / "cut", progress=False)
    fit(rows, rows[:8], SHORT, answers, tmp_path / "cut", resume=True, progress=False)
    assert same(weights(whole), weights(tmp_path / "cut"))


def test_a_disk_that_is_full_for_metrics_is_the_same_clear_error(rows, answers, tmp_path, monkeypatch):
    from lab3.training.runs import Metrics

    def full(*_):
        raise OSError(28, "No space left on device")

    enter = Metrics.__enter__

    def enter_full(metrics):
        monkeypatch.setattr(metrics.board, "add_scalar", full)
        return enter(metrics)

    monkeypatch.setattr(Metrics, "__enter__", enter_full)
    with pytest.raises(SaveError, match="metrics.jsonl.*No space left.*--resume"):
        fit(rows, rows[:8], SHORT, answers, tmp_path, progress=False)


def test_batches_give_every_row_once_as_long():
    tokens = torch.arange(70).view(10, 7).to(torch.int16)
    loader = Batches(tokens, torch.randperm(10), 4)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 2] and len(loader) == 3
    assert all(batch.dtype == torch.long for batch in batches)
    assert sorted(torch.cat(batches)[:, 0].tolist()) == list(range(0, 70, 7))


@pytest.mark.nightly
@pytest.mark.parametrize("kills", [1, 10])
def test_kills_at_random_moments_end_in_the_weights_of_one_run(tmp_path, kills):
    arguments = ["train", "--preset", "smoke", "--epochs", str(2 + kills), "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert lab3(*arguments, whole).returncode == 0
    a_part = read_json(whole / "maskgit.json")["train_seconds"] / len(read_metrics(whole))
    chance = random.Random(0)
    for _ in range(kills):
        before = len(read_metrics(cut))
        process = get_context("fork").Process(target=cli.main, args=([*arguments, str(cut), "--resume"],))
        process.start()  # without a new process's imports
        while len(read_metrics(cut)) <= before:
            assert process.is_alive(), "the training ended before its last kill"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, a_part))
        process.kill()
        process.join()
    assert lab3(*arguments, cut, "--resume").returncode == 0
    assert same(weights(whole), weights(cut))
    assert [row["step"] for row in read_metrics(whole)] == [row["step"] for row in read_metrics(cut)]
    assert not list(cut.glob(".*.part"))


LABELS = replace(SHORT, transformer=replace(SHORT.transformer, labels=(4, 2)))


def test_labels_reach_the_batches_that_they_belong_to(rows, answers, tmp_path):
    labels, met = torch.stack([torch.arange(40) % 4, torch.arange(40) % 2], dim=1), []

    def watching(transformer, loader, *arguments, **keywords):
        for z_indices in loader:
            own = torch.stack([(rows[:, 0] == row[0]).nonzero()[0, 0] for row in z_indices])
            assert ((transformer.labels == -1) | (transformer.labels == labels[own])).all()
            met.append(transformer.labels)
        return answers.train_one_epoch(transformer, loader, *arguments, **keywords)

    watched = type(answers)(**vars(answers) | {"train_one_epoch": watching})
    transformer = fit(rows, rows[:8], LABELS, watched, tmp_path, labels=labels, progress=False)
    dropped = (torch.cat(met) == -1).float().mean().item()
    assert 0.3 < dropped < 0.7 and transformer.labels is None


def test_labels_are_dropped_in_all_numbers():
    torch.manual_seed(0)
    counts = (drop_labels(torch.zeros(7000, 6).long()) == -1).sum(dim=1).bincount(minlength=7)
    assert counts.min() > 850 and counts.max() < 1150, "0 to 6 of six are dropped equally often"


def test_a_training_from_before_there_were_labels_goes_on(rows, answers, copied):
    tensors, about = load_tensors(copied / "checkpoint.safetensors")
    del about["identity"]["transformer"]["labels"]
    save_tensors(copied / "checkpoint.safetensors", tensors, about)
    fit(rows, rows[:8], SHORT, answers, copied, resume=True, progress=False)
    with pytest.raises(InputError, match="labels"):
        fit(rows, rows[:8], LABELS, answers, copied, resume=True, progress=False)
