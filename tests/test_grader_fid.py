"""The graded distances: what is accepted, what is refused, what it earns."""

import json
import os
import pickle
import re
import struct
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from benchmarks.disguises import DISGUISES, disguised
from grader.results.pages import SAME_MODEL
from grader.rubric import RUBRIC, read_rubric
from grader.run import distances
from lab3.common.files import InputError, load_tensors, save_tensors
from lab3.common.paths import ANSWERS, SHIPPED, WEIGHTS
from lab3.data.cats import choices, compose, fresh
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics import decoding_score
from lab3.model.tokens import tokens
from lab3.model.transformer import load_transformer, save_transformer
from lab3.presets import preset
from lab3.training.fit import fit

SMALL = replace(decoding_score.DECODING, batch_size=4, whole=2, total_iter=2)
FEW = replace(distances.MODEL, batch_size=4, total_iter=1)


@pytest.fixture(scope="module")
def scene():
    return decoding_score.scene(5, SMALL)


@pytest.fixture(scope="module")
def filled(scene):
    transformer = load_transformer(SHIPPED / WEIGHTS, TorchAttention)
    return decoding_score.decode(scene, transformer, distances.reference_answers())


@pytest.fixture(scope="module")
def few_right(scene, filled):
    """Features of a few pictures a batch, in place of all right decodings."""
    return [decoding_score.features(pictures, decoding_score.extractor())
            for pictures in decoding_score.tokenizer().decode(filled[scene.measured]).split(SMALL.whole)]


@pytest.fixture(scope="module")
def shipped():
    return load_tensors(SHIPPED / WEIGHTS)


def test_a_scene_is_that_of_its_seed_and_hides_what_it_hides():
    one, same, other = (decoding_score.scene(seed, SMALL) for seed in (5, 5, 6))
    assert torch.equal(one.mask, same.mask) and not torch.equal(one.mask, other.mask)
    assert not one.z_indices[one.mask].any()
    assert one.measured.tolist() == [False, False, True, True] * 2
    assert [options["sampling"] for *_, options in one.calls()] == ["argmax", "categorical"]
    assert not decoding_score.scene(2**63 - 1, FEW).measured.any()


def test_a_right_decoding_is_measured_and_known_pictures_are_near(scene, filled, few_right):
    assert decoding_score.decode_score(filled, scene, few_right) == pytest.approx(0, abs=1e-3)
    assert decoding_score.decode_score(filled.where(~scene.mask, 7), scene, few_right) > 100


def test_the_kept_right_decodings_are_whole_pictures():
    for right in load_tensors(decoding_score.RIGHT)[0].values():
        assert right.shape[1] == 256 and len(right) >= 250 and 0 <= right.min() and right.max() < 1024
    assert decoding_score.RIGHT.stat().st_size < 500_000


@pytest.mark.parametrize("spoil, says", [
    (lambda z, mask: z.numpy(), "must be a tensor of shape"),
    (lambda z, mask: z[:-1], "must be a tensor of shape"),
    (lambda z, mask: z.int(), "must be of type torch.int64"),
    (lambda z, mask: z.float(), "must be of type torch.int64"),
    (lambda z, mask: z.where(~mask, 1024), "1024 is the mask token"),
    (lambda z, mask: z - 2000, "must lie in 0 ... 1023"),
    (lambda z, mask: (z + ~mask) % 1024, "known tokens are changed"),
])
def test_tokens_that_are_refused(scene, filled, few_right, spoil, says):
    with pytest.raises(InputError, match=says):
        decoding_score.decode_score(spoil(filled, scene.mask), scene, few_right)


