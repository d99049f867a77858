"""Draws whole pictures from nothing: a decoding in which every token is hidden, and in which order tokens are kept.

In: how many, a tokenizer, a transformer, answers. Out: pictures, a contact sheet, a film of the steps.
`fill` runs the answers' `iterative_decode`; for another order it calls another `inpainting`.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from lab3.common.files import InputError, atomic_path, load_tensors
from lab3.common.paths import ROOT
from lab3.data.masks import GREY
from lab3.decoding.cached import for_decoding
from lab3.decoding.inpaint import fill, save_pictures
from lab3.presets import TOKENS

CONFIDENCE, RANDOM, HALTON = ORDERS = ("confidence", "random", "halton")
PRECOMPUTED = ROOT / "data" / "from_nothing.safetensors"  # made by `python -m benchmarks.from_nothing`
STEPS = 16  # twice those of a hole: with 8 most pictures are torn (docs/RESULTS.md)
GAP = 2  # pixels between the pictures of a contact sheet
FRAME_MS, LAST_FRAME_MS = 250, 2000  # how long a film shows a step, and the last one


class Tempered(nn.Module):
    """Stands in for a transformer: (B, T) -> its logits (B, T, V + 1), float32, divided by a code temperature.

    Args:
        transformer: in eval mode.
        code_temperature: more than 0; below 1 likely codes become likelier, and codes that hardly fit are rarely drawn.
        exact: as in `DecodingConfig`.
    """

    def __init__(self, transformer, code_temperature, *, exact=False):
        super().__init__()
        self.transformer, self.code_temperature = transformer, code_temperature
        self.logits_of = for_decoding(transformer, exact)

    def forward(self, z_indices):
        return self.logits_of(z_indices).float() / self.code_temperature


def generate(n, tokenizer, transformer, answers, decoding, seed, *, code_temperature=1.0, progress=True):
    """Draw n pictures from nothing: `fill` with a hole over everything.

    Args:
        n: how many, at least 1.
        tokenizer, transformer, decoding, seed, progress: as `fill` takes them.
        answers: likewise, or with `inpainting` changed by `in_order`.
        code_temperature: what logits are divided by, as in `Tempered`; 1 leaves them as they are.

    Returns:
        A `Filled`.

    Raises:
        InputError: as `fill`, for n or the code temperature, or for an order that an `iterative_decode` of its own kind
            does not follow.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}.")
    if not 0 < code_temperature < math.inf:
        raise InputError(f"code temperature must be more than 0, not {code_temperature:g}.")
    if code_temperature != 1:
        transformer = Tempered(transformer, code_temperature, exact=decoding.exact)
    nothing = torch.full((n, 3, 64, 64), GREY, dtype=torch.uint8)
    everything = torch.ones(n, 64, 64, dtype=torch.bool)
    hidden = torch.zeros(n, TOKENS, dtype=torch.long)  # whatever they are, nothing sees them
    made = fill(nothing, everything, tokenizer, transformer, answers, decoding, seed, z_indices=hidden,
                progress=progress)
    require_called(answers)
    return made


def require_called(answers):
    """Raise `InputError` if a changed `inpainting` was never called: its order then had no effect."""
    if getattr(getattr(answers, "inpainting", None), "calls", None) == 0:
        raise InputError("the order or mistake has no effect: this iterative_decode does not call inpainting.")


def radical_inverse(index, base):
    """The digits of `index` in a base, mirrored at the point: a number in [0, 1)."""
    value, scale = 0, 1
    while index:
        index, digit = divmod(index, base)
        value, scale = value * base + digit, scale * base
    return value / scale


def halton_rank():
    """When each place comes in Halton's sequence over bases 2 and 3: (T,) float, 0 for the first.

    Besnier et al. (2025), "Halton Scheduler for Masked Generative Image Transformer", keep tokens in this order: it
    spreads those of one step over the picture.
    """
    rank = torch.full((TOKENS,), -1.0)
    for index in range(64 * TOKENS):
        x, y = radical_inverse(index, 2), radical_inverse(index, 3)
        place = int(y * 16) * 16 + int(x * 16)
        if rank[place] < 0:
            rank[place] = rank.max() + 1
    return rank


