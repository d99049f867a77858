# %% [markdown]
# # 03 The training loop
#
# AdamW, a learning rate that climbs and then follows half a cosine down, and a loop over batches.

# %%
#| exercise: configure_optimizers
def configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0):
    """AdamW with linear warm-up and cosine decay; the scheduler is stepped once a batch."""
    ### BEGIN SOLUTION
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, not {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warmup_steps must lie in 0 ... total_steps ({total_steps}), not {warmup_steps}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95))

    def factor(s):
        if s < warmup_steps:
            return s / warmup_steps
        if s >= total_steps:
            return eta_min
        p = (s - warmup_steps) / max(1, total_steps - warmup_steps)
        return eta_min + (1 - eta_min) * 0.5 * (1 + math.cos(math.pi * p))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    ### END SOLUTION

# %%
#| exercise: train_one_epoch
def train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    """Train on every batch (B, T) of the loader once; returns the mean of the batch losses."""
    ### BEGIN SOLUTION
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
    ### END SOLUTION

# %%
#| exercise: eval_one_epoch
def eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None):
    """The mean loss over the batches (B, T) of the loader; leaves the model as it was, its modes included."""
    ### BEGIN SOLUTION
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
    ### END SOLUTION
