"""The public checks: right answers pass, however they are written, and each mistake is called by its name.

In: the reference answers, and each of them with one mistake put in. What must come out is the message's likely reason.
"""

import inspect
import io
import linecache
import math
import random
import re
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import ROOT
from torch import nn
from torch.nn import functional as F

import lab3
from lab3.common.files import InputError
from lab3.exercises.answers import load_answers
from lab3.exercises.checks import CHECKS, CheckFailed, Report, check, tools
from lab3.exercises.table import ALL_EXERCISES as EXERCISES
from lab3.exercises.table import IMPORTS

WORK = ROOT / "solutions" / "work"
TEXTS = {exercise: (WORK / f"{exercise}.py").read_text() for exercise in EXERCISES}
REFERENCE = vars(load_answers(WORK, EXERCISES))


def run(exercise, text, **others):
    """The namespace in which an answer ran, with the other reference answers in it."""
    path = f"<{exercise}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    namespace = {"__name__": "answer"} | REFERENCE | others
    exec(compile(text, path, "exec"), namespace)
    return namespace


def changed(exercise, *changes):
    """The reference answer's text with replacements (old, new)."""
    text = TEXTS[exercise]
    for old, new in changes:
        assert old in text, f"not in the answer to {exercise}: {old}"
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("exercise", EXERCISES)
def test_reference_answers_pass_quickly(exercise):
    if exercise == "configure_optimizers":
        torch.optim.AdamW([nn.Parameter(torch.zeros(1))])  # the first optimizer of a process loads much of PyTorch
    namespace, start = run(exercise, TEXTS[exercise]), time.process_time()
    report = check(exercise, namespace)
    assert time.process_time() - start < 2
    assert report == Report(exercise, True, True, report.message), report.message
    assert re.fullmatch(rf"\[OK\]   {exercise}: .+ \(\d+ checks\)", report.message) and len(report.message) < 110


@pytest.mark.parametrize("seed", [
    pytest.param(seed, marks=[pytest.mark.nightly] * (seed >= 4)) for seed in range(20)])
def test_reference_answers_pass_whatever_the_seed(seed, monkeypatch):
    """Other global states, and other draws inside the checks too: their bounds leave chance no room."""
    torch.manual_seed(seed)
    monkeypatch.setattr(tools, "SEED", 1000 * seed)
    for exercise in EXERCISES:
        report = check(exercise, run(exercise, TEXTS[exercise]))
        assert report.passed, report.message


# Right answers in other styles

STYLES = {}


def style(exercise):
    """Note a right answer, a function or class of this file."""
    def note(answer):
        STYLES[f"{exercise}-{answer.__name__}"] = (exercise, answer)
        return answer

    return note


