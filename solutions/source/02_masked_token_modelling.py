# %% [markdown]
# # 02 Masked token modelling
#
# Hide some tokens, show the rest, ask for what is hidden. How many are hidden differs from picture to picture,
# drawn from $U(0, 1)$: at decoding time the model meets every share, from nearly all to nearly none.

# %%
#| exercise: sample_mask
def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    """Choose which tokens to hide: a bool tensor (batch, tokens), True means hidden."""
    ### BEGIN SOLUTION
    if prob_type not in ("topk", "bernoulli"):
        raise ValueError(f"prob_type must be 'topk' or 'bernoulli', not {prob_type!r}")
    if device is None:
        device = generator.device if generator is not None else "cpu"
    if ratio is None:
        ratio = torch.rand(batch, generator=generator, device=device)
    ratio = torch.as_tensor(ratio, dtype=torch.float64, device=device)
    if ratio.shape not in ((), (batch,)):
        raise ValueError(f"ratio must be one number or one a row, ({batch},), not of shape {tuple(ratio.shape)}")
    if not ((ratio >= 0) & (ratio <= 1)).all():
        raise ValueError("ratio must lie in [0, 1]")
    ratio = ratio.expand(batch)[:, None]  # (B, 1)
    scores = torch.rand(batch, tokens, generator=generator, device=device)
    if prob_type == "bernoulli":
        return scores < ratio
    n_hidden = (ratio * tokens).ceil().clamp(min=1)
    rank = scores.argsort(dim=1).argsort(dim=1)
    return rank < n_hidden
    ### END SOLUTION

# %% [markdown]
# The transformer knows one id more than the codebook has codes, the mask token. It may read it, never predict it.

# %%
#| exercise: masked_forward
def masked_forward(transformer, z_indices, mask, mask_token_id):
    """Hide tokens and predict: logits (B, T, V) over the codes, targets (B, T)."""
    ### BEGIN SOLUTION
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    return logits[..., :mask_token_id], z_indices
    ### END SOLUTION

# %% [markdown]
# Cross-entropy over the codes, averaged over what was hidden: what the model can see teaches it nothing.

# %%
#| exercise: mvtm_loss
def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
    """Mean cross-entropy over hidden tokens, or over all where mask is None; logits (B, T, V), targets (B, T)."""
    ### BEGIN SOLUTION
    if mask is not None:
        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)
    if targets.numel() == 0:
        return logits.float().sum()
    V = logits.shape[-1]
    return F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1), label_smoothing=label_smoothing)
    ### END SOLUTION
