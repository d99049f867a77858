"""The checks of notebook 03: configure_optimizers, train_one_epoch and eval_one_epoch.

In: the function that was written, and for an epoch the namespace where it finds the answers that it calls. Out:
nothing where it is right, `CheckFailed` where it is not. In an epoch stand-ins take the place of the earlier answers:
they note how they were called, and fix the gradient of each batch.
"""

import contextlib
import math
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F

import lab3
from lab3.common import machine
from lab3.exercises.checks.tools import (
    BRANCHES,
    INVERTED,
    V,
    as_text,
    expect,
    is_pair,
    randint,
    refuses,
    rng,
    same,
    saw,
    takes,
)

# configure_optimizers

SMOOTHED = "label smoothing is not asked for: leave it at its default"
FLAT_FACTOR = "the factor does not fall: angles are in radians, half a turn is pi, and // would round p down"
LR, TOTAL, WARMUP, ETA_MIN = 0.5, 12, 4, 0.1


def _optimizer(configure_optimizers, *args):
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    optimizer, scheduler = is_pair(configure_optimizers(model, *args), "the optimizer and the scheduler")
    expect(not isinstance(optimizer, torch.optim.lr_scheduler.LRScheduler), "the optimizer, then the scheduler",
           "the other order", "optimizer and scheduler are exchanged: the optimizer comes first")
    return model, optimizer, scheduler


def _factors(configure_optimizers, steps, *args):
    """lr / LR at the steps 0, 1, ..."""
    _, optimizer, scheduler = _optimizer(configure_optimizers, LR, *args)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[-1]["lr"] / LR)
        optimizer.step()
        scheduler.step()
    return factors


def optimizer_kinds(configure_optimizers):
    """It gives AdamW over all parameters, with betas (0.9, 0.95), and a LambdaLR."""
    model, optimizer, scheduler = _optimizer(configure_optimizers, LR, TOTAL, WARMUP)
    expect(isinstance(optimizer, torch.optim.AdamW), "AdamW", type(optimizer).__name__)
    expect(isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR) and scheduler.optimizer is optimizer,
           "a LambdaLR of that optimizer", type(scheduler).__name__)
    for group in optimizer.param_groups:
        expect(tuple(group["betas"]) == (0.9, 0.95), "betas (0.9, 0.95)", str(tuple(group["betas"])))
    kept = {id(one) for group in optimizer.param_groups for one in group["params"]}
    expect(kept == {id(one) for one in model.parameters()}, "all parameters of the model", f"{len(kept)} of 4")


def optimizer_warmup(configure_optimizers):
    """During warm-up the factor is s / warmup_steps: 0 at step 0."""
    found = _factors(configure_optimizers, WARMUP, TOTAL, WARMUP, ETA_MIN)
    same(found, [0, 0.25, 0.5, 0.75], [
        ([0.25, 0.5, 0.75, 1], "s is counted from 1: at s = 0 the factor is 0"),
        ([0.1, 0.325, 0.55, 0.775], "warm-up climbs from eta_min: it climbs from 0"),
        ([0, 0, 0, 0], "the factor stays 0: was it rounded to a whole number?"),
        ([0, LR / 4, LR / 2, 3 * LR / 4], "the function gives a factor: LambdaLR multiplies lr in itself"),
    ], what="factors ")


def optimizer_cosine(configure_optimizers):
    """After warm-up half a cosine leads from 1 down to eta_min."""
    root, steps = math.sqrt(0.5), range(WARMUP, TOTAL, 2)
    factors = _factors(configure_optimizers, TOTAL, TOTAL, WARMUP, ETA_MIN)
    found = [factors[s] for s in steps]
    half = [1, (1 + root) / 2, 0.5, (1 - root) / 2]  # after 0, 1/4, 1/2, 3/4 of the way
    whole = [0.75, 0.5, 0.25, (1 - math.sqrt(0.75)) / 2]  # after 1/3, 1/2, 2/3, 5/6 of it
    late = [0.5 * (1 + math.cos(math.pi * s / (TOTAL - WARMUP))) for s in steps]
    right, early, shifted = ([ETA_MIN + (1 - ETA_MIN) * one for one in curve] for curve in (half, whole, late))
    same(found, right, [
        (half, "eta_min is not used, or only as a floor: the cosine is squeezed between 1 and eta_min"),
        ([ETA_MIN / LR + (1 - ETA_MIN / LR) * one for one in half], "eta_min is a factor of lr, not a learning rate"),
        ([one + ETA_MIN for one in half], "eta_min is added on top: the cosine must shrink to 1 - eta_min"),
        ([2 * one - ETA_MIN for one in right], "the half of the cosine is missing"),
        ([LR * one for one in right], "the function gives a factor: LambdaLR multiplies lr in itself"),
        (early, "p is counted from step 0: it starts when warm-up ends"),
        (shifted, "p is counted from step 0: it starts when warm-up ends"),
    ], FLAT_FACTOR if min(found) > 0.95 else "",
        f"factors at steps {as_text(list(steps))}: ")


