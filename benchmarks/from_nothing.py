"""README's first picture: cats drawn from nothing, a row for each number of steps, and a hole being filled.

    OMP_NUM_THREADS=1 python -m benchmarks.from_nothing [--seed 0] [--run DIR] [--out docs/from_nothing.png]

All by the shipped model, or that of `--run`, at the settings of `lab3 generate`. Every row uses one seed; the last one
fills the hole of a test picture in eight steps, tokens that are still hidden half grey.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from lab3.common import plots
from lab3.common.machine import best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.decoding.generate import generate, steps_of
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

STEPS = (1, 2, 4, 8, 16, 64)
N = 9  # pictures a row: the masked one and eight steps in the last


def rows(seed, run):
    """The rows, a dict, label -> (9, 3, 64, 64) uint8."""
    device, answers, data, setting = best_device(), load_answers([FAST, SOLUTIONS]), Cats(), DecodingConfig()
    tokenizer = load_tokenizer(SHIPPED / TOKENIZER).to(device)
    transformer = load_transformer(run / WEIGHTS, answers.MultiHeadAttention).to(device)
    found = {}
    for steps in STEPS:
        made = generate(N, tokenizer, transformer, answers, replace(setting, total_iter=steps, sweet_spot=steps), seed,
                        progress=False)
        found[f"{steps} step{'s' * (steps > 1)}"] = made.decoded
    filled = fill(data.masked[:1], data.holes[:1], tokenizer, transformer, answers, setting, seed, progress=False)
    return found | {"a hole": torch.cat([data.masked[:1], steps_of(filled, tokenizer, 1)[1:, 0]])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    parser.add_argument("--out", type=Path, default=Path("docs/from_nothing.png"))
    options = parser.parse_args()
    page = plots.comparison(rows(options.seed, options.run), "One pass gives mud, a few steps give cats.")
    options.out.write_bytes(plots.png(page))
