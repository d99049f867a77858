"""The hidden probes of configure_optimizers, train_one_epoch and eval_one_epoch.

In: the reference answers, right answers in other styles, and answers with one mistake. Out: which probes fail.
"""

import inspect
import re
import textwrap

import numpy as np
import pytest
from probing import failures, right
from test_checks import EVAL, OPTIMIZER, STYLES, TRAIN, changed

from grader.probes import PROBES
from grader.probes.probe import Wrong
from lab3.exercises.table import EXERCISES

TOPIC = (OPTIMIZER, TRAIN, EVAL)
QUICK = {name: [one.name for one in PROBES[name] if one.name != "validation_loss"] for name in TOPIC}
WEIGHTS = {(name, one.name): one.weight for name in TOPIC for one in PROBES[name]}


# Right answers in other styles

RIGHT = {}


def style(exercise):
    """Note the text of a right answer."""
    def note(answer):
        RIGHT[f"{exercise}-{answer.__name__}"] = exercise, source(answer, exercise)
        return answer

    return note


def source(answer, exercise):
    """The text of a function of a test file as an answer."""
    text = re.sub(r"^@style.*\n", "", textwrap.dedent(inspect.getsource(answer)))
    return f"{text}\n{EXERCISES[exercise].defines} = {answer.__name__}\n"


for name, (exercise, answer) in STYLES.items():
    if exercise in TOPIC:
        RIGHT[name] = exercise, source(answer, exercise)


@style(OPTIMIZER)
def in_groups(model, lr, total_steps, warmup_steps, eta_min=0.0):
    """Two groups, a decay of its own, a class for the factor, and a cosine that is clamped."""
    if total_steps < 1:
        raise ValueError("total_steps")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError("warmup_steps")

    class Factor:
        def __call__(self, s):
            if s >= total_steps:
                return eta_min
            if s < warmup_steps:
                return s / warmup_steps
            p = min(max((s - warmup_steps) / (total_steps - warmup_steps), 0.0), 1.0)
            return eta_min + (1 - eta_min) * (1 + np.cos(np.pi * p)) / 2

    flat = [one for one in model.parameters() if one.ndim < 2]
    deep = [one for one in model.parameters() if one.ndim >= 2]
    groups = [{"params": flat, "weight_decay": 0.0}, {"params": deep, "weight_decay": 0.045}]
    optimizer = torch.optim.AdamW([one for one in groups if one["params"]], lr=lr, betas=(0.9, 0.95))  # noqa: F821
    factors = [Factor() for _ in optimizer.param_groups]
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factors)  # noqa: F821


@style(TRAIN)
def by_closure(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None):
    """The whole loader first, masks row by row with their own ratios, the step by a closure, tidied up in the end."""
    from lab3 import autocast

    batches, losses = list(loader), []
    if not batches:
        raise ValueError("the loader has no batch")
    for module in transformer.modules():
        module.training = True
    for z in batches:
        B, T = z.shape
        mask = torch.cat([sample_mask(1, T, "topk", generator=generator, device=device)  # noqa: F821
                          for _ in range(B)])

        def closure(z=z, mask=mask):
            for one in transformer.parameters():
                one.grad = None
            with autocast(device):
                logits, targets = masked_forward(transformer=transformer, z_indices=z, mask=mask,  # noqa: F821
                                                 mask_token_id=mask_token_id)
                loss = mvtm_loss(logits=logits, targets=targets, mask=mask, label_smoothing=0.0)  # noqa: F821
            (loss if scaler is None else scaler.scale(loss)).backward()
            losses.append(loss.item())

        if scaler is None:
            optimizer.step(closure)
        else:
            closure()
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
    optimizer.zero_grad(set_to_none=False)
    return math.fsum(losses) / len(losses)  # noqa: F821


