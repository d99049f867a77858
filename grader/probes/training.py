"""The probes of train_one_epoch.

In: the function. Out: `Wrong` where a step, the masks, what comes back or how well a training ends is not the
contract's. Most of it is seen on models whose logits are a table, and on earlier answers that deal out given masks or
fix the gradient of each batch; `validation_loss` trains a transformer in earnest.
"""

import math

import numpy as np
import torch
from torch import nn

from grader.probes.inside import ByToken, Loader, attempt, dealt, known, loaders, sloped, trained, using, watched
from grader.probes.probe import REMADE, array, expect, likely, loss, numbers, probe, refused
from lab3.exercises.checks.tools import BRANCHES
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import BidirectionalTransformer
from lab3.presets import CODES, TransformerConfig

NEAR = 0.35  # nats that a validation loss may lie above the reference's: other masks alone move it by 0.045 (deviation)


@probe("train_one_epoch", weight=3)
def validation_loss(train_one_epoch, draw):
    """A transformer trained from a given start comes near the validation loss of the reference training."""
    from lab3.exercises.fallbacks import TorchAttention
    from lab3.model.transformer import BidirectionalTransformer
    from lab3.presets import CODES, TransformerConfig

    config, batch, epochs, kinds, used = {"dim": 32, "layers": 1, "hidden": 64, "heads": 4}, 8, 2, 4, 8
    codes = draw.tokens(kinds, used, V=CODES)  # a picture is made of the few codes of its kind

    def pictures(count):
        kind = draw.tokens(count, 1, V=kinds)
        return codes[kind, draw.tokens(count, 256, V=used)]

    model, tokens = BidirectionalTransformer(TransformerConfig(**config), TorchAttention), pictures(9 * batch + 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    total = 10 * epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1, s / 4) * max(0.05, 1 - s / total))
    generator = draw.generator()
    for _ in range(epochs):
        train_one_epoch(model, list(tokens.split(batch)), optimizer, scheduler, mask_token_id=CODES, device="cpu",
                        generator=generator)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach().half()
    return {"weights": weights.view(torch.uint8), "config": config, "tokens": pictures(16),
            "mask": draw.mask(256, *range(8, 256, 16))}


def measured(weights, right):
    """The loss on hidden tokens, and on known ones, of the transformer that has these weights."""
    model = BidirectionalTransformer(TransformerConfig(**right["config"]), TorchAttention).eval()
    vector = torch.from_numpy(np.frombuffer(weights.tobytes(), np.float16).astype(np.float32))
    expect(bool(torch.isfinite(vector).all()), "finite weights", "weights with NaN or infinite ones",
           "the training blew up")
    nn.utils.vector_to_parameters(vector, model.parameters())
    tokens, mask = torch.tensor(right["tokens"]), torch.tensor(right["mask"])
    with torch.no_grad():
        logits = model(tokens.masked_fill(mask, CODES))[..., :CODES]
    return tuple(nn.functional.cross_entropy(logits[part], tokens[part]).item() for part in (mask, ~mask))


@validation_loss.judge
def judge_validation_loss(seen, right):
    weights = array(seen["weights"], right["weights"].shape, "int", "the trained weights")
    expect(weights.dtype == np.uint8, "the trained weights", "others")
    (hidden, shown), (best, _) = measured(weights, right), measured(right["weights"], right)
    reason = "what is learned is lost to the hidden tokens: does the loss run over the codes of hidden tokens?"
    if hidden > math.log(CODES) - 0.2:
        reason = "nothing was learned: does the learning rate leave 0, does the loss run over the codes?"
    elif shown < best:
        reason = "known tokens are predicted, hidden ones are not: is the mask passed on, and not inverted?"
    elif hidden > best + 1:
        reason = "the training is slow: do optimizer and scheduler step with each batch?"
    expect(hidden < best + NEAR, "a validation loss near the reference training's",
           f"one that is {hidden - best:.1f} nats higher", reason)


