"""Which cat a picture shows: the truth about the embedded cats, which are composed from known layers.

In: uint8 pictures (N, 3, 64, 64), with holes (N, 64, 64) or without. Out: the nearest composable cat of each picture
and whether the picture is one; from these, validity, coverage, novelty and torn parts. For a hole: all cats that agree
with the known pixels, which is the exact posterior, and how a model's fillings compare with it.

A cat is a row of six choices, as in `lab3.data.cats`: body, fur, eyes, mouth, accessory, background. Pictures of a
user's own have no known truth: `require_cats` refuses them.
"""

import math
import re
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

import torch

from lab3.common.files import InputError
from lab3.data import cats
from lab3.metrics.nearest_cat import SIZES, draw, nearest_cats

VALUES = {
    "body": ("maroon", "green", "black", "lilac", "red", "sandy", "pink", "brown", "blue", "yellow", "ochre", "grey",
             "tawny", "cream", "orange"),
    "fur": ("tabby", "striped", "plain", "swirled", "dark patch", "light patch", "white muzzle", "blotched", "spotted"),
    "eyes": ("round eyes", "side glance", "dot eyes", "teardrop eyes", "monocle", "square eyes", "closed eyes",
             "shaded eyes", "heavy-lidded eyes", "green eyes", "winged eyes", "oval eyes", "glasses", "tall eyes",
             "narrow eyes"),
    "mouth": ("open smile", "wide smile", "tiny mouth", "laughing mouth", "gaping mouth", "crooked mouth",
              "wavy smile", "small open mouth", "grin", "shouting mouth"),
    "accessory": ("red scarf", "bell", "red collar", "red headband", "pink bow", "black hat", "headphones",
                  "blue scarf", "medallion", "brush", "diamond", "bandana", "blue bow", "red hat", "telephone",
                  "no accessory"),
    "background": ("rose", "apricot", "sand", "lime", "green", "mint", "aqua", "sky", "lavender", "violet", "magenta",
                   "pink"),
}
PARTS = tuple(VALUES)
N_VALUES = 17  # columns that hold any part's values; the last, -1, is a part that cannot be seen

# Grey levels. For each part the 99th percentile of its residual, over the shipped tokenizer's reconstructions of the
# 3,000 cats of `val`, times one factor for all parts with which 99 % of these cats stay within every limit.
# Measured by `residual_limits`.
LIMITS = torch.tensor([10.0, 21.5, 12.5, 10.5, 10.8, 6.5])
SEEN = 2000  # grey levels squared; a part whose second-best value costs less is hidden (a mouth beneath a scarf: 64)
TORN = 6  # pixels that must show another value of a part; and 1 % of all wrong pixels, which chance does not reach
CHUNK = 128  # pictures at a time


@dataclass(frozen=True)
class Named:
    """The nearest composable cats of N pictures, on their known pixels. Made by `identify`."""

    choices: torch.Tensor  # (N, 6) long, as `compose` takes them; any value where a part is hidden
    seen: torch.Tensor  # (N, 6) bool: False where the known pixels do not tell the part's value
    residual: torch.Tensor  # (N, 6) float: root mean square difference on a part's pixels, in grey levels
    valid: torch.Tensor  # (N,) bool: no residual above `LIMITS`
    torn: torch.Tensor  # (N, 6) bool, for invalid pictures: some pixels show another value of the part

    @property
    def values(self):
        """(N, 6) long: the choices, -1 where a part is hidden."""
        return self.choices.where(self.seen, -1)


def require_cats(data):
    """Refuse pictures whose truth is unknown. Raises `InputError`."""
    if not isinstance(data, cats.Cats):
        raise InputError(f"{data.name}: the parts of your own pictures are not known, so use the embedded cats here.")


# ---------------------------------------------------------------------------------------------- single pictures

@cache
def _layers():
    """The values of each part, colours last: tensors (values, P, 4); a background is one colour, opaque."""
    backgrounds = torch.cat([cats.BACKGROUNDS / 255, torch.ones(SIZES[5], 1)], 1)
    return [layer.flatten(2).transpose(1, 2).contiguous() for layer in cats.layers()] + [
        backgrounds[:, None].expand(-1, 64 * 64, -1)]


