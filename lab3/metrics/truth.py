"""Which cat a picture shows: the truth about the embedded cats, which are composed from known layers.

In: uint8 pictures (N, 3, 64, 64), with holes (N, 64, 64) or without. Out: the nearest composable cat of each picture
and whether the picture is one; from these, validity, coverage, novelty and torn parts. For a hole: all cats that agree
with the known pixels, which is the exact posterior, and how a model's fillings compare with it.

A cat is a row of six choices, as in `lab3.data.cats`: body, fur, eyes, mouth, accessory, background. Pictures of a
user's own have no known truth: `require_cats` refuses them.
"""

import math
from dataclasses import dataclass, fields
from functools import cache

import torch

from lab3.common.files import InputError
from lab3.data import cats

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
SIZES = tuple(map(len, VALUES.values()))
N_VALUES = 17  # columns that hold any part's values; the last, -1, is a part that cannot be seen

# Grey levels. For each part the 99th percentile of its residual, over the shipped tokenizer's reconstructions of the
# 3,000 cats of `val`, times one factor for all parts with which 99 % of these cats stay within every limit.
# Measured by `residual_limits`.
LIMITS = torch.tensor([11.0, 22.0, 13.8, 11.8, 13.1, 7.6])
SEEN = 2000  # grey levels squared; a part whose second-best value costs less is hidden (a mouth beneath a scarf: 64)
TORN = 6  # pixels that must show another value of a part
CANDIDATES = 4  # coats that are tried with every face
SWEEPS = 4
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


# ---------------------------------------------------------------------------------------------- the nearest cat

@dataclass(frozen=True)
class Bank:
    """The layers and their products, for P = 4096 pixels. `where`: the F pixels that some face paints."""

    coats: torch.Tensor  # (135, 4, P)
    faces: torch.Tensor  # (150, 4, P)
    accessories: torch.Tensor  # (16, 4, P)
    linear: torch.Tensor  # (3, P, 2 * 135): by channel, a coat's colour and its transparency
    quadratic: torch.Tensor  # (P, 5 * 135): colour squared, transparency times each channel, transparency squared
    where: torch.Tensor  # (F,)
    products: torch.Tensor  # (9 * F, 150): colour, alpha, colour squared, alpha times colour, alpha squared


@cache
def _bank():
    coats, faces, accessories = (stack.flatten(2) for stack in cats._pairs())
    colour, clear = coats[:, :3], 1 - coats[:, 3]
    linear = torch.stack([torch.cat([channel, clear]).T for channel in colour.unbind(1)])
    quadratic = torch.cat([colour.square().sum(1), *(clear[:, None] * colour).unbind(1), clear.square()]).T
    where = faces[:, 3].amax(0).nonzero()[:, 0]
    colour, alpha = faces[:, :3, where], faces[:, 3:, where]
    products = torch.cat([colour, alpha, colour.square().sum(1, keepdim=True), alpha * colour, alpha.square()], 1)
    return Bank(coats, faces, accessories, linear.contiguous(), quadratic.contiguous(), where,
                products.flatten(1).T.contiguous())


def _coat_errors(x, known, face):
    """Squared errors of every accessory, coat and background around given faces.

    Beneath a top layer of colour d and transparency s lies a coat (c, t) on a wall g. The error (x - d - s (c + t g))^2
    is linear in the products of c and t that the bank holds, so all coats and walls take one matrix product.
    Accessories change it on their own pixels only.

    Args:
        x: (N, 3, P) in [0, 1]. known: (N or 1, P), weights. face: (N or 1, 4, P).

    Returns:
        (N, 16, 135, 12).
    """
    bank, walls = _bank(), cats.BACKGROUNDS / 255

    def terms(x, known, top):
        s, y = 1 - top[:, 3], x - top[:, :3]
        return (known[:, None] * y * y).sum((1, 2)), (known * s)[:, None] * y, known * s * s

    def table(terms, linear, quadratic):
        constant, first, second = terms
        first = torch.stack([first[:, c] @ linear[c] for c in range(3)], 1).unflatten(2, (2, -1))
        second = (second @ quadratic).unflatten(1, (5, -1))
        coat = constant[:, None] - 2 * first[:, :, 0].sum(1) + second[:, 0]
        wall = torch.einsum("nck,gc->nkg", 2 * (second[:, 1:4] - first[:, :, 1]), walls)
        return coat[..., None] + wall + second[:, 4, :, None] * walls.square().sum(1)

    bare, tables = table(terms(x, known, face), bank.linear, bank.quadratic), []
    for accessory in bank.accessories:
        at = accessory[3].nonzero()[:, 0]
        x_at, known_at, face_at, top = x[..., at], known[:, at], face[..., at], accessory[:, at]
        after = terms(x_at, known_at, top + (1 - top[3]) * face_at)
        change = [new - old for new, old in zip(after, terms(x_at, known_at, face_at))]
        tables.append(bare + table(change, bank.linear[:, at], bank.quadratic[at]))
    return torch.stack(tables, 1)


