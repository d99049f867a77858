import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: iterative_decode
@torch.no_grad()
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None,
                     choice_temperature=4.5, mask_token_id, sampling="categorical",
                     generator=None):
    """Fill what a mask hides, step by step; calls `inpainting`.

    Args:
        transformer: a callable, (B, T) -> logits (B, T, V + 1).
        z_indices: (B, T) long; what is in hidden places does not matter.
        mask: (B, T) bool, True means hidden.
        gamma: the schedule, a function of progress.
        total_iter: how many steps the schedule has.
        sweet_spot: after how many of them to stop; None: all.
        choice_temperature, mask_token_id, sampling, generator: as `inpainting` takes them.

    Returns:
        z_final (B, T) long, and history, a list of (z_predict, next_mask), one a step.

    Raises:
        ValueError: `total_iter` below 1, or `sweet_spot` outside 1 ... total_iter.
    """
    if total_iter < 1:
        raise ValueError(f"total_iter must be at least 1, not {total_iter}")
    steps = total_iter if sweet_spot is None else sweet_spot
    if not 1 <= steps <= total_iter:
        raise ValueError(f"sweet_spot must lie in 1 ... total_iter ({total_iter}), "
                         f"not {sweet_spot}")
    n_hidden = mask.sum(dim=1)
    z, history = z_indices, []
    for t in range(steps):
        z, mask = inpainting(
            transformer, z, mask, (t + 1) / total_iter, n_hidden, gamma=gamma,
            choice_temperature=choice_temperature, mask_token_id=mask_token_id,
            sampling=sampling, generator=generator)
        history.append((z, mask))
    return z, history
