import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: sample_mask
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    """Choose which tokens to hide.

    Args:
        batch, tokens: how many rows, and how many tokens in each.
        prob_type: "topk" hides exactly max(1, ceil(ratio * tokens)) in each row, "bernoulli" each
            token with probability ratio.
        ratio: the share to hide, in [0, 1]: a number, or a tensor (batch,); None draws one for
            each row from U(0, 1).
        generator: a `torch.Generator` on `device`; all that is random comes from it.
        device: where the mask lies; None: where the generator is, else the CPU.

    Returns:
        (batch, tokens) bool, True means hidden.

    Raises:
        ValueError: another `prob_type`, or a `ratio` outside [0, 1].
    """
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError(f"prob_type must be 'topk' or 'bernoulli', not {prob_type!r}")
    if device is None:
        device = generator.device if generator is not None else "cpu"
    if ratio is None:
        ratio = torch.rand(batch, generator=generator, device=device)
    ratio = torch.as_tensor(ratio, dtype=torch.float64, device=device)
    if ratio.shape not in ((), (batch,)):
        raise ValueError(f"ratio must be one number or one a row, ({batch},), "
                         f"not of shape {tuple(ratio.shape)}")
    if not ((ratio >= 0) & (ratio <= 1)).all():
        raise ValueError("ratio must lie in [0, 1]")
    ratio = ratio.expand(batch)[:, None]  # (B, 1)
    scores = torch.rand(batch, tokens, generator=generator, device=device)
    if prob_type == "bernoulli":
        return scores < ratio
    n_hidden = (ratio * tokens).ceil().clamp(min=1)
    rank = scores.argsort(dim=1).argsort(dim=1)
    return rank < n_hidden
