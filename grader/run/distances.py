"""The graded distance of a model that was handed in, and the share of the points that a distance earns.

In: a run's seed; a file of weights that nobody has looked at. Out: the Frechet distance (FD-Lite0) of fresh holes that
the reference decoding fills with it, or why the file is refused. `fid_decoding` is `lab3.metrics.decoding_score`.
`python -m benchmarks.grader_threshold` measures both.
"""

import json
import math
import operator
import stat
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lab3.common.files import InputError
from lab3.common.paths import ANSWERS, SHIPPED, WEIGHTS, cache_folder
from lab3.data.cats import Cats, choices, compose, fresh
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics.decoding_score import (
    Setting,
    check_tokens,
    decode,
    extractor,
    fresh_tokens,
    right_features,
    scene,
    tokenizer,
)
from lab3.metrics.distance import cached_features, distance, features
from lab3.model.transformer import BEFORE_OPTIONS, load_transformer
from lab3.presets import CODES
from lab3.training.record import HELD_OUT, held_out_loss, predict

MODEL = Setting((("categorical", 4.5),) * 2, 64, 0, 2)


@cache
def _held_out():
    """The tokens that a training notes the loss of its model on."""
    return tokenizer().encode(compose(choices("val")[:HELD_OUT]))


@cache
def test_features():
    """Features of the test pictures, from the lab's own cache."""
    return cached_features(Cats().test, extractor(), cache_folder(), f"{Cats().key}-{len(Cats().test)}")


@cache
def fresh_features(n, seed):
    """Features of n fresh pictures and of the test pictures after the first n."""
    found, test = features(compose(fresh(n, seed)), extractor()), test_features()
    return replace(test, values=np.concatenate([found.values, test.values[n:]]))


def prepare(seed, columns):
    """Fill the caches of these columns once before a batch of submissions; every call after that takes no time."""
    if "fid_decoding" in columns:
        right_features()
    if "fid_model" in columns:
        fresh_features(len(MODEL.batches) * MODEL.batch_size, seed)
        shipped_model(seed)
        _held_out()


LARGEST_FILE = 32 << 20  # bytes; the cpu preset's model has 4.7 MB in half precision, 9.3 MB in full
LARGEST_HEADER = 1 << 18  # bytes; the cpu preset's has 10 kB
LARGEST = {"dim": 384, "layers": 12, "hidden": 1536, "heads": 16}
LARGEST_PARAMETERS = 5_000_000  # twice the cpu preset's: time grows with it