@probe("train_one_epoch", weight=8)
def hidden_tokens(train_one_epoch, draw):
    """A step follows the loss on the hidden tokens and no others, without smoothing."""
    B, T, V, lr = 5, 12, 7, 2.0
    z, mask = draw.tokens(B, T, V=V), draw.mask(T, *(draw.integer(2, T - 2) for _ in range(B)))
    before, model = z.clone(), ByToken(draw.normal(V + 1, V + 1))
    start, parts = model.table.detach().clone(), {}
    for name, counted, smoothing in (("all", None, 0.0), ("known", ~mask, 0.0), ("smooth", mask, 0.1)):
        logits, targets = known("masked_forward")(model, z, mask, V)
        parts[name], = torch.autograd.grad(known("mvtm_loss")(logits, targets, counted, smoothing), model.table)
    with using(sample_mask=dealt(mask)):
        trained(train_one_epoch, model, [z], V, lr, generator=draw.generator())
    return {"gradient": (start - model.table) / lr, "parts": parts, "tokens": torch.equal(z, before)}


@hidden_tokens.judge
def judge_hidden_tokens(seen, right):
    wanted, parts = right["gradient"], right["parts"]
    found = array(seen["gradient"], wanted.shape, "float", "the step")
    reason = likely(found, [
        (0 * wanted, "no step was made, or with a gradient that was cleared"),
        (parts["all"], "the loss counts all tokens: hand mvtm_loss the mask"),
        (parts["known"], "the mask is inverted: True means hidden"),
        (parts["smooth"], "the loss is smoothed: label_smoothing stays at 0"),
        (-wanted, "the step goes uphill")], "other tokens count than those that the mask hides"
        if np.abs(found[:-1]).max() > 1e-3 else "")
    expect(np.allclose(found, wanted, rtol=1e-3, atol=1e-4), "a step along the gradient of the loss on hidden tokens",
           "another step", reason)
    expect(seen["tokens"] is True, "the loader's tokens as they were", "changed ones", "work on a copy of the batch")


@probe("train_one_epoch", weight=3)
def own_gradients(train_one_epoch, draw):
    """Each step uses the gradient of its own batch as it is: not clipped, and with none left from before."""
    V, T, found = 5, 8, {}
    slopes = [draw.number(1, 9) for _ in range(V)]
    for case, scale in draw.shuffled([("clean", 100.0), ("left", 100.0), ("huge", 1e36)]):
        model = nn.Sequential(ByToken(torch.zeros(V + 1, V + 1)))
        model.unused = nn.Parameter(torch.zeros(3))
        if case == "left":
            for one in model.parameters():
                one.grad = torch.full_like(one, draw.number(100, 900))
        with using(mvtm_loss=sloped([scale * slope for slope in slopes])):
            trained(train_one_epoch, model, [torch.full((draw.integer(1, 4), T), n) for n in range(V)], V, 1 / scale)
        found[case] = [-model[0].table.detach().double().sum().item(), *model.unused.tolist()]
    return {"found": found, "slopes": slopes}


@own_gradients.judge
def judge_own_gradients(seen, right):
    slopes = np.array(right["slopes"])
    clean, left, huge = (numbers(seen["found"][case], 4, "parameters") for case in ("clean", "left", "huge"))
    expect(np.isclose(clean[0], slopes.sum(), rtol=1e-3), "steps along each batch's own gradient", "other steps",
           likely(clean[0], [
               (0.0, "no gradient was there at any step: were they cleared between backward and step?"),
               (slopes.cumsum().sum(), "gradients add up from batch to batch: they are never cleared"),
               (slopes[:-1].sum(), "the last batch makes no step"), (slopes[1:].sum(), "the first batch makes no step"),
               (slopes[-1], "only the last batch makes a step"), (slopes[0], "only the first batch makes a step"),
               (slopes.mean(), "the loss is divided by the number of batches"),
               (2 * slopes.sum(), "each gradient counts twice")],
               "the gradients are clipped or scaled down: the contract has no clipping"
               if 0 < clean[0] < 0.5 * slopes.sum() else ""))
    expect(np.isclose(left[0], slopes.sum(), rtol=1e-3) and np.allclose([*clean[1:], *left[1:]], 0),
           "the same steps where gradients were left from before", "other steps",
           "they count in the first step: clear them before backward")
    expect(np.isclose(huge[0], slopes.sum(), rtol=1e-3), "steps of large gradients too", "other steps",
           "a GradScaler is made in the function, and skips them" if huge[0] == 0 else "")


