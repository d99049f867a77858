import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: mvtm_loss
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    """Mean cross-entropy over the codes, of hidden tokens.

    Args:
        logits: (B, T, V), float32 or bfloat16.
        targets: (B, T) long, each in 0 ... V - 1.
        mask: (B, T) bool, True where a token counts; None: all count.
        label_smoothing: as in `torch.nn.functional.cross_entropy`.

    Returns:
        A scalar with a gradient, in nats; 0 where no token counts.
    """
    if mask is not None:
        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)
    if targets.numel() == 0:
        return logits.float().sum()
    V = logits.shape[-1]
    return F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1),
                           label_smoothing=label_smoothing)
