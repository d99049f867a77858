"""The probes of configure_optimizers.

In: the function. Out: `Wrong` where the optimizer, or a learning rate of any step, is not the contract's.
"""

import numpy as np
import torch
from torch import nn

from grader.probes.inside import attempt, rates
from grader.probes.probe import array, expect, near, numbers, probe, refusals


@probe("configure_optimizers", weight=4)
def adamw(configure_optimizers, draw):
    """The optimizer is AdamW with betas (0.9, 0.95), over all parameters."""
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model.place = nn.Parameter(draw.normal(5))
    parameters = list(model.parameters())
    with torch.no_grad():
        for one in parameters:
            one.copy_(draw.normal(*one.shape))
    optimizer, _ = configure_optimizers(model, 0.1, 10, 1)
    moves, lr, weight_decay = [nn.utils.parameters_to_vector(parameters).detach().clone()], 0.1, draw.number(0.2, 0.5)
    for group in optimizer.param_groups:
        group.update(lr=lr, weight_decay=weight_decay)  # neither the schedule nor the decay that was chosen matters
    for _ in range(12):
        scale = 10 ** draw.number(-1, 1)
        for one in parameters:
            one.grad = draw.normal(*one.shape, scale=scale)
        optimizer.step()
        moves.append(nn.utils.parameters_to_vector(parameters).detach().clone())
    return {"moves": torch.stack(moves), "adamw": isinstance(optimizer, torch.optim.AdamW),
            "betas": [float(beta) for beta in optimizer.param_groups[-1].get("betas", ())]}


@adamw.judge
def judge_adamw(seen, right):
    moves = array(seen["moves"], right["moves"].shape, "float", "the parameters over 12 steps")
    expect(np.allclose(moves[0], right["moves"][0]), "parameters that configure_optimizers leaves as they are",
           "changed ones")
    still = (np.abs(np.diff(moves, axis=0)) < 1e-7).all(axis=0)
    expect(not still.any(), "every parameter moved by the optimizer", f"{still.mean():.0%} of them never moved",
           "model.parameters() holds them all, those of no layer too")
    reason = "" if seen["adamw"] is True else "the optimizer is another than AdamW"
    if not reason and seen["betas"] != right["betas"]:
        reason = f"betas are {', '.join(f'{one:.3g}' for one in numbers(seen['betas'], 2, 'betas'))}"
    expect(np.allclose(moves, right["moves"], rtol=1e-3, atol=1e-4),
           "the steps of AdamW with betas (0.9, 0.95)", "other steps", reason)


@probe("configure_optimizers")
def lambda_lr(configure_optimizers, draw):
    """The scheduler is a LambdaLR of that optimizer, and sets the rate of all its parameters."""
    lr, total = draw.number(0.01, 0.5), draw.integer(9, 14)
    optimizer, scheduler = configure_optimizers(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)), lr, total, 3)
    rates = []
    for _ in range(total):
        optimizer.step()
        scheduler.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    return {"kind": isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR),
            "lowest": [min(some) / lr for some in rates], "highest": [max(some) / lr for some in rates]}


@lambda_lr.judge
def judge_lambda_lr(seen, right):
    expect(seen["kind"] is True, "a LambdaLR", "another scheduler")
    count = len(right["lowest"])
    low, high = numbers(seen["lowest"], count, "learning rates"), numbers(seen["highest"], count, "learning rates")
    expect(np.ptp(high) > 0, "a learning rate that changes with scheduler.step()", "one that stays",
           "the scheduler belongs to another optimizer, or its function does not use the step")
    expect(np.allclose(low, high, rtol=1e-4), "one learning rate for all parameters at each step", "several")


@probe("configure_optimizers", weight=2)
def warmup(configure_optimizers, draw):
    """During warm-up the factor is s / warmup_steps, whatever eta_min is."""
    lr, eta_min, count = draw.number(0.01, 0.1), draw.number(0.1, 0.3), draw.integer(5, 12)
    factors = rates(*configure_optimizers(nn.Linear(2, 2), lr, 3 * count, count, eta_min), count, lr)
    return {"factors": factors, "eta_min": eta_min, "lr": lr}


