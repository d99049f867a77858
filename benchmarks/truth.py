"""How reliably cats are named: composed, redrawn by the tokenizer, with holes, and pictures that are not a cat.

    OMP_NUM_THREADS=1 python -m benchmarks.truth [--cats 10000] [--json FILE]

Encodes and decodes all cats and the 3,000 of `val`: about eight minutes on one core.
"""

import argparse
import time
from pathlib import Path

import torch

from lab3.common.files import write_json
from lab3.common.paths import SHIPPED, TOKENIZER
from lab3.data.cats import Cats, choices, compose
from lab3.metrics.nearest_cat import SIZES
from lab3.metrics.truth import LIMITS, PARTS, hide, identify, posterior, residual_limits
from lab3.model.tokenizer import load_tokenizer

MOUTH = (slice(None), slice(None), slice(38, 50), slice(34, 58))


def timed(what, *arguments):
    """(result, calls' pictures a second of processor time)."""
    began = time.process_time()
    result = what(*arguments)
    return result, round(len(arguments[0]) / (time.process_time() - began))


def measure(n, tokenizer):
    """All numbers, a dict of dicts."""
    def redraw(pictures):
        return tokenizer.decode(tokenizer.encode(pictures))

    generator, data, result = torch.Generator().manual_seed(2026), Cats(), {}
    cats = torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], 1)
    identify(data.test[:1])  # the layers' products, once

    def name(title, pictures, truth=None, holes=None):
        named, rate = timed(identify, pictures, holes)
        numbers = {"n": len(pictures), "pictures_a_second": rate, "valid": named.valid.float().mean().item()}
        if truth is None:
            numbers |= {f"torn_{part}": share for part, share in zip(PARTS, named.torn.float().mean(0).tolist())}
        else:
            right = (named.values == hide(truth)) | (~named.seen if holes is not None else False)
            numbers["all_parts_right"] = right.all(1).float().mean().item()
            numbers |= {f"wrong_{part}": count for part, count in zip(PARTS, (~right).sum(0).tolist())}
        result[title] = numbers

    name("composed", compose(cats), cats)
    name("redrawn", redraw(compose(cats)), cats)
    redrawn_val = redraw(data.val)
    name("val, redrawn", redrawn_val, choices("val"))
    name("test, with holes", data.masked, choices("test"), data.holes)
    limits = residual_limits(redrawn_val).tolist()
    result["limits"] = {part: limit for part, limit in zip(PARTS, limits)} | {"shipped": LIMITS.tolist()}
    first, second = data.val[:300], data.val[300:600]
    glued, pasted = torch.cat([first[:, :, :32], second[:, :, 32:]], 2), first.clone()
    pasted[MOUTH] = second[MOUTH]
    for title, pictures in (("top and bottom of two cats", glued), ("another cat's mouth", pasted)):
        name(title, pictures)
        name(f"{title}, redrawn", redraw(pictures))
    name("noise", torch.randint(0, 256, (300, 3, 64, 64), generator=generator, dtype=torch.uint8))
    found, rate = timed(posterior, data.masked, data.holes)
    certain = (found.amax(2) == 1).all(1).float().mean().item()
    result["posterior of the test holes"] = {"pictures_a_second": rate, "one_cat_possible": certain}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cats", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = measure(options.cats, load_tokenizer(SHIPPED / TOKENIZER))
    for title, numbers in measured.items():
        print(f"{title}: " + ", ".join(f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}"
                                       for key, value in numbers.items()))
    if options.json:
        write_json(options.json, measured)
