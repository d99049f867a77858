"""The two graded distances: of a decoding on given weights, and of a model that was handed in.

In: a run's seed; the tokens that a student's decoding gave, or a file of weights. Out: a Frechet distance (FD-Lite0),
and the share of the points that it earns by the rubric's thresholds.

A right decoding draws at random, so its distance varies. `DECODING` is set so that mistakes cost several times that.
Three rows in four have their whole picture hidden: what one step does wrong leads all later ones astray, and only these
pictures are measured, against right decodings of whole pictures (`right.safetensors`). The first batch takes the
likeliest codes, and only the noise of the order makes its pictures differ: noise that is missing, grows or is added to
probabilities gives another variety. Its temperature, 0.2, is that of differences between the surest tokens'
log-probabilities. The second batch draws, without noise: pictures that differ less than they should were not drawn.
The other rows have fresh holes: their known tokens have to come back unchanged, and no batch has rows of one size, so
ranks taken over a batch are others than over rows. `python -m benchmarks.grader_threshold` measures all of it.
"""

import json
import math
import operator
import stat
import struct
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lab3.common.files import InputError, load_tensors, sha256
from lab3.common.machine import autocast
from lab3.common.paths import ANSWERS, SHIPPED, TOKENIZER, WEIGHTS, cache_folder
from lab3.data.cats import Cats, choices, compose, fresh
from lab3.data.masks import hidden_tokens, random_holes
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics.distance import cached_features, distance, features, load_extractor
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import BEFORE_OPTIONS, MASK_TOKEN_ID, load_transformer
from lab3.presets import CODES
from lab3.training.record import HELD_OUT, held_out_loss, predict

RIGHT = Path(__file__).parent / "right.safetensors"  # tokens of right decodings of whole pictures


@dataclass(frozen=True)
class Setting:
    """How pictures are filled for a distance; all of it is part of what thresholds were measured with."""

    batches: tuple  # (sampling, choice temperature) of each
    batch_size: int  # rows a batch
    whole: int  # the last so many rows of each batch have all their tokens hidden; 0: none
    total_iter: int
    schedule: str = "cosine"


DECODING = Setting((("argmax", 0.2), ("categorical", 0.0)), 64, 48, 6)
MODEL = Setting((("categorical", 4.5),) * 2, 64, 0, 2)


@dataclass(frozen=True)
class Scene:
    """What is to be filled."""

    z_indices: torch.Tensor  # (N, 256) long, 0 in hidden places
    mask: torch.Tensor  # (N, 256) bool, True means hidden
    setting: Setting
    seed: int

    def calls(self):
        """The arguments of each batch's `iterative_decode`, without transformer and gamma: (z_indices, mask, options).

        `options` holds a seed for the generator instead of the generator.
        """
        size = self.setting.batch_size
        for number, (sampling, temperature) in enumerate(self.setting.batches):
            rows = slice(number * size, (number + 1) * size)
            yield self.z_indices[rows], self.mask[rows], {
                "total_iter": self.setting.total_iter, "sweet_spot": self.setting.total_iter,
                "choice_temperature": temperature, "mask_token_id": MASK_TOKEN_ID, "sampling": sampling,
                "seed": self.seed + number}

    @property
    def measured(self):
        """(N,) bool, the rows that are hidden whole."""
        return self.mask.all(dim=1)


@cache
def tokenizer():
    return load_tokenizer(SHIPPED / TOKENIZER)


@cache
def extractor():
    return load_extractor("lite0")


@cache
def fresh_tokens(n, seed):
    """The tokens of n cats that no split holds, others for another seed: (n, 256) long."""
    return tokenizer().encode(compose(fresh(n, seed)))


@cache
def _held_out():
    """The tokens that a training notes the loss of its model on."""
    return tokenizer().encode(compose(choices("val")[:HELD_OUT]))


def scene(seed, setting=DECODING):
    """The tokens of fresh cats with fresh holes.

    Args:
        seed: an int, the run's; it fixes the cats, the holes and the generators' seeds.
        setting: a `Setting`.

    Returns:
        A `Scene`. The hidden tokens are not in it.
    """
    n = len(setting.batches) * setting.batch_size
    mask = hidden_tokens(random_holes(n, seed))
    mask |= (torch.arange(n) % setting.batch_size >= setting.batch_size - setting.whole)[:, None]
    return Scene(fresh_tokens(n, seed).masked_fill(mask, 0), mask, setting, seed)


@torch.no_grad()
def decode(scene, transformer, answers):
    """Fill a scene.

    Args:
        scene: a `Scene`.
        transformer: in eval mode, on the CPU.
        answers: with `gamma_func` and `iterative_decode`.

    Returns:
        (N, 256) tokens, whatever the answers give.
    """
    filled = []
    with autocast("cpu"):
        for z_indices, mask, options in scene.calls():
            generator = torch.Generator().manual_seed(options.pop("seed"))
            z_final, _ = answers.iterative_decode(
                transformer, z_indices, mask, gamma=answers.gamma_func(scene.setting.schedule), generator=generator,
                **options)
            filled.append(z_final)
    return torch.cat(filled)


def check_tokens(z_final, scene):
    """Raise `InputError` unless these can be tokens of a filled scene: shape, type, range, known ones unchanged."""
    if not isinstance(z_final, torch.Tensor) or z_final.shape != scene.mask.shape:
        found = tuple(z_final.shape) if isinstance(z_final, torch.Tensor) else type(z_final).__name__
        raise InputError(f"The filled tokens must be a tensor of shape {tuple(scene.mask.shape)}, not {found}.")
    if z_final.dtype != torch.long:
        raise InputError(f"The filled tokens must be of type torch.int64, not {z_final.dtype}.")
    outside = (z_final < 0) | (z_final >= CODES)
    if outside.any():
        raise InputError(f"The filled tokens must lie in 0 ... {CODES - 1}; some do not. "
                         f"{MASK_TOKEN_ID} is the mask token.")
    changed = int(((z_final != scene.z_indices) & ~scene.mask).sum())
    if changed:
        raise InputError(f"{changed} of {int((~scene.mask).sum())} known tokens are changed: they must stay.")


def decode_score(z_final, scene, against=None):
    """The distance of a filled scene.

    Args:
        z_final: (N, 256) long, each in 0 ... 1023, the known tokens unchanged.
        scene: the `Scene` that was filled.
        against: `Features` to compare with, a list, one a batch; None: right decodings of such batches.

    Returns:
        The mean of the batches' distances, their measured rows alone. Where no row is hidden whole, the distance of
        all rows to the test pictures, the first of them as fresh as those filled.

    Raises:
        InputError: the tokens cannot be those of a filled scene.
    """
    check_tokens(z_final, scene)
    if not scene.setting.whole:
        return distance(features(tokenizer().decode(z_final), extractor()), fresh_features(len(z_final), scene.seed))
    size, found = scene.setting.batch_size, []
    for z, measured, right in zip(z_final.split(size), scene.measured.split(size), against or right_features(),
                                  strict=True):
        found.append(distance(features(tokenizer().decode(z[measured]), extractor()), right))
    return sum(found) / len(found)


@cache
def right_features():
    """Features of right decodings of whole pictures, a list, one a batch; computed once and then cached."""
    right, key = load_tensors(RIGHT)[0], sha256(RIGHT)[:16]
    return [cached_features(partial(tokenizer().decode, right[f"batch {number}"].long()), extractor(), cache_folder(),
                            f"right-{key}-{number}") for number in range(len(right))]


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


# A model that was handed in.

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
    return decode_score(filled, where), fingerprint(log_p, seed)


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