def optimizer_end(configure_optimizers):
    """From total_steps on the factor is exactly eta_min."""
    for eta_min in (ETA_MIN, 0.0):
        found = _factors(configure_optimizers, 2 * TOTAL, TOTAL, WARMUP, eta_min)[TOTAL:]
        rises = max(found) > eta_min + 0.01
        expect(all(one == eta_min for one in found), f"{eta_min} at steps 12 to 23",
               f"{min(found):.17g} to {max(found):.17g}",
               "the cosine goes on and rises again" if rises else "the cosine rounds: take eta_min itself")


def optimizer_no_warmup(configure_optimizers):
    """warmup_steps may be 0, and may be all steps."""
    root = math.sqrt(0.5)
    same(_factors(configure_optimizers, 5, 4, 0), [1, (1 + root) / 2, 0.5, (1 - root) / 2, 0], [
        ([1, (1 + root) / 2, 0.5, 0, 0], "eta_min is reached one step too early: it holds from total_steps on")],
        what="factors without warm-up ")
    same(_factors(configure_optimizers, 4, 2, 2, ETA_MIN), [0, 0.5, ETA_MIN, ETA_MIN],
         what="factors with warm-up alone ")


def optimizer_refuses(configure_optimizers):
    """Impossible numbers of steps are refused."""
    for word, total, warmup in (("total_steps", 0, 0), ("warmup_steps", 10, -1), ("warmup_steps", 10, 11)):
        refuses(word, f"total_steps {total} and warmup_steps {warmup}", configure_optimizers, nn.Linear(2, 2), 0.1,
                total, warmup)


# train_one_epoch and eval_one_epoch

SIZES, TOKENS, SLOPES = (3, 1, 4), 6, (1.0, 10.0, 4.0)  # batch n has the loss SLOPES[n] * weight
LOSSES = (2.0, 20.0, 8.0)  # what it is before a training
REST = math.log(1 - sum(math.exp(-one) for one in LOSSES))  # log p of one more code


class Tiny(nn.Module):
    """A transformer of one number, whose gradient the stub of the loss fixes; it notes how it was called.

    An evaluation needs no stub of the loss: where a token is hidden, code n has log p = -LOSSES[n].
    """

    def __init__(self, log):
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.tensor(2.0)), nn.Sequential(nn.Dropout(0.5))
        self.log = log

    def forward(self, z_indices):
        self.log.calls.append(SimpleNamespace(
            z=z_indices.clone(), grad=torch.is_grad_enabled(), inside=self.log.inside > 0, modes=_modes(self)))
        if self.log.broken:
            raise RuntimeError("raised by the check")
        logits = self.weight * torch.ones(*z_indices.shape, V + 1)
        codes = torch.tensor([-one for one in LOSSES] + [REST] + [-90.0] * (V - 4) + [50.0])  # the mask token's: 50
        return torch.where(z_indices[..., None] == V, logits - 2 + codes, logits)


def _batch(n, trains):
    """Random tokens; in an evaluation code n alone, whose loss is known."""
    return randint(SIZES[n], TOKENS, offset=SIZES[n]) if trains else torch.full((SIZES[n], TOKENS), n)


