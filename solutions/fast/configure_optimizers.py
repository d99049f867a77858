import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: configure_optimizers
def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    """AdamW in one kernel; its learning rate: linear warm-up, then half a cosine, stepped once a batch.

    Args:
        model: an nn.Module.
        lr: the learning rate at its highest.
        total_steps: how many batches the training has.
        warmup_steps: how many of them the learning rate climbs; 0: it begins at lr.
        eta_min: what the learning rate comes down to, as a factor of lr.

    Returns:
        The AdamW optimizer, betas (0.9, 0.95), and its LambdaLR scheduler.

    Raises:
        ValueError: total_steps below 1, or warmup_steps outside 0 ... total_steps.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps must lie in 0 ... total_steps ({total_steps}), not {warmup_steps}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), fused=True)

    def factor(s):
        if s < warmup_steps:
            return s / warmup_steps
        if s >= total_steps:
            return eta_min
        p = (s - warmup_steps) / max(1, total_steps - warmup_steps)
        return eta_min + (1 - eta_min) * 0.5 * (1 + math.cos(math.pi * p))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
