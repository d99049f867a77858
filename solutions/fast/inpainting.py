import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3
from lab3.decoding.cached import CachedTransformer
from lab3.model.transformer import BidirectionalTransformer


#| exercise: inpainting
@torch.no_grad()
def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature,
               mask_token_id, sampling="categorical", generator=None):
    """One step: predict all hidden tokens, keep the most confident, hide the others again.

    Args:
        transformer: a callable, (B, T) -> logits (B, T, V + 1).
        z_indices: (B, T) long.
        mask: (B, T) bool, True means hidden.
        ratio: r in (0, 1], the progress after this step.
        n_hidden: (B,), how many tokens each row's original mask hid.
        gamma: the schedule, a function of progress.
        choice_temperature: how much noise the order gets.
        mask_token_id: V.
        sampling: "categorical" or "argmax".
        generator: a torch.Generator for all that is drawn.

    Returns:
        z_predict (B, T) long, every hidden token predicted,
        and next_mask (B, T) bool, what stays hidden.

    Raises:
        ValueError: `ratio` or `sampling` is none of these.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], not {ratio}")
    if sampling not in ("categorical", "argmax"):
        raise ValueError(f"sampling must be 'categorical' or 'argmax', not {sampling!r}")
    shown = z_indices.masked_fill(mask, mask_token_id)
    if isinstance(transformer, (BidirectionalTransformer, CachedTransformer)):  # its head for hidden tokens alone
        logits = transformer(shown, mask)
    else:
        logits = transformer(shown)[mask]
    # (n, V), n hidden tokens in all rows
    log_p = logits[:, :mask_token_id].float().log_softmax(dim=-1)
    if sampling == "argmax" or len(log_p) == 0:
        chosen = log_p.argmax(dim=-1)
    else:
        chosen = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
    z_predict = z_indices.clone()
    z_predict[mask] = chosen

    noise = torch.empty(len(log_p), device=log_p.device).exponential_(generator=generator)
    gumbel = -noise.clamp(min=1e-20).log()
    sure = log_p.gather(1, chosen[:, None])[:, 0] + choice_temperature * (1 - ratio) * gumbel
    confidence = torch.full(mask.shape, torch.inf, device=mask.device)
    confidence[mask] = sure

    hidden_now = mask.sum(dim=1)
    stay = torch.floor(float(gamma(ratio)) * n_hidden.to(mask.device, torch.float64)).long()
    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)
    if ratio == 1:
        stay = torch.zeros_like(stay)
    # 0 is the least sure; known tokens come last
    rank = confidence.argsort(dim=1, stable=True).argsort(dim=1)
    return z_predict, (rank < stay[:, None]) & mask
