"""How alike two pictures are, and finding those that show the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import draw, hole, recode
from PIL import Image, ImageEnhance

from lab3.data.duplicates import FLOOR, MAX_SHIFT, NEAR, difference, known_pairs, near_pairs
from lab3.data.masks import GREY


def test_difference_is_one_minus_correlation_for_equal_contrast():
    a = draw(1).astype(float)
    a = (a - a.mean((0, 1))) / (a - a.mean((0, 1))).std() * 60 + 128
    b = a[::-1]
    correlation = np.mean((a - 128) * (b - 128)) / 60**2
    distance, shift = difference(a[None], b[None])
    assert distance[0] == pytest.approx((1 - correlation) * 3600 / (3600 + FLOOR**2), rel=1e-4)
    assert shift[0] == pytest.approx(0, abs=1e-3)


def test_difference_looks_at_known_pixels_only():
    a, known = draw(1), ~hole(3)
    b = np.where(known[..., None], a, draw(2))
    assert difference(a[None], b[None])[0][0] > 0.02
    assert difference(a[None], b[None], known[None])[0][0] < 1e-6


COPIES = {
    "jpeg": recode,
    "brighter": lambda x: np.array(ImageEnhance.Brightness(Image.fromarray(x)).enhance(1.08)),
    "contrast": lambda x: np.array(ImageEnhance.Contrast(Image.fromarray(x)).enhance(1.2)),
    "resized": lambda x: np.array(Image.fromarray(x).resize((150, 150)).resize((64, 64))),
    "mirror": lambda x: x[:, ::-1],
    "mirrored jpeg": lambda x: recode(np.ascontiguousarray(x[:, ::-1])),
}


@pytest.mark.parametrize("copy", COPIES)
def test_near_pairs_finds_copies_and_nothing_else(copy):
    pictures = np.stack([draw(i) for i in range(30)] + [COPIES[copy](draw(7))])
    pairs, complete = near_pairs(pictures, progress=False, chunk=8)
    assert complete
    assert [(i, j, mirrored) for i, j, _, mirrored in pairs] == [(7, 30, "mirror" in copy)]


def test_dark_pictures_are_not_all_the_same():
    dark = np.stack([draw(i) // 8 for i in range(20)])
    assert np.abs(dark[0].astype(float) - dark[1]).mean() < 15  # by their pixels they would pass for copies
    assert near_pairs(dark, progress=False)[0] == []
    flat = np.stack([np.full((64, 64, 3), value, dtype=np.uint8) for value in (10, 12, 200)])
    assert [pair[:2] for pair in near_pairs(flat, progress=False)[0]] == [(0, 1)]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6))
def test_known_pairs_agrees_with_comparing_one_by_one(seed):
    generator = np.random.default_rng(seed)
    pictures = np.stack([draw(seed + i) for i in range(6)])
    chosen = generator.integers(0, 6, 3)
    masked = np.stack([recode(pictures[c], 60) if generator.random() < 0.5 else pictures[c] for c in chosen])
    flips = generator.random(3) < 0.5
    masked[flips] = masked[flips, :, ::-1]
    holes = np.stack([hole(int(generator.integers(0, 30))) for _ in chosen])
    masked[holes] = GREY
    found, complete = known_pairs(masked, holes, pictures, progress=False, chunk=4)

    both = np.concatenate([pictures, pictures[:, :, ::-1]])
    wanted = []
    for i in range(3):
        distance, shift = difference(masked[[i] * 12], both, ~holes[[i] * 12])
        distance = distance.where(shift <= MAX_SHIFT, torch.tensor(9.0)).view(2, 6)
        near = torch.nonzero(distance.min(0).values <= NEAR).flatten().tolist()
        wanted += [(i, j, bool(distance[1, j] < distance[0, j])) for j in near]
    assert complete and [(i, j, mirrored) for i, j, _, mirrored in found] == wanted
    assert set(enumerate(chosen.tolist())) <= {pair[:2] for pair in found}


def test_a_picture_that_is_all_hole_matches_nothing():
    masked, holes = np.full((1, 64, 64, 3), 128, np.uint8), np.ones((1, 64, 64), bool)
    assert known_pairs(masked, holes, np.stack([draw(1)]), progress=False) == ([], True)
