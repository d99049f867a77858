"""How the tokenizer is trained: reconstruction, perceptual, commitment and adversarial loss, a codebook kept alive.

In: uint8 pictures. Out: a `Tokenizer` in a run's folder.
"""

import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from lab3.files import InputError, write_json
from lab3.lite0 import early_features, lite0
from lab3.machine import autocast, best_device
from lab3.runs import CHECKPOINT, Metrics, load_training, part_generator, remove_leftovers, save_training
from lab3.tokenizer import Tokenizer, save_tokenizer

PART_STEPS = 50
UNQUANTISED = 0.03  # the share of the training in which the autoencoder runs without a codebook
DECAY = 0.99  # of the running averages that make the codebook


class Discriminator(nn.Sequential):
    """PatchGAN: pictures (B, 3, 64, 64) -> one score for each of 15 x 15 patches (Isola et al., 2017)."""

    def __init__(self, width):
        super().__init__(
            nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, padding=1), nn.GroupNorm(8, 4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, padding=1),
        )
        self.to(memory_format=torch.channels_last)


class CodebookAverages(nn.Module):
    """Keeps a codebook at the running mean of the latents that choose each code.

    That is the update of van den Oord, Vinyals and Kavukcuoglu (2017), appendix A.1. A code that is hardly chosen
    any more is moved onto a latent of the batch, so that none dies.
    """

    def __init__(self, codebook):
        super().__init__()
        self.register_buffer("counts", torch.ones(len(codebook)))
        self.register_buffer("sums", codebook.clone())

    @torch.no_grad()
    def start(self, codebook, latents):
        """Set the codebook to latents (N, D) drawn at random, spread out by a few steps of k-means."""
        codebook.copy_(latents[torch.randint(len(latents), (len(codebook),), device=latents.device)])
        for _ in range(10):
            chosen = torch.cdist(latents, codebook).argmin(1)
            counts, sums = _gather(codebook, latents, chosen)
            codebook.copy_(torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], codebook))
            self._revive(codebook, latents, counts == 0)
        self.counts.fill_(1.0)
        self.sums.copy_(codebook)

    @torch.no_grad()
    def update(self, codebook, latents, chosen):
        """Follow one batch: latents (N, D) and the codes (N,) they chose. Changes `codebook` in place."""
        counts, sums = _gather(codebook, latents, chosen)
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        codebook.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])
        self._revive(codebook, latents, self.counts < 0.03)

    def _revive(self, codebook, latents, dead):
        n = int(dead.sum())
        if n:
            # Rare latents are what the codebook lacks: draw in proportion to the distance from the code they have.
            sample = latents[torch.randint(len(latents), (4 * n + 64,), device=latents.device)]
            far = torch.cdist(sample, codebook).amin(1) + 1e-6
            codebook[dead] = sample[torch.multinomial(far, n)]
            self.counts[dead] = 1.0
            self.sums[dead] = codebook[dead]


def _gather(codebook, latents, chosen):
    counts = torch.bincount(chosen, minlength=len(codebook)).to(latents.dtype)
    return counts, torch.zeros_like(codebook).index_add_(0, chosen, latents)


def perceptual_loss(network, drawn, real):
    """Mean squared difference of unit-length features at three depths, as in LPIPS (Zhang et al., 2018)."""
    seen = early_features(network, torch.cat([drawn, real]))
    loss = 0.0
    for features in seen:
        features = F.normalize(features.float(), dim=1)
        a, b = features.chunk(2)
        loss = loss + (a - b).square().sum(1).mean()
    return loss / len(seen)