@style("multi_head_attention")
class Einsum(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        if dim % num_heads != 0:
            raise ValueError("dim is no multiple of num_heads")
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(dim, dim))
        self.attn_drop, self.h = nn.Dropout(attn_drop), num_heads

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (self.h, -1)) for layer in (self.query, self.key, self.value))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(q.shape[-1])
        weights = F.dropout(F.softmax(scores, -1), self.attn_drop.p, self.training)
        return self.output(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


@style("multi_head_attention")
class HeadByHead(Einsum):
    def forward(self, x):
        parts = []
        for q, k, v in zip(*(layer(x).chunk(self.h, dim=-1) for layer in (self.query, self.key, self.value)),
                           strict=True):
            weights = torch.softmax(torch.bmm(q, k.mT) / q.shape[-1] ** 0.5, dim=2)
            parts.append(self.attn_drop(weights) @ v)
        return self.output(torch.cat(parts, dim=-1))


@style("sample_mask")
def sample_mask_by_scatter(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
    if prob_type not in {"topk", "bernoulli"}:
        raise ValueError("prob_type: topk or bernoulli")
    if ratio is None:
        ratios = torch.rand(batch, generator=generator, device=device).tolist()
    else:
        ratios = ratio.double().expand(batch).tolist() if torch.is_tensor(ratio) else [float(ratio)] * batch
    if any(not 0 <= one <= 1 for one in ratios):
        raise ValueError("ratio: 0 to 1")
    mask = torch.zeros(batch, tokens, dtype=torch.bool, device=device)
    for b in range(batch):
        if prob_type == "bernoulli":
            p = torch.full((tokens,), ratios[b], device=device)
            mask[b] = torch.bernoulli(p, generator=generator).bool()
        else:
            places = torch.randperm(tokens, generator=generator, device=device)
            mask[b].scatter_(0, places[:max(1, math.ceil(ratios[b] * tokens))], True)
    return mask


@style("masked_forward")
def masked_forward_by_where(transformer, z_indices, mask, mask_token_id):
    inputs = z_indices.clone()
    inputs[mask] = mask_token_id
    return transformer(inputs)[:, :, :-1], z_indices.clone()


@style("mvtm_loss")
def mvtm_loss_weighted(logits, targets, mask=None, label_smoothing=0.0):
    each = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none", label_smoothing=label_smoothing)
    if mask is None:
        return each.mean()
    return (each * mask).sum() / mask.sum().clamp(min=1)


@style("configure_optimizers")
def configure_by_hand(model, lr, total_steps, warmup_steps, eta_min=0.0):
    if total_steps < 1 or warmup_steps < 0 or warmup_steps > total_steps:
        raise ValueError(f"bad total_steps {total_steps} or warmup_steps {warmup_steps}")
    optimizer = torch.optim.AdamW([{"params": [one]} for one in model.parameters()], lr, betas=(0.9, 0.95))

    def factor(s):
        if s < warmup_steps:
            return s / warmup_steps
        p = min(1.0, (s - warmup_steps) / max(1, total_steps - warmup_steps))
        if s >= total_steps:
            return eta_min
        return eta_min + (1 - eta_min) * np.cos(np.pi * p / 2) ** 2

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=factor)


@style("train_one_epoch")
def train_plainly(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    transformer.train()
    scaler = scaler if scaler is not None else torch.amp.GradScaler("cpu", enabled=False)
    total, count = 0.0, 0
    for batch in loader:
        tokens = batch.to(device)
        optimizer.zero_grad()
        B, T = tokens.shape
        mask = sample_mask(B, T, generator=generator, device=device)  # noqa: F821
        with lab3.autocast(device):
            logits, targets = masked_forward(transformer, tokens, mask, mask_token_id)  # noqa: F821
        loss = mvtm_loss(logits, targets, mask=mask)  # noqa: F821
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        total, count = total + loss.item(), count + 1
        print("loss", loss.item())
    if count == 0:
        raise ValueError("the loader is empty")
    return total / count


@style("eval_one_epoch")
@torch.inference_mode()
def evaluate_plainly(transformer, loader, *, mask_token_id, device, generator=None):
    was = {name: module.training for name, module in transformer.named_modules()}
    transformer.eval()
    try:
        values = []
        for tokens in loader:
            mask = sample_mask(len(tokens), tokens.size(1), generator=generator, device=device)  # noqa: F821
            with lab3.autocast(device):
                logits, targets = masked_forward(transformer, tokens, mask, mask_token_id)  # noqa: F821
            values.append(float(mvtm_loss(logits, targets, mask)))  # noqa: F821
        if not values:
            raise ValueError("loader")
        return float(np.mean(values))
    finally:
        for name, module in transformer.named_modules():
            module.train(was[name]) if not list(module.children()) else setattr(module, "training", was[name])


@style("gamma_func")
def gamma_by_branches(mode="cosine"):
    def gamma(ratio):
        r = np.asarray(ratio, dtype=float)
        value = 1 - r if mode == "linear" else 1 - r * r if mode == "square" else np.cos(r * np.pi / 2)
        return value if isinstance(ratio, np.ndarray) else float(value)

    if mode not in ("linear", "cosine", "square"):
        raise ValueError("mode: linear, cosine or square")
    return gamma


def step_by_loops(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
                  sampling="categorical", generator=None):
    """Gumbel-max sampling, and each row on its own."""
    if not 0 < ratio <= 1:
        raise ValueError("ratio")
    if sampling not in ("categorical", "argmax"):
        raise ValueError("sampling")

    def gumbel(*shape):
        return -torch.log(-torch.log(torch.rand(*shape, generator=generator).clamp(1e-9, 1 - 1e-7)))

    logits = transformer(torch.where(mask, mask_token_id, z_indices))[:, :, :mask_token_id]
    log_p = torch.log_softmax(logits.float(), dim=2)
    drawn = log_p + gumbel(*log_p.shape) if sampling == "categorical" else log_p
    z_predict = torch.where(mask, drawn.argmax(dim=2), z_indices)
    next_mask = torch.zeros_like(mask)
    for b in range(len(mask)):
        places = mask[b].nonzero()[:, 0]
        if len(places) == 0:
            continue
        sure = log_p[b, places, z_predict[b, places]] + choice_temperature * (1 - ratio) * gumbel(len(places))
        keep = 0 if ratio == 1 else min(math.floor(gamma(ratio) * int(n_hidden[b])), len(places) - 1)
        next_mask[b, places[sure.topk(keep, largest=False).indices]] = True
    return z_predict, next_mask


@style("inpainting")
def inpainting_by_loops(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
                        sampling="categorical", generator=None):
    return helper(transformer, z_indices, mask, ratio, n_hidden, gamma=gamma,  # noqa: F821
                  choice_temperature=choice_temperature, mask_token_id=mask_token_id, sampling=sampling,
                  generator=generator)


@style("iterative_decode")
def decode_alone(transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
                 mask_token_id, sampling="categorical", generator=None):
    """Without inpainting, and without the transformer where nothing is hidden."""
    if total_iter < 1:
        raise ValueError("total_iter")
    if sweet_spot is not None and not 1 <= sweet_spot <= total_iter:
        raise ValueError("sweet_spot")
    if sampling not in ("categorical", "argmax"):
        raise ValueError("sampling")
    n_hidden, z, history = mask.sum(dim=1), z_indices.clone(), []
    for t in range(sweet_spot or total_iter):
        if mask.any():
            z, mask = helper(transformer, z, mask, (t + 1) / total_iter, n_hidden, gamma=gamma,  # noqa: F821
                             choice_temperature=choice_temperature, mask_token_id=mask_token_id, sampling=sampling,
                             generator=generator)
        history.append((z.clone(), mask.clone()))
    return z, history


@style("frechet_distance")
def distance_by_sqrtm(mu1, sigma1, mu2, sigma2):
    d = mu1.size
    if mu1.shape != (d,) or mu2.shape != (d,) or sigma1.shape != (d, d) or sigma2.shape != (d, d):
        raise ValueError("mu or sigma of another shape")
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    if not np.isfinite(root).all():
        root = scipy.linalg.sqrtm((sigma1 + 1e-9 * np.eye(d)) @ (sigma2 + 1e-9 * np.eye(d)))
    return np.linalg.norm(mu1 - mu2) ** 2 + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root).real


@style("frechet_distance")
def distance_by_eigenvalues(mu1, sigma1, mu2, sigma2):
    if not mu1.shape == mu2.shape == sigma1.shape[:1] or sigma1.shape != sigma2.shape != (len(mu1),) * 2:
        raise ValueError("mu")
    if sigma1.shape != (len(mu1), len(mu1)) or sigma2.shape != sigma1.shape:
        raise ValueError("sigma")
    values = np.linalg.eigvals(sigma1 @ sigma2)
    trace = np.sqrt(values.astype(complex)).real.sum()
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2) - 2 * trace)


@pytest.mark.parametrize("name", STYLES)
def test_right_answers_in_other_styles_pass(name):
    exercise, answer = STYLES[name]
    report = check(exercise, own(exercise, answer))
    assert report.passed, report.message


def own(exercise, answer):
    """The namespace in which a function or class of this file ran as the answer."""
    text = "import scipy.linalg\n" + IMPORTS
    for one in inspect.getmro(answer)[::-1] if inspect.isclass(answer) else [answer]:
        if one.__module__ == __name__:
            text += re.sub(r"^@style.*\n", "", inspect.getsource(one))
    namespace = run(exercise, f"{text}\n{EXERCISES[exercise].defines} = {answer.__name__}\n")
    namespace["helper"] = step_by_loops
    return namespace


# Mistakes: exercise, the likely reason (a regular expression), replacements in the reference answer

ATTENTION, MASK, FORWARD, LOSS = "multi_head_attention", "sample_mask", "masked_forward", "mvtm_loss"
OPTIMIZER, TRAIN, EVAL, GAMMA = "configure_optimizers", "train_one_epoch", "eval_one_epoch", "gamma_func"
STEP, DECODE, DISTANCE, GUIDED = "inpainting", "iterative_decode", "frechet_distance", "guided_logits"

RATIO_ROWS = "ratio = torch.rand(batch, generator=generator, device=device)"
TOP_K = "    rank = scores.argsort(dim=1).argsort(dim=1)\n    return rank < n_hidden"
CROSS = ("F.cross_entropy(logits.reshape(-1, V).float(), targets.reshape(-1),\n"
         + " " * 27 + "label_smoothing=label_smoothing)")
SELECT = "    if mask is not None:\n        logits, targets = logits[mask], targets[mask]  # (n, V), (n,)\n"
COSINE = "eta_min + (1 - eta_min) * 0.5 * (1 + math.cos(math.pi * p))"
RANK = "    rank = confidence.argsort(dim=1, stable=True).argsort(dim=1)\n"
STAY = "    stay = torch.floor(float(gamma(ratio)) * n_hidden.to(mask.device, torch.float64)).long()\n"
NOISE = "choice_temperature * (1 - ratio) * gumbel"
ROOT1 = "root1 = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T"