def check_model(path):
    """Look at a file of weights before anything is built from it.

    Args:
        path: a file that nobody has looked at.

    Returns:
        The record of its training, whatever it is; None without one.

    Raises:
        InputError: it is no plain file, too large, no safetensors file, of no transformer of this lab or of one that
            is too large to be measured.
    """
    path = Path(path)
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{path.name}: not a plain file. Hand in the file that notebook 03 wrote.")
        if about.st_size > LARGEST_FILE:
            raise InputError(f"{path.name}: {about.st_size >> 20} MB, more than {LARGEST_FILE >> 20}. Train with the "
                             "cpu preset and hand in work/maskgit.safetensors.")
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(LARGEST_HEADER, about.st_size - 8):
                raise InputError(f"{path.name}: no safetensors file, or a damaged one. Copy it again.")
            header = json.loads(file.read(length))
            told = json.loads(header.pop("__metadata__")["about"])
            config = BEFORE_OPTIONS | told["config"]
            sizes = {name: config[name] for name in LARGEST}
            shapes = [one["shape"] for one in header.values()]
            if not all(type(size) is int and size >= 0 for shape in shapes for size in shape):
                raise ValueError("a shape that is none")
            types = {one["dtype"] for one in header.values()}
            rates = [config[name] for name in ("attn_drop", "dropout")]
            shape = (config["norm"], config["conv"], len(config["labels"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name}: no model of this lab ({type(error).__name__}). Hand in the file that notebook "
                         "03 wrote, work/maskgit.safetensors.") from None
    if told.get("kind") != "transformer" or not types <= {"F16", "BF16", "F32"}:
        raise InputError(f"{path.name}: holds no transformer of this lab. Hand in work/maskgit.safetensors.")
    if not all(type(size) is int and 1 <= size <= LARGEST[name] for name, size in sizes.items()) or not all(
            type(rate) in (int, float) and 0 <= rate < 1 for rate in rates) or sizes["dim"] % sizes["heads"] or (
            shape not in (("pre", True, 0), ("pre", False, 0), ("post", False, 0))):
        raise InputError(f"{path.name}: its configuration {sizes} is none that can be measured: at most {LARGEST}. "
                         "Train with the cpu preset.")
    if sum(math.prod(shape) for shape in shapes) > LARGEST_PARAMETERS:
        raise InputError(f"{path.name}: more than {LARGEST_PARAMETERS} parameters. Train with the cpu preset.")
    return told.get("record")


@cache
def shipped_model(seed):
    """The shipped model, and the logarithms of what it predicts on a run's pictures."""
    model = load_transformer(SHIPPED / WEIGHTS, TorchAttention)
    return model, predict(model, fresh_tokens(COMPARED, seed), seed)[0]


def likeness(model, seed):
    """How far a model's embeddings of the frequent codes lie to one another as the shipped model's do.

    Returns:
        The correlation of the cosines of pairs of codes: 1 for a copy, also one whose channels, heads or neurons are
        permuted, whose weights are scaled or whose other weights are trained again. Pairs that the shipped model holds
        for very alike or unlike are left out: such pairs every training finds.
    """
    codes = fresh_tokens(COMPARED, seed).flatten().bincount(minlength=CODES).argsort(descending=True)[:FREQUENT]
    rows, columns = torch.triu_indices(FREQUENT, FREQUENT, 1)
    cosines = []
    for one in (model, shipped_model(seed)[0]):
        embedding = one.token_embedding.weight.detach()[codes]
        embedding = embedding - embedding.mean(dim=0)  # what all codes share moves no probability
        embedding = F.normalize(embedding - embedding.mean(dim=1, keepdim=True))  # a norm takes each one's mean off
        cosines.append((embedding @ embedding.T)[rows, columns])
    found, shipped = torch.stack(cosines)
    far = (shipped - shipped.median()).abs()
    return float(torch.corrcoef(torch.stack([found, shipped])[:, far < far.quantile(ORDINARY)])[0, 1])


def overlap(log_p, log_q):
    """How far two models predict the same: 1 - the total variation of their probabilities, the mean over places.

    Args:
        log_p, log_q: (n, 1024) log-probabilities.
    """
    return float(torch.minimum(log_p, log_q).exp().sum(dim=-1).mean())


def fingerprint(log_p, seed):
    """What a model draws at some places with random numbers that depend on the seed alone: text, four digits a code.

    Two models draw the same code at a place with a probability of at least (1 - TV) / (1 + TV), where TV is the total
    variation of what they predict there (Bavarian et al., 2016, "The optimality of correlated sampling").
    """
    chosen = torch.linspace(0, len(log_p) - 1, DRAWN).long()
    waits = torch.empty(DRAWN, CODES).exponential_(generator=torch.Generator().manual_seed(seed)).log()
    return "".join(f"{code:04d}" for code in (log_p[chosen] - waits).argmax(dim=-1).tolist())


def check_record(record, loss):
    """Raise `InputError` unless a record of a training, as `lab3.training.record` writes it, fits the model's loss."""
    if record is None:
        raise InputError("holds no record of its training. Run the cell lab.train() of notebook 03 again, then hand in "
                         "work/maskgit.safetensors: where the training is still in work/, this adds the record alone.")
    try:
        steps, _ = zip(*record["curve"], strict=True)
        percent, held_out = zip(*record["held_out"], strict=True)
        fits = (all(map(operator.lt, steps, steps[1:])) and all(map(operator.lt, percent, percent[1:]))
                and held_out[-1] <= held_out[0] and abs(held_out[-1] - loss) <= LARGEST_DIFFERENCE * loss)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
        fits = False
    if not fits:
        raise InputError("the record of its training does not fit: steps must increase, losses must fall, and the last "
                         "loss must be this model's. Run the cell lab.train() of notebook 03 again and hand in "
                         "work/maskgit.safetensors as it writes it.")


COMPARED = 32  # pictures of a run that models are compared on
FREQUENT = 256  # codes whose embeddings are compared
ORDINARY = 0.7  # the share of the pairs of codes that count
DRAWN = 512  # places of a fingerprint
LARGEST_DIFFERENCE = 0.1  # of the loss in a record from that of the model, relative: half precision, other machines

# Measured by `python -m benchmarks.grader_threshold --compare`: docs/RESULTS.md, "Copies of the shipped model".
LARGEST_LIKENESS = 0.5
LARGEST_OVERLAP = 0.9


def model_score(path, seed, setting=MODEL):
    """The distance of a model that was handed in: the reference decoding fills fresh holes with it.

    Args:
        path: a safetensors file that nobody has looked at.
        seed: an int, the run's.
        setting: a `Setting`.

    Returns:
        (distance, fingerprint).

    Raises:
        InputError: the file cannot be used, it is the shipped model or close to it, or has no record of its training.
    """
    name, record = Path(path).name, check_model(path)
    try:
        model = load_transformer(path, TorchAttention)
    except InputError as error:
        raise InputError(str(error).replace(str(path), name)) from None
    log_p = predict(model, fresh_tokens(COMPARED, seed), seed)[0]
    if not log_p.isfinite().all():
        raise InputError(f"{name}: the model gives no finite numbers. Train it again.")
    if likeness(model, seed) > LARGEST_LIKENESS or overlap(log_p, shipped_model(seed)[1]) > LARGEST_OVERLAP:
        raise InputError(f"{name}: this is the model that comes with the lab, or nearly so. Hand in the model that you "
                         "trained with lab.train() in notebook 03.")
    try:
        check_record(record, held_out_loss(model, _held_out()))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    where = scene(seed, setting)
    try:
        filled = decode(where, model, reference_answers())
    except (RuntimeError, ValueError) as error:  # of weights that no training leaves
        raise InputError(f"{name}: nothing can be filled with it ({type(error).__name__}). Train it again.") from None
    check_tokens(filled, where)
    found = features(tokenizer().decode(filled), extractor())
    return distance(found, fresh_features(len(filled), seed)), fingerprint(log_p, seed)


@cache
def reference_answers():
    """The reference answers, those made for speed among them."""
    return load_answers(ANSWERS)


# Points.

def share(distance, thresholds):
    """The share of the points that a distance earns.

    Args:
        distance: a float.
        thresholds: a section of the rubric's thresholds: `tiers`, a list of {at_most, share} from the best to the
            least, and, where too low a distance is wrong too, `at_least`.

    Returns:
        A float in [0, 1].
    """
    if not distance >= thresholds.get("at_least", 0.0):
        return 0.0
    return next((tier["share"] for tier in thresholds["tiers"] if distance <= tier["at_most"]), 0.0)