def test_the_pictures_are_other_ones_for_another_seed():
    """An attack: a model trained on the pictures that are measured, for a fifth of the time, got points."""
    known = {bytes(one) for one in choices("test")[:, :5].numpy()}
    cats = [[bytes(one) for one in fresh(128, seed)[:, :5].numpy()] for seed in (0, 0, 1)]
    assert cats[0] == cats[1] and len({*cats[0]} & {*cats[2]}) < 10 and len(known & {*cats[0], *cats[2]}) < 10


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A model of the smallest preset, trained for two short epochs as notebook 03 trains, and the file it makes."""
    settings = preset("smoke")
    data = [tokens(one, decoding_score.tokenizer(), progress=False)
            for one in (compose(choices("train")[:256]), compose(choices("val")[:distances.HELD_OUT]))]
    folder = tmp_path_factory.mktemp("run")
    fit(*data, settings, load_answers(ANSWERS), folder, progress=False)
    return folder / WEIGHTS


def test_a_model_of_another_size_is_measured(honest):
    distance, fingerprint = distances.model_score(honest, 3, FEW)
    assert distances.share(distance, read_rubric().thresholds["fid_model"]) == 0
    assert re.fullmatch(r"([01]\d{3}){512}", fingerprint)


def rewritten(path, source, record=None, weights=None):
    tensors, about = load_tensors(source)
    about["record"] = about["record"] if record is None else record(about["record"])
    save_tensors(path, weights or tensors, about)
    return path


@pytest.mark.parametrize("record", [
    lambda record: None, lambda record: [], lambda record: {}, lambda record: {"curve": [], "held_out": []},
    lambda record: record | {"curve": record["curve"][::-1]},
    lambda record: record | {"held_out": record["held_out"][::-1]},
    lambda record: record | {"held_out": [[20, 7.0], [100, 0.9]]},
    lambda record: record | {"held_out": [[100, 10**400]]},
    lambda record: record | {"held_out": [[100, float("nan")]]},
    lambda record: record | {"held_out": [["a", "b"]]},
    lambda record: record | {"curve": [[{}, {}]] * 2}])
def test_records_that_do_not_fit_are_refused(tmp_path, honest, record):
    path = rewritten(tmp_path / "mine.safetensors", honest, record)
    with pytest.raises(InputError, match=r"mine.safetensors: .*record.* lab.train\(\) of notebook 03 again"):
        distances.model_score(path, 3, FEW)


def test_weights_under_the_record_of_another_model_are_refused(tmp_path, honest):
    """An attack: other weights in one's own file."""
    torch.manual_seed(3)
    weights = {name: x + torch.randn(x.shape) for name, x in load_tensors(honest)[0].items()}
    with pytest.raises(InputError, match="the record of its training does not fit"):
        distances.model_score(rewritten(tmp_path / "mine.safetensors", honest, weights=weights), 3, FEW)


@pytest.mark.parametrize("name", DISGUISES)
def test_disguised_copies_of_the_shipped_model_are_refused(tmp_path, name):
    save_transformer(tmp_path / "mine.safetensors", disguised(name), half=True)
    with pytest.raises(InputError, match="mine.safetensors: this is the model that comes with the lab"):
        distances.model_score(tmp_path / "mine.safetensors", 3, FEW)


def test_a_model_that_predicts_what_the_shipped_one_does_is_refused_whatever_its_weights(
        tmp_path, monkeypatch):
    """An attack: a model that learned the shipped model's predictions."""
    monkeypatch.setattr(distances, "likeness", lambda *_: 0.0)
    save_transformer(tmp_path / "mine.safetensors", disguised("permuted channels, unlikely codes lowered"))
    with pytest.raises(InputError, match="mine.safetensors: this is the model that comes with the lab"):
        distances.model_score(tmp_path / "mine.safetensors", 3, FEW)


def test_copies_of_one_model_draw_the_same_codes_and_trainings_do_not(honest):
    """An attack: one model for a whole class."""
    models = [disguised("none"), disguised("permuted channels, noise of 0.1"), load_transformer(honest, TorchAttention)]
    prints = []
    for model in models:
        log_p = distances.predict(model, decoding_score.fresh_tokens(distances.COMPARED, 3), 3)[0]
        prints.append(np.frombuffer(distances.fingerprint(log_p, 3).encode(), "S4"))
    same = [(one == prints[0]).mean() for one in prints]
    assert same[1] > SAME_MODEL and same[2] < 0.3


def test_weights_without_finite_results_are_refused(tmp_path, shipped):
    tensors = {name: torch.full_like(x.float(), 3e38) for name, x in shipped[0].items()}
    save_tensors(tmp_path / "mine.safetensors", tensors, shipped[1])
    with pytest.raises(InputError, match="mine.safetensors: the model gives no finite numbers"):
        distances.model_score(tmp_path / "mine.safetensors", 3, FEW)


def test_a_shape_that_is_none_is_refused(tmp_path, shipped):
    about = json.dumps({"about": json.dumps(shipped[1])})
    header = {"__metadata__": json.loads(about), "x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}}
    header_of(tmp_path / "mine.safetensors", json.dumps(header).encode())
    with pytest.raises(InputError, match="mine.safetensors: no model of this lab"):
        distances.check_model(tmp_path / "mine.safetensors")


def header_of(path, text):
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))