@style(TRAIN)
def loss_of_the_hidden(transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None,
                       generator=None):
    """Hidden tokens are picked before the loss; the next batch is read ahead."""
    transformer.train()
    ahead = iter(loader)
    z, total, n = next(ahead, None), 0.0, 0
    if z is None:
        raise ValueError("no batch in the loader")
    while z is not None:
        coming = next(ahead, None)
        transformer.zero_grad(set_to_none=False)
        mask = sample_mask(z.size(0), z.size(1), ratio=None, generator=generator, device=device)  # noqa: F821
        with lab3.common.machine.autocast(device=device):  # noqa: F821
            logits, targets = masked_forward(lambda z: transformer(z), z.to(device), mask, mask_token_id)  # noqa: F821
        loss = mvtm_loss(logits[mask][None], targets[mask][None])  # noqa: F821
        if scaler:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
        scheduler.step()
        n += 1
        total += (float(loss) - total) / n
        z = coming
    return np.float64(total)


@style(EVAL)
def on_a_copy(transformer, loader, *, mask_token_id, device, generator=None):
    """The model itself is never touched."""
    import copy

    from lab3 import autocast

    batches = list(loader)
    if len(batches) == 0:
        raise ValueError("loader is empty")
    model = copy.deepcopy(transformer).eval()
    for one in model.parameters():
        one.requires_grad_(False)
    losses = []
    for z in batches:
        rows = [sample_mask(1, z.shape[1], generator=generator, device=device) for _ in z]  # noqa: F821
        mask = torch.cat(rows)  # noqa: F821
        with autocast(device):
            logits, targets = masked_forward(model, z, mask, mask_token_id)  # noqa: F821
        losses.append(mvtm_loss(logits[mask][None], targets[mask][None]).item())  # noqa: F821
    return sum(losses) / len(losses)


@style(EVAL)
def with_contexts(transformer, loader, *, mask_token_id, device, generator=None):
    """Modes put back by train(), parents first; gradients by a switch."""
    total, n = 0.0, 0
    modes = {module: module.training for module in transformer.modules()}
    before = torch.is_grad_enabled()  # noqa: F821
    torch.set_grad_enabled(False)  # noqa: F821
    try:
        transformer.train(False)
        for z in loader:
            n += 1
            mask = sample_mask(batch=z.shape[0], tokens=z.shape[1], generator=generator, device=device)  # noqa: F821
            with lab3.autocast(device):  # noqa: F821
                loss = mvtm_loss(*masked_forward(transformer, z, mask, mask_token_id), mask)  # noqa: F821
            total += loss
        return float(total / n)
    except ZeroDivisionError:
        raise ValueError("a loader without a batch") from None
    finally:
        torch.set_grad_enabled(before)  # noqa: F821
        for module, mode in modes.items():
            module.train(mode)


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_in_other_styles_pass(name):
    exercise, text = RIGHT[name]
    assert failures(exercise, text, 0) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_in_other_styles_pass_at_other_seeds(name, seed):
    exercise, text = RIGHT[name]
    assert failures(exercise, text, seed, only=QUICK[exercise]) == {}


# Mistakes

BACKWARD, STEP, ZERO = "            loss.backward()\n", "            optimizer.step()\n", (
    "        optimizer.zero_grad(set_to_none=True)\n")
PASS = "logits, targets = masked_forward(transformer, z_indices, mask, mask_token_id)\n"
DRAWN = "sample_mask(*z_indices.shape, generator=generator, device=device)"
CALL = "mvtm_loss(logits, targets, mask)"
COSINE = "eta_min + (1 - eta_min) * 0.5 * (1 + math.cos(math.pi * p))"
ENOUGH = ("    if total_steps < 1:\n"
          '        raise ValueError(f"total_steps must be at least 1, not {total_steps}")\n')
ONE_HOT = "F.cross_entropy(logits.float(), F.one_hot(targets, logits.shape[-1]).float())"
RESTORE = "        for module, training in modes:\n            module.training = training\n"

