import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: masked_forward
def masked_forward(transformer, z_indices, mask, mask_token_id):
    """Hide tokens and predict: logits (B, T, V) over the codes, targets (B, T)."""
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    return logits[..., :mask_token_id], z_indices