MISTAKES = [
    (ATTENTION, "not divided by the root", ("(q * d**-0.5)", "q")),
    (ATTENTION, "root of dim: the width of one head", ("d**-0.5", "D**-0.5")),
    (ATTENTION, "without its root", ("d**-0.5", "d**-1")),
    (ATTENTION, "root of the number of heads", ("d**-0.5", "self.num_heads**-0.5")),
    (ATTENTION, "multiplied by the root", ("d**-0.5", "d**0.5")),
    (ATTENTION, "runs over the queries", ("softmax(dim=-1)", "softmax(dim=-2)")),
    (ATTENTION, "runs over the heads", ("softmax(dim=-1)", "softmax(dim=1)")),
    (ATTENTION, "without a softmax|not a softmax", ("scores.softmax(dim=-1)", "scores")),
    (ATTENTION, "change back before the heads are joined", ("(weights @ v).transpose(1, 2)", "(weights @ v)")),
    (ATTENTION, "axes of heads and places must change", ("y.view(B, T, self.num_heads, d).transpose(1, 2)",
                                                        "y.view(B, self.num_heads, T, d)")),
    (ATTENTION, "causal", ("scores.softmax", "scores.masked_fill(torch.ones(T, T).triu(1) > 0, -1e9).softmax")),
    (ATTENTION, "dropout acts on the output", ("self.attn_drop(scores.softmax(dim=-1))", "scores.softmax(dim=-1)"),
     ("return self.output(mixed)", "return self.attn_drop(self.output(mixed))")),
    (ATTENTION, "dropout acts on the scores", ("self.attn_drop(scores.softmax(dim=-1))",
                                              "self.attn_drop(scores).softmax(dim=-1)")),
    (ATTENTION, "dropout acts on the values", ("self.attn_drop(scores.softmax(dim=-1))", "scores.softmax(dim=-1)"),
     ("(weights @ v)", "(weights @ self.attn_drop(v))")),
    (ATTENTION, "attn_drop is not used", ("self.attn_drop(scores.softmax(dim=-1))", "scores.softmax(dim=-1)")),
    (ATTENTION, "acts in eval mode too", ("self.attn_drop(scores.softmax(dim=-1))",
                                          "F.dropout(scores.softmax(dim=-1), self.attn_drop.p)")),
    (ATTENTION, "output, is not used", ("return self.output(mixed)", "return mixed")),
    (ATTENTION, "keys are made by the layer query", ("heads(self.key(x))", "heads(self.query(x))")),
    (ATTENTION, "num_heads is not used|cut into heads is missing", (
        "        self.num_heads = num_heads", "        self.num_heads = 1")),
    (ATTENTION, "ready-made attention is not allowed", (
        "(weights @ v)", "F.scaled_dot_product_attention(q, k, v)")),
    (ATTENTION, "ready-made attention is not allowed", ("import lab3", "import lab3\n"
        "from torch.nn.functional import scaled_dot_product_attention as sdpa"), ("(weights @ v)", "sdpa(q, k, v)")),
    (ATTENTION, "before the constructor", ("        super().__init__()\n", "")),
    (ATTENTION, "view cannot join", (".reshape(B, T, D)", ".view(B, T, D)")),
    (ATTENTION, "checkpoints no longer fit", (
        "        self.num_heads = num_heads", "        self.num_heads = num_heads\n"
        "        self.register_buffer('scale', torch.ones(1))")),
    (ATTENTION, "the value of dim or num_heads is not checked", ("        if dim % num_heads:", "        if False:")),

    (MASK, "one ratio was drawn for the whole batch", (
        RATIO_ROWS, RATIO_ROWS.replace("batch", "1") + ".expand(batch)")),
    (MASK, "rounded down", (".ceil()", ".floor()")),
    (MASK, "at least one token", (".clamp(min=1)", "")),
    (MASK, "inverted: True means hidden", ("return rank < n_hidden", "return rank >= n_hidden")),
    (MASK, "inverted: True means hidden", ("return scores < ratio", "return scores >= ratio")),
    (MASK, "top-k over the flattened batch", (TOP_K,
                                              "    rank = scores.flatten().argsort().argsort().view(batch, tokens)\n"
                                                     "    return rank < n_hidden.sum()")),
    (MASK, "gamma belongs to decoding", ("(ratio * tokens)", "(torch.cos(ratio * math.pi / 2) * tokens)")),
    (MASK, "went through gamma", (RATIO_ROWS, RATIO_ROWS + ".mul(math.pi / 2).cos()")),
    (MASK, "float32 holds seven digits", ("dtype=torch.float64", "dtype=torch.float32")),
    (MASK, "places are drawn once for the whole batch", (
        "scores = torch.rand(batch, tokens, generator=generator, device=device)",
        "scores = torch.rand(1, tokens, generator=generator, device=device).expand(batch, -1)")),
    (MASK, "made without the generator", ("torch.rand(batch, tokens, generator=generator, device=device)",
                                          "torch.rand(batch, tokens, device=device)")),
    (MASK, "no fixed number", ('if prob_type == "bernoulli":', 'if False:')),
    (MASK, "as if it were one number", ("    ratio = ratio.expand(batch)[:, None]",
                                        "    assert 0 <= float(ratio) <= 1\n"
                                        "    ratio = ratio.expand(batch)[:, None]")),
    (MASK, "the value of prob_type is not checked", ('if prob_type not in ("topk", "bernoulli"):', "if False:")),
    (MASK, "the value of ratio is not checked", ("if not ((ratio >= 0) & (ratio <= 1)).all():", "if False:")),
    (MASK, r"(?s)the mask of type torch.bool.*torch.int64", ("return rank < n_hidden",
                                                             "return (rank < n_hidden).long()")),
    (MASK, r"(?s)NameError.*an answer's cell must hold the helpers", (".clamp(min=1)", ".clamp(min=lowest)")),

    (FORWARD, "mask token's logit is kept", ("logits[..., :mask_token_id]", "logits")),
    (FORWARD, "mask token's is the last", ("logits[..., :mask_token_id]", "logits[..., 1:]")),
    (FORWARD, "inverted: True means hidden", ("masked_fill(mask,", "masked_fill(~mask,")),
    (FORWARD, "go in without the mask", ("z_indices.masked_fill(mask, mask_token_id)", "z_indices")),
    (FORWARD, "must hold mask_token_id", ("masked_fill(mask, mask_token_id)", "masked_fill(mask, 0)")),
    (FORWARD, "z_indices was changed in place", ("z_indices.masked_fill(", "z_indices.masked_fill_(")),
    (FORWARD, "after the mask was laid on", ("    logits = transformer(z_indices", "    z_indices = z_indices"),
     ("mask_token_id))", "mask_token_id)\n    logits = transformer(z_indices)")),
    (FORWARD, "one-hot targets: indices", (", z_indices\n", ", F.one_hot(z_indices)\n")),
    (FORWARD, "a softmax was taken", ("logits[..., :mask_token_id]", "logits[..., :mask_token_id].softmax(-1)")),
    (FORWARD, "detached", ("logits[..., :mask_token_id]", "logits[..., :mask_token_id].detach()")),
    (FORWARD, "return is missing", ("    return logits[..., :mask_token_id], z_indices\n", "")),

    (LOSS, "softmax runs over the positions.*one-hot", (
        SELECT, ""), (CROSS, "F.cross_entropy(logits, F.one_hot(targets, V).float())")),
    (LOSS, "softmax runs over the positions", (CROSS,
                                               "-logits.log_softmax(dim=0).gather(-1, targets[..., None]).mean()"),
     (SELECT, "    logits, targets = logits[0], targets[0]\n")),
    (LOSS, "although a mask is given", (SELECT, "")),
    (LOSS, "divided by the number of all tokens", (
        SELECT, ""), ("return " + CROSS, "each = F.cross_entropy(logits.transpose(1, 2), targets, reduction='none')\n"
                      "    return each.mean() if mask is None else (each * mask).mean()")),
    (LOSS, "mean of the rows' means", (SELECT, ""), ("return " + CROSS, (
        "each = F.cross_entropy(logits.transpose(1, 2), targets, reduction='none')\n"
        "    return each.mean() if mask is None else ((each * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()"))),
    (LOSS, "inverted: True means hidden", ("logits[mask], targets[mask]", "logits[~mask], targets[~mask]")),
    (LOSS, "NaN: treat that case", ("    if targets.numel() == 0:\n        return logits.float().sum()\n", "")),
    (LOSS, "make the 0 from the logits", ("return logits.float().sum()", "return torch.zeros(())")),
    (LOSS, "label_smoothing is not used", ("label_smoothing=label_smoothing)", "label_smoothing=0.0)")),
    (LOSS, "added, not averaged", ("label_smoothing=label_smoothing)", "reduction='sum')")),
    (LOSS, "takes logits", ("logits.reshape(-1, V).float()", "logits.reshape(-1, V).softmax(-1)")),
    (LOSS, "logarithm of a softmax overflows", (CROSS, "F.nll_loss(logits.reshape(-1, V).float().softmax(-1).log(), "
                                                       "targets.reshape(-1))")),
    (LOSS, "turned into a number", ("return " + CROSS, f"return {CROSS}.detach()")),
    (LOSS, "no longer belong together", (SELECT, ""), ("return " + CROSS, (
        "each = F.cross_entropy(logits.reshape(-1, V, logits.shape[1]), targets, reduction='none')\n"
        "    return each.mean() if mask is None else each[mask].mean()"))),
    (LOSS, r"takes the axis after the first as the classes", (SELECT, ""), (
        CROSS, "F.cross_entropy(logits, targets)")),

    (OPTIMIZER, "counted from 1", ("return s / warmup_steps", "return (s + 1) / warmup_steps")),
    (OPTIMIZER, "eta_min is a factor of lr", (COSINE, COSINE.replace("eta_min", "(eta_min / lr)"))),
    (OPTIMIZER, "goes on and rises again", ("        if s >= total_steps:\n            return eta_min\n", "")),
    (OPTIMIZER, "p is counted from step 0", ("(s - warmup_steps) / max(1, total_steps - warmup_steps)",
                                             "s / total_steps")),
    (OPTIMIZER, "half of the cosine is missing", ("* 0.5 *", "*")),
    (OPTIMIZER, "angles are in radians", ("math.cos(math.pi * p)", "math.cos(math.radians(p))")),
    (OPTIMIZER, "eta_min is not used, or only as a floor", (COSINE, COSINE.replace("eta_min", "0"))),
    (OPTIMIZER, "eta_min is added on top", (COSINE, "eta_min + 0.5 * (1 + math.cos(math.pi * p))")),
    (OPTIMIZER, "LambdaLR multiplies lr in itself", ("return s / warmup_steps", "return lr * s / warmup_steps")),
    (OPTIMIZER, r"got       \(0.9, 0.999\)", (", betas=(0.9, 0.95)", "")),
    (OPTIMIZER, r"(?s)ZeroDivisionError.*a number that may be 0", ("if s < warmup_steps:", "if s / warmup_steps < 1:")),
    (OPTIMIZER, r"expected  AdamW\s+got       Adam", ("AdamW(", "Adam(")),
    (OPTIMIZER, "the value of total_steps is not checked", ("if total_steps < 1:", "if False:"),
     ("if not 0 <= warmup_steps <= total_steps:", "if False:")),

    (TRAIN, "stepped once an epoch: warm-up is then counted in epochs", (
        "        scheduler.step()\n", ""), ("    if not losses:", "    scheduler.step()\n    if not losses:")),
    (TRAIN, "scheduler is never stepped", ("        scheduler.step()\n", "")),
    (TRAIN, "new GradScaler is made", ("    losses = []\n",
                                       "    losses = []\n    scaler = torch.amp.GradScaler('cpu')\n")),
    (TRAIN, "new GradScaler is made", ("    losses = []\n",
                                       "    losses = []\n    scaler = torch.amp.GradScaler('cuda')\n")),
    (TRAIN, "scaler given is not used", ("if scaler is None:", "if True:")),
    (TRAIN, "not updated after each step|updated after each of its steps", ("            scaler.update()\n", "")),
    (TRAIN, "still scaled", ("scaler.step(optimizer)", "optimizer.step()"),
     ("scaler.update()", "scaler.update(8192.0)")),
    (TRAIN, "gradients add up", ("        optimizer.zero_grad(set_to_none=True)\n", "")),
    (TRAIN, "left from before count", ("        optimizer.zero_grad(set_to_none=True)\n", ""), (
        "        losses.append", "        optimizer.zero_grad()\n        losses.append")),
    (TRAIN, "cleared between backward and step", ("loss.backward()\n", "loss.backward()\n            "
                                                  "optimizer.zero_grad()\n")),
    (TRAIN, "gradients are clipped", ("loss.backward()\n", "loss.backward()\n            "
                                      "nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)\n")),
    (TRAIN, "train mode must be set", ("    transformer.train()\n", "")),
    (TRAIN, "learning rate of the schedule is skipped", (
        "        scheduler.step()\n", ""), ("        optimizer.zero_grad",
                                            "        scheduler.step()\n        optimizer.zero_grad")),
    (TRAIN, "one ratio for the whole batch", ("generator=generator, device=device)",
                                              "ratio=torch.rand(()).item(), generator=generator, device=device)")),
    (TRAIN, "hand it the mask", ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets)")),
    (TRAIN, "inverted: True means hidden", ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets, ~mask)")),
    (TRAIN, "masks cannot be repeated", ("generator=generator, device", "device")),
    (TRAIN, "with statement is missing", ("with lab3.autocast(device):", "if True:")),
    (TRAIN, "last batch's loss", (".double().mean().item()", "[-1].item()")),
    (TRAIN, "keep the graph", (".double().mean().item()", ".mean()")),
    (TRAIN, "added, not averaged", (".double().mean()", ".sum()")),
    (TRAIN, "found by its name and called", ("mask = sample_mask(*z_indices.shape, generator=generator, device=device)",
                                            "mask = torch.rand(z_indices.shape) < 0.5")),
    (TRAIN, r"(?s)loader.*no error", ("        raise ValueError(\"loader holds no batch\")", "        return 0.0")),
    (TRAIN, "label_smoothing 0.1", ("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets, mask, 0.1)")),

    (EVAL, "dropout would disturb", ("        transformer.eval()\n", "")),
    (EVAL, "graph of every batch", ("with torch.no_grad():", "if True:")),
    (EVAL, "train mode is set in the end", ("            module.training = training",
                                            "            module.training = True")),
    (EVAL, "eval mode stays on", ("            module.training = training", "            pass")),
    (EVAL, "note each submodule's own", ("            module.training = training",
                                         "            transformer.train(modes[0][1])")),
    (EVAL, "exception skips the lines", ("    try:\n", "    if True:\n"), ("    finally:\n", "    if True:\n")),
    (EVAL, "mean is weighted by batch size", (
        "losses.append(mvtm_loss(logits, targets, mask))", "losses += [mvtm_loss(logits, targets, mask)] * len(mask)")),
    (EVAL, "middle of training must not touch", ("        transformer.eval()\n",
                                                 "        transformer.eval().zero_grad()\n")),
    (EVAL, "with statement is missing", ("with lab3.autocast(device):", "if True:")),
    (EVAL, "masks cannot be repeated", ("generator=generator, device", "device")),

    (GAMMA, "gamma rises", ("lambda r: 1 - r,", "lambda r: r,")),
    (GAMMA, "gamma rises", ("np.cos(np.pi * r / 2)", "np.sin(np.pi * r / 2)")),
    (GAMMA, "half a turn", ("np.cos(np.pi * r / 2)", "np.cos(np.pi * r)")),
    (GAMMA, "in degrees", ("np.cos(np.pi * r / 2)", "np.cos(90 * r)")),
    (GAMMA, "lacks pi", ("np.cos(np.pi * r / 2)", "np.cos(r / 2)")),
    (GAMMA, "square is of the ratio", ("1 - r**2", "(1 - r)**2")),
    (GAMMA, "numpy has the same function", ("np.cos(np.pi * r / 2)", "math.cos(np.pi * r / 2)")),
    (GAMMA, "not its value", ("return schedules[mode]", "return schedules[mode](0.5)")),
    (GAMMA, "the value of mode is not checked", ("if mode not in schedules:", "if False:"),
     ("schedules[mode]", "schedules.get(mode, schedules['cosine'])")),
    (GAMMA, r"mode='linear'", ('mode="cosine"', 'mode="linear"')),

    (STEP, "Gumbel noise is added to probabilities", ("sure = log_p.gather(1, chosen[:, None])[:, 0]",
                                                     "sure = log_p.gather(1, chosen[:, None])[:, 0].exp()")),
    (STEP, "temperature grows", (NOISE, "choice_temperature * ratio * gumbel")),
    (STEP, "temperature grows .*1 - gamma", (NOISE, "choice_temperature * (1 - gamma(ratio)) * gumbel")),
    (STEP, "multiplied by gamma", (NOISE, "choice_temperature * gamma(ratio) * gumbel")),
    (STEP, "does not fade", (NOISE, "choice_temperature * gumbel")),
    (STEP, "without noise at temperature 0", (NOISE, "(1 - ratio) * gumbel")),
    (STEP, "no Gumbel noise", (NOISE, "0 * gumbel")),
    (STEP, "its sign is wrong", (NOISE, "choice_temperature * (1 - ratio) * -gumbel")),
    (STEP, "of another distribution", (NOISE, "choice_temperature * (1 - ratio) * torch.randn(len(log_p), "
                                                 "generator=generator)")),
    (STEP, "top-k over the flattened batch", (RANK + "    return z_predict, (rank < stay[:, None]) & mask", (
        "    rank = confidence.flatten().argsort().argsort().view(mask.shape)\n"
        "    return z_predict, (rank < stay.sum()) & mask"))),
    (STEP, "mask token's logit is kept", ("logits[mask][:, :mask_token_id]", "logits[mask]")),
    (STEP, "its share of the probability", (
        "logits[mask][:, :mask_token_id].float().log_softmax(dim=-1)",
        "logits[mask].float().log_softmax(dim=-1)[:, :mask_token_id]")),
    (STEP, "argmax is taken where the text samples", ("torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]",
                                                      "log_p.argmax(dim=-1)")),
    (STEP, "no clamp on how many stay hidden", ("    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)\n", "")),
    (STEP, "at ratio 1 all is revealed", ("    if ratio == 1:", "    if False:")),
    (STEP, "rounded up, not down", ("torch.floor(", "torch.ceil(")),
    (STEP, "rounded to the nearest", ("torch.floor(", "torch.round(")),
    (STEP, "ratio is used for gamma", ("float(gamma(ratio))", "ratio")),
    (STEP, "ratio is progress already", ("float(gamma(ratio))", "float(gamma(1 - ratio))")),
    (STEP, "hidden and revealed are exchanged", ("float(gamma(ratio))", "(1 - float(gamma(ratio)))")),
    (STEP, "with those hidden now", ("n_hidden.to(mask.device, torch.float64)", "mask.sum(dim=1).double()")),
    (STEP, "one number for all rows|flattened", ("n_hidden.to(mask.device, torch.float64)", "n_hidden[:1].double()"),
     ("torch.minimum(stay, hidden_now - 1)", "torch.minimum(stay.expand(len(mask)), hidden_now - 1)")),
    (STEP, "float32 holds seven digits", ("torch.float64)", "torch.float32)")),
    (STEP, "the confidence is a logit", (
        "sure = log_p.gather", "sure = logits[mask][:, :mask_token_id].float().gather")),
    (STEP, "the most confident are hidden", (RANK, (
        "    rank = confidence.masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)\n"))),
    (STEP, "a threshold takes all equals", ("return z_predict, (rank < stay[:, None]) & mask", (
        "edge = confidence.sort(dim=1).values.gather(1, stay[:, None])\n"
        "    return z_predict, (confidence < edge) & mask"))),
    (STEP, "not that of the token drawn", ("log_p.gather(1, chosen[:, None])[:, 0]", "log_p.amax(dim=1)")),
    (STEP, "only hidden tokens take the prediction", ("    z_predict[mask] = chosen\n", (
        "    z_predict[mask] = chosen\n    z_predict[~mask] = 0\n"))),
    (STEP, "known tokens compete", ("torch.inf, device", "-torch.inf, device"),
     ("(rank < stay[:, None]) & mask", "(rank < stay[:, None])")),
    (STEP, "inverted: True means hidden", ("masked_fill(mask, mask_token_id)", "masked_fill(~mask, mask_token_id)")),
    (STEP, "go in without the mask", ("z_indices.masked_fill(mask, mask_token_id)", "z_indices")),
    (STEP, "hidden places keep what was there", ("    z_predict[mask] = chosen\n", "")),
    (STEP, "z_indices was changed in place", ("z_predict = z_indices.clone()", "z_predict = z_indices")),
    (STEP, "not logits, logarithms", ("torch.multinomial(log_p.exp()", "torch.multinomial(log_p")),
    (STEP, "made without the generator", (".exponential_(generator=generator)", ".exponential_()")),
    (STEP, "used as if it were one number", ("    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)\n", (
        "    if stay > hidden_now - 1:\n        stay = hidden_now - 1\n"))),
    (STEP, "the value of ratio is not checked", ("if not 0 < ratio <= 1:", "if False:")),
    (STEP, "the value of sampling is not checked", ('if sampling not in ("categorical", "argmax"):', "if False:")),

    (DECODE, "tokens change between steps: carry tokens", ("        history.append", (
        "        z = torch.where(mask, z, (z + 1) % 10)\n        history.append"))),
    (DECODE, "tokens change between steps: carry tokens", ("inpainting(\n            transformer, z, mask", (
        "inpainting(\n            transformer, (z + 1) % 10 if t else z, mask"))),
    (DECODE, "starts from the first mask", ("        z, mask = inpainting(\n            transformer, z, mask", (
        "        z, later = inpainting(\n            transformer, z_indices, mask")), (
        "history.append((z, mask))", "history.append((z, later))")),
    (DECODE, "counted from 0", ("(t + 1) / total_iter", "max(t, 1e-9) / total_iter")),
    (DECODE, "counted again at each step", ("(t + 1) / total_iter, n_hidden", "(t + 1) / total_iter, mask.sum(dim=1)")),
    (DECODE, "sweet_spot is not used", ("for t in range(steps)", "for t in range(total_iter)")),
    (DECODE, "squeezed into sweet_spot", ("(t + 1) / total_iter", "(t + 1) / steps")),
    (DECODE, "must take the last prediction", ("return z, history",
                                               "return z.masked_fill(mask, mask_token_id), history")),
    (DECODE, "start is not a step", ("z, history = z_indices, []", "z, history = z_indices, [(z_indices, mask)]")),
    (DECODE, "when nothing is left to hide", ("        z, mask = inpainting(",
                                              "        if not mask.any():\n            break\n"
                                              "        z, mask = inpainting(")),
    (DECODE, "temperature does not reach", ("choice_temperature=choice_temperature", "choice_temperature=0.0")),
    (DECODE, "sampling does not reach", ("sampling=sampling", "sampling='categorical'")),
    (DECODE, "argmax is taken where the text samples", ("sampling=sampling", "sampling='argmax'")),
    (DECODE, "mask tells what is hidden", ("n_hidden = mask.sum(dim=1)", "mask = z_indices == -1\n    "
                                           "n_hidden = mask.sum(dim=1)")),
    (DECODE, "made without the generator", ("generator=generator)", "generator=None)")),
    (DECODE, "the value of total_iter is not checked", ("if total_iter < 1:", "if False:"),
     ("if not 1 <= steps <= total_iter:", "if False:")),
    (DECODE, "the value of sweet_spot is not checked", ("if not 1 <= steps <= total_iter:", "if False:")),
    (DECODE, "the value of sampling is not checked", (
        "sampling=sampling", "sampling='argmax' if sampling == 'argmax' else 'categorical'")),
    (DECODE, "in each entry of history", ("history.append((z, mask))", "history.append(z)")),

    (DISTANCE, "trace of the root is missing", ("- 2 * trace_root", "")),
    (DISTANCE, "factor 2 before the root", ("- 2 * trace_root", "- trace_root")),
    (DISTANCE, "means is not squared", ("((mu1 - mu2) ** 2).sum()", "np.linalg.norm(mu1 - mu2)")),
    (DISTANCE, "root must be subtracted", ("- 2 * trace_root", "+ 2 * trace_root")),
    (DISTANCE, "root was taken of each entry", ("np.sqrt(eigenvalues.clip(min=0)).sum()",
                                               "np.trace(np.sqrt(np.abs(sigma1 @ sigma2)))")),
    (DISTANCE, "product's own trace|matrix root", ("np.sqrt(eigenvalues.clip(min=0)).sum()",
                                                   "np.trace(sigma1 @ sigma2)")),
    (DISTANCE, "not the product of roots", ("np.sqrt(eigenvalues.clip(min=0)).sum()", (
        "np.trace(root1 @ ((lambda v, w: (w * np.sqrt(v.clip(min=0))) @ w.T)(*np.linalg.eigh(sigma2))))"))),
    (DISTANCE, "rounding makes some .*slightly negative", ("values.clip(min=0)", "values")),
    (DISTANCE, "take the real part", ("return float(", "return complex(")),
    (DISTANCE, "was something added to regular", ("np.sqrt(eigenvalues.clip(min=0))",
                                                  "np.sqrt(eigenvalues.clip(min=0) + 1e-4)")),
    (DISTANCE, "sigma", ("    if sigma1.shape != (d, d) or sigma2.shape != (d, d):", "    if False:")),
    (DISTANCE, "root of the trace", ("np.sqrt(eigenvalues.clip(min=0)).sum()", "np.sqrt(eigenvalues.sum())")),

    (GUIDED, "1 is missing: 1 \\+ scale times", ("(1 + scale) * c", "scale * c")),
    (GUIDED, "another way to count", ("(1 + scale) * c", "scale * c"), ("- scale * u", "+ (1 - scale) * u")),
    (GUIDED, "are to be subtracted", (" - scale", " + scale")),
    (GUIDED, "conditional and unconditional are exchanged", (
        "(1 + scale) * conditional - scale * unconditional", "(1 + scale) * unconditional - scale * conditional")),
    (GUIDED, "the sign is wrong", (
        "(1 + scale) * conditional - scale * unconditional", "(1 - scale) * conditional + scale * unconditional")),
    (GUIDED, "get 1 \\+ scale too", ("- scale *", "- (1 + scale) *")),
    (GUIDED, "scale and 1 \\+ scale are exchanged", ("(1 + scale) * c", "scale * c"), ("- scale", "- (1 + scale)")),
    (GUIDED, "treat scale 0 on its own", ("    if scale == 0:", "    if False:")),
    (GUIDED, "scale", ("if scale < 0", "if False")),
    (GUIDED, "shape", ("if conditional.shape != unconditional.shape", "if False")),
    (GUIDED, "plays no part", ("(1 + scale) * conditional - scale * unconditional", "conditional + 0")),
    (GUIDED, "changed in place", ("    return (1 + scale) * conditional", "    return conditional.mul_(1 + scale)")),
]


