"""The graded distances: what is accepted, what is refused, what it earns."""

import json
import os
import pickle
import struct
from dataclasses import asdict, replace

import pytest
import torch

from grader.rubric import RUBRIC, read_rubric
from grader.run import distances
from lab3.common.files import InputError, load_tensors, save_tensors
from lab3.common.paths import SHIPPED, WEIGHTS
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import BidirectionalTransformer, save_transformer
from lab3.presets import TransformerConfig, preset

SMALL = replace(distances.DECODING, batch_size=4, whole=2, total_iter=2)
FEW = replace(distances.MODEL, batch_size=4, total_iter=1)


@pytest.fixture(scope="module")
def scene():
    return distances.scene(5, SMALL)


@pytest.fixture(scope="module")
def filled(scene):
    from lab3.model.transformer import load_transformer

    return distances.decode(scene, load_transformer(SHIPPED / WEIGHTS, TorchAttention), distances.reference_answers())


@pytest.fixture(scope="module")
def few_right(scene, filled):
    """Features of a few pictures a batch, in place of all right decodings."""
    return [distances.features(pictures, distances.extractor())
            for pictures in distances.tokenizer().decode(filled[scene.measured]).split(SMALL.whole)]


@pytest.fixture(scope="module")
def shipped():
    return load_tensors(SHIPPED / WEIGHTS)


def save_model(path, config, seed=0):
    torch.manual_seed(seed)
    save_transformer(path, BidirectionalTransformer(config, TorchAttention), half=True)
    return path


def test_a_scene_is_that_of_its_seed_and_hides_what_it_hides():
    one, same, other = (distances.scene(seed, SMALL) for seed in (5, 5, 6))
    assert torch.equal(one.mask, same.mask) and not torch.equal(one.mask, other.mask)
    assert not one.z_indices[one.mask].any()
    assert one.measured.tolist() == [False, False, True, True] * 2
    assert [options["sampling"] for *_, options in one.calls()] == ["argmax", "categorical"]
    assert not distances.scene(2**63 - 1, FEW).measured.any()


def test_a_right_decoding_is_measured_and_known_pictures_are_near(scene, filled, few_right):
    assert distances.decode_score(filled, scene, few_right) == pytest.approx(0, abs=1e-3)
    assert distances.decode_score(filled.where(~scene.mask, 7), scene, few_right) > 100


def test_the_kept_right_decodings_are_whole_pictures():
    for right in load_tensors(distances.RIGHT)[0].values():
        assert right.shape[1] == 256 and len(right) >= 250 and 0 <= right.min() and right.max() < 1024
    assert distances.RIGHT.stat().st_size < 500_000


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
        distances.decode_score(spoil(filled, scene.mask), scene, few_right)


@pytest.mark.nightly
def test_a_model_of_another_size_is_measured(tmp_path):
    path = save_model(tmp_path / "maskgit.safetensors", preset("smoke").transformer)
    assert distances.likeness(path) == 0
    assert distances.share(distances.model_score(path, 3, FEW), read_rubric().thresholds["fid_model"]) == 0


def test_models_of_other_seeds_are_no_copies(tmp_path, shipped):
    assert abs(distances.likeness(save_model(tmp_path / "maskgit.safetensors", TransformerConfig(), seed=1))) < 0.1


@pytest.mark.parametrize("change", [
    lambda name, tensor: tensor,
    lambda name, tensor: tensor * 1.5,
    lambda name, tensor: tensor.float() * (2 if "query" in name else 0.5),
    lambda name, tensor: tensor + 0.5 * tensor.float().std() * torch.randn(tensor.shape),
], ids=["copy", "rescaled", "each its own scale", "noised"])
def test_copies_of_the_shipped_model_are_refused(tmp_path, shipped, change):
    tensors, about = shipped
    save_tensors(tmp_path / "mine.safetensors", {name: change(name, x) for name, x in tensors.items()}, about)
    with pytest.raises(InputError, match="mine.safetensors: these are the weights that come with the lab"):
        distances.model_score(tmp_path / "mine.safetensors", 3, FEW)


