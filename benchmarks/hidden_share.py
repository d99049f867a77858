"""When schedules begin to matter: cats with 20, 50, 80 and 100 % of their tokens hidden, and what each setting makes.

    OMP_NUM_THREADS=1 python -m benchmarks.hidden_share [--shares 20 50 80 100] [--only CASE ...] [--seeds 5]
        [--pictures 128] [--run DIR] [--out out/hidden_share] [--show]

A hole is a square of whole tokens at a random place; at 100 % nothing is known. The reference answers fill it, codes
drawn, with the shipped model or that of `--run`, one setting changed at a time. Marks are those of `lab3 generate`:
distance to 747 training cats, validity, torn parts, novelty; besides the share of fillings whose cat agrees with what
is known. Each seed of each case is saved when it is done, by the weights' hash, so that a run goes on where it stopped.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.experiments import kept, spread
from benchmarks.timing import table
from lab3.common import plots
from lab3.common.files import sha256, write_json
from lab3.common.machine import best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.data.masks import paint
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.metrics.score import score_generated
from lab3.metrics.truth import consistent, identify
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

SIDES = {20: 7, 50: 11, 80: 14, 100: 16}  # per cent of the tokens -> tokens along a side of the hole, of 16
STEPS = (1, 2, 4, 8, 16, 64)
CASES = {f"T = {steps}": {"total_iter": steps, "sweet_spot": steps} for steps in STEPS} | {
    "linear": {"schedule": "linear"}, "square": {"schedule": "square"},
    "temperature 0": {"choice_temperature": 0.0}, "temperature 1": {"choice_temperature": 1.0},
    "temperature 20": {"choice_temperature": 20.0}, "sweet spot 4 of 8": {"sweet_spot": 4},
    "argmax": {"sampling": "argmax"}}
USUAL = "T = 8"  # cosine, temperature 4.5: what the other cases change


def square_holes(n, side, seed):
    """Draw holes of side x side tokens, each at a place of its own: (n, 64, 64) bool, True in the hole."""
    generator = torch.Generator().manual_seed(seed)
    row, column = torch.randint(17 - side, (2, n, 1), generator=generator)
    places = torch.arange(16)
    rows, columns = [(places >= first) & (places < first + side) for first in (row, column)]
    return (rows[:, :, None] & columns[:, None]).repeat_interleave(4, 1).repeat_interleave(4, 2)


def measure(share, case, seed, n, data, tokenizer, transformer, answers):
    """The marks of one setting on one hidden share, a dict of numbers, torn parts by name."""
    test, holes = data.test[:n], square_holes(n, SIDES[share], seed)
    masked = paint(test, holes)
    began = time.perf_counter()
    filled = fill(masked, holes, tokenizer, transformer, answers, replace(DecodingConfig(), **CASES[case]), seed,
                  progress=False)
    seconds = time.perf_counter() - began
    marks = score_generated(filled.decoded, data)
    agrees = consistent(identify(filled.pasted), masked, holes)
    return {name: marks[name] for name in ("distance", "validity", "novelty", "torn")} | {
        "agrees": agrees.float().mean().item(), "seconds": round(seconds, 1)}


def show(rows, shares, names):
    """Print a table in Markdown for each hidden share."""
    for share in shares:
        lines = []
        for name in names:
            found = list(rows.get(f"{share} {name}", {}).values())
            if found:
                torn = {part: statistics.mean(one["torn"][part] for one in found) for part in found[0]["torn"]}
                lines.append((name, spread([one["distance"] for one in found], 1), *(
                    spread([100 * one[mark] for one in found], 1) for mark in ("validity", "agrees", "novelty")),
                    ", ".join(f"{part} {100 * value:.1f}" for part, value in torn.items()), len(found)))
        print(f"\n{share} % hidden\n")
        print(table(("setting", "FD-Lite0", "valid, %", "agrees, %", "novel, %", "torn, %", "seeds"), lines))


def draw(rows, shares, path):
    """Save the figure: for schedules and numbers of steps, distance and validity over the hidden share."""
    names = {"T = 8": "cosine, T = 8", "linear": "linear, T = 8", "T = 1": "one pass", "T = 2": "cosine, T = 2"}

    def panel(mark, factor):
        return {label: (shares, [factor * statistics.mean(one[mark] for one in rows[f"{share} {name}"].values())
                                 for share in shares])
                for name, label in names.items() if all(f"{share} {name}" in rows for share in shares)}

    page = plots.curves({"FD-Lite0 to 747 training cats": panel("distance", 1),
                         "valid cats, %": panel("validity", 100)},
                        "hidden tokens, %", "Small holes forgive any schedule; whole cats do not.")
    path.write_bytes(plots.png(page))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=int, nargs="+", choices=SIDES, default=list(SIDES), metavar="PERCENT")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--pictures", type=int, default=128, help="the first so many test pictures")
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    parser.add_argument("--out", type=Path, default=Path("out/hidden_share"))
    parser.add_argument("--show", action="store_true", help="measure nothing, show what is there")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / f"{options.pictures}-{sha256(options.run / WEIGHTS)[:8]}.json"
    if not options.show:
        data, device, answers = Cats(), best_device(), load_answers([FAST, SOLUTIONS])
        tokenizer = load_tokenizer(SHIPPED / TOKENIZER).to(device)
        transformer = load_transformer(options.run / WEIGHTS, answers.MultiHeadAttention).to(device)
        for seed in range(options.seeds):
            for share in options.shares:
                for case in options.only:
                    rows = kept(results)
                    row = rows.setdefault(f"{share} {case}", {})
                    if str(seed) not in row:
                        row[str(seed)] = measure(share, case, seed, options.pictures, data, tokenizer, transformer,
                                                 answers)
                        write_json(results, {"pictures": options.pictures, "rows": rows})
                        print(f"{share} %, {case}, seed {seed}: {row[str(seed)]}", flush=True)
    rows = kept(results)
    show(rows, options.shares, options.only)
    if USUAL in options.only and len(options.shares) > 1:
        draw(rows, options.shares, options.out / "hidden_share.png")
