import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: eval_one_epoch
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    """The mean loss over the batches of the loader; leaves the model as it was, its modes included.

    Args:
        transformer: maps (B, T) tokens to (B, T, V + 1) logits; it is not changed.
        loader: yields (B, T) long tokens.
        mask_token_id: V.
        device: where the transformer is.
        generator: a torch.Generator on the device, for the masks.

    Returns:
        The mean of the batch losses, a float.

    Raises:
        ValueError: loader holds no batch.
    """
    modes = [(module, module.training) for module in transformer.modules()]
    losses = []
    try:
        transformer.eval()
        with torch.no_grad():
            for z_indices in loader:
                z_indices = z_indices.to(device)
                mask = sample_mask(*z_indices.shape, generator=generator, device=device)
                with lab3.autocast(device):
                    logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)
                    losses.append(mvtm_loss(logits, targets, mask))
    finally:
        for module, training in modes:
            module.training = training
    if not losses:
        raise ValueError("loader holds no batch")
    return torch.stack(losses).double().mean().item()