def train_tokenizer(pictures, config, run, *, resume=False, progress=True, about=None):
    """Train a tokenizer on pictures.

    Args:
        pictures: (N, 3, 64, 64) uint8.
        config: a `TokenizerConfig`.
        run: the folder for the checkpoint, the metrics and `tokenizer.safetensors`.
        resume: go on from the folder's checkpoint, where there is one. The result is that of an uninterrupted run.
        about: what else to write into `tokenizer.json` (JSON-able).

    Returns:
        The trained `Tokenizer`, in eval mode.

    Raises:
        InputError: the checkpoint does not fit.
    """
    run, device = Path(run), best_device()
    remove_leftovers(run)
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer(config).to(device)
    discriminator = Discriminator(config.disc_width).to(device)
    averages = CodebookAverages(tokenizer.codebook).to(device)
    network = lite0().to(device)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    critic = torch.optim.AdamW(discriminator.parameters(), lr=config.lr / 2, betas=(0.5, 0.99), weight_decay=1e-4)
    modules = {"tokenizer": tokenizer, "discriminator": discriminator, "averages": averages}
    optimizers = {"optimizer": optimizer, "critic": critic}

    steps_an_epoch = max(1, len(pictures) // config.batch_size)
    total = config.epochs * steps_an_epoch
    quantised_from = max(1, round(UNQUANTISED * total))
    adversarial_from = round(config.adversarial_from * total)
    identity = {"config": asdict(config), "train_pictures": len(pictures), **(about or {})}
    step, seconds = 0, 0.0
    if (run / CHECKPOINT).is_file():
        if not resume:
            raise InputError(f"{run}: holds a training already. Pass --resume to go on with it, or name another folder.")
        state = load_training(run / CHECKPOINT, modules, optimizers, identity)
        step, seconds = state["step"], state["seconds"]
    metrics = Metrics(run, resume_from=step)
    bar = tqdm(total=total, initial=step, desc="tokenizer", unit="batch", disable=not progress)

    while step < total:
        began = time.perf_counter()
        part_generator(config.seed, step)
        sums = dict.fromkeys(("l1", "perceptual", "commitment", "adversarial", "critic"), 0.0)
        until = min(step + PART_STEPS, total)
        used = torch.zeros(len(tokenizer.codebook), dtype=torch.bool, device=device)
        done = until - step
        for step in range(step, until):
            epoch, place = divmod(step, steps_an_epoch)
            if place == 0 or step == until - done:
                order = torch.randperm(
                    len(pictures), generator=torch.Generator().manual_seed(config.seed * 1_000_003 + epoch))
            batch = pictures[order[place * config.batch_size:(place + 1) * config.batch_size]].to(device)
            _set_lr(optimizers, config, step, total)
            with autocast(device):
                losses = _tokenizer_losses(tokenizer, averages, network, batch, config, step, quantised_from, used)
                drawn, real = losses.pop("drawn"), losses.pop("real")
                if step >= adversarial_from:
                    losses["adversarial"] = -discriminator(drawn).float().mean()
            ramp = min(1.0, (step - adversarial_from) / max(1, 0.05 * total))
            loss = (losses["l1"] + config.perceptual_weight * losses["perceptual"]
                    + config.beta * losses["commitment"]
                    + config.adversarial_weight * ramp * losses.get("adversarial", 0.0))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tokenizer.parameters(), 1.0)
            optimizer.step()
            if step >= adversarial_from:
                with autocast(device):
                    scores = discriminator(torch.cat([real, drawn.detach()])).float()
                on_real, on_drawn = scores.chunk(2)
                losses["critic"] = F.relu(1 - on_real).mean() + F.relu(1 + on_drawn).mean()
                critic.zero_grad(set_to_none=True)
                losses["critic"].backward()
                critic.step()
            for name, value in losses.items():
                sums[name] += float(value.detach())
            bar.update()
        step = until
        seconds += time.perf_counter() - began
        row = {name: value / done for name, value in sums.items()}
        metrics.write(step, **row, codes_used=int(used.sum()), lr=optimizer.param_groups[0]["lr"])
        bar.set_postfix(l1=f"{row['l1']:.4f}", codes=int(used.sum()))
        save_training(run / CHECKPOINT, modules, optimizers, {
            "step": step, "seconds": seconds, "identity": identity})
    bar.close()
    metrics.close()
    tokenizer.eval()
    save_tokenizer(run / "tokenizer.safetensors", tokenizer)
    write_json(run / "tokenizer.json", identity | {"steps": total, "train_seconds": round(seconds, 1)})
    return tokenizer


def _tokenizer_losses(tokenizer, averages, network, batch, config, step, quantised_from, used):
    """The losses of one batch, and the pictures that they compare; moves the codebook."""
    real = batch.to(memory_format=torch.channels_last).float() / 127.5 - 1
    latents = tokenizer.latents(batch)
    flat = latents.detach().flatten(0, 1)
    if step == quantised_from:
        averages.start(tokenizer.codebook, flat)
    if step < quantised_from:
        codes, commitment = latents, latents.new_zeros(())
    else:
        chosen = tokenizer.nearest(latents)
        codes = tokenizer.codebook[chosen]
        commitment = F.mse_loss(latents, codes)
        codes = latents + (codes - latents).detach()
        averages.update(tokenizer.codebook, flat, chosen.flatten())
        used[chosen.flatten()] = True
    drawn = tokenizer.draw(codes)
    return {"l1": F.l1_loss(drawn, real), "perceptual": perceptual_loss(network, drawn, real),
            "commitment": commitment, "drawn": drawn, "real": real}


def _set_lr(optimizers, config, step, total):
    """Linear warm-up over 2 % of the steps, then a cosine down to 2 % of the learning rate."""
    warm = max(1, round(0.02 * total))
    factor = (step + 1) / warm if step < warm else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
    for optimizer, scale in zip(optimizers.values(), (1.0, 0.5)):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * scale * factor
