import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: masked_forward
def masked_forward(transformer, z_indices, mask, mask_token_id):
    """Hide tokens and predict them.

    Args:
        transformer: a callable, (B, T) -> (B, T, V + 1).
        z_indices: (B, T) long, the real tokens.
        mask: (B, T) bool, True means hidden.
        mask_token_id: what the transformer sees where a token is hidden; equals V.

    Returns:
        logits (B, T, V) over the codes, and targets (B, T), the real tokens.
    """
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    return logits[..., :mask_token_id], z_indices
