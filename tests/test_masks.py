"""Holes in pixels, and what they hide."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lab3.data.masks import hidden_tokens, random_holes


def test_holes_are_like_the_original_labs():
    holes = random_holes(747, seed=64)
    area = holes.float().mean(dim=(1, 2))
    assert 0.20 < area.mean() < 0.22
    assert ((area > 0.10) & (area < 0.30)).float().mean() > 0.95
    hidden = hidden_tokens(holes).sum(dim=1).float()
    assert 80 < hidden.mean() < 92
    assert all(ndimage.label(hole)[1] == 1 for hole in holes[:50].numpy())


def test_holes_follow_their_seed():
    assert torch.equal(random_holes(5, seed=1), random_holes(5, seed=1))
    assert not torch.equal(random_holes(5, seed=1), random_holes(5, seed=2))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.floats(0, 0.2))
def test_a_token_is_known_only_if_all_its_pixels_are(seed, share):
    holes = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(seed)) < share
    hidden = hidden_tokens(holes)
    for picture in range(2):
        for token in (0, 17, 100, 255):
            row, column = divmod(token, 16)
            cell = holes[picture, 4 * row:4 * row + 4, 4 * column:4 * column + 4]
            assert bool(hidden[picture, token]) == bool(cell.any())