@probe("train_one_epoch", weight=2)
def steps(train_one_epoch, draw):
    """With each batch the optimizer makes a step, and then the scheduler."""
    V, T, epochs = 4, 6, 2
    slopes = [draw.number(0.2, 0.9) for _ in range(V)]
    factors = [0.0, *(draw.number(0.1, 1) for _ in range(4 * V))]
    model, found = ByToken(torch.zeros(V + 1, V + 1)), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: factors[min(s, 4 * V)])
    model.register_forward_pre_hook(lambda *_: model.zero_grad())  # whether they are cleared is another's question
    for _ in range(epochs):
        with using(mvtm_loss=sloped(slopes)):
            train_one_epoch(model, [torch.full((draw.integer(1, 4), T), n) for n in range(V)], optimizer, scheduler,
                            mask_token_id=V, device="cpu")
        found += [-model.table.detach().double().sum().item(), float(scheduler.last_epoch)]
    return {"found": found, "slopes": slopes, "factors": factors}


@steps.judge
def judge_steps(seen, right):
    found, slopes, factors = numbers(seen["found"], 4, "steps"), np.array(right["slopes"]), np.array(right["factors"])
    moved, stepped, n = found[::2], found[1::2], len(slopes)
    reason = likely(moved[0], [
        ((factors[1:n + 1] * slopes).sum(), "the scheduler steps first: the first rate of the schedule is skipped"),
        ((factors[:2 * n:2] * slopes).sum(), "the scheduler steps twice with each batch")])
    if stepped[0] == 0:
        reason = "the scheduler is never stepped: the learning rate stays where warm-up begins, at 0"
    elif list(stepped) == [1, 2]:
        reason = ("the scheduler is stepped once an epoch: warm-up is then counted in epochs, and the first epoch "
                  "trains at learning rate 0")
    expect(list(stepped) == [n, 2 * n], f"{n} steps of the scheduler for {n} batches", f"{stepped[0]:g}", reason)
    expect(np.allclose(moved, right["found"][::2], rtol=1e-3), "steps at the learning rates of the schedule, in order",
           "other steps", reason)


@probe("train_one_epoch", weight=3)
def scaler(train_one_epoch, draw):
    """The scaler that is given scales the loss, makes the steps and is updated; all else is as without one."""
    from unittest.mock import patch

    from lab3.common import machine

    V, T, init, ones = 5, 6, float(2 * draw.integer(1, 4) + 1), torch.ones(2, 2)  # gradients left behind show, too
    factors, batches, found = [draw.number(0.2, 1) for _ in range(9)], [draw.tokens(B, T, V=V) for B in (3, 1, 4)], {}
    table, mask = draw.normal(V + 1, V + 1), draw.mask(T, *(draw.integer(1, T - 1) for _ in range(8)))
    found["start"] = table
    for case in draw.shuffled(["with", "without"]):
        model, scaled = ByToken(table.clone()).eval(), []
        model.table.register_hook(lambda grad, scaled=scaled: scaled.append(grad.abs().sum().item() / init))
        passes = watched(model, lambda module, z_indices, logits: [module.training,
                                                                   (ones @ ones).dtype == torch.bfloat16])
        given = torch.amp.GradScaler("cpu", init_scale=init, growth_interval=1) if case == "with" else None
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.5), []
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: factors[min(s, 8)])
        for count in (3, 1):
            with using(sample_mask=dealt(mask)), patch.object(machine, "bfloat16_pays", lambda kind: True):
                losses.append(float(train_one_epoch(model, Loader(batches[:count]), optimizer, scheduler,
                                                    mask_token_id=V, device="cpu", scaler=given)))
        found[case] = {"table": model.table, "passes": passes, "losses": losses, "steps": scheduler.last_epoch}
        if given is not None:
            found |= {"growth": given.get_scale() / init, "scaled": scaled[0]}
    return found