@warmup.judge
def judge_warmup(seen, right):
    found, wanted = numbers(seen["factors"], len(right["factors"]), "factors"), np.array(right["factors"])
    n, eta_min = len(wanted), right["eta_min"]
    near(found, wanted, "a factor s / warmup_steps during warm-up", [
        (wanted + 1 / n, "s is counted from 1: at s = 0 the factor is 0"),
        (wanted * right["lr"], "the function gives a factor: LambdaLR multiplies by lr itself"),
        (eta_min + (1 - eta_min) * wanted, "warm-up climbs from eta_min: it climbs from 0"),
        (np.maximum(wanted, eta_min), "eta_min holds after warm-up only"),
        (np.arange(n) / (n - 1), "the factor reaches 1 at step warmup_steps, not before"),
        (np.ones(n), "there is no warm-up"), (np.zeros(n), "the factor stays 0")])


@probe("configure_optimizers", weight=3)
def cosine(configure_optimizers, draw):
    """After warm-up half a cosine leads from 1 down to eta_min, a factor of lr."""
    lr, eta_min, first = draw.number(0.01, 0.1), draw.number(0.1, 0.3), draw.integer(4, 9)
    total = 3 * first + draw.integer(1, 9)
    factors = rates(*configure_optimizers(nn.Linear(2, 2), lr, total, first, eta_min), total, lr)
    return {"factors": factors[first:], "eta_min": eta_min, "lr": lr, "total": total, "warmup": first}


@cosine.judge
def judge_cosine(seen, right):
    found, wanted = numbers(seen["factors"], len(right["factors"]), "factors"), np.array(right["factors"])
    eta_min, total, first = right["eta_min"], right["total"], right["warmup"]
    steps = np.arange(first, total)

    def curve(p, low=eta_min):
        return low + (1 - low) * 0.5 * (1 + np.cos(np.pi * p))

    p = (steps - first) / (total - first)
    near(found, wanted, "half a cosine from 1 to eta_min, after warm-up", [
        (curve(p, 0), "eta_min is not used: the cosine is squeezed between 1 and eta_min"),
        (np.maximum(curve(p, 0), eta_min), "eta_min is used as a floor: the cosine is squeezed"),
        (curve(p, eta_min / right["lr"]), "eta_min is a factor of lr, not a learning rate"),
        (curve(p, 0) + eta_min, "eta_min is added on top: the cosine must shrink to 1 - eta_min"),
        (2 * wanted - eta_min, "the half of the cosine is missing"),
        (wanted * right["lr"], "the function gives a factor: LambdaLR multiplies by lr itself"),
        (curve(steps / total), "p is counted from step 0: it starts when warm-up ends"),
        (curve((steps - first) / total), "p is divided by the steps after warm-up, not by all"),
        (1 - (1 - eta_min) * p, "this is a straight line"),
        (curve((steps + 1 - first) / (total - first)), "s is counted from 1: it is counted from 0")],
        "the factor hardly falls: angles are in radians, half a turn is pi" if found.min() > 0.95 else "")