def no_answer_in(message, exercise):
    """No line of the reference stands in it; the line where an exception came from is the student's own."""
    told = "\n".join(line for line in message.splitlines() if not line.startswith("       at "))
    for line in TEXTS[exercise].splitlines():
        code = line.split("#")[0].strip()
        if len(code) > 12 and not code.startswith(("import", "from", "def", "class")):
            assert code not in told, message


@pytest.mark.parametrize("exercise, reason, changes", [(one, two, rest) for one, two, *rest in MISTAKES],
                         ids=[f"{one}-{two}" for one, two, *_ in MISTAKES])
def test_mistakes_are_named(exercise, reason, changes):
    report = check(exercise, run(exercise, changed(exercise, *changes)))
    assert not report.passed and report.written
    assert re.search(reason, report.message), report.message
    no_answer_in(report.message, exercise)
    lines = report.message.splitlines()
    assert lines[0].startswith(f"[FAIL] {exercise}: ") and 3 <= len(lines) <= 5 and "!" not in report.message
    assert [line[:17].split()[0] for line in lines[1:3]] == ["expected", "got"]
    assert max(map(len, lines)) < 240, report.message


NOT_CARRIED = ("            transformer, z, mask,", "            transformer, z_indices, mask,")
GUMBEL = "-noise.clamp(min=1e-20).log()"
DRAW = "torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]"

