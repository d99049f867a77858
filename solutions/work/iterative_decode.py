import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: iterative_decode
@torch.no_grad()
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    """Fill what mask (B, T) hides: the tokens (B, T), and a list of (z_predict, next_mask), one a step."""
    if total_iter < 1:
        raise ValueError(f"total_iter must be at least 1, not {total_iter}")
    steps = total_iter if sweet_spot is None else sweet_spot
    if not 1 <= steps <= total_iter:
        raise ValueError(f"sweet_spot must lie in 1 ... total_iter ({total_iter}), not {sweet_spot}")
    n_hidden = mask.sum(dim=1)
    z, history = z_indices, []
    for t in range(steps):
        z, mask = inpainting(
            transformer, z, mask, (t + 1) / total_iter, n_hidden, gamma=gamma, choice_temperature=choice_temperature,
            mask_token_id=mask_token_id, sampling=sampling, generator=generator)
        history.append((z, mask))
    return z, history
