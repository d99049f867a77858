"""Runs a training with the student's functions: parts of an epoch, progress, checkpoints, exact resume.

In: tokens, a preset's numbers, answers. Out: a trained transformer and a run's folder with its curve.
Every part draws from seeds of its own, so a training that was stopped at any moment ends as one that was not.
In many processes (`lab3.training.distributed`) all do the same, and process 0 writes the folder.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from lab3.common.files import InputError, sha256, write_json
from lab3.common.machine import best_device
from lab3.common.paths import SUMMARY, WEIGHTS
from lab3.common.progress import progress_bar
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, save_transformer
from lab3.training.distributed import on_first, rank, shared
from lab3.training.runs import (
    CHECKPOINT,
    Metrics,
    load_training,
    milestone_file,
    part_generator,
    remove_leftovers,
    save_training,
)


class Batches:
    """The loader that training functions see: yields (B, 256) long tokens in the given order.

    Args:
        tokens: (N, 256) integer tokens, on the device that they are wanted on.
        order: (M,) long, the rows to yield.
        batch_size: rows a batch; the last may be smaller.
        on_batch: called after each batch.
    """

    def __init__(self, tokens, order, batch_size, on_batch=lambda: None):
        self.tokens, self.batches, self.on_batch = tokens, order.split(batch_size), on_batch

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for rows in self.batches:
            yield self.tokens[rows].long()
            self.on_batch()


def fit(train_tokens, val_tokens, preset, answers, run, *, resume=False, progress=True, about=None,
        on_part=lambda run: None):
    """Train a transformer.

    Args:
        train_tokens, val_tokens: (N, 256) integer tokens.
        preset: a `Preset`; its `transformer` and `training` are used.
        answers: what `exercises.load_answers` gives.
        run: the folder for the checkpoint, the metrics, the weights and `maskgit.json`.
        resume: go on from the folder's checkpoint, where there is one. On the same machine, with as many threads and
            the same answers, the result is that of an uninterrupted run; another number of processes changes rounding.
        progress: show a bar.
        about: what else to write into `maskgit.json` (JSON-able).
        on_part: called with `run` in process 0 when a part is done and saved, to draw the curve for example.

    Returns:
        The trained `BidirectionalTransformer`, in eval mode.

    Raises:
        InputError: the folder holds a training and `resume` is not set, its checkpoint does not fit, or no epoch.
        SaveError: the disk is full.
    """
    run, config, device = Path(run), preset.training, best_device()
    if config.epochs < 1:
        raise InputError(f"epochs must be at least 1, not {config.epochs}.")
    train_tokens, val_tokens = train_tokens.to(device), val_tokens.to(device)
    steps_an_epoch = math.ceil(len(train_tokens) / config.batch_size)
    total = config.epochs * steps_an_epoch
    identity = {
        "preset": preset.name, "transformer": asdict(preset.transformer), "training": asdict(config),
        "train_pictures": len(train_tokens), **(about or {})}

    torch.manual_seed(config.seed)
    transformer = BidirectionalTransformer(preset.transformer, answers.MultiHeadAttention).to(device)
    optimizer, scheduler = answers.configure_optimizers(
        transformer, config.lr, total, round(min(config.warmup_epochs, config.epochs / 2) * steps_an_epoch),
        config.eta_min)
    modules, optimizers, trained = {"transformer": transformer}, {"optimizer": optimizer}, shared(transformer)
    step, seconds, epoch_losses = 0, 0.0, []
    if not resume and ((run / CHECKPOINT).is_file() or (run / WEIGHTS).is_file()):
        raise InputError(f"{run}: holds a training already. Pass --resume to go on, or name another folder.")
    if (run / CHECKPOINT).is_file():
        state = load_training(run / CHECKPOINT, modules, optimizers, identity)
        step, seconds, epoch_losses = state["step"], state["seconds"], state["epoch_losses"]
        scheduler.load_state_dict(state["scheduler"])
    elif (run / WEIGHTS).is_file():
        raise InputError(f"{run}: holds weights but no checkpoint to go on from. Name another folder.")
    first = rank() == 0
    if first:
        remove_leftovers(run)
    bar = progress_bar(total=total, initial=step, desc="training", unit="batch", disable=not progress)
    with bar, Metrics(run, resume_from=step) if first else nullcontext() as metrics:
        while step < total:
            began = time.perf_counter()
            epoch, place = divmod(step, steps_an_epoch)
            order = torch.randperm(
                len(train_tokens), generator=torch.Generator().manual_seed(config.seed * 1_000_003 + epoch))
            until = min(place + config.part_steps, steps_an_epoch)
            rows = order[place * config.batch_size:until * config.batch_size].to(device)
            part = Batches(train_tokens, rows, config.batch_size, bar.update)
            loss = answers.train_one_epoch(
                trained, part, optimizer, scheduler, mask_token_id=MASK_TOKEN_ID, device=device,
                generator=part_generator(config.seed, step, device, rank()))
            step += until - place
            epoch_losses.append([loss, len(part)])
            row = {"epoch": step / steps_an_epoch, "train_loss": loss, "lr": optimizer.param_groups[0]["lr"]}
            if until == steps_an_epoch:
                row["epoch_loss"] = sum(value * n for value, n in epoch_losses) / steps_an_epoch
                row["val_loss"] = answers.eval_one_epoch(
                    trained, Batches(val_tokens, torch.arange(len(val_tokens), device=device), config.batch_size),
                    mask_token_id=MASK_TOKEN_ID, device=device, generator=part_generator(config.seed, -1, device))
                epoch_losses = []
            seconds += time.perf_counter() - began
            bar.set_postfix({name: f"{row[name]:.3f}" for name in ("train_loss", "val_loss") if name in row})
            reached = [percent for percent in config.milestones
                       if (step - (until - place)) * 100 < percent * total <= step * 100]

            def save():
                metrics.write(step, **row)
                for percent in reached:
                    save_transformer(run / milestone_file(percent), transformer, half=True)
                save_training(run / CHECKPOINT, modules, optimizers, {
                    "step": step, "seconds": seconds, "epoch_losses": epoch_losses,
                    "scheduler": scheduler.state_dict(), "identity": identity})
                on_part(run)

            on_first(save)

    def finish():
        save_transformer(run / WEIGHTS, transformer)
        write_json(run / SUMMARY, identity | {
            "steps": total, "train_seconds": round(seconds, 1), "weights_sha256": sha256(run / WEIGHTS)})

    on_first(finish)
    return transformer.eval()
