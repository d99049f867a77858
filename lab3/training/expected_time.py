"""How long a training or a decoding will take on this machine, before it begins.

In: a preset and a device. Out: seconds, from a few batches timed with PyTorch's attention.
"""

import time

import torch

from lab3.common.machine import autocast
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import BidirectionalTransformer
from lab3.presets import CODES, TOKENS


def training_seconds(preset, device, pictures):
    """Seconds for a preset's training on so many pictures."""
    training = preset.training
    batches = -(-min(pictures, training.train_pictures or pictures) // training.batch_size)
    return training.epochs * batches * _seconds_a_batch(preset, device, training.batch_size, training=True)


def decoding_seconds(preset, device, pictures):
    """Seconds for filling so many pictures once, every token computed in every step."""
    passes = -(-pictures // preset.decoding.batch_size) * preset.decoding.total_iter
    return passes * _seconds_a_batch(preset, device, preset.decoding.batch_size, training=False)


def as_words(seconds):
    """Seconds as text: `40 s`, or `3 min` from a minute and a half on."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _seconds_a_batch(preset, device, rows, training):
    """Seconds for a batch of so many rows in training, or for one forward pass of decoding."""
    transformer = BidirectionalTransformer(preset.transformer, TorchAttention).to(device)
    z_indices = torch.randint(CODES, (rows, TOKENS), device=device)

    def timed():
        begin = time.perf_counter()
        with torch.set_grad_enabled(training), autocast(device):
            loss = transformer(z_indices).float().logsumexp(dim=-1).mean()
        if training:
            loss.backward()
        loss.item()  # waits for a GPU
        return time.perf_counter() - begin

    with torch.random.fork_rng(devices=[]):
        timed()  # the first one also allocates
        return min(timed(), timed())
