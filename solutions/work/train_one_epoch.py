import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: train_one_epoch
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device,
                    scaler=None, generator=None):
    """Train on every batch of the loader once.

    Args:
        transformer: maps (B, T) tokens to (B, T, V + 1) logits; it is trained.
        loader: yields (B, T) long tokens; the last batch may be smaller.
        optimizer, scheduler: what configure_optimizers gives; both step once a batch.
        mask_token_id: V.
        device: where the transformer is.
        scaler: a GradScaler, or None.
        generator: a torch.Generator on the device, for the masks.

    Returns:
        The mean of the batch losses, a float.

    Raises:
        ValueError: loader holds no batch.
    """
    transformer.train()
    losses = []
    for z_indices in loader:
        z_indices = z_indices.to(device)
        mask = sample_mask(*z_indices.shape, generator=generator, device=device)
        optimizer.zero_grad(set_to_none=True)
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
            loss = mvtm_loss(logits, targets, mask)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        losses.append(loss.detach())
    optimizer.zero_grad(set_to_none=True)
    if not losses:
        raise ValueError("loader holds no batch")
    return torch.stack(losses).double().mean().item()