@scaler.judge
def judge_scaler(seen, right):
    growth, scaled = numbers([seen["growth"], seen["scaled"]], 2, "the scaler's steps")
    expect(growth == right["growth"], f"a scaler that is updated after each of {round(math.log2(right['growth']))} "
           "batches", "one that was never updated" if growth == 1 else "one that was updated at other times",
           "the scaler that is given is not used: is a new one made in the function?" if growth == 1 else "")
    # What is wrong without a scaler too is another probe's question.
    one, plain, other = seen["with"], seen["without"], right["with"]
    table, wanted = array(one["table"], other["table"].shape, "float", "the parameters"), other["table"]
    plain_table = array(plain["table"], wanted.shape, "float", "the parameters")
    losses = [numbers(some["losses"], 2, "losses") for some in (one, other, plain)]
    expect(one["steps"] in (other["steps"], plain["steps"]), "a step of the scheduler with each batch, also with a "
           "scaler", "others", "is the scheduler's step in one of the branches only?")
    expect([mode for mode, _ in one["passes"]] in ([mode for mode, _ in some["passes"]] for some in (other, plain)),
           "passes in train mode, also with a scaler", "others", "is train mode set in one of the branches only?")
    expect(one["passes"] in (other["passes"], plain["passes"]), "passes under lab3.autocast(device), also with a "
           "scaler", "others", "is the with statement in one of the branches only?")
    expect(any(np.allclose(losses[0], same, rtol=2e-3) for same in losses[1:]), "the losses before they are scaled",
           "others", BRANCHES)
    expect(any(np.allclose(table, same, rtol=1e-3, atol=1e-4) for same in (wanted, plain_table)),
           "the same steps with a scaler as without", "other steps",
           "the optimizer steps with gradients that are still scaled"
           if not np.abs(table - right["start"]).max() < 2 * np.abs(wanted - right["start"]).max() else BRANCHES)
    expect(np.isclose(scaled, right["scaled"], rtol=1e-3) or not np.allclose(plain_table, right["without"]["table"],
                                                                              rtol=1e-3, atol=1e-4),
           "a backward pass of the scaled loss", "one of another loss", "scaler.scale(loss).backward()")


@probe("train_one_epoch")
def train_mode(train_one_epoch, draw):
    """The transformer and each of its parts are in train mode in every pass."""
    V, T = 5, 6
    model = nn.Sequential(ByToken(draw.normal(V + 1, V + 1)), nn.Dropout(0.3),
                          nn.Sequential(nn.BatchNorm1d(T), nn.Dropout(0.2)))
    passes = watched(model, lambda module, z_indices, logits: [one.training for one in module.modules()])
    for start in draw.shuffled(["eval", "train", "part"]):
        model.train(start == "train")
        if start == "part":
            model[2].train()
        trained(train_one_epoch, model, [draw.tokens(B, T, V=V) for B in (3, 2)], V)
    return passes


@train_mode.judge
def judge_train_mode(seen, right):
    judge_modes(seen, right, True, "after an evaluation the model may be in eval mode: train mode must be set")


def judge_modes(seen, right, mode, reason):
    """In each pass, of at least as many as the reference makes, all modules are in that mode."""
    name = "train" if mode else "eval"
    expect(isinstance(seen, list) and len(seen) >= len(right), f"a pass for each of {len(right)} batches", "fewer")
    for modes in seen:
        expect(len(modes) == len(right[0]), "the modules that the model has", "others")
        expect(any(one is mode for one in modes), f"{name} mode in every pass", "the other mode", reason)
        expect(all(one is mode for one in modes), f"{name} mode of every part of the model", "the other one in some",
               f"transformer.{name}() sets all parts, transformer.training only one")


@probe("train_one_epoch")
def autocast(train_one_epoch, draw):
    """The forward pass runs under lab3.autocast(device), which knows what the machine does fast."""
    from unittest.mock import patch

    from lab3.common import machine

    V, T, ones, found = 5, 6, torch.ones(2, 2), {}
    for case in draw.shuffled(["fast", "slow"]):
        model = ByToken(draw.normal(V + 1, V + 1))
        passes = watched(model, lambda module, z_indices, logits: (ones @ ones).dtype == torch.bfloat16)
        with patch.object(machine, "bfloat16_pays", lambda kind, case=case: case == "fast"):
            trained(train_one_epoch, model, [draw.tokens(B, T, V=V) for B in (3, 2)], V,
                    device=draw.one_of(["cpu", torch.device("cpu")]))
        found[case] = passes
    return found


@autocast.judge
def judge_autocast(seen, right):
    for case, wanted in (("fast", True), ("slow", False)):
        count, passes = len(right[case]), seen[case]
        expect(len(passes) >= count, f"a pass for each of {count} batches", f"{len(passes)}")
        expect(all(one is wanted for one in passes), "the forward pass under lab3.autocast(device)",
               "a pass outside of it" if wanted else "autocast where the machine is not faster with it",
               "the with statement is missing, or does not hold the forward pass" if wanted else
               "another autocast is used")