FURTHER = [
    (OPTIMIZER, "adamw", ("(0.9, 0.95)", "(0.9, 0.96)")),
    (OPTIMIZER, "adamw", ("(0.9, 0.95)", "(0.95, 0.9)")),
    (OPTIMIZER, "adamw", ("model.parameters()", "[one for one in model.parameters() if one.ndim > 1]")),
    (OPTIMIZER, "adamw", ("model.parameters()",
                          "[one for part in model.children() for one in part.parameters()]")),
    (OPTIMIZER, "adamw", ("AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95))", "SGD(model.parameters(), lr=lr)")),
    (OPTIMIZER, "adamw", ("AdamW(", "Adam("), ("betas=(0.9, 0.95)", "betas=(0.9, 0.95), weight_decay=0.01")),
    (OPTIMIZER, "adamw", ("    def factor(s):", "    nn.init.zeros_(next(model.parameters()))\n\n    def factor(s):")),
    (OPTIMIZER, "warmup", ("lr=lr, ", "")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return s // warmup_steps")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return eta_min + (1 - eta_min) * s / warmup_steps")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return max(s / warmup_steps, eta_min)")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return s / max(1, warmup_steps - 1)")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return s / total_steps")),
    (OPTIMIZER, "warmup", ("return s / warmup_steps", "return (s / warmup_steps)**2")),
    (OPTIMIZER, "cosine", ("/ max(1, total_steps - warmup_steps)", "/ total_steps")),
    (OPTIMIZER, "cosine", (COSINE, "1 - (1 - eta_min) * p")),
    (OPTIMIZER, "cosine", (COSINE, "max(eta_min, 0.5 * (1 + math.cos(math.pi * p)))")),
    (OPTIMIZER, "cosine", (COSINE, "eta_min + (1 - eta_min) * math.cos(math.pi * p / 2)")),
    (OPTIMIZER, "cosine", (COSINE, "eta_min + (1 - eta_min) * 0.5 * (1 - math.cos(math.pi * p))")),
    (OPTIMIZER, "cosine", ("p = (s - warmup_steps)", "p = (s + 1 - warmup_steps)")),
    (OPTIMIZER, "cosine", ("math.cos(math.pi * p)", "math.cos(2 * math.pi * p)")),
    (OPTIMIZER, "end", ("            return eta_min\n", "            return 0.0\n")),
    (OPTIMIZER, "end", ("            return eta_min\n", "            return eta_min + 1e-9\n")),
    (OPTIMIZER, "end", ("            return eta_min\n", "            return float(np.float32(eta_min))\n")),
    (OPTIMIZER, "end", ("s >= total_steps", "s > total_steps + 1")),
    (OPTIMIZER, "end", ("eta_min=0.0", "eta_min=0.01")),
    (OPTIMIZER, "edges", ("s >= total_steps", "s > total_steps")),
    (OPTIMIZER, "edges", ("s < warmup_steps", "s <= warmup_steps"), ("s / warmup_steps", "s / max(1, warmup_steps)")),
    (OPTIMIZER, "resumed", ("    def factor(s):", "    calls = []\n\n    def factor(s):\n        calls.append(s)\n"
                            "        s = len(calls) - 1")),
    (OPTIMIZER, "lambda_lr", ("LambdaLR(optimizer, factor)", "MultiplicativeLR(optimizer, factor)")),
    (OPTIMIZER, "lambda_lr", ("LambdaLR(optimizer, factor)",
                              "LambdaLR(torch.optim.AdamW(model.parameters()), factor)")),
    (OPTIMIZER, "lambda_lr", ("return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)",
                              "return torch.optim.lr_scheduler.LambdaLR(optimizer, factor), optimizer")),
    (OPTIMIZER, "impossible_steps", (ENOUGH, "")),
    (OPTIMIZER, "impossible_steps", ("0 <= warmup_steps <= total_steps", "warmup_steps <= total_steps")),
    (OPTIMIZER, "impossible_steps", ("0 <= warmup_steps <= total_steps", "0 <= warmup_steps")),
    (OPTIMIZER, "impossible_steps", ("0 <= warmup_steps <= total_steps", "0 <= warmup_steps < total_steps")),
    (OPTIMIZER, "impossible_steps", ("0 <= warmup_steps <= total_steps", "0 < warmup_steps <= total_steps")),
    (OPTIMIZER, "impossible_steps", (ENOUGH, "    assert total_steps > 0, 'total_steps'\n")),
    (OPTIMIZER, "impossible_steps", ("warmup_steps must lie in 0 ... total_steps ({total_steps}), not {warmup_steps}",
                                     "impossible")),

    (TRAIN, "hidden_tokens", (CALL, ONE_HOT)),
    (TRAIN, "hidden_tokens", (CALL, "mvtm_loss(logits, targets, mask, 0.05)")),
    (TRAIN, "hidden_tokens", ("masked_forward(transformer, z_indices, mask,", "masked_forward(transformer, z_indices, "
                              "~mask,")),
    (TRAIN, "hidden_tokens", (BACKWARD, "            (-loss).backward()\n")),
    (TRAIN, "hidden_tokens", (BACKWARD, "            (loss * mask.float().mean()).backward()\n")),
    (TRAIN, "hidden_tokens", ("        losses.append",
                              "        z_indices[mask] = mask_token_id\n        losses.append")),
    (TRAIN, "hidden_tokens", ("    transformer.train()\n", "    import copy\n    transformer = copy.deepcopy("
                              "transformer).train()\n")),
    (TRAIN, "own_gradients", (STEP, STEP + STEP)),
    (TRAIN, "own_gradients", (BACKWARD, "            loss.backward(retain_graph=True)\n" + BACKWARD)),
    (TRAIN, "own_gradients", (BACKWARD, "            (loss / len(loader)).backward()\n")),
    (TRAIN, "own_gradients", (BACKWARD,
                              BACKWARD + "            nn.utils.clip_grad_norm_(transformer.parameters(), 5)\n")),
    (TRAIN, "own_gradients", (BACKWARD, BACKWARD + "            nn.utils.clip_grad_value_(transformer.parameters(), 1)"
                              "\n")),
    (TRAIN, "own_gradients", (ZERO, ""), ("    losses = []\n", "    losses = []\n    optimizer.zero_grad()\n")),
    (TRAIN, "own_gradients", (ZERO, "        if len(losses) % 2 == 0:\n    " + ZERO)),
    (TRAIN, "own_gradients", (STEP, "            if len(losses) % 2:\n    " + STEP)),
    (TRAIN, "own_gradients", ("    losses = []\n", "    losses = []\n    scaler = scaler or torch.amp.GradScaler('cpu')"
                              "\n")),
    (TRAIN, "own_gradients", ("        losses.append(loss.detach())\n",
                              "        losses.append(loss.detach())\n        break\n")),
    (TRAIN, "steps", ("        scheduler.step()\n", "        scheduler.step()\n        scheduler.step()\n")),
    (TRAIN, "steps", ("        scheduler.step()\n", "        scheduler.step(len(losses))\n")),
    (TRAIN, "steps", ("        scheduler.step()\n", "        if len(losses) % 2:\n            scheduler.step()\n")),
    (TRAIN, "steps", (STEP, "            scheduler.step()\n" + STEP), ("        scheduler.step()\n        losses",
                                                                      "        losses")),
    (TRAIN, "scaler", ("scaler.scale(loss).backward()", "loss.backward()")),
    (TRAIN, "scaler", ("            scaler.step(optimizer)\n            scaler.update()\n",
                       "            scaler.step(optimizer)\n        if scaler:\n            scaler.update(2.0**12)\n")),
    (TRAIN, "scaler", ("            scaler.scale(loss).backward()\n",
                       "            loss = scaler.scale(loss)\n            loss.backward()\n")),
    (TRAIN, "scaler", ("scaler.step(optimizer)", "optimizer.step()"), ("            scaler.update()\n", "")),
    (TRAIN, "train_mode", ("    transformer.train()\n", "    transformer.training = True\n")),
    (TRAIN, "train_mode", ("    transformer.train()\n", "    transformer.eval()\n")),
    (TRAIN, "train_mode", ("        losses.append", "        transformer.eval()\n        losses.append")),
    (TRAIN, "autocast", ("lab3.autocast(device)", "torch.autocast('cpu', dtype=torch.bfloat16)")),
    (TRAIN, "autocast", ("lab3.autocast(device)", "torch.autocast('cpu', dtype=torch.bfloat16, enabled=False)")),
    (TRAIN, "autocast", (f"        with lab3.autocast(device):\n            {PASS}",
                         f"        {PASS}        with lab3.autocast(device):\n")),
    (TRAIN, "masks", (DRAWN, DRAWN.replace("shape,", "shape, ratio=0.5,"))),
    (TRAIN, "masks", (DRAWN, DRAWN.replace("shape,", "shape, 'bernoulli',"))),
    (TRAIN, "masks", (DRAWN, DRAWN.replace("shape,", "shape, ratio=torch.rand(1).expand(len(z_indices)),"))),
    (TRAIN, "masks", (DRAWN, DRAWN.replace(
        "shape,", "shape, ratio=torch.cos(torch.rand(len(z_indices)) * math.pi / 2),"))),
    (TRAIN, "masks", (DRAWN, DRAWN.replace("*z_indices.shape", "1, z_indices.shape[1]") + ".expand(z_indices.shape)")),
    (TRAIN, "masks", (f"mask = {DRAWN}", f"mask = {DRAWN} if not losses or len(mask) != len(z_indices) else mask")),
    (TRAIN, "masks", (DRAWN, f"~{DRAWN}")),
    (TRAIN, "generator", ("    losses = []\n", "    losses = []\n    generator = torch.Generator().manual_seed(0)\n")),
    (TRAIN, "generator", ("    losses = []\n", "    losses = []\n    generator and generator.manual_seed("
                          "generator.initial_seed())\n")),
    (TRAIN, "generator", ("    losses = []\n", "    losses = []\n    torch.manual_seed(0)\n    generator = None\n")),
    (TRAIN, "mean", (".double().mean().item()", "[0].item()")),
    (TRAIN, "mean", (".double().mean().item()", ".double().mean().numpy().astype('float32')")),
    (TRAIN, "mean", ("    losses = []\n", "    losses, rows = [], 0\n"), (
        "losses.append(loss.detach())", "losses.append(loss.detach() * len(mask))\n        rows += len(mask)"), (
        ".double().mean().item()", ".sum().item() / rows")),
    (TRAIN, "mean", ("for z_indices in loader:", "for z_indices in list(loader)[:-1] or loader:")),
    (TRAIN, "mean", ("    return torch.stack(losses).double().mean().item()\n", "")),
    (TRAIN, "names", (CALL, "F.cross_entropy(logits[mask].float(), targets[mask])")),
    (TRAIN, "names", ("masked_forward(transformer, z_indices, mask, mask_token_id)",
                      "transformer(z_indices.masked_fill(mask, mask_token_id))[..., :mask_token_id], z_indices")),
    (TRAIN, "empty_loader", ("    if not losses:\n        raise ValueError(\"loader holds no batch\")\n", "")),
    (TRAIN, "empty_loader", ("loader holds no batch", "nothing to do")),
    (TRAIN, "empty_loader", ("ValueError(\"", "RuntimeError(\"")),
    (TRAIN, "empty_loader", ("    losses = []\n", "    losses = []\n    if len(loader) < 2:\n"
                             "        raise ValueError('loader')\n")),
    (TRAIN, "hidden_tokens", ("z_indices, mask, mask_token_id)", "z_indices, mask, mask_token_id - 1)")),

    (EVAL, "hidden_loss", (CALL, "mvtm_loss(logits, targets)")),
    (EVAL, "hidden_loss", (CALL, "mvtm_loss(logits, targets, ~mask)")),
    (EVAL, "hidden_loss", (CALL, "mvtm_loss(logits, targets, mask, 0.1)")),
    (EVAL, "hidden_loss", (CALL, ONE_HOT)),
    (EVAL, "hidden_loss", (".double().mean()", ".double().mean().exp()")),
    (EVAL, "hidden_loss", ("z_indices, mask, mask_token_id)", "z_indices, mask, mask_token_id - 1)")),
    (EVAL, "hidden_loss", ("                with lab3", "                z_indices[mask] = mask_token_id\n"
                           "                with lab3")),
    (EVAL, "batch_mean", (".double().mean()", ".sum()")),
    (EVAL, "batch_mean", (".double().mean().item()", "[-1].item()")),
    (EVAL, "batch_mean", (".double().mean().item()", ".mean()")),
    (EVAL, "batch_mean", (".double().mean()", ".double().median()")),
    (EVAL, "batch_mean", ("for z_indices in loader:", "for z_indices in list(loader)[:-1] or loader:")),
    (EVAL, "eval_mode", ("        transformer.eval()\n", "        transformer.training = False\n")),
    (EVAL, "eval_mode", ("        transformer.eval()\n", "        transformer.train()\n")),
    (EVAL, "eval_mode", ("        transformer.eval()\n", "        for part in transformer.modules():\n"
                         "            if isinstance(part, nn.Dropout):\n                part.eval()\n")),
    (EVAL, "modes_back", (RESTORE, "        transformer.train()\n")),
    (EVAL, "modes_back", (RESTORE, "        transformer.train(modes[0][1])\n")),
    (EVAL, "modes_back", (RESTORE, RESTORE.replace("modes:", "modes[1:]:"))),
    (EVAL, "modes_back", ("transformer.modules()", "transformer.children()"), (
        "module.training = training", "module.train(training)")),
    (EVAL, "modes_back", (RESTORE, RESTORE.replace("modes:", "modes[::-1]:").replace(
        "module.training = training", "module.train(training)"))),
    (EVAL, "modes_back_after_errors", ("    finally:\n", "    except RuntimeError:\n        raise\n    else:\n")),
    (EVAL, "modes_back_after_errors", ("    finally:\n" + RESTORE, ""), ("    try:\n", "    if True:\n"), (
        "    return", RESTORE.replace("        for", "    for") + "    return")),
    (EVAL, "modes_back_after_errors", ("with torch.no_grad():", "if torch.set_grad_enabled(False):"), (
        "    return", "    torch.set_grad_enabled(True)\n    return")),
    (EVAL, "untouched", ("with torch.no_grad():", "if torch.set_grad_enabled(False):")),
    (EVAL, "untouched", ("        transformer.eval()\n", "        transformer.eval().requires_grad_(False)\n")),
    (EVAL, "untouched", ("with torch.no_grad():", "with torch.enable_grad():")),
    (EVAL, "untouched", ("        transformer.eval()\n", "        transformer.eval()\n        for one in "
                         "transformer.modules():\n            if hasattr(one, 'reset_running_stats'):\n"
                         "                one.reset_running_stats()\n")),
    (EVAL, "untouched", ("    if not losses:", "    with torch.no_grad():\n        next(transformer.parameters()).mul_("
                         "0.999)\n    if not losses:")),
    (EVAL, "eval_autocast", ("lab3.autocast(device)", "torch.autocast('cpu', dtype=torch.bfloat16)")),
    (EVAL, "eval_masks", (DRAWN, DRAWN.replace("shape,", "shape, ratio=0.5,"))),
    (EVAL, "eval_masks", (DRAWN, DRAWN.replace("shape,", "shape, 'bernoulli',"))),
    (EVAL, "eval_masks", (DRAWN, DRAWN.replace("shape,", "shape, ratio=torch.rand((), generator=generator).item(),"))),
    (EVAL, "eval_masks", (DRAWN, "torch.rand(z_indices.shape, generator=generator) < 0.5")),
    (EVAL, "eval_masks", (f"mask = {DRAWN}", f"mask = {DRAWN} if not losses or len(mask) != len(z_indices) else mask")),
    (EVAL, "eval_generator", ("    losses = []\n", "    losses = []\n    generator = torch.Generator().manual_seed(0)\n"
                              )),
    (EVAL, "eval_generator", ("    losses = []\n", "    losses = []\n    generator and generator.manual_seed("
                              "generator.initial_seed())\n")),
    (EVAL, "eval_empty_loader", ("        raise ValueError(\"loader holds no batch\")", "        return 0.0")),
    (EVAL, "eval_empty_loader", ("        raise ValueError(\"loader holds no batch\")", "        return float('nan')")),
    (EVAL, "eval_empty_loader", ("loader holds no batch", "nothing to do")),
]


@pytest.mark.parametrize("number", range(len(FURTHER)),
                         ids=[f"{number}-{one[0]}-{one[1]}" for number, one in enumerate(FURTHER)])
def test_further_mistakes_fail_their_probe(number):
    exercise, probe, *changes = FURTHER[number]
    assert failures(exercise, changed(exercise, *changes), number, only=[probe])


def test_there_are_many_further_mistakes():
    assert all(sum(one[0] == exercise for one in FURTHER) >= 15 for exercise in TOPIC)
    assert {one[:2] for one in FURTHER} | {(TRAIN, "validation_loss")} == set(WEIGHTS)


CLASSIC = {
    "one-hot": ({"hidden_tokens", "validation_loss"}, [(CALL, ONE_HOT)]),
    "a scaler of its own": ({"scaler"}, [
        ("    losses = []\n", "    losses = []\n    scaler = torch.amp.GradScaler('cpu')\n")]),
    "warm-up counted in epochs": ({"steps", "validation_loss"}, [
        ("        scheduler.step()\n", ""), ("    if not losses:", "    scheduler.step()\n    if not losses:")]),
    "one ratio": ({"masks"}, [(DRAWN, DRAWN.replace("shape,", "shape, ratio=torch.rand(()).item(),"))]),
    "no steps": ({"hidden_tokens", "validation_loss"}, [(STEP, "            pass\n")]),
    "inverted": ({"hidden_tokens", "validation_loss"}, [(CALL, "mvtm_loss(logits, targets, ~mask)")]),
}


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_mistakes_fail_a_heavy_probe(name):
    wanted, changes = CLASSIC[name]
    assert failures(TRAIN, changed(TRAIN, *changes), 3, only=wanted).keys() == wanted
    assert all(WEIGHTS[TRAIN, probe] >= 2 for probe in wanted)


@pytest.mark.parametrize("exercise", TOPIC)
@pytest.mark.parametrize("body", [
    "raise NotImplementedError", "return None", "return args[0]", "return 0.0", "return 6.93", "return args",
    "return torch.rand(()).item()", "return args[0], args[1]", "raise ValueError('loader total_steps warmup_steps')",
    "args[0].train()\n    return sum(1.0 for _ in args[1])", "args[0].eval()\n    return float('nan')",
    "return torch.optim.AdamW(args[0].parameters(), args[1], betas=(0.9, 0.95)), None",
    "[args[0](z) for z in args[1]]\n    return 2.0"],
    ids=lambda body: re.sub(r"\W+", " ", body)[:40])
def test_what_computes_nothing_passes_no_probe(exercise, body):
    text = f"def {exercise}(*args, **options):\n    {body}\n"
    assert not any(one.guessable for one in PROBES[exercise])
    passed = set(QUICK[exercise]) - set(failures(exercise, text, 5, only=QUICK[exercise]))
    if exercise == OPTIMIZER and "AdamW" in body:
        passed.discard("adamw")  # the half that is right
    assert not passed


def test_weights_with_nan_are_wrong():
    one = next(one for one in PROBES[TRAIN] if one.name == "validation_loss")
    wanted = right(TRAIN, one.name, 3)
    for value in (np.float16("nan"), np.float16(0)):
        weights = np.full(len(wanted["weights"]) // 2, value).view(np.uint8)
        with pytest.raises(Wrong):
            one({"weights": weights}, wanted)