def _alphas():
    return [layer[..., 3] for layer in _layers()]


def _over(top, bottom):
    """Porter and Duff's `over` for premultiplied colours (..., 4)."""
    return top + (1 - top[..., 3:]) * bottom


def _regions(choices):
    """The pixels of each part: (N, 6, P), weights.

    Body, fur, accessory and background: the share of the pixel's colour that the part gives. Eyes and mouth: wherever
    any eyes or mouth would show, as a torn mouth leaves traces beside the nearest one.
    """
    body, fur, eyes, mouth, accessory, _ = _alphas()
    b, f, e, m, a, _ = choices.unbind(1)
    uncovered = 1 - accessory[a]
    skin = uncovered * (1 - mouth[m]) * (1 - eyes[e])
    coat = skin * (1 - fur[f])
    anywhere = [uncovered * (each.amax(0) > 0.05) for each in (eyes, mouth)]
    return torch.stack([coat * body[b], skin * fur[f], *anywhere, accessory[a], coat * (1 - body[b])], 1)


def identify(pictures, holes=None):
    """Name the nearest composable cat of each picture.

    Args:
        pictures: (N, 3, 64, 64) uint8.
        holes: (N, 64, 64) bool; pixels that are True do not count. None: all pixels are known.

    Returns:
        `Named`.
    """
    known = torch.ones(1, 64, 64) if holes is None else (~holes).float()
    rows = [_identify(chunk, known if holes is None else known[start:start + CHUNK])
            for start, chunk in zip(range(0, max(1, len(pictures)), CHUNK), pictures.split(CHUNK))]
    return Named(**{each.name: torch.cat([getattr(row, each.name) for row in rows]) for each in fields(Named)})


def _identify(pictures, known):
    choices, margin = nearest_cats(pictures, known)
    known = known.flatten(1)
    square = (pictures.float() - cats.compose(choices)).flatten(2).square().mean(1)
    regions = _regions(choices) * known[:, None]
    residual = ((regions @ square[:, :, None])[..., 0] / (regions.sum(2) + 1)).sqrt()  # + 1: a speck says little
    valid = (residual <= LIMITS).all(1)
    torn = residual > LIMITS
    torn[:, 1] |= torn[:, 0]  # where marks of a fur are missing, the body is wrong
    torn[:, 4] = ~valid  # where a piece of an accessory is missing, anything can be
    torn[~valid] &= _torn(pictures[~valid], choices[~valid], (square.sqrt() * known)[~valid])
    return Named(choices, margin > SEEN, residual, valid, torn)


def _torn(pictures, choices, difference):
    """Whether one other value of a part is right where the nearest cat is wrong: (N, 6) bool.

    Right is within the part's limit, wrong is beyond twice the limit. A pixel that values of two parts explain counts
    for the part that explains more.
    """
    n = len(choices)

    row, pixel = (difference > 2 * LIMITS.min()).nonzero().unbind(1)
    shown, difference = pictures.flatten(2)[row, :, pixel] / 255, difference[row, pixel]
    parts = (5, 0, 1, 2, 3, 4)  # from the back to the front
    chosen = {part: _layers()[part][choices[row, part], pixel] for part in parts}
    below, above = {5: torch.zeros(len(row), 4)}, {4: torch.zeros(len(row), 4)}
    for back, front in pairwise(parts):
        below[front] = _over(chosen[back], below[back])
    for front, back in pairwise(parts[::-1]):
        above[back] = _over(above[front], chosen[front])
    explained, counts = torch.zeros(len(row), 6, dtype=torch.long), torch.zeros(n, 6, dtype=torch.long)
    for part, limit in enumerate(LIMITS):
        at = (difference > 2 * limit).nonzero()[:, 0]
        # channels first: sums over three rows are fast
        bottom, top = below[part][at, :3].T.contiguous(), above[part][at].T.contiguous()
        rest, clear, pixels = shown[at].T - top[:3], 1 - top[3], pixel[at]
        for layer in _layers()[part]:
            layer = layer.index_select(0, pixels).T  # faster than layer[pixels]
            colour = layer[:3] + (1 - layer[3]) * bottom
            right = at[(rest - clear * colour).square().sum(0) <= 3 * (limit / 255) ** 2]
            count = torch.bincount(row[right], minlength=n)
            better = count > counts[:, part]
            counts[:, part] = counts[:, part].maximum(count)
            explained[better[row], part] = 0
            explained[right, part] |= better[row[right]]
    most, part = (explained * counts[row]).max(1)
    counts = torch.bincount((6 * row + part)[most > 0], minlength=6 * n).view(n, 6)
    return counts >= (0.01 * torch.bincount(row, minlength=n)).clamp(min=TORN)[:, None]


