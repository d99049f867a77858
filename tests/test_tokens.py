"""The cache of tokens is used where it is right and never trusted where it is not."""

import pytest
import torch

from lab3.common.paths import cache_folder
from lab3.model import tokens as tokens_module
from lab3.model.tokenizer import Tokenizer
from lab3.model.tokens import tokens, training_tokens
from lab3.presets import PRESETS


class Counting(Tokenizer):
    """Counts the pictures that it encodes."""

    encoded = 0

    def encode(self, pictures, batch_size=128):
        self.encoded += len(pictures)
        return super().encode(pictures, batch_size)


@pytest.fixture
def counting():
    torch.manual_seed(0)
    return Counting(PRESETS["smoke"].tokenizer).eval()


@pytest.fixture
def pictures(cats):
    return cats.val[:20]


def test_pictures_are_encoded_once(counting, pictures, tmp_path):
    first = tokens(pictures, counting, folder=tmp_path, progress=False)
    again = tokens(pictures, counting, folder=tmp_path, progress=False)
    assert counting.encoded == 20
    assert first.dtype == torch.int16 and torch.equal(first, again)
    assert torch.equal(first.long(), Tokenizer.encode(counting, pictures))


def test_other_pictures_or_another_tokenizer_have_a_cache_of_their_own(counting, pictures, tmp_path):
    tokens(pictures, counting, folder=tmp_path, progress=False)
    tokens(pictures.flip(0), counting, folder=tmp_path, progress=False)
    assert counting.encoded == 40
    counting.codebook += 0.1
    found = tokens(pictures, counting, folder=tmp_path, progress=False)
    assert counting.encoded == 60
    assert torch.equal(found.long(), Tokenizer.encode(counting, pictures))


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:50], lambda content: content[:-2], lambda content: content + b"\0\0",
    lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: b"x" + content[1:],
], ids=["empty", "header", "short", "long", "bit", "magic"])
def test_a_damaged_cache_is_made_again(counting, pictures, tmp_path, damage):
    expected = tokens(pictures, counting, folder=tmp_path, progress=False).clone()
    [path] = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(tokens(pictures, counting, folder=tmp_path, progress=False), expected)
    assert counting.encoded == 40
    assert torch.equal(tokens(pictures, counting, folder=tmp_path, progress=False), expected)
    assert counting.encoded == 40


def test_a_cache_that_cannot_be_written_costs_a_warning(counting, pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="LAB3_CACHE"):
        found = tokens(pictures, counting, folder=tmp_path / "file" / "cache", progress=False)
    assert torch.equal(found.long(), Tokenizer.encode(counting, pictures))


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB3_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LAB3_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lab3"


def test_the_shipped_tokens_are_what_the_tokenizer_gives(cats, tokenizer):
    """Encoded elsewhere: rounding may give a latent between two codes the other one."""
    shipped = training_tokens(cats, tokenizer, PRESETS["cpu"].training, progress=False)
    assert [len(one) for one in shipped] == [12000, 747]
    some = torch.arange(0, 12000, 100)
    for encoded, pictures in ((shipped[0][some], cats.train[some]), (shipped[1][:40], cats.val[:40])):
        assert (encoded == tokenizer.encode(pictures)).double().mean() > 0.9995


def test_the_shipped_tokens_are_taken_before_the_cache(cats, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "encode", None)
    training_tokens(cats, tokenizer, PRESETS["cpu"].training, folder=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_damaged_shipped_tokens_are_encoded_again(counting, pictures, tmp_path, monkeypatch):
    expected = tokens(pictures, counting, folder=tmp_path, progress=False).clone()
    [cached] = tmp_path.iterdir()
    monkeypatch.setattr(tokens_module, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / f"{cached.name}.xz").write_bytes(b"\xfd7zXZ damaged")
    cached.unlink()
    assert torch.equal(tokens(pictures, counting, folder=tmp_path, progress=False), expected)
    assert counting.encoded == 40