def _epoch(epoch, namespace, trains=False, prepare=None, loader=None, broken=False, **options):
    """Run an epoch with stand-ins for the earlier answers, which note how they were called."""
    log = SimpleNamespace(sampled=[], forwarded=[], losses=[], calls=[], steps=[], inside=0, scalers=0, enabled=0,
                          generator=rng(), broken=broken)
    model, batches = Tiny(log), [_batch(n, trains) for n in range(len(SIZES))]
    log.batches, log.model = batches, model

    @contextlib.contextmanager
    def autocast(device):
        log.inside += 1
        yield
        log.inside -= 1

    def sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None):
        mask = torch.arange(tokens).expand(batch, -1) == len(log.sampled)
        log.sampled.append(SimpleNamespace(
            shape=(int(batch), int(tokens)), prob_type=prob_type, ratio=ratio, generator=generator, device=device,
            mask=mask))
        return mask

    def masked_forward(transformer, z_indices, mask, mask_token_id):
        log.forwarded.append(SimpleNamespace(z=z_indices, mask=mask, id=mask_token_id))
        return transformer(z_indices if trains else z_indices.masked_fill(mask, V))[..., :V], z_indices.clone()

    def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
        slope = SLOPES[len(log.losses) % len(SLOPES)]
        log.losses.append(SimpleNamespace(logits=logits, targets=targets, mask=mask, smoothing=label_smoothing))
        if trains:
            return logits.mean() * slope
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten()) if mask is None else \
            F.cross_entropy(logits[mask], targets[mask])

    namespace.update(sample_mask=sample_mask, masked_forward=masked_forward, mvtm_loss=mvtm_loss)
    for name, value in list(namespace.items()):
        if value is lab3.autocast:
            namespace[name] = autocast
    original = torch.amp.GradScaler.__init__

    def counting(self, *args, **kwargs):
        original(self, *args, **kwargs)
        log.scalers, log.enabled = log.scalers + 1, log.enabled + self.is_enabled()

    if prepare:
        prepare(model)
    args = [model, batches if loader is None else loader]
    if trains:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        log.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0)
        optimizer.register_step_post_hook(lambda *_: log.steps.append(log.scheduler.last_epoch))
        args += [optimizer, log.scheduler]
    with patch.object(lab3, "autocast", autocast), patch.object(machine, "autocast", autocast), \
            patch.object(torch.amp.GradScaler, "__init__", counting):
        log.result = epoch(*args, **{"mask_token_id": V, "device": "cpu", "generator": log.generator} | options)
    return log


def _calls(log, trains=True):
    """The earlier answers were called as the text says, once a batch; an evaluation has to call only sample_mask."""
    n = len(SIZES)
    for name, calls in (("sample_mask", log.sampled), ("masked_forward", log.forwarded), ("mvtm_loss", log.losses)):
        required = trains or name == "sample_mask" or calls
        expect(len(calls) == n or not required, f"{name} called once for each of {n} batches", f"{len(calls)} calls",
               "each earlier answer is found by its name and called: no copy of it" if not calls else
               "batches are left out: each batch of the loader counts" if len(log.calls) < n else
               "a mask is drawn for each batch, not once" if len(log.sampled) < n else "")
    for batch, drawn in zip(log.batches, log.sampled, strict=True):
        expect(drawn.shape == tuple(batch.shape), f"sample_mask for {tuple(batch.shape)}", f"for {drawn.shape}",
               "one mask for all rows: each row has its own" if drawn.shape[0] == 1 else
               "the last batch may be smaller: take the shape from the batch")
        expect(drawn.ratio is None, "sample_mask without a ratio", f"ratio {drawn.ratio}",
               "one ratio for the whole batch: left alone, sample_mask draws a ratio for each row")
        expect(drawn.prob_type == "topk", "sample_mask with its default prob_type", repr(drawn.prob_type))
        expect(drawn.generator is log.generator, "the generator passed on to sample_mask",
               "none" if drawn.generator is None else "another", "without it the masks cannot be repeated" if
               drawn.generator is None else "pass on the generator itself: another, made here, repeats its draws")
        expect(drawn.device is not None, "the device passed on to sample_mask", "no device",
               "without it the masks lie on the CPU, also where the model is on a GPU")
    for batch, drawn, forward in zip(log.batches, log.sampled, log.forwarded):
        expect(torch.equal(forward.z, batch), "masked_forward with the tokens of the batch", "other tokens")
        expect(forward.id == V, "masked_forward with mask_token_id", str(forward.id))
        _given_mask("masked_forward", forward.mask, drawn.mask)
    if not log.forwarded:
        expect(len(log.calls) == n, f"one pass for each of {n} batches", f"{len(log.calls)}")
        for batch, drawn, call in zip(log.batches, log.sampled, log.calls, strict=True):
            saw(call.z, batch, drawn.mask)
    for batch, drawn, loss in zip(log.batches, log.sampled, log.losses):
        hidden = batch[drawn.mask]
        picked = loss.mask is None and loss.logits.shape[:-1].numel() == len(hidden)  # the hidden ones alone
        if not picked:
            _given_mask("mvtm_loss", loss.mask, drawn.mask)
        expect(torch.equal(loss.targets.flatten(), hidden if picked else batch.flatten()),
               "mvtm_loss with the targets that masked_forward gave", "others")
        expect(loss.smoothing == 0, "mvtm_loss without label smoothing", f"label_smoothing {loss.smoothing}",
               SMOOTHED)
    expect(all(call.inside for call in log.calls), "the forward pass under lab3.autocast(device)",
           "a pass outside of it", "the with statement is missing, or another autocast is used")


