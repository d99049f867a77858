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

from lab3.common.files import InputError, write_json
from lab3.common.machine import autocast, best_device
from lab3.common.progress import progress_bar
from lab3.model.lite0 import early_features, lite0
from lab3.model.tokenizer import Tokenizer, nearest, save_tokenizer
from lab3.training.runs import (
    CHECKPOINT,
    Metrics,
    load_training,
    locked,
    part_generator,
    remove_leftovers,
    save_training,
)

PART_STEPS = 50
UNQUANTISED = 0.03  # the share of the training in which the autoencoder runs without a codebook
DECAY = 0.99  # of the running averages that make the codebook
DECODER = {"lr": 4e-4, "adversarial_from": 0.0}  # settings of a training of the decoder alone, which is trained already


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


def train_tokenizer(pictures, config, run, *, decoder_of=None, resume=False, progress=True, about=None):
    """Train a tokenizer on pictures.

    Args:
        pictures: (N, 3, 64, 64) uint8.
        config: a `TokenizerConfig`.
        run: the folder for the checkpoint, the metrics and `tokenizer.safetensors`.
        decoder_of: a trained `Tokenizer`, changed in place: only its decoder is trained on, so pictures keep their
            tokens. Of `config` the settings of the training count.
        resume: go on from the folder's checkpoint, where there is one. The result is that of an uninterrupted run.
        about: what else to write into `tokenizer.json` (JSON-able).

    Returns:
        The trained `Tokenizer`, in eval mode.

    Raises:
        InputError: the folder holds a training or a tokenizer that this one would replace, another process trains in
            it, or no epoch.
    """
    run, device = Path(run), best_device()
    if config.epochs < 1:
        raise InputError(f"epochs must be at least 1, not {config.epochs}.")
    torch.manual_seed(config.seed)
    tokenizer = (Tokenizer(config) if decoder_of is None else decoder_of.train()).to(device)
    discriminator = Discriminator(config.disc_width).to(device)
    modules = {"tokenizer": tokenizer, "discriminator": discriminator}
    if decoder_of is None:
        modules["averages"] = CodebookAverages(tokenizer.codebook).to(device)
    tokenizer.encoder.requires_grad_(decoder_of is None)
    trained = [weights for weights in tokenizer.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    critic = torch.optim.AdamW(discriminator.parameters(), lr=config.lr / 2, betas=(0.5, 0.99), weight_decay=1e-4)
    optimizers = {"optimizer": optimizer, "critic": critic}

    course = Course(config, len(pictures))
    identity = {"config": asdict(config), "train_pictures": len(pictures), **(about or {})}
    step, seconds = 0, 0.0
    if not resume and (run / CHECKPOINT).is_file():
        raise InputError(f"{run}: holds a training already. Pass --resume to go on, or name another folder.")
    if (run / CHECKPOINT).is_file():
        state = load_training(run / CHECKPOINT, modules, optimizers, identity)
        step, seconds = state["step"], state["seconds"]
    elif (run / "tokenizer.safetensors").is_file():
        raise InputError(f"{run}: holds a tokenizer already, which a transformer may need. Name another folder.")
    remove_leftovers(run)
    bar = progress_bar(total=course.total, initial=step, desc="tokenizer", unit="batch", disable=not progress)
    with locked(run), bar, Metrics(run, resume_from=step) as metrics:
        while step < course.total:
            began = time.perf_counter()
            part_generator(config.seed, step)
            part = range(step, min(step + PART_STEPS, course.total))
            sums, used = {}, torch.zeros(len(tokenizer.codebook), dtype=torch.bool, device=device)
            for step in part:
                batch = pictures[course.rows(step)].to(device)
                for group, rate in ((optimizer, config.lr), (critic, config.lr / 2)):
                    group.param_groups[0]["lr"] = rate * course.lr_factor(step)
                losses, chosen = _train_step(modules, optimizers, batch, course, step)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value.detach()
                used[chosen] = True
                bar.update()
            step = part.stop
            seconds += time.perf_counter() - began
            row = {name: float(value) / len(part) for name, value in sums.items()}
            metrics.write(step, **row, codes_used=int(used.sum()), lr=optimizer.param_groups[0]["lr"])
            bar.set_postfix(l1=f"{row['l1']:.4f}", codes=int(used.sum()))
            save_training(run / CHECKPOINT, modules, optimizers, {
                "step": step, "seconds": seconds, "identity": identity})
    save_tokenizer(run / "tokenizer.safetensors", tokenizer)
    write_json(run / "tokenizer.json", identity | {"steps": course.total, "train_seconds": round(seconds, 1)})
    return tokenizer.eval()


class Course:
    """Which pictures each step sees, and what is switched on when."""

    def __init__(self, config, n_pictures):
        self.config, self.n_pictures = config, n_pictures
        self.steps_an_epoch = max(1, n_pictures // config.batch_size)
        self.total = config.epochs * self.steps_an_epoch
        self.quantised_from = min(self.total - 1, max(1, round(UNQUANTISED * self.total)))
        self.adversarial_from = round(config.adversarial_from * self.total)

    def rows(self, step):
        """The pictures of a step: every epoch has an order of its own."""
        epoch, place = divmod(step, self.steps_an_epoch)
        order = torch.randperm(
            self.n_pictures, generator=torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch))
        return order[place * self.config.batch_size:(place + 1) * self.config.batch_size]

    def lr_factor(self, step):
        """Linear warm-up over 2 % of the steps, then a cosine down to 2 % of the learning rate."""
        warm = max(1, round(0.02 * self.total))
        if step < warm:
            return (step + 1) / warm
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.total - warm)))

    def adversarial_weight(self, step):
        """The discriminator's voice, which rises over 5 % of the steps."""
        return self.config.adversarial_weight * min(1.0, (step - self.adversarial_from) / max(1, 0.05 * self.total))


