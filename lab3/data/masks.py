"""Holes: random walks over the pixels, and what a hole hides from the transformer.

In: how many, a seed. Out: bool tensors in which True means hidden, by pixels (N, 64, 64) or by tokens (N, 256);
pictures that are grey in their holes.
"""

import torch

STEPS = 3300  # holes then cover what the original lab's cover: 21 % of the picture on average, nearly all 10 to 30 %
GREY = 128  # what a masked picture shows in its hole


def random_holes(n, seed, *, size=64, steps=STEPS):
    """Draw holes: each is what a walker visits who starts anywhere and takes `steps` steps of one pixel.

    At the picture's edge the walker stays where it is. Every hole is in one piece.

    Args:
        n: how many holes.
        seed: an int; the same seed gives the same holes.

    Returns:
        (n, size, size) bool, True in the hole.
    """
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(size, (n, 2), generator=generator)
    directions = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
    moves = directions[torch.randint(4, (steps, n), generator=generator)]
    visited = torch.empty(n, steps, dtype=torch.long)
    for step in range(steps):
        place = (place + moves[step]).clamp_(0, size - 1)
        visited[:, step] = place[:, 0] * size + place[:, 1]
    holes = torch.zeros(n, size * size, dtype=torch.bool).scatter_(1, visited, True)
    return holes.view(n, size, size)


def paint(pictures, holes):
    """Paint holes grey: pictures (N, 3, H, W) uint8 and holes (N, H, W) bool -> pictures, `GREY` in their holes."""
    return torch.where(holes[:, None], GREY, pictures)


def paste(decoded, masked, holes):
    """Put known pixels back: decoded, masked (N, 3, H, W) uint8, holes (N, H, W) bool -> decoded in the holes alone."""
    return torch.where(holes[:, None], decoded, masked)


def hidden_tokens(holes, grid=16):
    """Which tokens a hole hides: a token is known only if all its pixels are.

    Args:
        holes: (N, H, W) bool, True in the hole; H and W are multiples of `grid`.
        grid: tokens along a side.

    Returns:
        (N, grid * grid) bool, True means hidden.
    """
    n, height, width = holes.shape
    cells = holes.view(n, grid, height // grid, grid, width // grid)
    return cells.any(dim=4).any(dim=2).flatten(1)