def residual_limits(redrawn, share=0.99):
    """The `LIMITS` within which `share` of reconstructed cats stay: (6,) float, in grey levels.

    Args:
        redrawn: (N, 3, 64, 64) uint8, cats that the tokenizer has encoded and decoded.
    """
    residual = identify(redrawn).residual
    scale = residual.quantile(share, dim=0)
    return scale * (residual / scale).amax(1).quantile(share)


def words(named):
    """What each picture shows: a list of texts such as "brown, striped, glasses, grin, bell, on mint; mouth torn"."""
    texts = []
    for values, torn, valid in zip(named.values.tolist(), named.torn.tolist(), named.valid.tolist()):
        seen = [VALUES[part][value] for part, value in zip(PARTS, values) if value >= 0]
        seen = [name for name in seen if name not in ("plain", "no accessory")]
        if values[-1] >= 0:
            seen[-1] = f"on {seen[-1]}"
        wrong = [f"{part} torn" for part, is_torn in zip(PARTS, torn) if is_torn]
        texts.append("; ".join([", ".join(seen), *(wrong or ["not a composable cat"] * (not valid))]))
    return texts


def labels_of(text):
    """What a text such as "body=blue, eyes=glasses" asks for: (1, 6) long, -1, "any", for parts that it leaves open.

    Raises:
        InputError: a part or a value that does not exist, or a part that is named twice.
    """
    labels = torch.full((1, len(PARTS)), -1)
    for piece in re.split(r"[,\s]+(?=\w+\s*=)", text.strip(" ,")):
        part, value = (word.strip() for word in piece.partition("=")[::2])
        if "=" not in piece or part not in VALUES:
            raise InputError(f"labels: {piece!r} names no part of a cat. Write part=value with one of the parts "
                             f"{', '.join(PARTS)}, for example \"body=blue, eyes=glasses\".")
        if value not in (*VALUES[part], "any"):
            others = " or ".join(other for other in PARTS if value in VALUES[other])
            raise InputError(f"labels: {part} cannot be {value!r}" + (f", which is a value of {others}" * bool(others))
                             + f". Choose one of {', '.join(VALUES[part])}, or any.")
        column = PARTS.index(part)
        if labels[0, column] >= 0:
            raise InputError(f"labels: {part} is named twice. Name each part once.")
        labels[0, column] = -1 if value == "any" else VALUES[part].index(value)
    return labels


# ---------------------------------------------------------------------------------------------- sets of pictures

@cache
def _covers_mouth():
    """(16,) bool: accessories beneath which no mouth can be seen."""
    mouth, accessory = _alphas()[3:5]
    return ((1 - accessory) * mouth.amax(0)).amax(1) < 0.1


def hide(choices):
    """Choices (N, 6) -> the same, -1 for mouths beneath a scarf."""
    hidden = choices.clone()
    hidden[_covers_mouth()[choices[:, 4]], 3] = -1
    return hidden


@cache
def _allowed(split):
    """(15, 9) bool: the pairs of body and fur that a split's cats wear; any pair where `split` is None."""
    allowed = torch.full(SIZES[:2], split is None)
    if split is not None:
        allowed[tuple(cats.choices(split)[:, :2].T)] = True
    return allowed


def shares(values):
    """How often each value stands in rows (N, 6) of values: (6, 17) float, rows sum to 1; column -1 is hidden."""
    return torch.stack([torch.bincount(column % N_VALUES, minlength=N_VALUES) for column in values.T]) / len(values)


