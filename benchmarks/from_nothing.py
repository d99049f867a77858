"""Cats drawn from nothing: README's first picture, and the marks for each number of steps.

    OMP_NUM_THREADS=1 python -m benchmarks.from_nothing [--seed 0] [--run DIR] [--picture docs/from_nothing.png]
        [--tokens data/from_nothing.safetensors]
    OMP_NUM_THREADS=1 python -m benchmarks.from_nothing --table [--only CASE ...] [--seeds 5] [--pictures 256]
        [--run DIR] [--out out/from_nothing] [--show]

All by the shipped model, or that of `--run`, at the settings of `lab3 generate`. In the picture every row uses one
seed; the last one fills the hole of a test picture in eight steps, tokens that are still hidden half grey. Notebook 00
decodes it again, from the tokens that are saved too.

The table has the marks of `lab3 generate`, and the bits that decodings of so many steps need for validation cats,
tokens drawn in a random order (`lab3.model.likelihood`). `--only` takes other settings of 16 steps too. Each seed of
each case is saved when it is done, by the weights' hash, so that a run goes on where it stopped.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.experiments import kept, spread
from benchmarks.timing import table
from lab3.common import plots
from lab3.common.files import save_tensors, sha256, write_json
from lab3.common.machine import best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.decoding.generate import CONFIDENCE, ORDERS, PRECOMPUTED, first_pictures, generate, in_order
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.metrics.score import score_generated
from lab3.metrics.truth import PARTS, VALUES, identify
from lab3.model.likelihood import bits
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig
from lab3.training.fit import BITS_PICTURES

STEPS = (1, 2, 4, 8, 16, 64)
N = 9  # pictures a row: the masked one and eight steps in the last
BY_STEPS = {f"T = {steps}": {"total_iter": steps} for steps in STEPS}
CASES = BY_STEPS | {f"T = 16, {name}": {"total_iter": 16} | changes for name, changes in {
    "exact": {"exact": True}, "square": {"schedule": "square"}, "argmax": {"sampling": "argmax"},
    **{f"temperature {value:g}": {"choice_temperature": value} for value in (0.0, 1.0, 2.0, 10.0)},
    **{order: {"order": order} for order in ORDERS if order != CONFIDENCE},
    "code temperature 0.5": {"code_temperature": 0.5}, "code temperature 0.3": {"code_temperature": 0.3},
    "square, code temperature 0.3": {"schedule": "square", "code_temperature": 0.3}}.items()}


class Drawn:
    """What draws: answers in an order, and the models of a run, on the best device."""

    def __init__(self, run, order=CONFIDENCE):
        device = best_device()
        self.answers = load_answers([FAST, SOLUTIONS], changed={"inpainting": lambda answer: in_order(answer, order)})
        self.tokenizer = load_tokenizer(SHIPPED / TOKENIZER).to(device)
        self.transformer = load_transformer(run / WEIGHTS, self.answers.MultiHeadAttention).to(device)

    def generate(self, n, seed, *, total_iter, code_temperature=1.0, **changes):
        setting = replace(DecodingConfig(), total_iter=total_iter, sweet_spot=total_iter, **changes)
        return generate(n, self.tokenizer, self.transformer, self.answers, setting, seed,
                        code_temperature=code_temperature, progress=False)


def save_tokens(seed, run, data, path):
    """Save what `first_pictures` decodes."""
    draw = Drawn(run)
    tokens = {str(steps): draw.generate(N, seed, total_iter=steps).tokens.short() for steps in STEPS}
    filled = fill(data.masked[:1], data.holes[:1], draw.tokenizer, draw.transformer, draw.answers, DecodingConfig(),
                  seed, progress=False)
    save_tensors(path, tokens | {"predictions": filled.predictions.short(), "masks": filled.masks},
                 {"seed": seed, "weights": sha256(run / WEIGHTS)})


def measure(case, seed, n, run, data):
    """The marks of one case, as `score_generated` gives them, a dict.

    Also `bits`, `seen`, the values of each part that valid cats show, and `seconds`, processor time a picture.
    """
    changes = dict(CASES[case])
    draw = Drawn(run, changes.pop("order", CONFIDENCE))
    began = time.process_time()
    made = draw.generate(n, seed, **changes)
    seconds = (time.process_time() - began) / n
    tokens = draw.tokenizer.encode(data.val[:min(n, BITS_PICTURES)]).to(best_device())
    needed, _ = bits(draw.transformer, tokens, hidden=made.masks[0, :-1].sum(dim=1), seed=seed)
    named = identify(made.decoded)
    seen = {part: column[column >= 0].unique().tolist() for part, column in zip(PARTS, named.values[named.valid].T)}
    return score_generated(made.decoded, data) | {"bits": needed, "seen": seen, "seconds": seconds}


def line(name, marks):
    """A case's line of the table: means over seeds, with their standard deviation."""
    torn = {part: statistics.mean(one["torn"][part] for one in marks) for part in marks[0]["torn"]}
    seen = sum(len(set().union(*(one["seen"][part] for one in marks))) for part in PARTS)
    return (name, *(spread((100 * one[mark] for one in marks), 0) for mark in ("validity", "novelty")),
            ", ".join(f"{part} {100 * value:.0f}" for part, value in torn.items()),
            spread((one["distance"] for one in marks), 0), spread((one["bits"] for one in marks), 0),
            spread((sum(one["entropy"].values()) for one in marks), 1), seen,
            f"{statistics.mean(one['seconds'] for one in marks):.2f}", len(marks))


def show(found, names):
    """Print what was measured as a table in Markdown."""
    values = sum(map(len, VALUES.values()))
    print(table(("", "valid, %", "novel, %", "torn, %", "FD-Lite0", "bits a cat", "variety, bits",
                 f"values seen, of {values}", "s a picture", "seeds"),
                [line(name, list(found[name].values())) for name in names if found.get(name)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    parser.add_argument("--seed", type=int, default=0, help="the picture's")
    parser.add_argument("--picture", type=Path, default=Path("docs/from_nothing.png"))
    parser.add_argument("--tokens", type=Path, default=PRECOMPUTED, metavar="FILE", help="where its tokens go")
    parser.add_argument("--table", action="store_true", help="measure; no picture")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(BY_STEPS), metavar="CASE",
                        help=f"{', '.join(CASES)}; default: those of steps alone")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--pictures", type=int, default=256, help="how many a seed")
    parser.add_argument("--out", type=Path, default=Path("out/from_nothing"))
    parser.add_argument("--show", action="store_true", help="with --table: measure nothing, show what is there")
    options, cats = parser.parse_args(), Cats()
    if not options.table:
        save_tokens(options.seed, options.run, cats, options.tokens)
        rows = first_pictures(load_tokenizer(SHIPPED / TOKENIZER), cats, options.tokens)
        page = plots.comparison(rows, "One pass gives mud, a few steps give cats.")
        options.picture.write_bytes(plots.png(page))
        parser.exit()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / f"{options.pictures}-{sha256(options.run / WEIGHTS)[:8]}.json"
    for seed in () if options.show else range(options.seeds):
        for case in options.only:
            found = kept(results)
            if str(seed) not in found.setdefault(case, {}):
                found[case][str(seed)] = measure(case, seed, options.pictures, options.run, cats)
                write_json(results, {"pictures": options.pictures, "rows": found})
                print(f"seed {seed}:", *line(case, [found[case][str(seed)]])[:-1], sep=" | ", flush=True)
    show(kept(results), options.only)
