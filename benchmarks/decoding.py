"""How fast holes are filled: the report's loop, and `lab3.decoding` with the reference answers and the fast ones.

    OMP_NUM_THREADS=1 python -m benchmarks.decoding [--preset cpu] [--pictures 747] [--report-pictures 8] [--batch N]
                                                    [--repeats N] [--json FILE]
    python -m benchmarks.decoding --distance [--pictures 256] [--json FILE]

The fast answers decode with cached keys and values, and exactly. `--distance` measures what the cache costs: the
distance of both with five seeds, on the embedded holes and on ones that leave a margin of four pixels alone.

The embedded test pictures, T = 8, cosine, temperature 4.5, turn by turn. The report's loop fills one picture at a time,
decodes it to pixels at every step and encodes it again at the next; it is timed on a few pictures, and its rate is
theirs. `cpu` is the shipped model; the models of `report` have random weights: their speed does not depend on them.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.report_loop import ReportAttention, report_decode
from benchmarks.timing import alternate, machine, seconds_of, table, times_as_fast
from lab3.common.files import write_json
from lab3.common.machine import best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.data.masks import hidden_tokens, paint
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import load_answers
from lab3.metrics.distance import load_extractor
from lab3.metrics.score import reference, score, spread
from lab3.model.tokenizer import Tokenizer, load_tokenizer
from lab3.model.transformer import BidirectionalTransformer, load_transformer
from lab3.presets import SAMPLINGS, preset

REPORT, PLAIN, EXACT, QUICK = "the report's loop", "reference answers", "fast answers, exact", "fast answers, cached"
MARGIN = 4  # pixels that a large hole leaves


def models(settings, device):
    """The tokenizer of a preset, and a function that makes its transformer with a class of attention."""
    if settings.name == "cpu":
        return (load_tokenizer(SHIPPED / TOKENIZER).to(device),
                lambda attention: load_transformer(SHIPPED / WEIGHTS, attention).to(device))
    return (Tokenizer(settings.tokenizer).eval().to(device),
            lambda attention: BidirectionalTransformer(settings.transformer, attention).eval().to(device))


def measure(name, pictures, report_pictures, batch=None, repeats=3):
    """All numbers of one preset, a dict."""
    settings, device, data = preset(name), best_device(), Cats()
    decoding = replace(settings.decoding, batch_size=batch or settings.decoding.batch_size)
    masked, holes = data.masked[:pictures], data.holes[:pictures]
    tokenizer, transformer_with = models(settings, device)
    counts, all_ways = {REPORT: min(report_pictures, len(masked))}, {}
    slow, gamma = transformer_with(ReportAttention), load_answers(SOLUTIONS, ["gamma_func"]).gamma_func("cosine")

    def one_by_one():
        generator = torch.Generator(device).manual_seed(0)
        for picture, hole in list(zip(masked.split(1), holes.split(1)))[:report_pictures]:
            report_decode(tokenizer, slow, picture, hidden_tokens(hole).to(device), gamma=gamma,
                          total_iter=decoding.total_iter, choice_temperature=decoding.choice_temperature,
                          generator=generator)

    def filled(answers, exact):
        transformer = transformer_with(answers.MultiHeadAttention)
        how = replace(decoding, exact=exact)
        return lambda: fill(masked, holes, tokenizer, transformer, answers, how, 0, progress=False)

    all_ways[REPORT] = one_by_one
    for way, folders, exact in ((PLAIN, SOLUTIONS, True), (EXACT, [FAST, SOLUTIONS], True),
                                (QUICK, [FAST, SOLUTIONS], False)):
        all_ways[way], counts[way] = filled(load_answers(folders), exact), len(masked)
    rounds = alternate(all_ways, repeats, warm_up=len(masked) < 100)
    each = {way: [one / counts[way] for one in seconds] for way, seconds in rounds.items()}
    z_indices = tokenizer.encode(masked)
    parts = {"encoding": seconds_of(lambda: tokenizer.encode(masked)) / len(masked),
             "decoding to pixels": seconds_of(lambda: tokenizer.decode(z_indices)) / len(masked)}
    return {
        "machine": machine(), "preset": name, "pictures": counts, "batch": decoding.batch_size,
        "total_iter": decoding.total_iter, "repeats": repeats, "seconds_a_picture": each,
        "pictures_a_second": {way: 1 / statistics.median(seconds) for way, seconds in each.items()},
        "times_as_fast_as_the_report": {way: times_as_fast(each, REPORT, way) for way in each},
        "parts_seconds_a_picture": parts | {
            f"{decoding.total_iter} steps": statistics.median(each[QUICK]) - sum(parts.values())}}


def show(found):
    """Print the numbers as they stand in docs/RESULTS.md."""
    print(f"{found['machine']}; preset {found['preset']}, T = {found['total_iter']}, batches of {found['batch']}, "
          f"median of {found['repeats']} runs\n")
    print(table(("decoding", "pictures timed", "pictures a second", "times as fast"), [
        (way, found["pictures"][way], f"{rate:.2f}", f"{found['times_as_fast_as_the_report'][way]:.2f}")
        for way, rate in found["pictures_a_second"].items()]))
    parts = found["parts_seconds_a_picture"]
    print(f"\n{QUICK}, a picture: " + ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in parts.items()))


def cost(pictures, seeds=range(5)):
    """The distance with cached keys and without: rows of hole, sampling, way, and both protocols' mean and sd."""
    data, answers, device = Cats(), load_answers([FAST, SOLUTIONS]), best_device()
    tokenizer, transformer_with = models(preset("cpu"), device)
    transformer, test, rows = transformer_with(answers.MultiHeadAttention), data.test[:pictures], []
    large = torch.zeros_like(data.holes[:pictures])
    large[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    for name, holes in (("the embedded holes", data.holes[:pictures]), ("large holes", large)):
        masked = paint(test, holes)
        compared = reference(test, holes, masked, tokenizer, load_extractor("lite0"), f"{data.key}-{name}-{pictures}")
        for sampling in SAMPLINGS:
            for way, exact in ((EXACT, True), (QUICK, False)):
                how = replace(preset("cpu").decoding, sampling=sampling, exact=exact)
                scores = spread([score(fill(masked, holes, tokenizer, transformer, answers, how, seed, progress=False),
                                       compared) for seed in seeds])
                rows.append((name, sampling, way, *(
                    f"{scores['mean'][one]:.2f} ± {scores['sd'][one]:.2f}" for one in ("distance", "distance_pasted"))))
                print(*rows[-1], sep=", ", flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", help="cpu (default) or report")
    parser.add_argument("--pictures", type=int, default=747, help="how many test pictures are filled")
    parser.add_argument("--report-pictures", type=int, default=8, help="how many of them by the report's loop")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way")
    parser.add_argument("--distance", action="store_true", help="the distance with cached keys and values, and exactly")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.distance:
        found = cost(options.pictures)
        print(f"{machine()}\n{table(('holes', 'sampling', 'decoding', 'course', 'pasted'), found)}")
        if options.json:
            write_json(options.json, found)
        raise SystemExit
    result = measure(options.preset, options.pictures, options.report_pictures, options.batch, options.repeats)
    show(result)
    if options.json:
        write_json(options.json, result)