def _face_errors(x, known, coat, wall, accessory):
    """Squared errors of every face between given layers, by the same expansion: (N, 150). All arguments have N rows."""
    bank = _bank()
    coat, top = bank.coats[coat], bank.accessories[accessory]
    below = coat[:, :3] + (1 - coat[:, 3:]) * (cats.BACKGROUNDS[wall] / 255)[:, :, None]
    s = 1 - top[:, 3:]
    y = x - top[:, :3] - s * below
    constant = (known[:, None] * y * y).sum((1, 2))
    y, below, s, known = y[..., bank.where], below[..., bank.where], s[..., bank.where], known[:, None, bank.where]
    first, second = known * s * y, known * s * s
    factors = torch.cat([-2 * first, 2 * (first * below).sum(1, keepdim=True), second, -2 * second * below,
                         second * below.square().sum(1, keepdim=True)], 1)
    return constant[:, None] + factors.flatten(1) @ bank.products


def _nearest(x, known):
    """The nearest cats: choices (N, 6), and what the second-best value of each part costs more (N, 6).

    The best coats without a face are tried with every face; then coat, background and accessory are searched jointly
    for the face found, and eyes and mouth jointly for these, until nothing changes.
    """
    bank, n = _bank(), len(x)
    all_known = known.expand(n, -1)
    faint = known.clone()
    faint[:, bank.where] /= 20  # the face is not known yet; where all else is hidden, its skin still counts
    errors, rest = _coat_errors(x, faint, torch.zeros(1, 4, x.shape[2])).transpose(1, 2).flatten(2).min(2)
    coat = errors.topk(CANDIDATES, largest=False).indices
    accessory, wall = (each.flatten() for each in torch.unravel_index(rest.gather(1, coat), (SIZES[4], SIZES[5])))
    repeated = torch.arange(n).repeat_interleave(CANDIDATES)
    errors = _face_errors(x[repeated], all_known[repeated], coat.flatten(), wall, accessory)
    face = errors.view(n, -1).argmin(1) % len(bank.faces)

    choices, margin, todo = torch.empty(n, 6, dtype=torch.long), torch.empty(n, 6), torch.arange(n)
    for _ in range(SWEEPS):
        by_coat = _coat_errors(x[todo], known if len(known) == 1 else known[todo], bank.faces[face[todo]])
        a, coat, g = torch.unravel_index(by_coat.flatten(1).argmin(1), by_coat.shape[1:])
        by_face = _face_errors(x[todo], all_known[todo], coat, g, a)
        found = by_face.argmin(1)
        (b, f), (e, m) = torch.unravel_index(coat, SIZES[:2]), torch.unravel_index(found, SIZES[2:4])
        choices[todo] = torch.stack([b, f, e, m, a, g], 1)
        i, by_coat, by_face = range(len(todo)), by_coat.unflatten(2, SIZES[:2]), by_face.unflatten(1, SIZES[2:4])
        others = (by_coat[i, a, :, f, g], by_coat[i, a, b, :, g], by_face[i, :, m], by_face[i, e],
                  by_coat[i, :, b, f, g], by_coat[i, a, b, f])
        margin[todo] = torch.stack([each.topk(2, largest=False).values.diff()[:, 0] for each in others], 1)
        changed = found != face[todo]
        face[todo] = found
        todo = todo[changed]
        if not len(todo):
            break
    return choices, margin


@cache
def _alphas():
    return [layer.flatten(2)[:, 3] for layer in cats.layers()]


def _regions(choices):
    """The pixels of each part: (N, 6, P), weights.

    Body, fur, accessory and background: the share of the pixel's colour that the part gives. Eyes and mouth: wherever
    any eyes or mouth would show, as a torn mouth leaves traces beside the nearest one.
    """
    body, fur, eyes, mouth, accessory = _alphas()
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
    known = known.flatten(1)
    choices, margin = _nearest(pictures.flatten(2) / 255, known)
    square = (pictures.float() - cats.compose(choices)).flatten(2).square().mean(1)
    regions = _regions(choices) * known[:, None]
    residual = ((regions @ square[:, :, None])[..., 0] / (regions.sum(2) + 1)).sqrt()  # + 1: a speck says little
    valid = (residual <= LIMITS).all(1)
    torn = torch.zeros_like(residual, dtype=torch.bool)
    torn[~valid] = _torn(pictures[~valid], choices[~valid], (square.sqrt() * known)[~valid])
    return Named(choices, margin * 255**2 > SEEN, residual, valid, torn)