def _train_step(modules, optimizers, batch, course, step):
    """One step of tokenizer and discriminator; returns the losses and the codes (B * 256,) that were chosen."""
    tokenizer, discriminator, averages = modules["tokenizer"], modules["discriminator"], modules.get("averages")
    optimizer, critic = optimizers.values()
    adversarial = step >= course.adversarial_from
    losses = {}
    with autocast(batch.device):
        real = batch.to(memory_format=torch.channels_last).float() / 127.5 - 1
        latents = tokenizer.latents(batch)
        codes, chosen = _quantise(tokenizer.codebook, averages, latents, course, step)
        drawn = tokenizer.draw(latents + (codes - latents).detach())  # gradients pass the codebook by
        losses["l1"] = F.l1_loss(drawn, real)
        losses["perceptual"] = perceptual_loss(lite0().to(batch.device), drawn, real)
        losses["commitment"] = F.mse_loss(latents, codes)
        loss = (losses["l1"] + course.config.perceptual_weight * losses["perceptual"]
                + course.config.beta * losses["commitment"])
        if adversarial:
            losses["adversarial"] = -discriminator(drawn).float().mean()
            loss = loss + course.adversarial_weight(step) * losses["adversarial"]
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(tokenizer.parameters(), 1.0)
    optimizer.step()

    if adversarial:
        with autocast(batch.device):
            on_real, on_drawn = discriminator(torch.cat([real, drawn.detach()])).float().chunk(2)
        losses["critic"] = F.relu(1 - on_real).mean() + F.relu(1 + on_drawn).mean()
        critic.zero_grad(set_to_none=True)  # of what the tokenizer's loss left in the discriminator
        losses["critic"].backward()
        critic.step()
    return losses, chosen


def _quantise(codebook, averages, latents, course, step):
    """The codes (B, 256, D) that stand for latents, and which they are; the codebook then follows the latents.

    It stays as it is without `averages`, where the decoder alone is trained.
    """
    flat = latents.detach().flatten(0, 1)
    if averages is None:
        chosen = nearest(codebook, flat)
        return codebook[chosen].view_as(latents), chosen
    if step < course.quantised_from:
        return latents, torch.empty(0, dtype=torch.long, device=latents.device)
    if step == course.quantised_from:
        averages.start(codebook, flat)
    chosen = nearest(codebook, flat)
    codes = codebook[chosen].view_as(latents)
    averages.update(codebook, flat, chosen)
    return codes, chosen
