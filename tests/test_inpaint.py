"""Decoding a test set, both protocols, and its marks."""

import platform
from dataclasses import replace

import psutil
import pytest
import torch

from lab3.common.files import InputError
from lab3.common.machine import release_memory
from lab3.common.paths import ANSWERS, SHIPPED
from lab3.data.masks import hidden_tokens
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.metrics.distance import load_extractor
from lab3.metrics.score import Score, reference, score, spread
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

DECODING = DecodingConfig(total_iter=4, sweet_spot=4, batch_size=8)


@pytest.fixture(scope="module")
def transformer(answers):
    return load_transformer(SHIPPED / "maskgit.safetensors", answers.MultiHeadAttention)


@pytest.fixture(scope="module")
def filled(cats, tokenizer, transformer, answers):
    return fill(cats.masked[:20], cats.holes[:20], tokenizer, transformer, answers, DECODING, 0, progress=False)


def test_shapes_and_steps(filled, cats):
    assert filled.decoded.shape == filled.pasted.shape == (20, 3, 64, 64)
    assert filled.masks.shape == (20, 5, 256) and filled.predictions.shape == (20, 4, 256)
    assert torch.equal(filled.masks[:, 0], hidden_tokens(cats.holes[:20]))
    hidden = filled.masks.sum(dim=2)
    assert (hidden.diff(dim=1) < 0).all() and (hidden[:, -1] == 0).all()


def test_known_tokens_are_kept_and_revealed_ones_stay(filled, cats, tokenizer):
    known = ~filled.masks[:, 0]
    assert torch.equal(filled.tokens[known], tokenizer.encode(cats.masked[:20])[known])
    for step in range(4):
        revealed = ~filled.masks[:, step + 1]
        assert torch.equal(filled.tokens[revealed], filled.predictions[:, step][revealed])


def test_the_pasted_protocol_puts_known_pixels_back_and_nothing_else(filled, cats):
    holes = cats.holes[:20, None].expand_as(filled.pasted)
    assert torch.equal(filled.pasted[~holes], cats.test[:20][~holes])
    assert torch.equal(filled.pasted[holes], filled.decoded[holes])


def test_known_keys_are_kept_unless_decoding_is_exact(cats, tokenizer, answers):
    """The first step computes every token either way."""
    fast = load_answers(ANSWERS)
    transformer = load_transformer(SHIPPED / "maskgit.safetensors", fast.MultiHeadAttention)
    cached, exact = (fill(cats.masked[:20], cats.holes[:20], tokenizer, transformer, fast,
                          replace(DECODING, sampling="argmax", exact=exact), 0, progress=False)
                     for exact in (False, True))
    assert torch.equal(cached.predictions[:, 0], exact.predictions[:, 0])
    assert torch.equal(cached.masks.sum(2), exact.masks.sum(2))
    hidden = exact.masks[:, 0]
    agreeing = (cached.tokens == exact.tokens)[hidden].double().mean()
    assert 0.8 < agreeing < 1


def test_a_seed_fixes_the_result(filled, cats, tokenizer, transformer, answers):
    inputs = (cats.masked[:20], cats.holes[:20], tokenizer, transformer, answers, DECODING)
    assert torch.equal(fill(*inputs, 0, progress=False).tokens, filled.tokens)
    assert not torch.equal(fill(*inputs, 1, progress=False).tokens, filled.tokens)


def test_what_stood_in_the_hole_does_not_matter_where_no_known_token_sees_it(cats, tokenizer, transformer, answers):
    everything = torch.ones(2, 64, 64, dtype=torch.bool)
    a, b = (fill(pictures, everything, tokenizer, transformer, answers, DECODING, 0, progress=False)
            for pictures in (cats.test[:2], cats.test[2:4]))
    assert torch.equal(a.tokens, b.tokens)


def test_one_argmax_step_does_not_depend_on_the_batch(cats, tokenizer, transformer, answers):
    once = replace(DECODING, total_iter=1, sweet_spot=1, sampling="argmax")
    inputs = (cats.masked[:12], cats.holes[:12], tokenizer, transformer, answers)
    whole = fill(*inputs, replace(once, batch_size=12), 0, progress=False).tokens
    pairs = fill(*inputs, replace(once, batch_size=2), 0, progress=False).tokens
    assert (whole == pairs).float().mean() > 0.99  # bfloat16 rounds by the shape of the product


def test_an_impossible_setting_is_named_before_any_work(cats, tokenizer, transformer, answers):
    with pytest.raises(InputError, match="sweet-spot must lie in 1"):
        fill(cats.masked, cats.holes, tokenizer, transformer, answers, replace(DECODING, sweet_spot=9), 0)


def test_a_mask_token_that_is_never_filled_is_named(cats, tokenizer, transformer, answers):
    def forgetful(transformer, z_indices, mask, *, mask_token_id, **_):
        z = z_indices.masked_fill(mask, mask_token_id)
        return z, [(z, mask)]

    lazy = type(answers)(**vars(answers) | {"iterative_decode": forgetful})
    with pytest.raises(InputError, match="1024 is among them: is a mask token left"):
        fill(cats.masked[:2], cats.holes[:2], tokenizer, transformer, lazy, DECODING, 0, progress=False)


@pytest.mark.nightly
def test_the_shipped_model_scores_between_its_anchors(cats, tokenizer, transformer, answers):
    shown = slice(0, 64)
    decoding = replace(DECODING, total_iter=8, sweet_spot=8, batch_size=64)
    filled = fill(cats.masked[shown], cats.holes[shown], tokenizer, transformer, answers, decoding, 0, progress=False)
    anchors = reference(
        cats.test[shown], cats.holes[shown], cats.masked[shown], tokenizer, load_extractor("lite0"), "test-64")
    marks = score(filled, anchors)
    assert anchors.distance_floor < marks.distance < anchors.distance_holes
    assert marks.distance - anchors.distance_floor < 0.3 * (anchors.distance_holes - anchors.distance_floor)
    assert marks.distance_pasted < marks.distance, "putting known pixels back brings pictures nearer to the originals"
    assert marks.psnr_known > 25 and 10 < marks.psnr_hole < marks.psnr_known


def test_spread_is_mean_and_standard_deviation():
    result = spread([Score(1.0, 2.0, 0.1, 30.0, 20.0), Score(3.0, 2.0, 0.3, 30.0, 22.0)])
    assert result["mean"]["distance"] == 2 and result["sd"]["distance"] == pytest.approx(2**0.5)
    assert result["sd"]["distance_pasted"] == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what is freed")
def test_freed_tensors_leave_the_process():
    tensors = [torch.ones(25_000) for _ in range(2000)]  # 200 MB in blocks that glibc keeps
    kept = tensors[::100]  # neighbours of what is freed
    del tensors
    before = psutil.Process().memory_info().rss
    release_memory()
    assert before - psutil.Process().memory_info().rss > 100e6
    assert sum(one.sum() for one in kept) == 500_000


def test_without_glibc_memory_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    release_memory()
