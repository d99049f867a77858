"""The speedrun: processor minutes until a transformer's validation loss is down to 1.5, 1.2, 1.0 and 0.9 nats.

    python -m benchmarks.speedrun [--model norm=post ...] [--train lr=0.002 ...] [--seeds 0 1 2] [--to 0.9]
                                  [--threads 2] [--json FILE]

The rules: the embedded cats, their shipped tokens; a processor, float32; the contracts' functions (the fast answers:
the same optimizer, masks and loss); the loss on 747 held-out cats under fixed masks, after every 2,000 pictures. What
counts is the process's time on processors while it trains; validation does not. All else may change: the model, which
`--model` sets by the names of `TransformerConfig`, and the training, `--train` by those of `TrainingConfig`. `--before`
is the model and the training of the kit's first version.
"""

import argparse
import ast
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.timing import machine, table
from lab3.common import machine as machine_module
from lab3.common.files import write_json
from lab3.common.paths import ANSWERS, SHIPPED, TOKENIZER
from lab3.data.photos import open_data
from lab3.exercises.answers import load_answers
from lab3.model.tokenizer import load_tokenizer
from lab3.model.tokens import training_tokens
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer
from lab3.presets import preset
from lab3.training.fit import Batches
from lab3.training.runs import part_generator

MARKS = (1.5, 1.2, 1.0, 0.9)
PART = 2000  # pictures between two looks at the validation loss
VALIDATION_BATCH = 32  # the same masks for all
BEFORE = {"model": {"norm": "post", "conv": False, "layers": 6},
          "train": {"lr": 8e-4, "batch_size": 32, "epochs": 4, "warmup_epochs": 0.25}}


def speedrun(model, training, seed, train, val, answers, to):
    """Train until the validation loss is down to `to`, or the training ends.

    Args:
        model, training: a `TransformerConfig` and a `TrainingConfig`.
        seed: an int, for weights, order and masks.
        train, val: (N, 256) tokens.
        answers: the contracts' functions.
        to: nats.

    Returns:
        The curve, a list of (pictures seen, processor minutes, validation loss).
    """
    torch.manual_seed(seed)
    transformer = BidirectionalTransformer(model, answers.MultiHeadAttention)
    an_epoch = -(-len(train) // training.batch_size)
    optimizer, scheduler = answers.configure_optimizers(
        transformer, training.lr, training.epochs * an_epoch, round(training.warmup_epochs * an_epoch),
        training.eta_min)
    spent, curve, held_out = 0.0, [], Batches(val, torch.arange(len(val)), VALIDATION_BATCH)
    for epoch in range(training.epochs):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for part, rows in enumerate(order.split(PART // training.batch_size * training.batch_size)):
            began = time.process_time()
            loss = answers.train_one_epoch(
                transformer, Batches(train, rows, training.batch_size), optimizer, scheduler,
                mask_token_id=MASK_TOKEN_ID, device="cpu", generator=part_generator(seed, 1000 * epoch + part))
            spent += time.process_time() - began
            found = answers.eval_one_epoch(transformer, held_out, mask_token_id=MASK_TOKEN_ID, device="cpu",
                                           generator=part_generator(0, -1))
            seen = (curve[-1][0] if curve else 0) + len(rows)
            curve.append((seen, spent / 60, found))
            print(f"seed {seed}, {seen} pictures: {spent / 60:.2f} processor minutes, training {loss:.3f}, "
                  f"validation {found:.3f}", flush=True)
            if found <= to:
                return curve
    return curve


def minutes_to(curve, mark):
    """Processor minutes until the loss is down to a mark; None: it never is."""
    return next((minutes for _, minutes, loss in curve if loss <= mark), None)


def setting(text):
    """A setting of the command line, `name=value`, as a pair."""
    name, value = text.split("=", 1)
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def show(curves):
    """Print the table: minutes to each mark, the median and every seed's."""
    rows = []
    for mark in MARKS:
        found = [minutes_to(curve, mark) for curve in curves.values()]
        median = "-" if None in found else f"{statistics.median(found):.1f}"
        rows.append((mark, median, ", ".join("-" if one is None else f"{one:.1f}" for one in found)))
    print(machine())
    print(table(("validation loss", "processor minutes, median", "each seed"), rows))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--train", nargs="+", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--before", action="store_true", help="start from the settings of the kit's first version")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--to", type=float, default=MARKS[-1], help="stop at this loss")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cpu, answers = preset("cpu"), load_answers(ANSWERS)
    before = BEFORE if options.before else {"model": {}, "train": {}}
    model = replace(cpu.transformer, **before["model"] | dict(options.model))
    training = replace(cpu.training, **before["train"] | dict(options.train))
    train, val = training_tokens(open_data(None), load_tokenizer(SHIPPED / TOKENIZER), training)
    with patch.object(machine_module, "bfloat16_pays", lambda kind: False):
        curves = {seed: speedrun(model, training, seed, train, val, answers, options.to) for seed in options.seeds}
    show(curves)
    if options.json:
        write_json(options.json, {"machine": machine(), "before": options.before, "model": dict(options.model),
                                  "train": dict(options.train), "curves": curves})


if __name__ == "__main__":
    sys.exit(main())
