import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: mvtm_loss
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    """Mean cross-entropy over hidden tokens, or over all where mask is None; logits (B, T, V), targets (B, T)."""
    if mask is not None:
        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)
    if targets.numel() == 0:
        return logits.float().sum()
    V = logits.shape[-1]
    return F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1), label_smoothing=label_smoothing)
