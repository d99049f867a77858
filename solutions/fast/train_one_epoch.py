import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3
from lab3.model.transformer import BidirectionalTransformer


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
            loss = hidden_loss(transformer, z_indices, mask, mask_token_id)
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


def hidden_loss(transformer, z_indices, mask, mask_token_id):
    """The loss on hidden tokens; the kit's own transformer computes its head for these alone."""
    if isinstance(transformer, BidirectionalTransformer):
        logits = transformer(z_indices.masked_fill(mask, mask_token_id), mask)  # (n, V + 1)
        return mvtm_loss(logits[None, :, :mask_token_id], z_indices[mask][None])
    logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
    return mvtm_loss(logits, targets, mask)