CAUSES = [  # mistakes that resemble others: exercise, the true cause, replacements
    (ATTENTION, "the input is added to the output", ("return self.output(mixed)", "return x + self.output(mixed)")),
    (ATTENTION, "the input is added to the output", ("return self.output(mixed)", "return self.output(x + mixed)")),
    (ATTENTION, "another exception: raise a ValueError", (
        "        if dim % num_heads:", "        assert dim % num_heads == 0\n        if False:")),
    (MASK, "rounded to float32 before it becomes float64", (
        "torch.as_tensor(ratio, dtype=torch.float64, device=device)", "torch.as_tensor(ratio).double()")),
    (MASK, "another exception: raise a ValueError", (
        "if not ((ratio >= 0) & (ratio <= 1)).all():", "assert ((ratio >= 0) & (ratio <= 1)).all()\n    if False:")),
    (GAMMA, "another exception: raise a ValueError", ("    if mode not in schedules:", "    assert mode in schedules\n"
                                                     "    if False:")),
    (GAMMA, "value of mode is not checked before it is used", ("    if mode not in schedules:", "    if False:")),
    (GAMMA, "gamma rises", ("np.cos(np.pi * r / 2)", "r")),
    (TRAIN, "one tensor .* without labels", ("for z_indices in loader:", "for z_indices, _ in loader:")),
    (TRAIN, "one tensor .* without labels", (
        "for z_indices in loader:", "for n, (z_indices, _) in enumerate(loader):")),
    (EVAL, "one tensor .* without labels", (
        "            for z_indices in loader:\n",
        "            for batch in loader:\n                z_indices, _ = batch\n")),
    (STEP, "log gives NaN.*minus missing", (GUMBEL, "(-noise).log()")),
    (STEP, "a softmax is taken of a softmax", (
        ".float().log_softmax(dim=-1)", ".float().softmax(-1).log_softmax(-1)")),
    (STEP, "changes the draw of the tokens", (DRAW, DRAW.replace("log_p", "(choice_temperature * log_p)"))),
    (STEP, "changes the draw of the tokens", (
        DRAW, DRAW.replace("log_p", "(log_p / choice_temperature).log_softmax(-1)"))),
    (STEP, "changes the draw of the tokens", (
        DRAW, "(log_p - choice_temperature * torch.empty_like(log_p).exponential_().log()).argmax(dim=-1)")),
    (DECODE, "progress is counted from 0", ("(t + 1) / total_iter", "t / total_iter")),
    (DECODE, "one step too many", ("for t in range(steps)", "for t in range(steps + 1)")),
    (DECODE, "one step too many", ("for t in range(steps)", "for t in range(steps + 1)"),
     ("(t + 1) / total_iter", "min(1.0, (t + 1) / total_iter)")),
    (DECODE, "what a step revealed must be passed on", NOT_CARRIED),
    (DECODE, "n_hidden is one number for the whole batch", ("n_hidden = mask.sum(dim=1)", "n_hidden = mask.sum()")),
]


