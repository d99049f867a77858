"""The nearest composable cat of a picture, and single pixels of cats.

In: pictures, weights of their pixels. Out: choices as `lab3.data.cats.compose` takes them. What the choices say about
the pictures is in `truth.py`.
"""

from dataclasses import dataclass
from functools import cache

import torch

from lab3.data import cats

SIZES = (15, 9, 15, 10, 16, 12)  # values of body, fur, eyes, mouth, accessory, background
CANDIDATES = 4  # coats that are tried with every face
SWEEPS = 4


@dataclass(frozen=True)
class Bank:
    """The layers and their products, for P = 4096 pixels. `where`: the F pixels that some face paints."""

    coats: torch.Tensor  # (135, 4, P)
    faces: torch.Tensor  # (150, 4, P)
    accessories: torch.Tensor  # (16, 4, P)
    pixels: tuple[torch.Tensor, ...]  # the same three with colours last, (..., P, 4), to pick pixels from
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
    pixels = tuple(stack.transpose(1, 2).contiguous() for stack in (coats, faces, accessories))
    return Bank(coats, faces, accessories, pixels, linear.contiguous(), quadratic.contiguous(), where,
                products.flatten(1).T.contiguous())


def _coat_errors(x, known, face):
    """Squared errors of every accessory, coat and background around given faces.

    Beneath a top layer of colour d and transparency s lies a coat (c, t) on a background g. The error
    (x - d - s (c + t g))^2 is linear in the products of c and t that the bank holds, so all coats and backgrounds take
    one matrix product. Accessories change it on their own pixels only.

    Args:
        x: (N, 3, P) in [0, 1]. known: (N or 1, P), weights. face: (N or 1, 4, P).

    Returns:
        (N, 16, 135, 12).
    """
    bank, backgrounds = _bank(), cats.BACKGROUNDS / 255

    def terms(x, known, top):
        s, y = 1 - top[:, 3], x - top[:, :3]
        return (known[:, None] * y * y).sum((1, 2)), (known * s)[:, None] * y, known * s * s

    def table(terms, linear, quadratic):
        constant, first, second = terms
        first = torch.stack([first[:, c] @ linear[c] for c in range(3)], 1).unflatten(2, (2, -1))
        second = (second @ quadratic).unflatten(1, (5, -1))
        coat = constant[:, None] - 2 * first[:, :, 0].sum(1) + second[:, 0]
        background = torch.einsum("nck,gc->nkg", 2 * (second[:, 1:4] - first[:, :, 1]), backgrounds)
        return coat[..., None] + background + second[:, 4, :, None] * backgrounds.square().sum(1)

    bare, tables = table(terms(x, known, face), bank.linear, bank.quadratic), []
    for accessory in bank.accessories:
        at = accessory[3].nonzero()[:, 0]
        x_at, known_at, face_at, top = x[..., at], known[:, at], face[..., at], accessory[:, at]
        after = terms(x_at, known_at, top + (1 - top[3]) * face_at)
        change = [new - old for new, old in zip(after, terms(x_at, known_at, face_at))]
        tables.append(bare + table(change, bank.linear[:, at], bank.quadratic[at]))
    return torch.stack(tables, 1)


def _face_errors(x, known, coat, background, accessory):
    """Squared errors of every face between given layers, by the same expansion: (N, 150). Arguments have N rows."""
    bank = _bank()
    coat, top = bank.coats[coat], bank.accessories[accessory]
    below = coat[:, :3] + (1 - coat[:, 3:]) * (cats.BACKGROUNDS[background] / 255)[:, :, None]
    s = 1 - top[:, 3:]
    y = x - top[:, :3] - s * below
    constant = (known[:, None] * y * y).sum((1, 2))
    y, below, s, known = y[..., bank.where], below[..., bank.where], s[..., bank.where], known[:, None, bank.where]
    first, second = known * s * y, known * s * s
    factors = torch.cat([-2 * first, 2 * (first * below).sum(1, keepdim=True), second, -2 * second * below,
                         second * below.square().sum(1, keepdim=True)], 1)
    return constant[:, None] + factors.flatten(1) @ bank.products


def nearest_cats(pictures, known):
    """The composable cats with the smallest squared difference from pictures.

    The best coats without a face are tried with every face; then coat, background and accessory are searched jointly
    for the face found, and eyes and mouth jointly for these, until nothing changes. A picture that is far from every
    cat may have a slightly nearer one.

    Args:
        pictures: (N, 3, 64, 64) uint8.
        known: (N, 64, 64) float weights of the pixels, 0 in a hole; (1, 64, 64) for the same weights everywhere.

    Returns:
        (choices, margin): (N, 6) long, and (N, 6) float: by how much the second-best value of each part, the others
        staying, raises the sum of squared differences; in grey levels squared.
    """
    bank, n, x, known = _bank(), len(pictures), pictures.flatten(2) / 255, known.flatten(1)
    all_known = known.expand(n, -1)
    faint = known.clone()
    faint[:, bank.where] /= 20  # the face is not known yet; where all else is hidden, its skin still counts
    errors, rest = _coat_errors(x, faint, torch.zeros(1, 4, x.shape[2])).transpose(1, 2).flatten(2).min(2)
    coat = errors.topk(CANDIDATES, largest=False).indices
    accessory, background = (each.flatten() for each in torch.unravel_index(rest.gather(1, coat), (SIZES[4], SIZES[5])))
    repeated = torch.arange(n).repeat_interleave(CANDIDATES)
    errors = _face_errors(x[repeated], all_known[repeated], coat.flatten(), background, accessory)
    face = errors.view(n, CANDIDATES * len(bank.faces)).argmin(1) % len(bank.faces)

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
    return choices, margin * 255**2


def draw(choices, pixels):
    """Single pixels of cats, the same as `compose` gives them: choices (..., 6), pixels (...) -> uint8 (..., 3)."""
    body, fur, eyes, mouth, accessory, background = choices.unbind(-1)
    colour = (cats.BACKGROUNDS[background] / 255).expand(*torch.broadcast_shapes(body.shape, pixels.shape), 3)
    for layers, layer in zip(_bank().pixels, (body * SIZES[1] + fur, eyes * SIZES[3] + mouth, accessory)):
        top = layers[layer, pixels]
        colour = top[..., :3] + (1 - top[..., 3:]) * colour
    return (colour * 255).round_().clamp_(0, 255).to(torch.uint8)
