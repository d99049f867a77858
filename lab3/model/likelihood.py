"""Likelihood: how many bits a model needs for the tokens of a picture, by the any-order bound.

In: a transformer, tokens. Out: bits a picture, with their standard error.

Revealed one by one in an order s, tokens have the probability prod_i p(z_s(i) | z_s(1), ..., z_s(i - 1)), and a model
that draws its order at random gives them the mean of these over all orders. The logarithm of a mean is at least the
mean of the logarithms (Jensen), and with n tokens hidden each of them is as likely as any other to come next:

    -log2 p(z) <= sum over n = 1 ... T of E_M [1 / n * sum over t in M of -log2 p(z_t | visible)]
                = E_n E_M [T / n * sum over t in M of -log2 p(z_t | visible)],

n uniform on 1 ... T, M a random set of n hidden places (Uria et al., 2014, "A Deep and Tractable Density Estimator";
Hoogeboom et al., 2022, "Autoregressive Diffusion Models").

A decoding in fewer steps draws several tokens at once, each without seeing the others. Its bound is the same, with n
the number of tokens that are hidden when the step begins in which a token is drawn.
"""

import math

import torch

from lab3.common.files import InputError
from lab3.common.machine import autocast
from lab3.model.transformer import MASK_TOKEN_ID

BATCH = 32  # rows a forward pass


@torch.no_grad()
def bits(transformer, z_indices, *, hidden=None, seed=0, mask_token_id=MASK_TOKEN_ID):
    """An estimate of the any-order bound on -log2 p(z), with one mask a row.

    The numbers of hidden tokens are stratified: 1 ... T is cut into N equal parts, and each row draws from its own. The
    mean over rows is as unbiased as with independent draws and varies less, since the surprise depends mostly on how
    much is hidden. A seed gives the same masks to all models.

    Args:
        transformer: a callable, (B, T) long -> (B, T, V + 1) logits, in eval mode.
        z_indices: (N, T) integer tokens, each in 0 ... V - 1, on its device.
        hidden: how many tokens each step of a decoding finds hidden, T among them, such as (256, 236, 181, 97); tokens
            are drawn in a random order. None: one token a step.
        seed: an int, for the masks.
        mask_token_id: what the transformer sees where a token is hidden; equals V.

    Returns:
        (bits, standard_error): floats, bits a picture. The error covers both masks and pictures: it comes from the
        differences of rows that hide nearly as many tokens, and is NaN for a single row.

    Raises:
        InputError: tokens of another shape, type or range; or numbers of hidden tokens that cannot be.
    """
    if z_indices.dim() != 2 or not z_indices.numel() or z_indices.is_floating_point():
        raise InputError(f"tokens must be integers of shape (N, T), at least one row, not {z_indices.dtype} of shape "
                         f"{tuple(z_indices.shape)}.")
    low, high = int(z_indices.min()), int(z_indices.max())
    if low < 0 or high >= mask_token_id:
        raise InputError(f"tokens must lie in 0 ... {mask_token_id - 1}, not in {low} ... {high}.")
    (N, T), generator = z_indices.shape, torch.Generator().manual_seed(seed)
    part = torch.randperm(N, generator=generator)
    share = (part + torch.rand(N, generator=generator, dtype=torch.float64)) / N
    n_hidden = (share * T).long().clamp(max=T - 1) + 1
    if hidden is not None:
        counts = torch.as_tensor(hidden).cpu().sort().values
        if not len(counts) or counts[0] < 0 or counts[-1] != T:
            raise InputError(f"hidden must hold numbers in 0 ... {T}, {T} among them, not {counts.tolist()}.")
        n_hidden = counts[torch.searchsorted(counts, n_hidden)]
    mask = torch.rand(N, T, generator=generator).argsort(dim=1).argsort(dim=1) < n_hidden[:, None]
    surprise = torch.cat([
        _surprise(transformer, rows.long(), hidden, mask_token_id)
        for rows, hidden in zip(z_indices.split(BATCH), mask.to(z_indices.device).split(BATCH))]).cpu()
    each = (T / n_hidden * surprise)[part.argsort()]  # by the number of hidden tokens
    error = each.diff().square().sum().div(2 * (N - 1) * N).sqrt().item() if N > 1 else math.nan
    return each.mean().item(), error


def _surprise(transformer, z_indices, mask, mask_token_id):
    """The sum of -log2 p over each row's hidden tokens: (B,) float64."""
    with autocast(z_indices.device):
        logits = transformer(torch.where(mask, mask_token_id, z_indices))
    log_p = logits[..., :mask_token_id].float().log_softmax(dim=-1).gather(2, z_indices[..., None])[..., 0]
    return -(log_p * mask).sum(dim=1, dtype=torch.float64) / math.log(2)