@pytest.mark.parametrize("exercise, reason, changes", [(one, two, rest) for one, two, *rest in CAUSES],
                         ids=[f"{number}-{one}-{two}" for number, (one, two, *_) in enumerate(CAUSES)])
def test_the_true_cause_is_named(exercise, reason, changes):
    report = check(exercise, run(exercise, changed(exercise, *changes)))
    assert not report.passed and re.search(f"likely .*{reason}", report.message), report.message
    no_answer_in(report.message, exercise)


def test_code_that_ends_in_the_stubs_line_is_told_so():
    text = changed(GAMMA, ("    return schedules[mode]", "    raise NotImplementedError  # your code here"))
    report = check(GAMMA, run(GAMMA, text))
    assert not report.written and re.fullmatch(
        r"\[TODO\] gamma_func: line \d+ of gamma_func: raise NotImplementedError .*is still reached: delete it.*",
        report.message)


def test_the_table_of_mistakes_is_long_and_has_every_exercise():
    assert len(MISTAKES) >= 45 and {one for one, *_ in MISTAKES} == set(EXERCISES)


@pytest.mark.parametrize("number, exercise, name", [
    (1, LOSS, "softmax runs over the positions"), (2, STEP, "Gumbel noise is added to probabilities"),
    (3, STEP, "temperature grows"), (4, DECODE, "tokens change between steps"),
    (5, STEP, "top-k over the flattened batch"),
    (6, FORWARD, "mask token's logit is kept"), (6, STEP, "mask token's logit is kept"),
    (7, STEP, "argmax is taken where the text samples"), (7, STEP, "no clamp on how many stay hidden"),
    (8, DECODE, "sweet_spot is not used"), (9, TRAIN, "new GradScaler is made"),
    (9, TRAIN, "warm-up is then counted in epochs"),
    (10, MASK, "one ratio was drawn for the whole batch"), (10, TRAIN, "one ratio for the whole batch")])
