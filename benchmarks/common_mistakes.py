"""Common mistakes on one page: for each whole cats from nothing, filled holes, what it costs, and its line of code.

    OMP_NUM_THREADS=1 python -m benchmarks.common_mistakes [--pictures 48] [--seed 0] [--run DIR] [--out docs]

Writes `common_mistakes.png` and `COMMON_MISTAKES.md`. All by the shipped model, or that of `--run`, which was trained
without the mistakes; eight steps at the notebooks' setting.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.threshold import CASES, texts_with
from benchmarks.timing import table
from lab3.common import plots
from lab3.common.files import InputError, write_text
from lab3.common.machine import best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.decoding.generate import generate
from lab3.decoding.inpaint import fill
from lab3.decoding.mistakes import ATTENTION, GAMMA, LOOP, MISTAKES, STEP
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics.distance import load_extractor
from lab3.metrics.score import reference, score, score_generated
from lab3.model.likelihood import bits
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

# Mistake -> its line of code: pairs of old and new words in the reference answers.
LINES = {name: CASES[name][1] for name in MISTAKES if name in CASES} | {
    "no scaling": (("(q * d**-0.5) @ k.transpose(-2, -1)", "q @ k.transpose(-2, -1)"),),
    "softmax over queries": (("scores.softmax(dim=-1)", "scores.softmax(dim=-2)"),),
    "linear for cosine": (('"cosine": lambda r: np.cos(np.pi * r / 2)', '"cosine": lambda r: 1 - r'),),
}
RIGHT = "right"
WHOLE, FILLED = 6, 2  # pictures shown of each
CAPTION = "One mistake a row: cats from nothing and two filled holes. First row: training cats, the holes."
HEADER = ("mistake", "line of code", "FD-Lite0 from nothing", "valid", "bits a cat", "FD-Lite0 of filled holes")


@dataclass(frozen=True)
class Measured:
    """What a decoding gives: pictures, and its costs. All None where it ends in an error."""

    whole: torch.Tensor | None = None  # (N, 3, 64, 64) uint8, from nothing
    filled: torch.Tensor | None = None  # likewise, holes filled, known pixels put back
    distance: float | None = None  # FD-Lite0 of `whole` to the training cats
    valid: float | None = None  # the share of `whole` that is a cat
    bits: float | None = None  # that the model without mistakes needs for one of `whole`
    distance_filled: float | None = None  # FD-Lite0 of whole decoded pictures to the originals


class Lab:
    """Pictures, tokenizer and model that all mistakes share; n pictures are drawn and n holes filled."""

    def __init__(self, n, seed, run):
        self.n, self.seed, self.run, self.data, self.device = n, seed, run, Cats(), best_device()
        self.tokenizer = load_tokenizer(SHIPPED / TOKENIZER).to(self.device)
        self.masked, self.holes = self.data.masked[:n], self.data.holes[:n]
        self.compare = reference(self.data.test[:n], self.holes, self.masked, self.tokenizer, load_extractor("lite0"),
                                 f"{self.data.key}-{n}")
        self.right = self.transformer(TorchAttention)
        self.shown = self.holes.flatten(1).sum(dim=1).topk(min(FILLED, n)).indices  # the largest holes

    def transformer(self, attention):
        return load_transformer(self.run / WEIGHTS, attention).to(self.device)

    def measure(self, mistake=None):
        """Draw and fill with a `Mistake`, or without: `Measured`."""
        part, setting = mistake and mistake.part, DecodingConfig()
        change = mistake and (lambda right: mistake.change(right, self.tokenizer))
        transformer = self.transformer(change(TorchAttention)) if part == ATTENTION else self.right
        answers = load_answers([FAST, SOLUTIONS], changed={part: change} if part in (STEP, LOOP) else None)
        if part == GAMMA:
            gamma = change(answers.gamma_func(setting.schedule))
            answers = SimpleNamespace(**vars(answers) | {"gamma_func": lambda mode: gamma})
        try:
            made = generate(self.n, self.tokenizer, transformer, answers, setting, self.seed, progress=False)
            filled = fill(self.masked, self.holes, self.tokenizer, transformer, answers, setting, self.seed,
                          progress=False)
            marks = score_generated(made.decoded, self.data)
            return Measured(made.decoded[:WHOLE], filled.pasted[self.shown], marks["distance"], marks["validity"],
                            bits(self.right, made.tokens.to(self.device))[0], score(filled, self.compare).distance)
        except InputError as error:
            print(f"{mistake.name}: {error}", flush=True)
            return Measured()


def line_of(name):
    """The lines of the reference answers that a mistake changes, with the mistake, as code in Markdown."""
    pairs = zip(texts_with(()).values(), texts_with(LINES[name]).values(), strict=True)
    changed = [new.strip() for old_text, new_text in pairs
               for old, new in zip(old_text.splitlines(), new_text.splitlines(), strict=True) if old != new]
    return "<br>".join(f"`{line}`" for line in changed)


def row(name, found):
    """A line of the table."""
    line = line_of(name) if name in LINES else ""
    if found.distance is None:
        return name, line, "ends in an error", "", "", ""
    return (name, line, f"{found.distance:.0f}", f"{found.valid:.0%}", f"{found.bits:.0f}",
            f"{found.distance_filled:.1f}")


def page_of(results, lab, command):
    """The page's text in Markdown."""
    told = "\n".join(f"* **{one.name}.** {one.says}" for one in MISTAKES.values())
    floor, holes = lab.compare.distance_floor, lab.compare.distance_holes
    return f"""# Common mistakes

Ten mistakes that raise no error, made one at a time. In the explorer, `lab.explore()`, the menu `mistake` makes them in
your own decoding.

![A row for each mistake: cats from nothing and filled holes](common_mistakes.png)

{told}

`{command}`:
{lab.n} whole cats and {lab.n} filled holes, eight steps, one seed, by weights that were trained without the mistake.

* **valid**: the share of whole cats that the kit's layers can compose.
* **bits a cat**: what the model, without the mistake, needs for a cat that was drawn with it.
* **FD-Lite0 of filled holes** compares whole decoded pictures with the originals. The tokenizer's reconstructions are
  at {floor:.1f}, grey holes at {holes:.1f}.
* Every number varies from seed to seed. Draw more (`--pictures`) before you compare rows that are close.

{table(HEADER, [row(name, found) for name, found in results.items()])}

Mistakes of training, such as a loss over all tokens or one ratio for a whole batch, need a training each: see
[RESULTS](RESULTS.md#the-classic-mistakes-one-by-one).
"""


def picture_of(results, lab):
    """The page's picture."""
    rows = {"training\ncats, holes": torch.cat([lab.data.train[:WHOLE], lab.masked[lab.shown]])}
    rows |= {name.replace(" ", "\n", 1): torch.cat([found.whole, found.filled])
             for name, found in results.items() if found.whole is not None}
    return plots.comparison(rows, CAPTION)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=48, help="how many are drawn, and how many holes filled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    lab, results = Lab(options.pictures, options.seed, options.run), {}
    for name, mistake in {RIGHT: None, **MISTAKES}.items():
        results[name] = lab.measure(mistake)
        print(*row(name, results[name])[::2], sep="  ", flush=True)
    command = (f"OMP_NUM_THREADS=1 python -m benchmarks.common_mistakes --pictures {options.pictures} "
               f"--seed {options.seed}")
    write_text(options.out / "COMMON_MISTAKES.md", page_of(results, lab, command))
    (options.out / "common_mistakes.png").write_bytes(plots.png(picture_of(results, lab), colours=256))
