"""Runs a training with the student's functions: parts of an epoch, progress, checkpoints, exact resume.

In: tokens, a preset's numbers, answers. Out: a trained transformer and a run's folder with its curve.
Every part draws from its own seeds, so a training that was stopped at any time ends as one that was not.
In many processes (`lab3.training.distributed`) all do the same, and process 0 writes the folder.
"""

import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from lab3.common.files import InputError, sha256, write_json
from lab3.common.machine import best_device
from lab3.common.paths import SUMMARY, WEIGHTS
from lab3.common.progress import progress_bar
from lab3.model.likelihood import bits
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, save_transformer
from lab3.training.distributed import on_first, processes, rank, shared
from lab3.training.record import training_record
from lab3.training.runs import (
    CHECKPOINT,
    Metrics,
    load_training,
    locked,
    milestone_file,
    part_generator,
    remove_leftovers,
    save_training,
)

VALIDATIONS = 5  # of a training at least; one an epoch where it has more of them
SHOWN = {"train_loss": 3, "val_loss": 3, "val_bits": 0}  # in the progress line, with so many decimals
BITS_PICTURES = 256  # validation pictures whose bits are estimated: each number of hidden tokens comes once


class Batches:
    """The loader that training functions see: yields (B, 256) long tokens in the given order.

    Args:
        tokens: (N, 256) integer tokens, on the device that they are wanted on.
        order: (M,) long, the rows to yield.
        batch_size: rows a batch; the last may be smaller.
        on_batch: called after each batch.
        before_batch: called before each batch with its rows, (B,) long.
    """

    def __init__(self, tokens, order, batch_size, on_batch=lambda: None, before_batch=lambda rows: None):
        self.tokens, self.batches = tokens, order.split(batch_size)
        self.on_batch, self.before_batch = on_batch, before_batch

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for rows in self.batches:
            self.before_batch(rows)
            yield self.tokens[rows].long()
            self.on_batch()


@dataclass
class State:
    """What a checkpoint holds: what is trained, its settings, and how far it is."""

    transformer: BidirectionalTransformer
    optimizer: torch.optim.Optimizer
    scheduler: object
    identity: dict
    step: int = 0
    seconds: float = 0.0
    epoch_losses: list = field(default_factory=list)  # [loss, batches] of each part of an epoch that is not finished


def drop_labels(labels):
    """Labels (B, P) with some parts "any", -1: each row drops a share of its own, drawn uniformly, all or none too."""
    share = torch.rand(len(labels), 1, device=labels.device)
    return labels.masked_fill(torch.rand(labels.shape, device=labels.device) < share, -1)


