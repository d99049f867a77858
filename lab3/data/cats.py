"""The embedded pictures: 64x64 cats, composed from layers that David Revoy drew (CC BY 4.0, `data/cats/LICENSE.md`).

In: nothing but a split's name. Out: uint8 pictures (N, 3, 64, 64), the same on every machine.

A cat is one choice a layer: body, fur, eyes, mouth, accessory. Its picture adds a background colour.
Each body keeps two of the nine furs out of training: all cats of `val` and `test` wear such a pair, so a model
that fills their holes has to combine what it saw apart.
"""

import colorsys
from functools import cache, cached_property

import numpy as np
import torch
from PIL import Image

from lab3.common.files import InputError, content_key
from lab3.common.paths import ROOT
from lab3.data.masks import paint, random_holes

LAYERS = ("body", "fur", "eyes", "mouth", "accessories")
SPLITS = {"train": 12_000, "val": 3_000, "test": 747}
SEED = 64
FOLDER = ROOT / "data" / "cats"

# Twelve hues of one lightness: every cat stands out from every wall.
BACKGROUNDS = torch.tensor([[round(255 * c) for c in colorsys.hls_to_rgb(hue / 12, 0.76, 0.42)] for hue in range(12)])


@cache
def layers():
    """The layers, premultiplied: a list of float tensors (choices, 4, 64, 64) in [0, 1]; channel 3 is alpha."""
    stacks = []
    for name in LAYERS:
        strip = np.asarray(Image.open(FOLDER / f"{name}.png").convert("RGBA"), dtype=np.float32) / 255
        stack = torch.from_numpy(strip).view(64, -1, 64, 4).permute(1, 3, 0, 2).contiguous()
        stack[:, :3] *= stack[:, 3:]
        stacks.append(stack)
    return stacks


def _over(top, bottom):
    """Porter and Duff's `over` for premultiplied colours (..., 4, H, W)."""
    return top + (1 - top[..., 3:, :, :]) * bottom


@cache
def _pairs():
    """Bodies with furs and eyes with mouths, put together once: composing a cat then takes three layers, not five."""
    body, fur, eyes, mouth, accessory = layers()
    coats = _over(fur[None], body[:, None]).flatten(0, 1)
    faces = _over(mouth[None], eyes[:, None]).flatten(0, 1)
    return coats, faces, accessory


def compose(choices):
    """Draw cats.

    Args:
        choices: (N, 6) long tensor: body, fur, eyes, mouth, accessory, background.

    Returns:
        (N, 3, 64, 64) uint8.
    """
    coats, faces, accessories = _pairs()
    n_fur, n_mouth = len(layers()[1]), len(layers()[3])
    pictures = torch.empty(len(choices), 3, 64, 64, dtype=torch.uint8)
    for start in range(0, len(choices), 64):  # a chunk that stays in the processor's cache
        body, fur, eyes, mouth, accessory, background = choices[start:start + 64].unbind(1)
        cat = BACKGROUNDS[background].float().div(255)[:, :, None, None]
        for layer in (coats[body * n_fur + fur], faces[eyes * n_mouth + mouth], accessories[accessory]):
            cat = layer[:, :3] + (1 - layer[:, 3:]) * cat
        pictures[start:start + 64] = (cat * 255).round_().clamp_(0, 255).to(torch.uint8)
    return pictures


@cache
def choices(split, n=None):
    """What the cats of a split are made of: (N, 6) long, columns as in `compose`.

    No two cats of all splits agree in their first five columns.

    Args:
        n: how many of `train`, up to 252,000; the first 12,000 are always the same ones. None: 12,000.

    Raises:
        ValueError: no such split.
        InputError: more cats than there are.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    sizes = [len(stack) for stack in layers()]
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(int(np.prod(sizes)), generator=generator)
    cats = torch.stack(torch.unravel_index(order, sizes), dim=1)
    kept_out = torch.isin((cats[:, 0] + cats[:, 1]) % 9, torch.tensor([0, 4]))
    backgrounds = torch.randint(len(BACKGROUNDS), (len(cats), 1), generator=generator)
    cats = torch.cat([cats, backgrounds], dim=1)
    if split == "train":
        cats, n = cats[~kept_out], SPLITS["train"] if n is None else n
        if not 1 <= n <= len(cats):
            raise InputError(f"train-pictures must lie in 1 ... {len(cats)}, the number of different cats, not {n}.")
        return cats[:n]
    start = 0 if split == "test" else SPLITS["test"]
    return cats[kept_out][start:start + SPLITS[split]]


def fresh(n, seed):
    """Choices of n new cats of the kind of `test`: (n, 6) long, other ones for another seed.

    The first n cats of `test`, to which all but body and fur are shuffled: as many of each as in these, so
    distances of other seeds' cats compare, and furs that no training cat of that body wears.
    """
    cats, generator = choices("test")[:n].clone(), torch.Generator().manual_seed(seed)
    for column in range(2, cats.shape[1]):
        cats[:, column] = cats[torch.randperm(n, generator=generator), column]
    return cats


def pictures(split):
    """The cats of `train` (12,000), `val` (3,000) or `test` (747): (N, 3, 64, 64) uint8."""
    return compose(choices(split))


class Cats:
    """The embedded data set: pictures of three splits, and the test pictures with their holes.

    `train`, `val`, `test`: (N, 3, 64, 64) uint8. `holes`: (747, 64, 64) bool, True in the hole.
    `masked`: the test pictures, grey in their holes. `key` changes when the pictures do.

    Args:
        n_train: how many training pictures, as in `choices`.
    """

    name = "cats"
    has_originals = True

    def __init__(self, n_train=SPLITS["train"]):
        self.n_train = n_train

    @cached_property
    def key(self):
        drawn = [(FOLDER / f"{name}.png").read_bytes() for name in LAYERS]
        return content_key(drawn + [x.numpy().tobytes() for x in (
            BACKGROUNDS, choices("train", self.n_train), choices("val"), choices("test"))])

    @cached_property
    def train(self):
        return compose(choices("train", self.n_train))

    @cached_property
    def val(self):
        return pictures("val")

    @cached_property
    def test(self):
        return pictures("test")

    @cached_property
    def holes(self):
        return random_holes(SPLITS["test"], seed=SEED)

    @cached_property
    def masked(self):
        return paint(self.test, self.holes)
