"""Decoding with cached keys and values: what it computes again, and how near it stays to the transformer itself."""

from dataclasses import replace

import pytest
import torch

from lab3.common.paths import ANSWERS, SOLUTIONS
from lab3.decoding.cached import CachedTransformer, can_cache
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import MASK_TOKEN_ID, ROWS, BidirectionalTransformer
from lab3.presets import TransformerConfig


def make_transformer(**settings):
    """A small transformer whose weights are all at work, in eval mode."""
    torch.manual_seed(0)
    transformer = BidirectionalTransformer(
        replace(TransformerConfig(dim=32, layers=1, hidden=48, heads=4), **settings), TorchAttention).eval()
    for weights in transformer.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    return transformer


def rows(n=5):
    """Tokens (n, 256) and masks of different sizes, the last one empty."""
    generator = torch.Generator().manual_seed(1)
    z_indices = torch.randint(0, 1024, (n, 256), generator=generator)
    mask = torch.rand(n, 256, generator=generator) < torch.linspace(0.9, 0.0, n)[:, None]
    return z_indices, mask


def steps(transformer, z_indices, mask):
    """Logits at the hidden places while half of them are revealed in each of three steps."""
    generator, found = torch.Generator().manual_seed(2), []
    for _ in range(3):
        found.append(transformer(z_indices.masked_fill(mask, MASK_TOKEN_ID), mask))
        mask = mask & (torch.rand(mask.shape, generator=generator) < 0.5)
    return found


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_one_layer_without_convolution_is_exact_in_every_step(norm):
    """There a known token's keys and values depend on that token alone, so the cache holds what is right."""
    transformer = make_transformer(norm=norm, conv=False)
    for cached, exact in zip(steps(CachedTransformer(transformer), *rows()), steps(transformer, *rows()), strict=True):
        torch.testing.assert_close(cached, exact)


@pytest.mark.parametrize("settings", [{}, {"norm": "post", "conv": False}, {"conv": False}])
@torch.no_grad()
def test_many_layers_are_exact_at_first_and_close_after(settings):
    transformer = make_transformer(layers=3, **settings)
    first, *later = zip(steps(CachedTransformer(transformer), *rows()), steps(transformer, *rows()), strict=True)
    torch.testing.assert_close(*first)
    for cached, exact in later:
        assert 0 < (cached - exact).abs().mean() < 0.05 * exact.std()


@torch.no_grad()
def test_a_row_gets_the_same_alone_and_among_others():
    transformer, (z_indices, mask) = make_transformer(layers=2), rows()
    together, alone = CachedTransformer(transformer), CachedTransformer(transformer)
    for keep in (1.0, 0.5):
        mask = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(3)) < keep)
        shown = z_indices.masked_fill(mask, MASK_TOKEN_ID)
        torch.testing.assert_close(together(shown)[2][mask[2]], alone(shown[2:3])[0][mask[2]])


@torch.no_grad()
def test_with_and_without_the_places_wanted_logits_are_the_same():
    transformer = make_transformer(layers=2)
    for at_places, (everywhere, mask) in zip(
            steps(CachedTransformer(transformer), *rows()),
            zip(*everywhere_and_masks(CachedTransformer(transformer), *rows())), strict=True):
        torch.testing.assert_close(at_places, everywhere[mask])


def everywhere_and_masks(transformer, z_indices, mask):
    """The same as `steps`, asked for all logits: two lists."""
    masks = []
    logits = steps(lambda shown, mask: (masks.append(mask), transformer(shown))[1], z_indices, mask)
    return logits, masks


@torch.no_grad()
def test_another_batch_starts_over():
    transformer, (z_indices, mask) = make_transformer(layers=2), rows()
    cached = CachedTransformer(transformer)
    cached(z_indices.masked_fill(mask, MASK_TOKEN_ID))
    for other in (z_indices.flip(0), z_indices[:3], z_indices.masked_fill(~mask, MASK_TOKEN_ID)):
        torch.testing.assert_close(cached(other), transformer(other))


@torch.no_grad()
def test_nothing_hidden_is_nothing_to_do():
    transformer, (z_indices, mask) = make_transformer(layers=2), rows()
    cached, nowhere = CachedTransformer(transformer), torch.zeros_like(mask)
    cached(z_indices.masked_fill(mask, MASK_TOKEN_ID), mask)
    for _ in range(2):
        assert cached(z_indices, nowhere).shape == (0, 1025)
    assert cached(z_indices).shape == (5, 256, 1025)


@torch.no_grad()
def test_only_tokens_that_were_hidden_are_computed_again():
    transformer, (z_indices, mask) = make_transformer(layers=2), rows()
    computed = []
    transformer.layers[0].perceptron.register_forward_hook(lambda _, given, __: computed.append(given[0].numel() // 32))
    steps(CachedTransformer(transformer), z_indices, mask)
    assert computed[0] == z_indices.numel()
    assert int(mask.sum()) <= computed[1] < int(mask.sum()) + ROWS and computed[2] < computed[1]


def test_a_students_attention_is_never_replaced():
    student = load_answers([SOLUTIONS]).MultiHeadAttention
    fast = load_answers(ANSWERS).MultiHeadAttention
    config = TransformerConfig(dim=32, layers=1, hidden=48, heads=4)
    assert not can_cache(BidirectionalTransformer(config, student))
    assert can_cache(BidirectionalTransformer(config, fast))