def _given_mask(name, mask, drawn):
    given = isinstance(mask, torch.Tensor) and torch.equal(mask, drawn)
    reason = "the loss counts hidden tokens only: hand it the mask" if mask is None else ""
    if not given and isinstance(mask, torch.Tensor) and torch.equal(mask, ~drawn):
        reason = INVERTED
    expect(given, f"{name} with the mask that was drawn", "no mask" if mask is None else "another mask", reason)


def _mean(log, losses, suspects=()):
    result = log.result
    expect(isinstance(result, float), "a float", f"a {type(result).__name__}", "a return is missing" if result is None
           else "a tensor would keep the graph of each batch in memory" if isinstance(result, torch.Tensor) else "")
    kept, total = "the mask token's logit is kept: it is no code", sum(losses)
    weighted = sum(loss * size for loss, size in zip(losses, SIZES, strict=True))
    same(result, total / len(losses), [
        (total, "the losses are added, not averaged"), (losses[-1], "this is the last batch's loss"),
        (losses[0], "this is the first batch's loss: return after the loop"),
        (math.exp(total / len(losses)), "this is the perplexity: the loss itself is wanted"),
        (weighted / sum(SIZES), "the mean is weighted by batch size: it is the mean of the batch losses"),
        (total / sum(SIZES), "the sum is divided by the number of rows: it is the mean of the batch losses"),
        (weighted / len(SIZES), "the losses are multiplied by the batch size"),
        (total / len(losses) + 50, kept), *suspects,
    ], what="the mean of the batch losses, ")


def _train(train_one_epoch, namespace, **options):
    return _epoch(train_one_epoch, namespace, trains=True, **options)


def train_calls(train_one_epoch, namespace):
    """Each batch goes through sample_mask, masked_forward and mvtm_loss, under autocast."""
    log = _train(train_one_epoch, namespace)
    for n, batch in enumerate(log.batches):
        expect(torch.equal(batch, _batch(n, True)), "batches as the loader gave them", "changed ones")
    _calls(log)


def train_mode(train_one_epoch, namespace):
    """The transformer and its parts are in train mode."""
    log = _train(train_one_epoch, namespace, prepare=nn.Module.eval)
    expect(all(all(call.modes) for call in log.calls), "train mode in every pass", "eval mode",
           "after an evaluation the model may be in eval mode: train mode must be set")


def train_steps(train_one_epoch, namespace):
    """Optimizer and scheduler make one step a batch, the optimizer first."""
    log = _train(train_one_epoch, namespace)
    n, steps = len(SIZES), len(log.steps)
    expect(steps == n, f"{n} steps of the optimizer for {n} batches", f"{steps}")
    found = log.scheduler.last_epoch
    expect(found == n, f"{n} steps of the scheduler for {n} batches", f"{found}", {
        0: "the scheduler is never stepped: the learning rate would stay where warm-up starts, at 0",
        1: "the scheduler is stepped once an epoch: warm-up is then counted in epochs, and the first epoch trains at "
           "learning rate 0"}.get(found, ""))
    expect(log.steps == list(range(n)), "the optimizer's step before the scheduler's", "the scheduler's first",
           "the first learning rate of the schedule is skipped")


def train_gradients(train_one_epoch, namespace):
    """Each step uses the gradient of its own batch, and the mean of the batch losses comes back."""
    log = _train(train_one_epoch, namespace)
    moved = 2 - log.model.weight.item()
    times = 1.5 / moved if moved > 0 else 0  # how often the right step is as large
    same(log.model.weight.item(), 0.5, [
        (2 - 0.1 * (1 + 11 + 15), "gradients add up from batch to batch: they are never cleared"),
        (2 - 0.1 * 3, "the gradients are clipped: the text asks for none"),
        (2.0, "no gradient was there at the step: were they cleared between backward and step?"),
        (2 - 0.1 * (1 + 10), "the last batch's step is missing"),
        (2 - 0.1 * 2 * 15, "backward runs twice"),
    ], "the loss is divided before backward" if round(times) > 1 and abs(times - round(times)) < 1e-3 else "",
        what="a parameter that goes from 2 to ")
    _mean(log, [2.0, 19.0, 3.6])

    def leave(model):
        model.weight.grad = torch.tensor(100.0)

    log = _train(train_one_epoch, namespace, prepare=leave)
    same(log.model.weight.item(), 0.5, otherwise="gradients left from before count in the first step: clear them first",
         what="with gradients left in the model, still ")