def true_shares(split):
    """The distribution that a split's cats are drawn from, as `shares` gives it."""
    b, f = _allowed(split).nonzero().T
    rows = torch.zeros(len(b), 6, dtype=torch.long)
    rows[:, 0], rows[:, 1] = b, f
    true = shares(rows)
    for part, size in list(enumerate(SIZES))[2:]:
        true[part] = torch.arange(N_VALUES).lt(size) / size
    true[3] *= 1 - _covers_mouth().float().mean()
    true[3, -1] = _covers_mouth().float().mean()
    return true


def entropy(shares, n=None):
    """Entropy in bits of each part's seen values: shares (6, 17) -> (6,).

    Shares counted in n pictures give too little on average; (values - 1) / 2 n nats are added (Miller, 1955).
    """
    seen = shares[:, :-1] / shares[:, :-1].sum(1, keepdim=True)
    nats = -torch.special.xlogy(seen, seen).sum(1)
    return (nats + (0 if n is None else ((seen > 0).sum(1) - 1) / (2 * n))) / math.log(2)


def true_bits(split):
    """The entropy in bits of what can be seen of a split's cats, a float: no model needs fewer bits on average.

    It is that of their choices less that of mouths beneath a scarf. All choices are independent and uniform, body and
    fur being one choice among the split's pairs.
    """
    covered = true_shares(split)[3, -1].item()
    return math.log2(_allowed(split).sum()) + sum(map(math.log2, SIZES[2:])) - covered * math.log2(SIZES[3])


def _code(choices):
    """One number for each row's five drawn layers, the same for cats that differ in a hidden mouth only: (N,)."""
    return (hide(choices)[:, :5] % N_VALUES * N_VALUES ** torch.arange(5)).sum(1)


def novel(choices, n_train=None):
    """Which cats stand in no training picture, whatever the background: choices (N, 6) -> (N,) bool.

    Args:
        n_train: how many cats the model was trained on, as in `cats.choices`.
    """
    return ~torch.isin(_code(choices), _code(cats.choices("train", n_train)))


def summary(named, split="train", n_train=None):
    """Numbers of a set of pictures, compared with the distribution that a split's cats are drawn from.

    Returns:
        A dict. `validity`: the share of composable cats. `torn`: by part, the share of pictures. Of the valid pictures:
        `novelty`, the share that stands in no training picture; and by part `coverage`, the share of the possible
        values that occur, `entropy` and `true_entropy` in bits. NaN without a picture to count.
    """
    valid, true = named.valid, true_shares(split)
    found, n = shares(named.values[valid]), int(valid.sum())
    coverage = ((found > 0) & (true > 0))[:, :-1].sum(1) / (true > 0)[:, :-1].sum(1)

    def by_part(numbers):
        return dict(zip(PARTS, numbers.tolist()))

    return {"validity": valid.float().mean().item(),
            "novelty": novel(named.choices[valid], n_train).float().mean().item(),
            "torn": by_part(named.torn.float().mean(0)), "coverage": by_part(coverage),
            "entropy": by_part(entropy(found, n)), "true_entropy": by_part(entropy(true))}


def obedience(named, labels):
    """How often pictures show what their labels ask for.

    Args:
        named: from `identify`.
        labels: (N, 6) or (1, 6) long, -1 where any value will do.

    Returns:
        A dict: by part that some label names, the share of the pictures asked; `together`, the share of pictures that
        show everything they are asked for.
    """
    labels = labels.expand(len(named.choices), -1)
    asked, shown = labels >= 0, named.values == labels
    shares = {part: shown[asked[:, i], i].float().mean().item() for i, part in enumerate(PARTS) if asked[:, i].any()}
    return shares | {"together": (shown | ~asked).all(1).float().mean().item()}


# ---------------------------------------------------------------------------------------------- holes

def consistent(named, masked, holes, tolerance=8):
    """Does the cat that a filled picture shows agree with the known pixels?

    Args:
        named: the filled pictures', from `identify`.
        masked: (N, 3, 64, 64) uint8. holes: (N, 64, 64) bool.
        tolerance: the largest difference of a known pixel, in grey levels.

    Returns:
        (N,) bool.
    """
    difference = (cats.compose(named.choices).short() - masked).abs().amax(1)
    return (difference.masked_fill(holes, 0) <= tolerance).flatten(1).all(1)