def test_the_table_has_the_ten_classic_mistakes(number, exercise, name):
    assert any(one == exercise and name in reason for one, reason, *_ in MISTAKES), number


# What the report says where there is no answer


@pytest.mark.parametrize("exercise", EXERCISES)
def test_what_is_not_written_is_to_do(exercise):
    text = TEXTS[exercise]
    if exercise == ATTENTION:
        text = text[:text.index("        if dim %")] + "        raise NotImplementedError('yours')\n"
    else:
        docstring = text.index('"""', text.index("#| exercise"))
        text = text[:text.index('"""', docstring + 3) + 3] + "\n    raise NotImplementedError\n"
    report = check(exercise, run(exercise, text))
    assert report == Report(exercise, False, False, f"[TODO] {exercise}: not written yet")


def test_half_an_answer_is_to_do():
    text = changed(MASK, ("        return scores < ratio", "        raise NotImplementedError"))
    assert not check(MASK, run(MASK, text)).written
    text = TEXTS[ATTENTION][:TEXTS[ATTENTION].index("        B, T, D")] + "        raise NotImplementedError\n"
    assert not check(ATTENTION, run(ATTENTION, text)).written


def test_a_kernel_that_pytorch_lacks_is_a_mistake_and_nothing_to_do():
    text = changed(LOSS, (CROSS, "logits.reshape(-1, V).long().log_softmax(dim=-1).sum()"))
    report = check(LOSS, run(LOSS, text))
    assert report.written and "Error" in report.message


