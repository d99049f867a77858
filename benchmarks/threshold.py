"""Which distance tells a right decoding from a wrong one: the reference decoding and common mistakes, each scored.

    OMP_NUM_THREADS=1 python -m benchmarks.threshold [--seeds 5] [--pictures N] [--only CASE ...] [--json FILE]

All fill the embedded test pictures with the kit's model at the notebooks' setting, codes drawn, and are scored as whole
decoded pictures. A mistake is a change of a few words in the reference answers; most are found in public solutions.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from lab3.common.files import write_json
from lab3.common.machine import best_device
from lab3.common.paths import SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.data.cats import Cats
from lab3.decoding.generate import halton_rank
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import link, run_answer
from lab3.exercises.table import EXERCISES
from lab3.metrics.distance import distance, features, load_extractor
from lab3.metrics.score import reference
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

PROBABILITIES = ("log_p.gather(1, chosen[:, None])[:, 0] +", "log_p.gather(1, chosen[:, None])[:, 0].exp() +")
GROWING = ("* (1 - ratio) * gumbel", "* (1 - gamma(ratio)) * gumbel")
RE_ENCODED = ("transformer, z, mask,", "transformer, z if t == 0 else re_encode(z), mask,")

# Name -> (changes of the decoding's settings, pairs of old and new words in the answers).
CASES = {
    "right": ({}, ()),
    "right, drawn otherwise": ({}, (  # the same distributions from other random numbers
        ("chosen = torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]",
         "chosen = (log_p - torch.rand(log_p.shape, generator=generator).log().neg().log()).argmax(dim=-1)"),
        ("torch.empty(len(log_p), device=log_p.device).exponential_(generator=generator)",
         "-torch.rand(mask.shape, generator=generator)[mask].log()"))),
    "one pass, argmax": ({"total_iter": 1, "sweet_spot": 1, "sampling": "argmax"}, ()),
    "one pass, drawn": ({"total_iter": 1, "sweet_spot": 1}, ()),
    "sweet_spot 2 of 8": ({"sweet_spot": 2}, ()),
    "noise on probabilities": ({}, (PROBABILITIES,)),
    "temperature grows": ({}, (GROWING,)),
    "re-encoded at each step": ({}, (RE_ENCODED,)),
    "order at random": ({"choice_temperature": 1e6}, ()),
    "right, but linear": ({"schedule": "linear"}, ()),
    "right, but square": ({"schedule": "square"}, ()),
    "right, but argmax": ({"sampling": "argmax"}, ()),
    "noise, growth, re-encoding, argmax": ({"sampling": "argmax"}, (PROBABILITIES, GROWING, RE_ENCODED)),
    "least sure kept first": ({}, (("(rank < stay[:, None])", "(rank >= (hidden_now - stay)[:, None])"),)),
    "top-k over the batch": ({}, (
        ("confidence.argsort(dim=1, stable=True).argsort(dim=1)",
         "confidence.flatten().argsort().argsort().view_as(mask)"),
        ("(rank < stay[:, None])", "(rank < stay.sum())"))),
    "no noise": ({"choice_temperature": 0.0}, ()),
    "nothing is kept": ({}, (("z, mask = inpainting(", "z, left = inpainting("),
                             ("history.append((z, mask))", "history.append((z, left))"))),
    "mask inverted": ({}, (("n_hidden = mask.sum(dim=1)", "mask = ~mask; n_hidden = mask.sum(dim=1)"),)),
    "mask token's logit kept": ({}, (("[mask][:, :mask_token_id].float()", "[mask].float()"),)),
    "known tokens drawn again": ({}, (("logits[mask][:, :mask_token_id]", "logits.flatten(0, 1)[:, :mask_token_id]"),
                                      ("z_predict[mask] = chosen", "z_predict = chosen.view_as(z_indices)"),
                                      ("confidence[mask] = sure", "confidence[mask] = sure.view_as(mask)[mask]"))),
}


def texts_with(changes):
    """The texts of the reference answers with some words changed, a dict; each change has its place in one of them."""
    texts = {name: (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8") for name in EXERCISES}
    for old, new in changes:
        places = [name for name, text in texts.items() if text.count(old) == 1]
        assert len(places) == 1, f"{old!r} stands in {places}"
        texts[places[0]] = texts[places[0]].replace(old, new)
    return texts


def answers_with(changes, tokenizer):
    """The reference answers with some words changed, as `texts_with` changes them."""
    texts = texts_with(changes)
    namespaces = {name: run_answer(name, text, SOLUTIONS / f"{name}.py") for name, text in texts.items()}
    namespaces["iterative_decode"]["re_encode"] = lambda z: tokenizer.encode(tokenizer.decode(z)).to(z.device)
    namespaces["inpainting"]["halton"] = halton_rank()
    return SimpleNamespace(**link(namespaces))


def measure(names, seeds, n):
    """Distances, a list a name: one number a seed."""
    data, device, decoding = Cats(), best_device(), DecodingConfig()
    tokenizer = load_tokenizer(SHIPPED / TOKENIZER).to(device)
    test, holes, masked = data.test[:n], data.holes[:n], data.masked[:n]
    anchors = reference(test, holes, masked, tokenizer, load_extractor("lite0"), f"{data.key}-{len(test)}")
    found = {}
    for name in names:
        settings, changes = CASES[name]
        answers = answers_with(changes, tokenizer)
        transformer = load_transformer(SHIPPED / WEIGHTS, answers.MultiHeadAttention).to(device)
        began = time.perf_counter()
        found[name] = [
            distance(features(fill(masked, holes, tokenizer, transformer, answers, replace(decoding, **settings), seed,
                                   progress=False).decoded, anchors.extractor), anchors.features)
            for seed in seeds]
        print(f"{name:36s}{statistics.mean(found[name]):8.2f} ± {statistics.stdev(found[name]):.2f}   "
              f"{min(found[name]):.2f} to {max(found[name]):.2f}   {time.perf_counter() - began:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on; at least 2")
    parser.add_argument("--pictures", type=int, help="the first so many; the threshold holds for all 747")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.only, range(options.seeds), options.pictures)
    if options.json:
        write_json(options.json, result)
