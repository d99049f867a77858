# %% [markdown]
# # 05 Iterative decoding
#
# Predict every hidden token at once, keep those that the model is surest of, hide the rest again, repeat.

# %%
#| exercise: inpainting
@torch.no_grad()
def inpainting(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
               sampling="categorical", generator=None):
    """One step: predicted tokens (B, T), and the mask (B, T) of those that stay hidden."""
    ### BEGIN SOLUTION
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], not {ratio}")
    if sampling not in ("categorical", "argmax"):
        raise ValueError(f"sampling must be 'categorical' or 'argmax', not {sampling!r}")
    logits = transformer(z_indices.masked_fill(mask, mask_token_id))
    log_p = logits[mask][:, :mask_token_id].float().log_softmax(dim=-1)  # (n, V), n hidden tokens in all rows
    if sampling == "argmax" or len(log_p) == 0:
        chosen = log_p.argmax(dim=-1)
    else:
        chosen = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
    z_predict = z_indices.clone()
    z_predict[mask] = chosen

    noise = torch.empty(len(log_p), device=log_p.device).exponential_(generator=generator)
    gumbel = -noise.clamp(min=1e-20).log()
    sure = log_p.gather(1, chosen[:, None])[:, 0] + choice_temperature * (1 - ratio) * gumbel
    confidence = torch.full(mask.shape, torch.inf, device=mask.device)
    confidence[mask] = sure

    hidden_now = mask.sum(dim=1)
    stay = torch.floor(float(gamma(ratio)) * n_hidden.to(mask.device, torch.float64)).long()
    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)
    if ratio == 1:
        stay = torch.zeros_like(stay)
    rank = confidence.argsort(dim=1, stable=True).argsort(dim=1)  # 0 is the least sure; known tokens come last
    return z_predict, (rank < stay[:, None]) & mask
    ### END SOLUTION

# %%
#| exercise: iterative_decode
@torch.no_grad()
def iterative_decode(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                     mask_token_id, sampling="categorical", generator=None):
    """Fill what mask (B, T) hides: the tokens (B, T), and a list of (z_predict, next_mask), one a step."""
    ### BEGIN SOLUTION
    if total_iter < 1:
        raise ValueError(f"total_iter must be at least 1, not {total_iter}")
    steps = total_iter if sweet_spot is None else sweet_spot
    if not 1 <= steps <= total_iter:
        raise ValueError(f"sweet_spot must lie in 1 ... total_iter ({total_iter}), not {sweet_spot}")
    n_hidden = mask.sum(dim=1)
    z, history = z_indices, []
    for t in range(steps):
        z, mask = inpainting(
            transformer, z, mask, (t + 1) / total_iter, n_hidden, gamma=gamma, choice_temperature=choice_temperature,
            mask_token_id=mask_token_id, sampling=sampling, generator=generator)
        history.append((z, mask))
    return z, history
    ### END SOLUTION
