"""How fast training is: the report's loop, the reference answers and the fast ones, and what the machine could do.

    OMP_NUM_THREADS=1 python -m benchmarks.training [--preset cpu] [--batch N] [--steps N] [--repeats N] [--compile]
                                                    [--json FILE]

The same transformer, the same pictures, turn by turn. The report's loop gets its pictures decoded, from memory; the
others get tokens, whose encoding, done once for a whole training, is timed beside it. The tokenizer of `report` has
random weights: its speed does not depend on them.

FLOPs: two for each multiplication with its addition in the transformer's matrix products, attention's included; the
head's for hidden tokens alone; three times the forward pass for a step. The matrix rate is measured on the forward
products of the model's layers at the batch's size, in the number format that training uses.
"""

import argparse
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.report_loop import ReportAttention, report_train_epoch
from benchmarks.timing import alternate, finished, machine, seconds_of, table, times_as_fast
from lab3.common.files import write_json
from lab3.common.machine import best_device, bfloat16_pays
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER
from lab3.data.cats import Cats
from lab3.exercises.answers import load_answers
from lab3.model.tokenizer import Tokenizer, load_tokenizer
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer
from lab3.presets import CODES, TOKENS, preset
from lab3.training.fit import Batches

REPORT, PLAIN, QUICK, COMPILED = "the report's loop", "reference answers", "fast answers", "fast answers, compiled"
# Kinds of work, each with parts of the names that the profiler gives its operators and kernels.
GROUPS = {
    "attention": ("attention", "flash", "fmha", "bmm", "softmax_backward_data", "aten::_softmax"),
    "convolutions": ("conv",),
    "loss": ("log_softmax", "nll_loss"),
    "optimizer": ("adam",),
    "matrix products": ("aten::mm", "addmm", "gemm", "nvjet", "cutlass", "xmma"),
    "norms, activations, dropout": ("layer_norm", "gelu", "dropout", "bernoulli"),
}
OTHER = "sums, copies and the rest"


def train_flops(config, pictures):
    """FLOPs of training on so many pictures, half of whose tokens are hidden, as the file's first lines count them."""
    D = config.dim
    layer = 4 * D * D + 2 * D * config.hidden + 2 * TOKENS * D  # multiplications a token: projections, MLP, attention
    head = 0.5 * (D * D + D * (CODES + 1))
    return 3 * 2 * pictures * TOKENS * (config.layers * layer + head)


def matrix_rate(config, batch, dtype, device):
    """FLOP/s of the matrix products of one layer of the model: projections and MLP, in the shares that it has of them.

    Args:
        config: a `TransformerConfig`.
        batch: pictures in a batch.
        dtype: the number format.
        device: where.
    """
    shapes = [(config.dim, config.dim)] * 4 + [(config.dim, config.hidden), (config.hidden, config.dim)]
    seconds = flops = 0
    for rows, columns in shapes:
        a = torch.randn(batch * TOKENS, rows, device=device).to(dtype)
        b = torch.randn(rows, columns, device=device).to(dtype)
        a @ b
        seconds += statistics.median(seconds_of(lambda: a @ b) for _ in range(5))
        flops += 2 * batch * TOKENS * rows * columns
    return flops / seconds


def ways(settings, pictures, z_indices, tokenizer, batch, device, compiled):
    """The ways of training on all pictures once: a dict, name -> function."""
    order = torch.arange(len(pictures), device=device)

    def answered(answers, compile_it=False):
        torch.manual_seed(settings.training.seed)
        transformer = BidirectionalTransformer(settings.transformer, answers.MultiHeadAttention).to(device)
        if compile_it:
            compile_layers(transformer)
        optimizer, scheduler = answers.configure_optimizers(transformer, settings.training.lr, 10_000, 100)
        return lambda: answers.train_one_epoch(
            transformer, Batches(z_indices, order, batch), optimizer, scheduler, mask_token_id=MASK_TOKEN_ID,
            device=device, generator=torch.Generator(device).manual_seed(0))

    transformer = BidirectionalTransformer(settings.transformer, ReportAttention).to(device)
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=settings.training.lr, betas=(0.9, 0.95))
    found = {
        REPORT: lambda: report_train_epoch(
            tokenizer, transformer, pictures.split(batch), optimizer, device=device,
            generator=torch.Generator(device).manual_seed(0)),
        PLAIN: answered(load_answers(SOLUTIONS)), QUICK: answered(load_answers([FAST, SOLUTIONS]))}
    return found | ({COMPILED: answered(load_answers([FAST, SOLUTIONS]), True)} if compiled else {})


