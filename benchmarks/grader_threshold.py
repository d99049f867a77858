"""The grader's distances, measured: right decodings, each mistake, models trained for shorter and longer.

    OMP_NUM_THREADS=1 python -m benchmarks.grader_threshold [--seeds 20] [--wrong-seeds 3] [--only CASE ...]
                                                            [--model FILE ...] [--compare] [--json FILE]
    OMP_NUM_THREADS=1 python -m benchmarks.grader_threshold --make

Mistakes are those of `benchmarks.threshold`. A decoding whose tokens are refused gets no distance and no points.
--model measures files of weights instead of decodings. --compare says how similar they and disguised
copies of the shipped model are to it: likeness, overlap, the share of codes drawn alike, and the loss. --make writes
`data/right_decodings.safetensors` again, with seeds that no run has; all thresholds have to be measured again then.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.disguises import DISGUISES, disguised
from benchmarks.threshold import CASES, answers_with
from grader.run import distances
from lab3.common.files import InputError, save_tensors, write_json
from lab3.common.paths import SHIPPED, WEIGHTS
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics import decoding_score
from lab3.model.transformer import load_transformer

MADE_WITH = [-1 - number for number in range(6)]  # seeds of a run are 0 or more


CHOSEN = [case for case, (options, _) in CASES.items() if "schedule" not in options]  # the grader chooses the schedule


class Changed:
    """A scene whose calls have some options changed."""

    def __init__(self, scene, options):
        self.scene, self.options, self.setting = scene, options, scene.setting

    def calls(self):
        for z_indices, mask, options in self.scene.calls():
            yield z_indices, mask, options | self.options


def decoding(case, seed):
    """The distance of a case's decoding, or what `check_tokens` says to it."""
    options, changes = CASES[case]
    scene = decoding_score.scene(seed)
    filled = decoding_score.decode(Changed(scene, options), _model(), answers_with(changes, decoding_score.tokenizer()))
    return _or_refusal(decoding_score.decode_score, filled, scene)


def _or_refusal(score, *given):
    try:
        return score(*given)
    except InputError as error:
        return str(error)


def _model():
    return load_transformer(SHIPPED / WEIGHTS, TorchAttention)


def measure(name, score, seeds):
    """Score some seeds and print a line: the row of the table as a dict."""
    began, cpu = time.perf_counter(), time.process_time()
    found = [score(seed) for seed in seeds]
    row = {"name": name, "found": found, "seconds": round((time.process_time() - cpu) / len(found), 1)}
    numbers = [one for one in found if not isinstance(one, str)]
    if len(numbers) == len(found):
        row |= {"mean": statistics.mean(numbers), "sd": statistics.stdev(numbers), "min": min(numbers),
                "max": max(numbers)}
        text = f"{row['mean']:8.2f} ± {row['sd']:.2f}   {row['min']:.2f} to {row['max']:.2f}"
    else:
        text = f"{len(found) - len(numbers)} of {len(found)} refused: {next(x for x in found if isinstance(x, str))}"
    print(f"{name:36s}{text}   {row['seconds']} s on a core, {(time.perf_counter() - began) / len(found):.1f} s each",
          flush=True)
    return row


def model(path, seed):
    """The distance of a model, or why it is refused."""
    return distances.model_score(path, seed)[0]


def compare(name, model, seeds):
    """Print how alike a model and the shipped one are by the measures of `grader.run.distances`, for several seeds."""
    found = []
    for seed in seeds:
        pictures, log_q = decoding_score.fresh_tokens(distances.COMPARED, seed), distances.shipped_model(seed)[1]
        log_p, targets = distances.predict(model, pictures, seed)
        drawn = [distances.fingerprint(one, seed) for one in (log_p, log_q)]
        found.append((distances.likeness(model, seed), distances.overlap(log_p, log_q),
                      statistics.mean(drawn[0][i:i + 4] == drawn[1][i:i + 4] for i in range(0, len(drawn[0]), 4)),
                      torch.nn.functional.nll_loss(log_p, targets).item()))
    row = {"name": name} | dict(zip(("likeness", "overlap", "drawn", "loss"), map(list, zip(*found)), strict=True))
    print(f"{name:42s}" + "".join(f"  {key} {min(row[key]):.3f} to {max(row[key]):.3f}" for key in list(row)[1:]),
          flush=True)
    return row


def make():
    """Write `data/right_decodings.safetensors`: tokens of whole pictures that the reference decoding made."""
    batches = {}
    for scene in map(decoding_score.scene, MADE_WITH):
        size = scene.setting.batch_size
        filled = decoding_score.decode(scene, _model(), distances.reference_answers())
        for number, (z, measured) in enumerate(zip(filled.split(size), scene.measured.split(size), strict=True)):
            batches.setdefault(f"batch {number}", []).append(z[measured].to(torch.int16))
    save_tensors(decoding_score.RIGHT, {name: torch.cat(made) for name, made in batches.items()}, {
        "command": "python -m benchmarks.grader_threshold --make",
        "licence": "CC BY 4.0, after David Revoy: see data/cats/LICENSE.md"})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many for right decodings and for models; at least 2")
    parser.add_argument("--wrong-seeds", type=int, default=3, help="how many for the others; at least 2")
    parser.add_argument("--only", nargs="+", choices=CHOSEN, default=CHOSEN, metavar="CASE", help=", ".join(CHOSEN))
    parser.add_argument("--model", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.make:
        make()
        return
    if options.compare:
        models = {str(path): lambda path=path: load_transformer(path, TorchAttention) for path in options.model or ()}
        rows = [compare(name, make(), range(options.wrong_seeds)) for name, make in
                (models | {name: partial(disguised, name) for name in DISGUISES}).items()]
    elif options.model:
        rows = [measure(str(path), partial(_or_refusal, model, path), range(options.seeds)) for path in options.model]
    else:
        rows = [measure(case, partial(decoding, case), range(options.seeds) if case == "right" else
                        range(100, 100 + options.wrong_seeds)) for case in options.only]
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
