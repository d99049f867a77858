"""The VQGAN: shapes, the shipped weights, its training."""

from dataclasses import replace

import pytest
import torch

from lab3.common.files import InputError
from lab3.common.paths import SHIPPED
from lab3.metrics.score import psnr
from lab3.model.lite0 import lite0
from lab3.model.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from lab3.model.tokens import tokenizer_key
from lab3.presets import PRESETS
from lab3.training.tokenizer_training import DECODER, CodebookAverages, train_tokenizer

SMOKE = replace(PRESETS["smoke"].tokenizer, batch_size=8)


@pytest.mark.parametrize("config", dict.fromkeys(preset.tokenizer for preset in PRESETS.values()),
                         ids=lambda config: f"{config.stem} channels")
def test_pictures_become_256_tokens_and_tokens_pictures(config, cats):
    tokenizer = Tokenizer(config).eval()
    z_indices = tokenizer.encode(cats.test[:2])
    assert z_indices.shape == (2, 256) and z_indices.dtype == torch.long
    assert 0 <= z_indices.min() and z_indices.max() < 1024
    pictures = tokenizer.decode(z_indices)
    assert pictures.shape == (2, 3, 64, 64) and pictures.dtype == torch.uint8
    assert tokenizer.codebook.shape == (1024, 256)


def test_tokens_are_the_nearest_codes(tokenizer, cats):
    latents = tokenizer.latents(cats.test[:1]).detach()[0]
    expected = torch.cdist(latents.double(), tokenizer.codebook.double()).argmin(1)
    assert (tokenizer.encode(cats.test[:1])[0] == expected).float().mean() > 0.99


@pytest.mark.parametrize("bad", [-1, 1024, 5000])
def test_a_code_out_of_range_is_named(tokenizer, bad):
    with pytest.raises(InputError, match=rf"z_indices must lie in 0 \.\.\. 1023, but {bad}"):
        tokenizer.decode(torch.full((1, 256), bad))


def test_the_shipped_tokenizer_redraws_cats_it_never_saw(tokenizer, cats):
    pictures = cats.test[:128]
    z_indices = tokenizer.encode(pictures)
    assert psnr(tokenizer.decode(z_indices[:32]), pictures[:32]) > 30
    assert z_indices.unique().numel() > 900


def test_a_saved_tokenizer_comes_back(tmp_path, cats):
    tokenizer = Tokenizer(SMOKE).half().float()  # files are in half precision
    save_tokenizer(tmp_path / "t.safetensors", tokenizer)
    again = load_tokenizer(tmp_path / "t.safetensors")
    assert torch.equal(again.encode(cats.test[:4]), tokenizer.encode(cats.test[:4]))


def test_a_transformer_is_no_tokenizer():
    with pytest.raises(InputError, match="holds no tokenizer but transformer"):
        load_tokenizer(SHIPPED / "maskgit.safetensors")


@pytest.mark.nightly
def test_training_learns_and_keeps_the_codebook_alive(tmp_path, cats):
    pictures = cats.train[:64]
    config = replace(SMOKE, epochs=30, adversarial_from=0.8)
    torch.manual_seed(0)
    before = Tokenizer(config).eval()
    tokenizer = train_tokenizer(pictures, config, tmp_path, progress=False)
    z_indices = tokenizer.encode(pictures)
    assert psnr(tokenizer.decode(z_indices), pictures) > psnr(before.decode(before.encode(pictures)), pictures) + 4
    assert z_indices.unique().numel() > 300


def test_a_resumed_training_ends_in_the_same_weights(tmp_path, cats, monkeypatch):
    from lab3.training import tokenizer_training

    monkeypatch.setattr(tokenizer_training, "PART_STEPS", 2)
    config, pictures = replace(SMOKE, epochs=3), cats.train[:16]  # six steps, the last three with the discriminator
    whole = train_tokenizer(pictures, config, tmp_path / "whole", progress=False)
    calls = 0
    write = tokenizer_training.Metrics.write

    def stop(*arguments, **values):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        write(*arguments, **values)

    monkeypatch.setattr(tokenizer_training.Metrics, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(pictures, config, tmp_path / "cut", progress=False)
    with pytest.raises(InputError, match="Pass --resume"):
        train_tokenizer(pictures, config, tmp_path / "cut", progress=False)
    resumed = train_tokenizer(pictures, config, tmp_path / "cut", resume=True, progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_even_one_step_starts_the_codebook(tmp_path, cats):
    tokenizer = train_tokenizer(cats.train[:8], SMOKE, tmp_path, progress=False)
    torch.manual_seed(SMOKE.seed)
    assert not torch.equal(tokenizer.codebook, Tokenizer(SMOKE).codebook)


def test_a_code_that_nobody_chooses_is_moved_onto_a_latent():
    torch.manual_seed(0)
    codebook, latents = torch.randn(8, 4), torch.randn(200, 4) + 10
    averages = CodebookAverages(codebook)
    for _ in range(600):
        averages.update(codebook, latents, torch.cdist(latents, codebook).argmin(1))
    assert torch.cdist(latents, codebook).argmin(1).unique().numel() == 8


def test_loading_the_perceptual_network_leaves_the_random_state_alone():
    # A training that resumes in a new process loads it at another moment than one that runs through.
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    lite0.__wrapped__()
    assert torch.rand(1) == expected


def test_a_decoder_trained_on_its_own_leaves_tokens_as_they_are(tmp_path, cats):
    pictures, config = cats.train[:32], replace(SMOKE, epochs=2)
    train_tokenizer(pictures, config, tmp_path / "first", progress=False)
    first = load_tokenizer(tmp_path / "first" / "tokenizer.safetensors")
    before, drawn = first.encode(pictures), first.decode(first.encode(pictures))
    second = train_tokenizer(pictures, replace(config, epochs=6, **DECODER), tmp_path / "second", progress=False,
                             decoder_of=load_tokenizer(tmp_path / "first" / "tokenizer.safetensors"))
    assert torch.equal(second.encode(pictures), before)
    assert tokenizer_key(second) == tokenizer_key(first)
    assert psnr(second.decode(before), pictures) > psnr(drawn, pictures) + 0.5