def compile_layers(transformer):
    """Compile the layers, whose shapes are always the same; the head's follow the number of hidden tokens."""
    answer = type(transformer.layers[0].attention).forward
    module = sys.modules[answer.__module__] = ModuleType(answer.__module__)  # where the compiler looks
    vars(module).update(answer.__globals__)
    for layer in transformer.layers:
        layer.compile()


def shares(way, device):
    """Where the time of one run goes: a dict, kind of work -> its share of the time of all operators."""
    way()
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as seen:
        way()
        finished()
    found = dict.fromkeys([*GROUPS, OTHER], 0.0)
    for one in seen.key_averages():
        spent = one.self_device_time_total if device.type == "cuda" else one.self_cpu_time_total
        name = one.key.lower()
        found[next((group for group, words in GROUPS.items() if any(word in name for word in words)), OTHER)] += spent
    return {group: spent / sum(found.values()) for group, spent in found.items()}


def measure(name, batch=None, steps=3, repeats=5, compiled=False):
    """All numbers of one preset, a dict."""
    settings, device = preset(name), best_device()
    batch = batch or settings.training.batch_size
    pictures = Cats().train[:batch * steps]
    tokenizer = Tokenizer(settings.tokenizer).eval() if name == "report" else load_tokenizer(SHIPPED / TOKENIZER)
    tokenizer.to(device)
    encoding = seconds_of(lambda: tokenizer.encode(pictures)) / len(pictures)
    z_indices = tokenizer.encode(pictures).to(torch.int16).to(device)
    all_ways = ways(settings, pictures, z_indices, tokenizer, batch, device, compiled)
    first = {way: seconds_of(run) for way, run in all_ways.items()}
    times = alternate(all_ways, repeats, warm_up=False)
    rates = {way: len(pictures) / statistics.median(seconds) for way, seconds in times.items()}
    dtype = torch.bfloat16 if bfloat16_pays(device.type) else torch.float32
    rate = matrix_rate(settings.transformer, batch, dtype, device)
    reached = train_flops(settings.transformer, 1) * rates[QUICK]
    return {
        "machine": machine(), "preset": name, "transformer": asdict(settings.transformer), "batch": batch,
        "steps": steps, "repeats": repeats, "first_seconds": first, "seconds": times, "pictures_a_second": rates,
        "times_as_fast_as_the_report": {way: times_as_fast(times, REPORT, way) for way in times},
        "encoding_seconds_a_picture": encoding, "epochs": settings.training.epochs,
        "number_format": str(dtype).removeprefix("torch."), "flops_a_picture": train_flops(settings.transformer, 1),
        "matrix_flops_a_second": rate, "training_flops_a_second": reached, "share_of_matrix_rate": reached / rate,
        "shares_of_time": {way: shares(all_ways[way], device) for way in (REPORT, QUICK)}}


def show(found):
    """Print the numbers as they stand in docs/RESULTS.md."""
    print(f"{found['machine']}; preset {found['preset']}, batches of {found['batch']}, "
          f"median of {found['repeats']} runs of {found['steps']} batches\n")
    print(table(("training", "pictures a second", "times as fast"), [
        (way, f"{rate:.2f}", f"{found['times_as_fast_as_the_report'][way]:.2f}")
        for way, rate in found["pictures_a_second"].items()]))
    if COMPILED in found["seconds"]:
        lost = found["first_seconds"][COMPILED] - statistics.median(found["seconds"][COMPILED])
        print(f"\nCompiling takes {lost:.0f} s.")
    once = found["encoding_seconds_a_picture"] * found["pictures_a_second"][QUICK] / found["epochs"]
    print(f"\nEncoding the pictures once adds {100 * once:.1f} % to a training of {found['epochs']} epochs.")
    print(f"Matrix products, {found['number_format']}: {found['matrix_flops_a_second'] / 1e9:.1f} GFLOP/s; "
          f"{QUICK}: {found['training_flops_a_second'] / 1e9:.1f} GFLOP/s, "
          f"{100 * found['share_of_matrix_rate']:.0f} % of it.\n")
    print(table(("share of the time", *found["shares_of_time"]), [
        (group, *(f"{100 * one[group]:.0f} %" for one in found["shares_of_time"].values()))
        for group in (*GROUPS, OTHER)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu", help="cpu (default) or report")
    parser.add_argument("--batch", type=int, help="default: the preset's; on a CPU, report needs a small one")
    parser.add_argument("--steps", type=int, default=3, help="batches a run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way")
    parser.add_argument("--compile", action="store_true", help="time the fast answers under torch.compile too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.preset, options.batch, options.steps, options.repeats, options.compile)
    show(result)
    if options.json:
        write_json(options.json, result)