def agreeing(picture, hole, split="test", tolerance=0):
    """All cats that agree with a picture's known pixels: the support of the exact posterior, which is uniform on it.

    Layers are added in order of what they touch: each set of pixels is compared when all layers that reach it are
    chosen, so most cats are never drawn.

    Args:
        picture: (3, 64, 64) uint8. hole: (64, 64) bool.
        split: whose pairs of body and fur are possible; None: all pairs.
        tolerance: the largest difference of a known pixel, in grey levels. At 0 the faintest trace of a part counts,
            also where nobody would see it.

    Returns:
        (M, 6) long; M is 0 where the picture shows no composable cat.
    """
    eyes, mouth = _alphas()[2:4]
    on_mouth, known, shown = mouth.amax(0) > 0, ~hole.flatten(), picture.flatten(1).T.short()
    on_eyes = (eyes.amax(0) > 0) & ~on_mouth
    pairs = _allowed(split).nonzero()
    rows = torch.cartesian_prod(torch.arange(len(pairs)), *map(torch.arange, SIZES[4:]))
    rows = torch.cat([pairs[rows[:, 0]], torch.zeros(len(rows), 2, dtype=torch.long), rows[:, 1:]], 1)
    for part, where in ((None, ~on_eyes & ~on_mouth), (2, on_eyes), (3, on_mouth)):
        if part is not None:
            rows = rows.repeat_interleave(SIZES[part], 0)
            rows[:, part] = torch.arange(SIZES[part]).repeat(len(rows) // SIZES[part])
        pixels = (where & known).nonzero()[:, 0]
        pixels = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]
        while len(pixels) and len(rows):  # a few pixels tell most cats apart; those left are compared on more
            step = max(8, 2**17 // len(rows))
            same = [((draw(some[:, None], pixels[:step]) - shown[pixels[:step]]).abs() <= tolerance).all(2).all(1)
                    for some in rows.split(2**17)]
            rows, pixels = rows[torch.cat(same)], pixels[step:]
    return rows


def posterior(masked, holes, split="test", tolerance=0):
    """The exact distribution of each part's value given the known pixels.

    What a model of tokens knows is less than the known pixels: a token with a hidden pixel is hidden. For its
    posterior pass holes of whole tokens.

    Args:
        masked: (N, 3, 64, 64) uint8. holes: (N, 64, 64) bool. split, tolerance: as in `agreeing`.

    Returns:
        (N, 6, 17) float, as `shares` gives it; NaN where no cat agrees.
    """
    return torch.stack([shares(hide(agreeing(picture, hole, split, tolerance)))
                        for picture, hole in zip(masked, holes)])


def draw_values(posterior, n, seed):
    """Values drawn from a posterior, each part for itself: (N, 6, 17) -> (n, N, 6) long, for `calibration`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(posterior.flatten(0, 1), n, replacement=True, generator=generator)
    return drawn.where(drawn < N_VALUES - 1, -1).T.unflatten(1, posterior.shape[:2])


def calibration(samples, posterior, bins=10):
    """A calibration curve: what a model's fillings say about each value, against the truth.

    A value's predicted share is counted in the fillings of a picture. With few fillings the extreme shares are extreme
    by chance, and even an exact model looks overconfident: compare with the curve of as many `draw_values`.

    Args:
        samples: (S, N, 6) long, `Named.values` of S fillings of N pictures.
        posterior: (N, 6, 17), from `posterior`. Pictures with which no cat agrees are left out.
        bins: of equal width, over the predicted share. Values that are neither predicted nor possible are left out.

    Returns:
        A list of (predicted share, true share, count), means over one bin each, for the bins that are not empty.
    """
    predicted = torch.stack([shares(values) for values in samples.transpose(0, 1)])
    counted = ((predicted > 0) | (posterior > 0)) & ~posterior.isnan()
    predicted, true = predicted[counted], posterior[counted]
    place = ((predicted * bins).ceil().long() - 1).clamp(min=0)
    return [(predicted[place == b].mean().item(), true[place == b].mean().item(), int((place == b).sum()))
            for b in range(bins) if (place == b).any()]