def fit(train_tokens, val_tokens, preset, answers, run, *, labels=None, resume=False, progress=True, about=None,
        on_part=lambda run: None):
    """Train a transformer.

    Args:
        train_tokens, val_tokens: (N, 256) integer tokens.
        preset: a `Preset`; its `transformer` and `training` are used.
        answers: what `load_answers` gives.
        run: the folder for the checkpoint, the metrics, the weights and `maskgit.json`.
        labels: (N, P) long, the training pictures' labels, -1 for "any", where the transformer knows labels. They are
            dropped at random. Validation is without labels.
        resume: go on from the folder's checkpoint, where there is one. On the same machine, with as many threads and
            the same answers, the result is that of an uninterrupted run; another number of processes changes rounding.
        progress: show a bar.
        about: what else to write into `maskgit.json` (JSON-able).
        on_part: called with `run` in process 0 when a part is done and saved, to draw the curve for example.

    Returns:
        The trained `BidirectionalTransformer`, in eval mode.

    Raises:
        InputError: the folder holds a training and `resume` is not set, another process trains in it, its checkpoint
            does not fit, or no epoch.
        SaveError: the disk is full.
    """
    run, config, device = Path(run), preset.training, best_device()
    if config.epochs < 1:
        raise InputError(f"epochs must be at least 1, not {config.epochs}.")
    if labels is not None:
        if processes() > 1:
            raise InputError("a training with labels works in one process. Start it with python, not torchrun.")
        labels = labels.to(device)
    train_tokens, val_tokens = train_tokens.to(device), val_tokens.to(device)
    steps_an_epoch = math.ceil(len(train_tokens) / config.batch_size)
    total, looks = config.epochs * steps_an_epoch, max(VALIDATIONS, config.epochs)
    # All estimates together make at most an eighth as many forward passes as the training, which goes backward too.
    bits_tokens = val_tokens[:max(2, min(BITS_PICTURES, config.epochs * len(train_tokens) // (8 * looks)))]
    identity = {
        "preset": preset.name, "transformer": asdict(preset.transformer), "training": asdict(config),
        "train_pictures": len(train_tokens), **(about or {})}

    with ExitStack() as stack:
        on_first(lambda: stack.enter_context(locked(run)))
        torch.manual_seed(config.seed)
        transformer = BidirectionalTransformer(preset.transformer, answers.MultiHeadAttention).to(device)
        warmup = round(min(config.warmup_epochs, config.epochs / 2) * steps_an_epoch)
        state = State(transformer, *answers.configure_optimizers(transformer, config.lr, total, warmup, config.eta_min),
                      identity)
        trained = shared(transformer)
        _resume(state, run, resume)
        first = rank() == 0
        if first:
            remove_leftovers(run)
        bar = progress_bar(total=total, initial=state.step, desc="training", unit="batch", disable=not progress)
        with bar, Metrics(run, resume_from=state.step) if first else nullcontext() as metrics:
            while state.step < total:
                before, began = state.step, time.perf_counter()
                row = _train_part(state, trained, train_tokens, labels, answers, config, bar.update)
                if state.step % steps_an_epoch == 0:
                    row["epoch_loss"] = sum(value * n for value, n in state.epoch_losses) / steps_an_epoch
                    state.epoch_losses = []
                if before * looks // total < state.step * looks // total:
                    row["val_loss"] = _validate(trained, val_tokens, answers, config)
                    row["val_bits"], row["val_bits_error"] = bits(trained.eval(), bits_tokens)
                    trained.train()
                state.seconds += time.perf_counter() - began
                bar.set_postfix({name: f"{row[name]:.{digits}f}" for name, digits in SHOWN.items() if name in row})
                reached = [percent for percent in config.milestones
                           if before * 100 < percent * total <= state.step * 100]

                def save():
                    metrics.write(state.step, **row)
                    _save(state, run, reached)
                    on_part(run)

                on_first(save)
        on_first(lambda: _finish(state, run, answers, val_tokens, config.milestones))
        return transformer.eval()


def _resume(state, run, resume):
    """Put the folder's checkpoint into `state`; raises InputError where the folder's training must not be replaced."""
    checkpoint, weights = run / CHECKPOINT, run / WEIGHTS
    if not resume and (checkpoint.is_file() or weights.is_file()):
        raise InputError(f"{run}: holds a training already. Pass --resume to go on, or name another folder.")
    if checkpoint.is_file():
        about = load_training(
            checkpoint, {"transformer": state.transformer}, {"optimizer": state.optimizer}, state.identity)
        state.step, state.seconds, state.epoch_losses = about["step"], about["seconds"], about["epoch_losses"]
        state.scheduler.load_state_dict(about["scheduler"])
    elif weights.is_file():
        raise InputError(f"{run}: holds weights but no checkpoint to go on from. Name another folder.")


def _train_part(state, trained, tokens, labels, answers, config, on_batch):
    """Train on the next part of an epoch; returns its row of metrics."""
    def label(rows):
        if labels is not None:
            state.transformer.labels = drop_labels(labels[rows])

    device, steps_an_epoch = best_device(), math.ceil(len(tokens) / config.batch_size)
    epoch, place = divmod(state.step, steps_an_epoch)
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(config.seed * 1_000_003 + epoch))
    rows = order[place * config.batch_size:(place + config.part_steps) * config.batch_size].to(device)
    part = Batches(tokens, rows, config.batch_size, on_batch, label)
    loss = answers.train_one_epoch(
        trained, part, state.optimizer, state.scheduler, mask_token_id=MASK_TOKEN_ID, device=device,
        generator=part_generator(config.seed, state.step, device, rank()))
    state.transformer.labels = None
    state.step += len(part)
    state.epoch_losses.append([loss, len(part)])
    return {"epoch": state.step / steps_an_epoch, "train_loss": loss, "lr": state.optimizer.param_groups[0]["lr"]}


def _validate(trained, tokens, answers, config):
    device = best_device()
    batches = Batches(tokens, torch.arange(len(tokens), device=device), config.batch_size)
    return answers.eval_one_epoch(trained, batches, mask_token_id=MASK_TOKEN_ID, device=device,
                                  generator=part_generator(config.seed, -1, device))


def _save(state, run, milestones):
    for percent in milestones:
        save_transformer(run / milestone_file(percent), state.transformer, half=True)
    save_training(run / CHECKPOINT, {"transformer": state.transformer}, {"optimizer": state.optimizer}, {
        "step": state.step, "seconds": state.seconds, "epoch_losses": state.epoch_losses,
        "scheduler": state.scheduler.state_dict(), "identity": state.identity})


def _finish(state, run, answers, val_tokens, milestones):
    record = training_record(run, state.transformer, answers.MultiHeadAttention, val_tokens, milestones)
    save_transformer(run / WEIGHTS, state.transformer, record=record)
    write_json(run / SUMMARY, state.identity | {"steps": state.step, "train_seconds": round(state.seconds, 1),
                                                "weights_sha256": sha256(run / WEIGHTS)})
