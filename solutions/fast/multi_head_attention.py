import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: multi_head_attention
class MultiHeadAttention(nn.Module):
    """Self-attention over all tokens by PyTorch's fused one, which never writes the weights down.

    Args:
        dim: D, the width of a token.
        num_heads: H, how many heads; dim must be a multiple of it.
        attn_drop: the share of attention weights that is dropped in training.
    """

    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.attn_drop = nn.Dropout(attn_drop)

    def forward(self, x):
        """x (B, T, dim) -> (B, T, dim)."""
        B, T, D = x.shape
        q, k, v = (part(x).view(B, T, self.num_heads, -1).transpose(1, 2)  # (B, H, T, d)
                   for part in (self.query, self.key, self.value))
        dropped = self.attn_drop.p if self.attn_drop.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        return self.output(mixed.transpose(1, 2).reshape(B, T, D))
