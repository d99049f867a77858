"""Runs a decoding with the student's functions over a whole test set, in batches.

In: masked pictures, their holes, a tokenizer, a transformer, answers. Out: filled pictures and their steps.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from lab3.common.files import SaveError
from lab3.common.machine import autocast, release_memory
from lab3.common.progress import progress_bar
from lab3.data.masks import hidden_tokens, paste
from lab3.decoding.cached import for_decoding
from lab3.model.transformer import MASK_TOKEN_ID


@dataclass(frozen=True)
class Filled:
    """What a decoding gives, for N pictures and S steps.

    Two protocols: `decoded` is the whole decoded picture, as the original lab scores it; `pasted` puts the known
    pixels of the masked picture back.
    """

    decoded: torch.Tensor  # (N, 3, 64, 64) uint8
    pasted: torch.Tensor  # (N, 3, 64, 64) uint8
    tokens: torch.Tensor  # (N, 256) long
    masks: torch.Tensor  # (N, S + 1, 256) bool: the original mask, then what each step leaves hidden
    predictions: torch.Tensor  # (N, S, 256) long: what each step predicts


def fill(masked, holes, tokenizer, transformer, answers, decoding, seed, *, z_indices=None, progress=True):
    """Fill the holes of pictures.

    Args:
        masked: (N, 3, 64, 64) uint8, anything in the holes.
        holes: (N, 64, 64) bool, True in the hole.
        tokenizer, transformer: on the same device, in eval mode.
        answers: with `gamma_func` and `iterative_decode`.
        decoding: a `DecodingConfig`; rows are decoded `batch_size` at a time, which is part of what the seed fixes.
        seed: an int.
        z_indices: (N, 256) tokens of the masked pictures, where they are known; None: the tokenizer encodes them.

    Returns:
        A `Filled`, on the CPU.

    Raises:
        InputError: a setting that no decoding can have, or an answer that leaves a token hidden.
    """
    decoding.check()
    device = next(transformer.parameters()).device
    gamma = answers.gamma_func(decoding.schedule)
    generator = torch.Generator(device).manual_seed(seed)
    mask = hidden_tokens(holes)
    tokens, masks, predictions = [], [], []
    given = masked if z_indices is None else z_indices
    batches = list(zip(given.split(decoding.batch_size), mask.split(decoding.batch_size)))
    for rows, hidden in progress_bar(batches, desc="filling", unit="batch", disable=not progress):
        known, hidden = (tokenizer.encode(rows) if z_indices is None else rows).to(device), hidden.to(device)
        with torch.no_grad(), autocast(device):
            z_final, history = answers.iterative_decode(
                for_decoding(transformer, decoding.exact), known, hidden, gamma=gamma, total_iter=decoding.total_iter,
                sweet_spot=decoding.sweet_spot, choice_temperature=decoding.choice_temperature,
                mask_token_id=MASK_TOKEN_ID, sampling=decoding.sampling, generator=generator)
        tokens.append(z_final.cpu())
        masks.append(torch.stack([hidden] + [next_mask for _, next_mask in history], dim=1).cpu())
        predictions.append(torch.stack([z_predict for z_predict, _ in history], dim=1).cpu())
        release_memory()
    tokens = torch.cat(tokens)
    decoded = tokenizer.decode(tokens)
    release_memory()
    return Filled(decoded, paste(decoded, masked, holes), tokens, torch.cat(masks), torch.cat(predictions))


def save_pictures(pictures, folder):
    """Write (N, 3, H, W) uint8 pictures to `folder` as 000.png, 001.png ..., in place of any so named before.

    Raises:
        SaveError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("[0-9][0-9][0-9]*.png"):
            old.unlink()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{number:03d}.png")
    except OSError as error:
        raise SaveError(f"{folder}: pictures could not be saved ({error.strerror or error}). "
                        "Free some space or choose another folder.") from error