@probe("train_one_epoch", weight=2)
def masks(train_one_epoch, draw):
    """The masks come from sample_mask with its defaults, the generator and the device: each row has its own ratio."""
    V, T, B, batches = 5, 64, 256, 4
    mask, model = draw.mask(T, *(draw.integer(1, T) for _ in range(12))), ByToken(torch.zeros(V + 1, V + 1))
    passes = watched(model, lambda module, z_indices, logits: z_indices == V)
    with using(sample_mask=dealt(mask, strict=True)):
        trained(train_one_epoch, model, [draw.tokens(n, T, V=V) for n in (5, 4, 3)], V, generator=draw.generator())
    given = torch.cat(passes)
    passes.clear()
    trained(train_one_epoch, model, [draw.tokens(B, T, V=V) for _ in range(batches)], V, generator=draw.generator())
    return {"given": given, "mask": mask, "counts": [one.sum(dim=1) for one in passes]}


@masks.judge
def judge_masks(seen, right):
    counts = right["counts"]
    T, B = right["mask"].shape[1], len(counts[0])
    found = [array(one, (B,), "int", "hidden tokens of each row") for one in seen["counts"]]
    expect(len(found) == len(counts), f"{len(counts)} passes for {len(counts)} batches", f"{len(found)}")
    expect(all(np.ptp(one) > 0 for one in found), "a ratio drawn for each row", "as many hidden tokens in every row",
           "one ratio for the whole batch: left alone, sample_mask draws a ratio for each row")
    expect(not any(np.array_equal(one, found[0]) for one in found[1:]), "masks drawn for each batch",
           "those of the first batch again")
    shares = np.sort(np.concatenate(found)) / T
    n = len(shares)
    far = max(np.abs(shares - np.arange(n) / n).max(), np.abs(shares - np.arange(1, n + 1) / n).max())
    # Uniform draws get so far once in 1e10 times (Dvoretzky, Kiefer and Wolfowitz); ceil adds 1 / T.
    expect(far < math.sqrt(math.log(2e10) / (2 * n)) + 1 / T, "ratios drawn evenly from 0 to 1",
           "ratios of another distribution", "sample_mask is called with its own defaults, without a ratio")
    given = array(seen["given"], right["given"].shape, "bool", "the mask tokens that the transformer saw")
    expect(np.array_equal(given, right["mask"]), "mask tokens where sample_mask hides", "mask tokens elsewhere",
           "the mask is inverted, or sample_mask is not called with its defaults, the generator and the device"
           if np.array_equal(given, ~right["mask"]) else
           "sample_mask is found by its name and called with its defaults: no masks from elsewhere")


@probe("train_one_epoch")
def generator(train_one_epoch, draw):
    """The same state of the generator gives the same training, another state, or no generator, another one."""
    V, T, B, found = 5, 32, 128, []
    batches, table = [draw.tokens(B, T, V=V) for _ in range(2)], draw.normal(V + 1, V + 1)
    for one in (*draw.generators(), None, None):
        model = ByToken(table.clone())
        torch.manual_seed(draw.integer(0, 10**6))
        trained(train_one_epoch, model, batches, V, 0.5, generator=one)
        found.append(model.table)
    return {"tables": found, "start": table}


@generator.judge
def judge_generator(seen, right):
    expect(len(seen["tables"]) == len(right["tables"]), f"{len(right['tables'])} trainings", "others")
    tables = [array(one, right["start"].shape, "float", "the parameters") for one in seen["tables"]]
    expect(all(np.abs(one - right["start"]).max() > 1e-3 for one in tables), "parameters that were trained", "the same")
    judge_states(tables)
    expect(np.abs(tables[7] - tables[8]).max() > 1e-7, "other masks at each call without a generator", "the same",
           REMADE)