def train_scaler(train_one_epoch, namespace):
    """The scaler that is given is used, and no other."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    log = _train(train_one_epoch, namespace, scaler=scaler)
    another = "a new GradScaler is made in the function: its scale starts over at each epoch"
    expect(not log.scalers, "no other GradScaler than the one given", "one made in the function", another)
    expect(scaler.get_scale() == 1024 * 8, "three updates of the scaler",
           f"a scale of {scaler.get_scale():g}, from 1024",
           "the scaler given is not used, or not updated after each step")
    far = abs(log.model.weight.item() - 2) > 100
    same(log.model.weight.item(), 0.5,
         otherwise="the optimizer steps with gradients that are still scaled" if far else BRANCHES,
         what="the same step as without a scaler, from 2 to ")
    enabled = _train(train_one_epoch, namespace).enabled  # a disabled one does nothing
    expect(not enabled, "no GradScaler where none is given", "one made in the function", another)


def train_refuses(train_one_epoch, namespace):
    """A loader without a batch is refused."""
    refuses("loader", "[]", _train, train_one_epoch, namespace, loader=[])


def _modes(model):
    return [module.training for module in model.modules()]


def _mixed(model):
    model.train().drop[0].eval()
    return model


def eval_calls(eval_one_epoch, namespace):
    """Each batch has a mask of sample_mask and a forward pass under autocast; the mean of the losses comes back."""
    log = _epoch(eval_one_epoch, namespace)
    _calls(log, trains=False)
    unlikely = (sum(LOSSES) - REST + 90 * (V - 4)) / V  # -log p, averaged over the codes
    _mean(log, LOSSES, [
        (sum(loss + (TOKENS - 1) * math.log(V) for loss in LOSSES) / TOKENS / len(LOSSES),
         "the loss counts all tokens: hidden tokens only"),
        (math.log(V), INVERTED),
        (0.9 * sum(LOSSES) / len(LOSSES) + 0.1 * unlikely, SMOOTHED)])


def eval_mode(eval_one_epoch, namespace):
    """It runs in eval mode and without gradients, and changes no parameter."""
    def leave(model):
        model.train().weight.grad = torch.tensor(100.0)

    log = _epoch(eval_one_epoch, namespace, prepare=leave)
    expect(not any(any(call.modes) for call in log.calls), "eval mode in every pass", "train mode",
           "dropout would disturb the measurement")
    expect(not any(call.grad for call in log.calls), "no gradients in the forward pass", "gradients",
           "the graph of every batch costs memory and time")
    weight = log.model.weight
    expect(weight.item() == 2 and weight.requires_grad, "the parameters as before", "changed ones")
    expect(weight.grad is not None and weight.grad.item() == 100, "the gradients as before", "cleared or changed ones",
           "an evaluation in the middle of training must not touch them")
    expect(torch.is_grad_enabled(), "gradients switched on again afterwards",
           "gradients off for the rest of the notebook")


def eval_modes_back(eval_one_epoch, namespace):
    """Each submodule has its own mode back afterwards, also after an exception."""
    for prepare, reason in (
            (nn.Module.train, "eval mode stays on: training would go on without dropout"),
            (nn.Module.eval, "train mode is set in the end, whatever it was before"),
            (_mixed, "modes differ from part to part: note each submodule's own")):
        before = _modes(prepare(Tiny(None)))
        after = _modes(_epoch(eval_one_epoch, namespace, prepare=prepare).model)
        expect(after == before, f"train modes of the modules {before}", str(after), reason)
    models = []
    with contextlib.suppress(RuntimeError):
        _epoch(eval_one_epoch, namespace, prepare=lambda model: (_mixed(model), models.append(model)), broken=True)
    expect(_modes(models[0]) == _modes(_mixed(Tiny(None))), "the modes as before, also after an exception", "others",
           "an exception skips the lines that put them back")
    expect(torch.is_grad_enabled(), "gradients switched on again after an exception", "gradients off")


def eval_refuses(eval_one_epoch, namespace):
    """A loader without a batch is refused."""
    refuses("loader", "[]", _epoch, eval_one_epoch, namespace, loader=[])


CHECKS = {
    "configure_optimizers": (
        takes(lambda model, lr, total_steps, warmup_steps, eta_min=0.0: None), optimizer_kinds, optimizer_warmup,
        optimizer_cosine, optimizer_end, optimizer_no_warmup, optimizer_refuses),
    "train_one_epoch": (
        takes(lambda transformer, loader, optimizer, scheduler, *, mask_token_id, device, scaler=None, generator=None:
              None), train_calls, train_mode, train_steps, train_gradients, train_scaler, train_refuses),
    "eval_one_epoch": (
        takes(lambda transformer, loader, *, mask_token_id, device, generator=None: None), eval_calls, eval_mode,
        eval_modes_back, eval_refuses),
}
