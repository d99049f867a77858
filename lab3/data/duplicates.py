"""How alike two pictures are, and which of many show the same photograph.

In: uint8 pictures, some perhaps known outside their holes only. Out: pairs of near duplicates, mirror images included.

When are two pictures near duplicates? See `difference`: a share of their variance, up to `NEAR`. An absolute pixel
difference would call any two black cats the same picture. `NEAR` was set by looking at the pairs of 9,300 different
cat photos: 33 pairs lie below, all one photograph or one burst of the camera; from 0.053 on, look-alikes come in.
Copies saved as JPEG of quality 75, 10 % brighter, of 1.3 times the contrast, or enlarged and reduced again lie below;
one cut out a pixel further left does not.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from lab3.data.masks import GREY
from lab3.data.photos import channels_first
from lab3.data.pictures import SIZE

NEAR = 0.05  # `difference` up to which two pictures count as one photograph
MAX_SHIFT = 20.0  # grey levels between their mean colours: beyond that the light was another, and so the moment
FLOOR = 4.0  # grey levels of contrast: below it, noise decides how alike two flat pictures are
COARSE_NEAR = 0.06  # on 16x16 thumbnails, which differ less than the pictures; the margin is for the exceptions
MAX_CANDIDATES = 1_000_000  # a film's frames are all alike: do not compare for hours what one sentence can say


def difference(a, b, known=None):
    """How far two pictures differ, as a share of their variance: 0 the same, about 1 unrelated.

    Each channel's mean is taken away first, so a small change of brightness does not count:
    `mean((a - b)^2) / (var(a) + var(b) + 2 FLOOR^2)`. For pictures of one contrast that is 1 - their correlation.

    Args:
        a, b: (P, 64, 64, 3), uint8 or float. known: (P, 64, 64) bool, the pixels to look at; None looks at all.

    Returns:
        (difference, shift): (P,) float tensors; `shift` is the distance of the mean colours, in grey levels (RMS).
    """
    a, b = (torch.as_tensor(np.ascontiguousarray(x)).flatten(1, 2).float() for x in (a, b))  # (P, 4096, 3)
    weight = torch.ones(1, a.shape[1], 1) if known is None else torch.as_tensor(known).flatten(1)[..., None].float()
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    mean_a, mean_b = ((x * weight).sum(1, keepdim=True) for x in (a, b))
    a, b = a - mean_a, b - mean_b

    def power(x):
        return (x.square() * weight).sum(1).mean(-1)

    distance = power(a - b) / (power(a) + power(b) + 2 * FLOOR**2)
    return distance, (mean_a - mean_b).square().mean((1, 2)).sqrt()


def _alike(variance_a, variance_b, covariance):
    """Where `difference` is small enough for a closer look: bool (N, M), from variances and covariances (N, M)."""
    total = variance_a + variance_b
    return 2 * covariance >= (1 - COARSE_NEAR) * total - 2 * COARSE_NEAR * FLOOR**2


def _indices(matrix, mirrored, row=0, column=0):
    """The true places of a bool matrix as candidate pairs (K, 3): i, j, mirrored."""
    i, j = torch.nonzero(matrix, as_tuple=True)
    return torch.stack([i + row, j + column, torch.full_like(i, mirrored)], dim=1)


def _confirm(candidates, left, right, known=None):
    """Compare candidate pairs, a list of (K, 3), at full size: ([(i, j, difference, mirrored)], whether all were)."""
    candidates = torch.cat(candidates).numpy() if candidates else np.empty((0, 3), dtype=int)
    complete, candidates = len(candidates) <= MAX_CANDIDATES, candidates[:MAX_CANDIDATES]
    closest = {}
    for start in range(0, len(candidates), 512):
        i, j, mirrored = candidates[start:start + 512].T
        mirrored = mirrored.astype(bool)
        a, b = left[i], right[j]
        b[mirrored] = b[mirrored, :, ::-1]
        seen = None if known is None else known[i]
        distance, shift = difference(a, b, seen)
        equal = (a == b).all(-1) if known is None else ((a == b).all(-1) | ~seen)
        # Zero is for equal pixels: a copy that is only brighter has no difference either, but is not the same.
        distance = torch.where(torch.from_numpy(equal.all((1, 2))), 0.0, distance.clamp(min=1e-6))
        for row in torch.nonzero((distance <= NEAR) & (shift <= MAX_SHIFT)).flatten().tolist():
            pair, match = (int(i[row]), int(j[row])), (float(distance[row]), bool(mirrored[row]))
            # A symmetric face is near its mirror image both ways round: the closer way counts.
            closest[pair] = min(match, closest.get(pair, match))
    return [pair + match for pair, match in sorted(closest.items())], complete


def near_pairs(pictures, progress=True, chunk=1024):
    """Find the near duplicates, mirror images included, among uint8 pictures (N, 64, 64, 3) that are all different.

    16x16 thumbnails are compared all with all by matrix products; what they let through is compared at full size.

    Returns:
        (pairs, complete): (i, j, difference, mirrored) with i < j, each pair once; `complete` is False where so many
        were alike that only the first `MAX_CANDIDATES` were examined.
    """
    thumbs = torch.empty(len(pictures), 3, 16, 16)
    for start in range(0, len(pictures), chunk):
        block = slice(start, start + chunk)
        thumbs[block] = F.avg_pool2d(channels_first(pictures[block]).float(), SIZE // 16)
    thumbs -= thumbs.mean((2, 3), keepdim=True)
    # Divided by the root of their number of values: products of rows are then variances and covariances.
    plain, mirror = (x.flatten(1) / (3 * 16 * 16)**0.5 for x in (thumbs, thumbs.flip(-1)))
    variance = plain.square().sum(1)
    candidates = []
    for start in tqdm(range(0, len(plain), chunk), desc="comparing", unit="chunk", disable=not progress):
        block = slice(start, start + chunk)
        for mirrored, rows in ((False, plain), (True, mirror)):
            # Only pictures from `start` on, and above the diagonal: the other pairs have been seen.
            near = _alike(variance[block, None], variance[start:], rows[block] @ plain[start:].T)
            candidates.append(_indices(near.triu(1), mirrored, start, start))
        if sum(map(len, candidates)) > MAX_CANDIDATES:
            break
    return _confirm(candidates, pictures, pictures)


def known_pairs(masked, holes, pictures, progress=True, chunk=512):
    """Find the pictures that masked ones were made from, by their known pixels alone, mirror images included.

    With weights w (1 where known) all sums over the known pixels of a pair are matrix products:
    `sum w (a - b)^2 = sum w a^2 - 2 (w a) b + w b^2`, and likewise the means.

    Args:
        masked: uint8 (M, 64, 64, 3). holes: bool (M, 64, 64). pictures: uint8 (N, 64, 64, 3).

    Returns:
        (pairs, complete): (i, j, difference, mirrored), masked picture i shows j; `complete` as in `near_pairs`.
    """
    # A picture that is all hole is known from nothing, and would match everything.
    usable = np.flatnonzero((~holes).any((1, 2)))
    w = torch.from_numpy(~holes[usable]).flatten(1).float()  # (M, 4096)
    count = w.sum(1, keepdim=True)
    # Around the middle grey the sums are small, so that float32 carries them.
    a = (torch.from_numpy(masked[usable]).float() - GREY).flatten(1, 2) * w[..., None]  # (M, 4096, 3)
    mean_a = a.sum(1) / count  # (M, 3)
    var_a = a.square().sum((1, 2)) / (3 * count[:, 0]) - mean_a.square().mean(1)
    candidates = []
    for start in tqdm(range(0, len(pictures), chunk), desc="comparing known pixels", unit="chunk",
                      disable=not progress):
        block = torch.from_numpy(pictures[start:start + chunk]).float() - GREY
        for mirrored in (False, True):
            b = (block.flip(2) if mirrored else block).flatten(1, 2)  # (N, 4096, 3)
            mean_b = torch.stack([w @ b[..., c].T for c in range(3)], -1) / count[..., None]  # (M, N, 3)
            var_b = w @ b.square().sum(-1).T / (3 * count) - mean_b.square().mean(-1)
            covariance = a.flatten(1) @ b.flatten(1).T / (3 * count) - (mean_a[:, None] * mean_b).mean(-1)
            near = _alike(var_a[:, None], var_b, covariance)
            candidates.append(_indices(near, mirrored, column=start))
        if sum(map(len, candidates)) > MAX_CANDIDATES:
            break
    pairs, complete = _confirm(candidates, masked[usable], pictures, ~holes[usable])
    return [(int(usable[i]), *rest) for i, *rest in pairs], complete


@dataclass
class Duplicates:
    """Which pictures are alike. A class is all pictures with the same pixels; near duplicates pair classes."""

    members: list[list[str]]  # class -> names
    class_of: dict[str, int]
    near: dict[int, dict]  # class -> {class: (difference, mirrored)}
    known: dict[str, dict]  # masked picture -> {class: (difference, mirrored)}
    complete: bool

    def matches(self, name):
        """The classes that show what `name` shows, its own included: {class: (difference, mirrored)}."""
        own = self.class_of.get(name)
        return self.known.get(name, {}) if own is None else {own: (0.0, False)} | self.near.get(own, {})


def find_duplicates(pictures, masked, progress=True):
    """Find all pictures that are alike: a `Duplicates`, whose classes and members keep the order of `pictures`.

    Args:
        pictures: {name: uint8 (64, 64, 3)}.
        masked: {name: (uint8 (64, 64, 3), holes (64, 64) bool)}, to be compared with `pictures` where they are known.
    """
    by_pixels = defaultdict(list)
    for name, pixels in pictures.items():
        by_pixels[hashlib.sha256(pixels).digest()].append(name)
    members = list(by_pixels.values())
    class_of = {name: index for index, names in enumerate(members) for name in names}
    different = np.array([pictures[names[0]] for names in members], dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)

    pairs, complete = near_pairs(different, progress)
    near = defaultdict(dict)
    for i, j, *match in pairs:
        near[i][j] = near[j][i] = tuple(match)
    known = defaultdict(dict)
    if masked:
        names, (shown, holes) = list(masked), map(np.stack, zip(*masked.values()))
        pairs, all_known = known_pairs(shown, holes, different, progress)
        complete &= all_known
        for i, j, *match in pairs:
            known[names[i]][j] = tuple(match)
    return Duplicates(members, class_of, near, known, complete)
