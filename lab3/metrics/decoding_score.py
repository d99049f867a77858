"""The distance of a decoding: how near the whole pictures that it draws are to those of right decodings.

In: a seed, a model, answers. Out: a scene of tokens to be filled, and a Frechet distance (FD-Lite0). Notebook 06
and the grader's `fid_decoding` measure this.

A right decoding draws at random, so its distance varies. `DECODING` is set so that mistakes cost several times that.
Three rows in four have their whole picture hidden: what one step does wrong leads all later ones astray, and only these
pictures are measured, against right decodings of whole pictures (`RIGHT`). The first batch takes the
likeliest codes, and only the noise of the order makes its pictures differ: noise that is missing, grows or is added to
probabilities gives another variety. Its temperature, 0.2, is that of differences between the surest tokens'
log-probabilities. The second batch draws, without noise: pictures that differ less than they should were not drawn.
The other rows have fresh holes: their known tokens have to come back unchanged, and no batch has rows of one size, so
ranks taken over a batch are others than over rows. `python -m benchmarks.grader_threshold` measures all of it.
"""

from dataclasses import dataclass
from functools import cache, partial

import torch

from lab3.common.files import InputError, load_tensors, sha256
from lab3.common.machine import autocast
from lab3.common.paths import ROOT, SHIPPED, TOKENIZER, cache_folder
from lab3.data.cats import compose, fresh
from lab3.data.masks import hidden_tokens, random_holes
from lab3.metrics.distance import cached_features, distance, features, load_extractor
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import MASK_TOKEN_ID
from lab3.presets import CODES

RIGHT = ROOT / "data" / "right_decodings.safetensors"  # tokens; made by `python -m benchmarks.grader_threshold --make`
THRESHOLD = 155.0  # of `decode_score` at `DECODING`: right decodings stay below, wrong ones above (docs/RESULTS.md)


@dataclass(frozen=True)
class Setting:
    """How pictures are filled for a distance; all of it is part of what thresholds were measured with."""

    batches: tuple  # (sampling, choice temperature) of each
    batch_size: int  # rows a batch
    whole: int  # the last so many rows of each batch have all their tokens hidden; 0: none
    total_iter: int
    schedule: str = "cosine"


DECODING = Setting((("argmax", 0.2), ("categorical", 0.0)), 64, 48, 6)


@dataclass(frozen=True)
class Scene:
    """What is to be filled."""

    z_indices: torch.Tensor  # (N, 256) long, 0 in hidden places
    mask: torch.Tensor  # (N, 256) bool, True means hidden
    setting: Setting
    seed: int

    def calls(self):
        """The arguments of each batch's `iterative_decode`, without transformer and gamma: (z_indices, mask, options).

        `options` holds a seed for the generator instead of the generator.
        """
        size = self.setting.batch_size
        for number, (sampling, temperature) in enumerate(self.setting.batches):
            rows = slice(number * size, (number + 1) * size)
            yield self.z_indices[rows], self.mask[rows], {
                "total_iter": self.setting.total_iter, "sweet_spot": self.setting.total_iter,
                "choice_temperature": temperature, "mask_token_id": MASK_TOKEN_ID, "sampling": sampling,
                "seed": self.seed + number}

    @property
    def measured(self):
        """(N,) bool, the rows that are hidden whole."""
        return self.mask.all(dim=1)


@cache
def tokenizer():
    return load_tokenizer(SHIPPED / TOKENIZER)


@cache
def extractor():
    return load_extractor("lite0")


@cache
def fresh_tokens(n, seed):
    """The tokens of n cats that no split holds, others for another seed: (n, 256) long."""
    return tokenizer().encode(compose(fresh(n, seed)))


def scene(seed, setting=DECODING):
    """The tokens of fresh cats with fresh holes.

    Args:
        seed: an int, the run's; it fixes the cats, the holes and the generators' seeds.
        setting: a `Setting`.

    Returns:
        A `Scene`. The hidden tokens are not in it.
    """
    n = len(setting.batches) * setting.batch_size
    mask = hidden_tokens(random_holes(n, seed))
    mask |= (torch.arange(n) % setting.batch_size >= setting.batch_size - setting.whole)[:, None]
    return Scene(fresh_tokens(n, seed).masked_fill(mask, 0), mask, setting, seed)


@torch.no_grad()
def decode(scene, transformer, answers):
    """Fill a scene.

    Args:
        scene: a `Scene`.
        transformer: in eval mode.
        answers: with `gamma_func` and `iterative_decode`.

    Returns:
        (N, 256) tokens on the CPU, whatever the answers give.
    """
    filled, device = [], next(transformer.parameters()).device
    with autocast(device):
        for z_indices, mask, options in scene.calls():
            generator = torch.Generator(device).manual_seed(options.pop("seed"))
            z_final, _ = answers.iterative_decode(
                transformer, z_indices.to(device), mask.to(device), gamma=answers.gamma_func(scene.setting.schedule),
                generator=generator, **options)
            filled.append(z_final.cpu())
    return torch.cat(filled)


def check_tokens(z_final, scene):
    """Raise `InputError` unless these can be tokens of a filled scene: shape, type, range, known ones unchanged."""
    if not isinstance(z_final, torch.Tensor) or z_final.shape != scene.mask.shape:
        found = tuple(z_final.shape) if isinstance(z_final, torch.Tensor) else type(z_final).__name__
        raise InputError(f"The filled tokens must be a tensor of shape {tuple(scene.mask.shape)}, not {found}.")
    if z_final.dtype != torch.long:
        raise InputError(f"The filled tokens must be of type torch.int64, not {z_final.dtype}.")
    outside = (z_final < 0) | (z_final >= CODES)
    if outside.any():
        raise InputError(f"The filled tokens must lie in 0 ... {CODES - 1}; some do not. "
                         f"{MASK_TOKEN_ID} is the mask token.")
    changed = int(((z_final != scene.z_indices) & ~scene.mask).sum())
    if changed:
        raise InputError(f"{changed} of {int((~scene.mask).sum())} known tokens are changed: they must stay.")


def decode_score(z_final, scene, against=None):
    """The distance of a filled scene whose setting hides some rows whole.

    Args:
        z_final: (N, 256) long, each in 0 ... 1023, the known tokens unchanged.
        scene: the `Scene` that was filled.
        against: `Features` to compare with, a list, one a batch; None: right decodings of such batches.

    Returns:
        The mean of the batches' distances, their measured rows alone.

    Raises:
        InputError: the tokens cannot be those of a filled scene.
    """
    check_tokens(z_final, scene)
    size, found = scene.setting.batch_size, []
    for z, measured, right in zip(z_final.split(size), scene.measured.split(size), against or right_features(),
                                  strict=True):
        found.append(distance(features(tokenizer().decode(z[measured]), extractor()), right))
    return sum(found) / len(found)


def right_tokens():
    """Tokens of right decodings of whole pictures, a list, one (M, 256) long a batch."""
    right = load_tensors(RIGHT)[0]
    return [right[f"batch {number}"].long() for number in range(len(right))]


@cache
def right_features():
    """Their features, a list, one a batch; computed once and then cached."""
    key = sha256(RIGHT)[:16]
    return [cached_features(partial(tokenizer().decode, right), extractor(), cache_folder(), f"right-{key}-{number}")
            for number, right in enumerate(right_tokens())]