def judge_states(results):
    """Of seven results each belongs to one of `Draw.generators`.

    Losses hardly ever agree by chance, and not twice: they are float32 and spread over 0.01 and more.
    """
    first = results[0]
    expect(all(np.allclose(first, results[n], rtol=2e-6, atol=2e-6) for n in (3, 4)),
           "the same result from the same state of the generator", "another",
           "the generator is not passed on to sample_mask: the masks cannot be repeated")
    for some in ((1, 2), (5, 6)):
        expect(any(np.abs(results[n] - first).max() > 1e-7 for n in some),
               "another result from another state of the generator", "the same",
               REMADE)


@probe("train_one_epoch")
def mean(train_one_epoch, draw):
    """What comes back is the mean of the batch losses, a float."""
    V, T, model = 5, 6, ByToken(torch.zeros(6, 6))
    values, sizes = [draw.number(1, 9) for _ in range(V)], [*draw.shuffled([7, 6, 5, 8]), 1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0)
    with using(mvtm_loss=sloped([0.0] * V, values)):
        result = train_one_epoch(
            transformer=model, loader=Loader(torch.full((B, T), n) for n, B in enumerate(sizes)), optimizer=optimizer,
            scheduler=scheduler, mask_token_id=V, device="cpu", scaler=None, generator=draw.generator())
    return {"mean": result, "values": values, "sizes": sizes}


@mean.judge
def judge_mean(seen, right):
    found, values, sizes = loss(seen["mean"]), np.array(right["values"]), np.array(right["sizes"])
    reason = likely(found, [
        (values.sum(), "the losses are added, not averaged"), (values[-1], "this is the last batch's loss"),
        (values[0], "this is the first batch's loss: return after the loop"),
        ((values * sizes).sum() / sizes.sum(), "each batch counts the same, also a smaller one: no weights by rows"),
        (values.sum() / sizes.sum(), "the sum is divided by the number of rows, not of batches"),
        ((values * sizes).sum() / len(sizes), "the losses are multiplied by the batch size"),
        (np.median(values), "this is the median"), (values[:-1].mean(), "the last batch is left out")])
    expect(np.isclose(found, right["mean"], rtol=1e-3), "the mean of the batch losses", "another number", reason)


@probe("train_one_epoch")
def names(train_one_epoch, draw):
    """masked_forward and mvtm_loss are found by name, and get what the contract says."""
    B, T, V = 4, 8, 6
    model, mask = ByToken(draw.normal(V + 1, V + 1)), draw.mask(T, *(draw.integer(2, T - 2) for _ in range(B)))
    forward, mvtm, power = known("masked_forward"), known("mvtm_loss"), draw.number(2, 3)

    def masked_forward(transformer, z_indices, mask, mask_token_id):
        logits, targets = forward(transformer, z_indices, mask, mask_token_id)
        return -logits, targets

    def mvtm_loss(logits, targets, mask=None, label_smoothing=0.0):
        return mvtm(logits, targets, mask, label_smoothing) ** power

    with using(sample_mask=dealt(mask), masked_forward=masked_forward, mvtm_loss=mvtm_loss):
        trained(train_one_epoch, model, [draw.tokens(B, T, V=V)], V, 0.5, generator=draw.generator())
    return model.table


@names.judge
def judge_names(seen, right):
    table = array(seen, right.shape, "float", "the parameters")
    expect(np.allclose(table, right, rtol=1e-3, atol=1e-4), "a step along the loss that mvtm_loss gives for what "
           "masked_forward gives", "another step", "both are found by their names and called: no copies of them")


@probe("train_one_epoch")
def empty_loader(train_one_epoch, draw):
    """A loader without a batch is refused, and no other."""
    V, results = 5, []
    for case, loader in loaders(draw, V, 6):
        model = ByToken(draw.normal(V + 1, V + 1))
        passes = watched(model, lambda module, z_indices, logits: len(z_indices))
        result = attempt(trained, train_one_epoch, model, loader, V, generator=draw.generator())
        results.append({"case": case, "rows": passes, "result": result})
    return results


@empty_loader.judge
def judge_empty_loader(seen, right):
    expect(len(seen) == len(right), f"{len(right)} calls", "others")
    for one, other in zip(seen, right, strict=True):
        if "error" in other["result"]:
            refused(one["result"], "loader", "a loader without a batch")
        else:
            expect("value" in one["result"], "no error for a loader that has batches", "an error")
            expect(one["rows"] == other["rows"], f"a pass with each batch of a loader of {other['case']}",
                   f"{len(one['rows'])} passes")