def spoilt(name, shipped, path):
    """A file of that kind of spoilage at `path`."""
    tensors, about = dict(shipped[0]), shipped[1]
    config = dict(about["config"])
    first = next(iter(tensors))
    if name == "none":
        return
    if name == "empty":
        path.write_bytes(b"")
    elif name == "truncated":
        path.write_bytes((SHIPPED / WEIGHTS).read_bytes()[:-1000])
    elif name == "pickle":
        torch.save(tensors, path)
    elif name == "plain pickle":
        path.write_bytes(pickle.dumps([os.getcwd]))
    elif name == "huge header":
        path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    elif name == "long header":
        header_of(path, b'{"x": "' + b"a" * (1 << 19) + b'"}')
    elif name == "deep header":
        header_of(path, b"[" * 100_000)
    elif name == "deep about":
        header_of(path, json.dumps({"__metadata__": {"about": "[" * 100_000}}).encode())
    elif name == "a list for a header":
        header_of(path, b"[1, 2]")
    elif name == "folder":
        path.mkdir()
    elif name == "link":
        path.symlink_to(SHIPPED / WEIGHTS)
    elif name == "too large":
        with open(path, "wb") as file:
            file.truncate(distances.LARGEST_FILE + 1)
    else:
        if name == "not finite":
            tensors[first] = torch.full_like(tensors[first], torch.nan)
        elif name == "other shape":
            tensors[first] = tensors[first][..., :-1]
        elif name == "missing tensor":
            tensors.pop(first)
        elif name == "integers":
            tensors[first] = tensors[first].int()
        elif name == "other kind":
            about = about | {"kind": "tokenizer"}
        elif name == "huge dim":
            config["dim"] = 10**9
        elif name == "huge layers":
            config["layers"] = 10**6
        elif name == "zero heads":
            config["heads"] = 0
        elif name == "text for dim":
            config["dim"] = "192"
        elif name == "truth for layers":
            config["layers"] = True
        elif name == "labels":
            config["labels"] = [10**9]
        elif name == "number for labels":
            config["labels"] = 0
        elif name == "unknown field":
            config["secret"] = 1
        elif name == "report preset's size":
            config = asdict(preset("report").transformer)
        elif name == "list for config":
            about = about | {"config": list(config)}
        save_tensors(path, tensors, about if isinstance(about["config"], list) else about | {"config": config})


@pytest.mark.parametrize("name", [
    "none", "empty", "truncated", "pickle", "plain pickle", "huge header", "long header", "deep header", "deep about",
    "a list for a header", "folder", "link", "too large", "not finite", "other shape", "missing tensor", "integers",
    "other kind", "huge dim", "huge layers", "zero heads", "text for dim", "truth for layers", "labels",
    "number for labels", "unknown field",
    "report preset's size", "list for config"])
def test_files_that_are_refused(tmp_path, shipped, name):
    path = tmp_path / "maskgit.safetensors"
    spoilt(name, shipped, path)
    with pytest.raises(InputError) as error:
        distances.model_score(path, 3, FEW)
    assert str(error.value).startswith("maskgit.safetensors: ") and "model that comes with" not in str(error.value)


def test_shares_follow_the_tiers():
    thresholds = {"at_least": 5, "tiers": [{"at_most": 10, "share": 1.0}, {"at_most": 20, "share": 0.5}]}
    found = [4.9, 5, 10, 10.1, 20, 20.1, float("nan"), float("inf")]
    assert [distances.share(one, thresholds) for one in found] == [0, 1, 1, 0.5, 0.5, 0, 0, 0]


def test_the_rubric_has_tiers_that_fall():
    thresholds = read_rubric(RUBRIC).thresholds
    assert set(thresholds) == {"fid_decoding", "fid_model"}
    assert decoding_score.THRESHOLD == thresholds["fid_decoding"]["tiers"][0]["at_most"]  # notebook 06 names the former
    for section in thresholds.values():
        limits, shares = zip(*((tier["at_most"], tier["share"]) for tier in section["tiers"]))
        assert shares[0] == 1 and list(limits) == sorted(limits) and list(shares) == sorted(shares, reverse=True)
        right = section["measured"]["right"]
        assert section.get("at_least", 0) < right["min"] and right["max"] < limits[0]
        assert right["mean"] + 3.5 * right["sd"] < limits[0] < section["measured"]["nearest"]["min"]


def test_numbers_of_another_network_are_not_compared(scene, filled, few_right):
    with pytest.raises(ValueError, match="cannot be compared"):
        decoding_score.decode_score(filled, scene, [replace(one, key="other") for one in few_right])