def permuted(tensors):
    """The neurons of every perceptron in another order."""
    for name in [one for one in tensors if one.endswith("perceptron.0.weight")]:
        order = torch.randperm(len(tensors[name]))
        layer = name.removesuffix("0.weight")
        tensors |= {name: tensors[name][order], f"{layer}0.bias": tensors[f"{layer}0.bias"][order],
                    f"{layer}2.weight": tensors[f"{layer}2.weight"][:, order]}
    return tensors, {}


def padded(tensors):
    """A neuron more in every perceptron, which does nothing."""
    for name in [one for one in tensors if ".perceptron." in one]:
        extra = (0, 1) if name.endswith("2.weight") else (0, 0, 0, 1) if name.endswith("0.weight") else (0, 1)
        if not name.endswith("2.bias"):
            tensors[name] = torch.nn.functional.pad(tensors[name], extra)
    return tensors, {"hidden": TransformerConfig().hidden + 1}


@pytest.mark.parametrize("disguise", [permuted, padded])
def test_disguised_copies_of_the_shipped_model_are_refused(tmp_path, shipped, disguise):
    tensors, changes = disguise(dict(shipped[0]))
    about = shipped[1] | {"config": shipped[1]["config"] | changes}
    save_tensors(tmp_path / "mine.safetensors", tensors, about)
    assert distances.likeness(tmp_path / "mine.safetensors") < distances.LARGEST_LIKENESS
    with pytest.raises(InputError, match="mine.safetensors: these are the weights that come with the lab"):
        distances.model_score(tmp_path / "mine.safetensors", 3, FEW)


def test_a_model_of_another_seed_computes_something_else(tmp_path, shipped):
    path = save_model(tmp_path / "maskgit.safetensors", TransformerConfig(), seed=1)
    assert abs(distances.agreement(distances.load_transformer(path, distances.TorchAttention))) < 0.5


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
    "other kind", "huge dim", "huge layers", "zero heads", "text for dim", "truth for layers", "unknown field",
    "report preset's size", "list for config"])
def test_files_that_are_refused(tmp_path, shipped, name):
    path = tmp_path / "maskgit.safetensors"
    spoilt(name, shipped, path)
    with pytest.raises(InputError) as error:
        distances.model_score(path, 3, FEW)
    assert str(error.value).startswith("maskgit.safetensors: ") and "weights that come with" not in str(error.value)


def test_shares_follow_the_tiers():
    thresholds = {"at_least": 5, "tiers": [{"at_most": 10, "share": 1.0}, {"at_most": 20, "share": 0.5}]}
    found = [4.9, 5, 10, 10.1, 20, 20.1, float("nan"), float("inf")]
    assert [distances.share(one, thresholds) for one in found] == [0, 1, 1, 0.5, 0.5, 0, 0, 0]


def test_the_rubric_has_tiers_that_fall():
    thresholds = read_rubric(RUBRIC).thresholds
    assert set(thresholds) == {"fid_decoding", "fid_model"}
    for section in thresholds.values():
        limits, shares = zip(*((tier["at_most"], tier["share"]) for tier in section["tiers"]))
        assert shares[0] == 1 and list(limits) == sorted(limits) and list(shares) == sorted(shares, reverse=True)
        right = section["measured"]["right"]
        assert section.get("at_least", 0) < right["min"] and right["max"] < limits[0]
        assert right["mean"] + 3.5 * right["sd"] < limits[0] < section["measured"]["nearest"]["min"]


def test_numbers_of_another_network_are_not_compared(scene, filled, few_right):
    with pytest.raises(ValueError, match="cannot be compared"):
        distances.decode_score(filled, scene, [replace(one, key="other") for one in few_right])