def test_a_missing_name_is_said():
    report = check(MASK, {"sample_masks": REFERENCE["sample_mask"]})
    assert not report.passed and "keep the name sample_mask" in report.message


def test_another_exercise_is_an_input_error():
    with pytest.raises(InputError, match="sample_masks"):
        check("sample_masks", {})


@pytest.mark.parametrize("linked", [False, True])
def test_decoding_waits_for_inpainting(linked):
    stub = TEXTS[STEP][:TEXTS[STEP].index("    if not 0 < ratio")] + "    raise NotImplementedError\n"
    if linked:
        namespace = run(DECODE, TEXTS[DECODE], inpainting=run(STEP, stub)["inpainting"])
    else:
        namespace = run(DECODE, stub + TEXTS[DECODE].removeprefix(IMPORTS))
    report = check(DECODE, namespace)  # its own text is there, and to be kept
    assert report == Report(DECODE, False, True,
                            "[TODO] iterative_decode: waits for inpainting, which is not written yet")


def test_decoding_waits_for_what_stands_in_for_inpainting():
    def not_there(*_, **__):
        raise NotImplementedError("inpainting is the exercise inpainting of notebook 05: write it there first.")

    report = check(DECODE, run(DECODE, TEXTS[DECODE], inpainting=not_there))
    assert not report.passed and report.written
    assert report.message == "[TODO] iterative_decode: waits for inpainting, which is not written yet"


def test_decoding_with_a_wrong_inpainting_says_so():
    wrong = run(STEP, changed(STEP, ("    stay = torch.minimum(stay, hidden_now - 1).clamp(min=0)\n", ""),
                                    ("torch.floor(", "torch.ceil(")))["inpainting"]
    report = check(DECODE, run(DECODE, TEXTS[DECODE], inpainting=wrong))
    assert "fix inpainting first" in report.message and "[FAIL] inpainting" in report.message


def test_decoding_without_inpainting_says_so():
    namespace = run(DECODE, TEXTS[DECODE])
    del namespace["inpainting"]
    report = check(DECODE, namespace)
    assert "run the cell of inpainting first" in report.message


def test_an_exception_is_placed_in_the_cell():
    text = changed(MASK, ("n_hidden = (ratio * tokens).ceil()", "n_hidden = (ratio @ scores).ceil()"))
    report = check(MASK, run(MASK, text))
    cell = text[text.index("#| exercise"):].splitlines()
    number = next(i for i, line in enumerate(cell, 1) if "ratio @ scores" in line)
    assert f"at        line {number} of sample_mask: n_hidden = (ratio @ scores).ceil().clamp(min=1)" in report.message
    assert "got       RuntimeError: " in report.message and "print both on the line before" in report.message


def test_an_exception_without_its_source_still_has_its_line():
    namespace = {}
    exec("def gamma_func(mode='cosine'):\n    return 1 / 0", namespace)
    assert "at        line 2\n" in check(GAMMA, namespace).message


@pytest.mark.parametrize("answer", [
    None, 3, "text", lambda *_, **__: None, lambda *_, **__: (None, None), lambda *_, **__: torch.zeros(2),
    lambda *_, **__: ([], []), lambda *_, **__: np.zeros(3), nn.Linear, int, object()],
    ids=lambda answer: type(answer).__name__)  # the same in every process
@pytest.mark.parametrize("exercise", EXERCISES)
def test_whatever_stands_for_an_answer_gets_a_report(exercise, answer):
    report = check(exercise, REFERENCE | {EXERCISES[exercise].defines: answer})
    assert not report.passed and report.written and report.message.startswith(f"[FAIL] {exercise}: ")


@pytest.mark.parametrize("error, passes", [("SystemExit", False), ("RecursionError", False),
                                           ("KeyboardInterrupt", True)])
def test_what_an_answer_raises_is_reported_but_an_interrupt_passes(error, passes):
    namespace = {}
    exec(f"import torch\ndef mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):\n"
         f"    torch.set_default_dtype(torch.float64)\n    raise {error}", namespace)
    state = torch.get_rng_state()
    if passes:
        with pytest.raises(KeyboardInterrupt):
            check(LOSS, namespace)
    else:
        assert error in check(LOSS, namespace).message
    assert torch.get_default_dtype() == torch.float32 and torch.equal(state, torch.get_rng_state())


def test_check_failed_carries_its_parts():
    with pytest.raises(AssertionError, match="one.*two.*three") as caught:
        raise CheckFailed("one", "two", "three")
    assert (caught.value.expected, caught.value.got, caught.value.reason) == ("one", "two", "three")


# Nothing is left behind

NOISY = """
import sys, warnings
LIST = []
def meddle(name):
    print(name)
    print(name, file=sys.stderr)
    warnings.warn(name)
    torch.manual_seed(3), np.random.seed(3), torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    globals()["left_behind"] = name
    globals()["math"] = None
"""


@pytest.mark.parametrize("exercise", EXERCISES)
def test_everything_is_as_it_was(exercise, monkeypatch):
    first = {ATTENTION: "        B, T, D = x.shape"}.get(exercise)
    body = TEXTS[exercise].index('    """', TEXTS[exercise].index("#| exercise"))
    line = TEXTS[exercise][:body].count("\n") + 1
    lines = TEXTS[exercise].splitlines()
    if first:
        line = lines.index(first)
    indent = " " * (8 if first else 4)
    text = "\n".join(lines[:line] + [f"{indent}meddle({exercise!r})"] + lines[line:]) + "\n" + NOISY
    for source in (TEXTS[exercise], text):
        namespace = run(exercise, source)
        names = dict(namespace)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        autocast, scaler = lab3.autocast, torch.amp.GradScaler.__init__
        functions = F.scaled_dot_product_attention, nn.MultiheadAttention.forward
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check(exercise, namespace)
        assert (out.getvalue(), err.getvalue(), caught) == ("", "", [])
        assert torch.equal(before[0], torch.get_rng_state()) and before[2] == random.getstate()
        assert before[1] == np.random.get_state()[1].tolist()
        assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
        assert namespace.keys() == names.keys() and all(namespace[name] is names[name] for name in names)
        assert lab3.autocast is autocast and torch.amp.GradScaler.__init__ is scaler
        assert functions == (F.scaled_dot_product_attention, nn.MultiheadAttention.forward)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_callers_modes_do_not_matter(exercise):
    namespace = run(exercise, TEXTS[exercise])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert check(exercise, namespace).passed
    with torch.no_grad():
        assert check(exercise, namespace).passed and not torch.is_grad_enabled()


def test_every_check_has_a_title():
    for exercise, functions in CHECKS.items():
        titles = [inspect.getdoc(one) for one in functions]
        assert all(title and title.endswith(".") for title in titles) and len(set(titles)) == len(titles), exercise
    assert CHECKS.keys() == EXERCISES.keys()