@probe("configure_optimizers", weight=2)
def end(configure_optimizers, draw):
    """From total_steps on the factor is exactly eta_min, which is 0 by default."""
    lr, total, first, eta_min = draw.number(0.1, 1), draw.integer(8, 15), draw.integer(1, 4), draw.number(0.05, 0.3)
    cases = []
    for options in ({}, {"eta_min": eta_min}):
        found = rates(*configure_optimizers(nn.Linear(2, 2), lr, total, first, **options), 3 * total)
        cases.append({"before": found[total // 2:total], "after": found[total:]})
    return {"cases": cases, "lr": lr}


@end.judge
def judge_end(seen, right):
    for one, other in zip(seen["cases"], right["cases"], strict=True):
        count = len(other["after"])
        before, after = (numbers(one[part], len(other[part]), "learning rates") for part in ("before", "after"))
        wanted = np.array(other["after"])
        rises = (np.diff(after) > 1e-6 * right["lr"]).any()
        expect(np.array_equal(after, wanted), f"lr * eta_min, exactly, at each of {count} steps from total_steps on",
               "nearly that" if np.allclose(after, wanted, rtol=1e-4, atol=1e-7) else "other learning rates",
               "the cosine goes on and rises again" if rises else
               "the cosine rounds: take eta_min itself" if np.allclose(after, wanted, rtol=1e-4, atol=1e-7) else "")
        expect(before[0] > wanted[0] + 0.05 * right["lr"], "higher learning rates before", "the same")


@probe("configure_optimizers")
def edges(configure_optimizers, draw):
    """Training without warm-up, with warm-up alone, and of one step have their factors."""
    lr, total, eta_min = draw.number(0.01, 0.5), draw.integer(5, 9), draw.number(0.1, 0.3)
    cases = []
    for total_steps, warmup_steps in ((total, 0), (total, total), (total, total - 1), (1, 0), (1, 1)):
        made = configure_optimizers(
            model=nn.Linear(2, 2), lr=lr, total_steps=total_steps, warmup_steps=warmup_steps, eta_min=eta_min)
        cases.append(rates(*made, total + 3, lr))
    return {"factors": cases}


@edges.judge
def judge_edges(seen, right):
    names = ("without warm-up", "with warm-up alone", "with one step after warm-up", "of one step",
             "of one step of warm-up")
    for name, one, other in zip(names, seen["factors"], right["factors"], strict=True):
        found, other = numbers(one, len(other), "factors"), np.array(other)
        kept = (other == 1) | (other == other[-1])  # where the factor is 1, and from total_steps on
        expect(np.allclose(found[kept], other[kept], rtol=1e-3, atol=1e-5), f"the factors of a training {name}",
               "other factors", "from total_steps on it is eta_min, whatever came before" if "alone" in name else "")


@probe("configure_optimizers")
def resumed(configure_optimizers, draw):
    """The factor depends on the step alone: a training that was saved and goes on has the same learning rates."""
    lr, total, first, stop = draw.number(0.01, 0.5), draw.integer(12, 20), draw.integer(3, 5), draw.integer(6, 9)
    found = []
    for parts in ((total,), (stop, total - stop)):
        factors, state = [], None
        for steps in parts:
            optimizer, scheduler = configure_optimizers(nn.Linear(2, 2), lr, total, first, 0.1)
            if state:
                optimizer.load_state_dict(state[0])
                scheduler.load_state_dict(state[1])
            factors += rates(optimizer, scheduler, steps, lr)
            state = optimizer.state_dict(), scheduler.state_dict()
        found.append(factors)
    return found


@resumed.judge
def judge_resumed(seen, right):
    expect(len(seen) == 2, "two trainings", "others")
    whole, cut = (numbers(one, len(right[0]), "factors") for one in seen)
    expect(np.ptp(whole) > 0.5, "factors that rise and fall", "factors that hardly change")
    expect(np.allclose(whole, cut, rtol=1e-3, atol=1e-5), "the same learning rates as without the cut", "others",
           "the factor counts its own calls: it is a function of s alone")


def judge_possible(seen, right):
    expect(np.ptp(numbers(seen, len(right), "learning rates")) > 0.1, "learning rates that change", "one that stays")


@probe("configure_optimizers", 1, refusals({
    "total_steps": "total_steps below 1", "total_steps or warmup_steps": "total_steps below 1",
    "warmup_steps": "warmup_steps below 0", "warmup_steps or total_steps": "warmup_steps above total_steps"},
    judge_possible, "the bounds are allowed: warmup_steps may be 0, and may be total_steps"))
def impossible_steps(configure_optimizers, draw):
    """Impossible numbers of steps are refused."""
    total = draw.integer(6, 12)
    cases = draw.shuffled([
        (0, 0, "total_steps"), (-total, 0, "total_steps or warmup_steps"), (total, -1, "warmup_steps"),
        (total, total + 1, "warmup_steps or total_steps"), (2, total, "warmup_steps or total_steps"), (total, 0, ""),
        (total, total, ""), (total, 2, ""), (1, 1, ""), (1, 0, "")])

    def found(total, first):
        return rates(*configure_optimizers(nn.Linear(2, 2), 1.0, total, first, 0.25), total + 2)

    return [{"refused": name, **attempt(found, *steps)} for *steps, name in cases]