def _torn(pictures, choices, difference):
    """(N, 6) bool: is one other value of the part right where the nearest cat is wrong, in `TORN` pixels or more?"""
    row, pixel = (difference > 2 * LIMITS.min()).nonzero().unbind(1)
    shown, difference, torn = pictures.flatten(2)[row, :, pixel].float(), difference[row, pixel], []
    for part, (size, limit) in enumerate(zip(SIZES, LIMITS)):
        wrong = difference > 2 * limit
        other, most = choices[row[wrong]], torch.zeros(len(choices))
        for value in range(size):
            other[:, part] = value
            right = (shown[wrong] - draw(other, pixel[wrong])).square().mean(-1).sqrt() <= limit
            most = most.maximum(torch.bincount(row[wrong][right], minlength=len(choices)))
        torn.append(most >= TORN)
    return torch.stack(torn, 1)


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


# ---------------------------------------------------------------------------------------------- sets of pictures

@cache
def _covers_mouth():
    """(16,) bool: accessories beneath which no mouth can be seen."""
    *_, mouth, accessory = _alphas()
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


def _code(choices):
    """One number for each row's five drawn layers, the same for cats that differ in a hidden mouth only: (N,)."""
    return (hide(choices)[:, :5] % N_VALUES * N_VALUES ** torch.arange(5)).sum(1)


def novel(choices):
    """Which cats stand in no training picture, whatever the background: choices (N, 6) -> (N,) bool."""
    return ~torch.isin(_code(choices), _code(cats.choices("train")))


def summary(named, split="train"):
    """Numbers of a set of pictures, compared with the distribution that a split's cats are drawn from.

    Returns:
        A dict. `validity`: the share of composable cats. `torn`: by part, the share of pictures. Of the valid pictures:
        `novelty`, the share that stands in no training picture; and by part `coverage`, the share of the possible
        values that occur, `entropy` and `true_entropy` in bits. NaN where there is no picture to count.
    """
    valid, true = named.valid, true_shares(split)
    found, n = shares(named.values[valid]), int(valid.sum())
    coverage = ((found > 0) & (true > 0))[:, :-1].sum(1) / (true > 0)[:, :-1].sum(1)

    def by_part(numbers):
        return dict(zip(PARTS, numbers.tolist()))

    return {"validity": valid.float().mean().item(), "novelty": novel(named.choices[valid]).float().mean().item(),
            "torn": by_part(named.torn.float().mean(0)), "coverage": by_part(coverage),
            "entropy": by_part(entropy(found, n)), "true_entropy": by_part(entropy(true))}


# ---------------------------------------------------------------------------------------------- holes

def draw(choices, pixels):
    """Single pixels of cats, the same as `compose` gives them: choices (..., 6), pixels (...) -> uint8 (..., 3)."""
    body, fur, eyes, mouth, accessory, background = choices.unbind(-1)
    bank = _bank()
    colour = (cats.BACKGROUNDS[background] / 255).expand(*torch.broadcast_shapes(body.shape, pixels.shape), 3)
    for stack, layer in ((bank.coats, body * SIZES[1] + fur), (bank.faces, eyes * SIZES[3] + mouth),
                         (bank.accessories, accessory)):
        top = stack.transpose(1, 2)[layer, pixels]
        colour = top[..., :3] + (1 - top[..., 3:]) * colour
    return (colour * 255).round_().clamp_(0, 255).to(torch.uint8)


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
    _, _, eyes, mouth, _ = _alphas()
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
            step = max(8, 2**20 // len(rows))
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


def calibration(samples, posterior, bins=10):
    """A calibration curve: how often a model draws a value, against how often it should.

    Values are binned by their true share, not by the predicted one: with S samples a model that draws from the exact
    posterior predicts t on average wherever the truth is t, but its extreme predictions are extreme by chance.

    Args:
        samples: (S, N, 6) long, `Named.values` of S fillings of N pictures.
        posterior: (N, 6, 17), from `posterior`.
        bins: of equal width, from 0 to 1. Impossible values are left out, so what a model gives them is missing from
            the predicted shares.

    Returns:
        A list of (predicted share, true share, count), one for each bin that is not empty.
    """
    predicted = torch.stack([shares(values) for values in samples.transpose(0, 1)])
    possible = posterior > 0
    predicted, true = predicted[possible], posterior[possible]
    place = (true * bins).ceil().long() - 1
    return [(predicted[place == b].mean().item(), true[place == b].mean().item(), int((place == b).sum()))
            for b in range(bins) if (place == b).any()]