def in_order(inpainting, order):
    """An `inpainting` that draws what the given one draws and keeps as many tokens, but in another order.

    Args:
        inpainting: an answer.
        order: a name of `ORDERS`; `confidence` gives the answer itself.

    Raises:
        InputError: no such order.
    """
    if order not in ORDERS:
        raise InputError(f"order must be one of {', '.join(ORDERS)}, not {order!r}.")
    if order == CONFIDENCE:
        return inpainting
    halton = halton_rank()

    def ordered(transformer, z_indices, mask, ratio, n_hidden, *, generator=None, **options):
        ordered.calls += 1
        z_predict, next_mask = inpainting(transformer, z_indices, mask, ratio, n_hidden, generator=generator, **options)
        if order == HALTON:
            late = halton.to(mask.device).expand(mask.shape)
        else:
            late = torch.rand(mask.shape, generator=generator, device=mask.device)
        place = late.masked_fill(~mask, -1.0).argsort(dim=1, descending=True).argsort(dim=1)  # 0 is kept last
        return z_predict, mask & (place < next_mask.sum(dim=1, keepdim=True))

    ordered.calls = 0
    return ordered


def contact_sheet(pictures, columns=None, scale=1):
    """Pictures side by side, row by row: (N, 3, H, W) uint8 -> (3, height, width) uint8, on white.

    Args:
        columns: how many in a row; None: as many as make the sheet about square.
        scale: how many pixels a side each pixel becomes.
    """
    columns = columns or max(1, round(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    blank = torch.full((rows * columns - len(pictures), *pictures.shape[1:]), 255, dtype=torch.uint8)
    framed = F.pad(torch.cat([pictures, blank]), (0, GAP, 0, GAP), value=255)
    sheet = framed.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    sheet = sheet[:, :-GAP, :-GAP]
    return sheet.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def steps_of(filled, tokenizer, n):
    """What a decoding looks like before its first step and after each one, for its first n pictures.

    Tokens that are still hidden are shown half grey.

    Returns:
        (S + 1, n, 3, 64, 64) uint8, the first all grey.
    """
    frames = [torch.full((n, 3, 64, 64), GREY, dtype=torch.uint8)]
    for step in range(filled.predictions.shape[1]):
        shown = tokenizer.decode(filled.predictions[:n, step])
        hidden = filled.masks[:n, step + 1].view(n, 1, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
        frames.append(torch.where(hidden, (shown.int() + GREY).div(2, rounding_mode="floor").to(torch.uint8), shown))
    return torch.stack(frames)


def first_pictures(tokenizer, data, path=PRECOMPUTED):
    """Cats that the shipped model has drawn from nothing, and a hole that it has filled, decoded from stored tokens.

    Returns:
        A dict, label -> (9, 3, 64, 64) uint8: nine cats for each number of steps; the first masked test picture and
        its eight steps.
    """
    stored, _ = load_tensors(path)
    hole = SimpleNamespace(predictions=stored.pop("predictions").long(), masks=stored.pop("masks"))
    rows = {f"{steps} step{'s' * (steps != '1')}": tokenizer.decode(stored[steps].long())
            for steps in sorted(stored, key=int)}
    return rows | {"a hole": torch.cat([data.masked[:1], steps_of(hole, tokenizer, 1)[1:, 0]])}


def save_generated(made, tokenizer, folder):
    """Write a `Filled` from nothing: `pictures/`, `contact_sheet.png`, `steps.png`, and the animated `film.webp`.

    Raises:
        SaveError: the folder cannot be written.
    """
    folder = Path(folder)
    save_pictures(made.decoded, folder / "pictures")
    _save(contact_sheet(made.decoded, scale=2), folder / "contact_sheet.png")
    steps = steps_of(made, tokenizer, min(16, len(made.decoded)))
    _save(contact_sheet(steps[:, :8].transpose(0, 1).flatten(0, 1), len(steps), scale=2), folder / "steps.png")
    first, *rest = [_image(contact_sheet(frame, scale=3)) for frame in steps]
    with atomic_path(folder / "film.webp") as temporary:
        first.save(temporary, format="WEBP", save_all=True, append_images=rest, loop=0, quality=90,
                   duration=[FRAME_MS] * len(rest) + [LAST_FRAME_MS])


def _save(sheet, path):
    with atomic_path(path) as temporary:
        _image(sheet).save(temporary, format="PNG")


def _image(sheet):
    return Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy())
