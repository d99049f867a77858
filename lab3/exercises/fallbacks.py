"""What is used if an answer is missing or wrong, so every notebook runs without the others.

In: nothing. Out: PyTorch's own attention with the answer's interface, and simple substitutes that keep the notebooks
going, too simple to pass for the answer: a straight line for every schedule, and a decoding in one pass.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class TorchAttention(nn.Module):
    """PyTorch's fused attention with the answer's parameters, so the same weights fit: (B, T, dim) likewise."""

    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        self.num_heads, self.attn_drop = num_heads, nn.Dropout(attn_drop)
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x):
        heads = [part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, dim of a head)
                 for part in (self.query, self.key, self.value)]
        mixed = self.mix(*heads, self.attn_drop.p if self.training else 0.0)
        if self.attn_drop._forward_hooks:  # somebody looks at the weights: with unit vectors as values, they come out
            self.attn_drop(self.mix(*heads[:2], torch.eye(x.shape[1], device=x.device).to(x)
                                    .expand(*heads[0].shape[:3], -1)))
        return self.output(mixed.transpose(1, 2).flatten(2))

    def mix(self, q, k, v, dropout=0.0):
        """Attention of each head, (B, H, T, d) each -> (B, H, T, d)."""
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)


def straight_line(mode="cosine"):
    """A straight line from 1 to 0, whatever `mode` says; takes a float or an array."""
    def gamma(ratio):
        value = np.interp(ratio, [0, 1], [1, 0])
        return value if isinstance(ratio, np.ndarray) else float(value)
    return gamma


@torch.no_grad()
def all_at_once(transformer, z_indices, mask, *, total_iter, sweet_spot=None, mask_token_id, **_):
    """Every hidden token in one pass, the likeliest each: no iterations, and a history that says so."""
    shown = torch.where(mask, mask_token_id, z_indices)
    likeliest = transformer(shown)[..., :mask_token_id].argmax(dim=-1)
    filled = torch.where(mask, likeliest, z_indices)
    return filled, [(filled, torch.zeros_like(mask))] * (sweet_spot or total_iter)


@torch.no_grad()
def keep_everything(transformer, z_indices, mask, ratio, n_hidden, *, mask_token_id, **_):
    """A step of decoding that keeps every prediction, the likeliest code each, and hides nothing again."""
    filled, [(_, next_mask)] = all_at_once(transformer, z_indices, mask, total_iter=1, mask_token_id=mask_token_id)
    return filled, next_mask


# Exercise id -> (what is used instead, what to call it).
FALLBACKS = {
    "multi_head_attention": (TorchAttention, "PyTorch's own attention"),
    "gamma_func": (straight_line, "a straight line"),
    "inpainting": (keep_everything, "a step that keeps every prediction"),
    "iterative_decode": (all_at_once, "a decoding in one pass"),
}
