"""The probes of eval_one_epoch.

In: the function, models whose logits are a table, masks that are given. Out: `Wrong` where the mean, the modes, or what
has to stay as it is are not the contract's. What training must do too is judged as in `grader.probes.training`.
"""

import numpy as np
import torch
from torch import nn

from grader.probes.inside import ByToken, F, Loader, attempt, dealt, known, loaders, using, watched
from grader.probes.probe import expect, likely, loss, numbers, probe
from grader.probes.training import (
    judge_autocast,
    judge_empty_loader,
    judge_masks,
    judge_mean,
    judge_modes,
    judge_states,
)


@probe("eval_one_epoch", weight=2)
def hidden_loss(eval_one_epoch, draw):
    """The loss of a batch is that on its hidden tokens and no others, without smoothing."""
    B, T, V = 5, 12, 7
    z, mask = draw.tokens(B, T, V=V), draw.mask(T, *(draw.integer(2, T - 2) for _ in range(B)))
    model, before, others = ByToken(draw.normal(V + 1, V + 1, scale=2.0)), z.clone(), {}
    with torch.no_grad():
        others["kept"] = float(F.cross_entropy(model(z.masked_fill(mask, V))[mask], z[mask]))
        others["seen"] = float(F.cross_entropy(model(z)[mask][:, :V], z[mask]))
    for name, counted, smoothing in (("all", None, 0.0), ("known", ~mask, 0.0), ("smooth", mask, 0.1)):
        logits, targets = known("masked_forward")(model, z, mask, V)
        others[name] = float(known("mvtm_loss")(logits, targets, counted, smoothing))
    with using(sample_mask=dealt(mask)):
        result = eval_one_epoch(model, [z], mask_token_id=V, device="cpu", generator=draw.generator())
    return {"mean": float(result), "others": others, "tokens": torch.equal(z, before)}


@hidden_loss.judge
def judge_hidden_loss(seen, right):
    found, others = loss(seen["mean"]), right["others"]
    expect(np.isclose(found, right["mean"], rtol=1e-3), "the loss on hidden tokens", "another number", likely(found, [
        (others["all"], "the loss counts all tokens: hand mvtm_loss the mask"),
        (others["known"], "the mask is inverted: True means hidden"),
        (others["smooth"], "the loss is smoothed: label_smoothing stays at 0"),
        (others["kept"], "the mask token's logit is kept: it is no code"),
        (others["seen"], "the transformer sees the tokens that it has to predict"),
        (0.0, "the loss is 0 for any tokens")]))
    expect(seen["tokens"] is True, "the loader's tokens as they were", "changed ones", "work on a copy of the batch")


@probe("eval_one_epoch", weight=2)
def batch_mean(eval_one_epoch, draw):
    """What comes back is the mean over batches, a float."""
    V, T, table, sizes = 5, 6, torch.zeros(6, 6), [*draw.shuffled([7, 6, 5, 8]), 1]
    table[V, :V] = torch.tensor([draw.number(0, 8) for _ in range(V)])  # hidden: batch n, of token n, has its own loss
    table[:, V] = -60.0
    result = eval_one_epoch(
        transformer=ByToken(table), loader=Loader(torch.full((B, T), n) for n, B in enumerate(sizes)),
        mask_token_id=V, device="cpu", generator=draw.generator())
    values = F.cross_entropy(table[V, :V].expand(V, V), torch.arange(V), reduction="none").tolist()
    return {"mean": result, "values": values, "sizes": sizes}


batch_mean.judge(judge_mean)


@probe("eval_one_epoch", weight=2)
def eval_mode(eval_one_epoch, draw):
    """Every part of the model is in eval mode in every pass, so that dropout disturbs nothing."""
    V, T, means = 5, 6, []
    model = nn.Sequential(ByToken(draw.normal(V + 1, V + 1)), nn.Dropout(0.5),
                          nn.Sequential(nn.BatchNorm1d(T), nn.Dropout(0.5)))
    model[2][0].running_mean.copy_(draw.normal(T))
    passes = watched(model, lambda module, z_indices, logits: [one.training for one in module.modules()])
    for start in draw.shuffled(["train", "eval", "part"]):
        model.train(start == "train")
        if start == "part":
            model[2].train()
        with using(sample_mask=dealt(draw.mask(T, 3, 1, 5, 2, 6))):
            means.append(float(eval_one_epoch(model, [draw.tokens(5, T, V=V)], mask_token_id=V, device="cpu",
                                              generator=draw.generator())))
    return {"passes": passes, "means": means}


@eval_mode.judge
def judge_eval_mode(seen, right):
    judge_modes(seen["passes"], right["passes"], False, "dropout would disturb the measurement")
    for one, other in zip(seen["means"], right["means"], strict=True):
        expect(np.isclose(loss(one), other, rtol=1e-3), "the mean loss of the model in eval mode", "another number")


@probe("eval_one_epoch")
def modes_back(eval_one_epoch, draw):
    """Each module has the mode afterwards that it had before."""
    V, T, cases = 5, 6, []
    for start in draw.shuffled(["train", "eval", "mixed", "parts"]):
        model = nn.Sequential(ByToken(draw.normal(V + 1, V + 1)), nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.2)),
                              nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Dropout(0.4)))).train(start == "train")
        if start == "mixed":
            for module in model.modules():
                module.training = draw.one_of([True, False])
        if start == "parts":  # the parts are not as the whole
            model[1].train()
            model[2][1].training = True
        before = [module.training for module in model.modules()]
        passes = watched(model, lambda module, z_indices, logits: [one.training for one in module.modules()])
        eval_one_epoch(model, [draw.tokens(B, T, V=V) for B in (3, 2)], mask_token_id=V, device="cpu")
        cases.append({"start": start, "before": before, "during": passes,
                      "after": [module.training for module in model.modules()]})
    return cases


@modes_back.judge
def judge_modes_back(seen, right):
    expect(len(seen) == len(right), f"{len(right)} evaluations", "others")
    for one, other in zip(seen, right, strict=True):
        after, before = one["after"], other["before"]
        reason = "the modes differ from part to part: note each submodule's own, and put it back"
        if other["start"] in ("train", "eval"):
            reason = ("eval mode stays on: training would go on without dropout" if other["start"] == "train" else
                      "train mode is set in the end, whatever it was before")
        expect(after == before, "each module's mode as it was before", "other modes", reason)
        expect(len(one["during"]) >= len(other["during"]) and not any(any(modes) for modes in one["during"]),
               "passes in eval mode before that", "none" if not one["during"] else "passes in train mode")


@probe("eval_one_epoch")
def modes_back_after_errors(eval_one_epoch, draw):
    """Each module has its mode back also after an exception, in the transformer or in the loader."""
    V, T, cases = 5, 6, []
    for case in draw.shuffled(["transformer", "loader", "empty"]):
        model = nn.Sequential(ByToken(draw.normal(V + 1, V + 1)), nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.2)),
                              nn.Dropout(0.3))
        for module in [model[0], model[1][1], draw.one_of([model[1], model[2]])]:
            module.training = False
        before = [module.training for module in model.modules()]
        passes = watched(model, lambda module, z_indices, logits: [one.training for one in module.modules()])

        def fails(module, args, case=case, passes=passes):
            if case == "transformer" and len(passes) == 1:
                raise RuntimeError("raised by the probe")

        batch, error = draw.tokens(3, T, V=V), RuntimeError("raised by the probe")
        loader = {"transformer": Loader([batch, batch]), "loader": Loader([batch], error), "empty": Loader([])}[case]
        model.register_forward_pre_hook(fails)
        attempt(eval_one_epoch, model, loader, mask_token_id=V, device="cpu")
        cases.append({"case": case, "before": before, "during": passes, "grad": torch.is_grad_enabled(),
                      "after": [module.training for module in model.modules()]})
        torch.set_grad_enabled(True)
    return cases


@modes_back_after_errors.judge
def judge_modes_back_after_errors(seen, right):
    expect(len(seen) == len(right), f"{len(right)} evaluations", "others")
    for one, other in zip(seen, right, strict=True):
        place = {"empty": "an empty loader was refused"}.get(other["case"], f"an exception in the {other['case']}")
        count = len(other["during"]) if other["case"] == "transformer" else 0  # a loader may be read before any pass
        expect(len(one["during"]) >= count and not any(any(modes) for modes in one["during"]),
               "passes in eval mode", "none" if not one["during"] else "passes in train mode")
        expect(one["after"] == other["before"], f"each module's mode as it was, after {place}", "other modes",
               "an exception skips the lines that put them back: finally is never skipped")
        expect(one["grad"] is True, f"gradients switched on again after {place}", "gradients off",
               "an exception skips the line that switches them on: a with statement does not")


@probe("eval_one_epoch")
def untouched(eval_one_epoch, draw):
    """There are no gradients, and parameters, buffers and what gradients there were stay as they are."""
    V, T = 5, 6
    model = nn.Sequential(ByToken(draw.normal(V + 1, V + 1)), nn.BatchNorm1d(T), nn.Dropout(0.2))
    model[1].running_mean.copy_(draw.normal(T))
    model[1].bias.requires_grad = False
    for one in (model[0].table, model[1].weight):
        one.grad = draw.normal(*one.shape)

    def state():
        return ({name: one.clone() for name, one in model.state_dict().items()},
                [None if one.grad is None else one.grad.clone() for one in model.parameters()],
                [one.requires_grad for one in model.parameters()])

    passes, before = watched(model, lambda module, z_indices, logits: logits.requires_grad), state()
    with using(sample_mask=dealt(draw.mask(T, 3, 1, 5, 2, 6))):
        result = eval_one_epoch(model, [draw.tokens(5, T, V=V)], mask_token_id=V, device="cpu",
                                generator=draw.generator())
    grad, after = torch.is_grad_enabled(), state()
    torch.set_grad_enabled(True)
    return {"mean": float(result), "passes": passes, "grad": grad, "flags": before[2] == after[2],
            "values": all(torch.equal(one, after[0][name]) for name, one in before[0].items()),
            "gradients": all((one is None) == (other is None) and (one is None or torch.equal(one, other))
                             for one, other in zip(before[1], after[1], strict=True))}


@untouched.judge
def judge_untouched(seen, right):
    expect(len(seen["passes"]) >= len(right["passes"]), "a pass for each batch", "fewer")
    expect(not any(seen["passes"]), "passes without gradients", "passes with them",
           "the graph of every batch costs memory and time: torch.no_grad() spares it")
    expect(seen["values"] is True, "parameters and buffers as they were", "changed ones",
           "running statistics move in train mode")
    expect(seen["gradients"] is True, "the gradients that were there as they were", "cleared or changed ones",
           "an evaluation in the middle of training must not touch them")
    expect(seen["flags"] is True, "requires_grad of each parameter as it was", "changed")
    expect(seen["grad"] is True, "gradients switched on again afterwards", "gradients off for all that follows")
    expect(np.isclose(loss(seen["mean"]), right["mean"], rtol=1e-3), "the mean of the batch losses", "another number")


@probe("eval_one_epoch")
def eval_autocast(eval_one_epoch, draw):
    """The forward pass runs under lab3.autocast(device), which knows what the machine does fast."""
    from unittest.mock import patch

    from lab3.common import machine

    V, T, ones, found = 5, 6, torch.ones(2, 2), {}
    for case in draw.shuffled(["fast", "slow"]):
        model = ByToken(draw.normal(V + 1, V + 1))
        passes = watched(model, lambda module, z_indices, logits: (ones @ ones).dtype == torch.bfloat16)
        with patch.object(machine, "bfloat16_pays", lambda kind, case=case: case == "fast"):
            eval_one_epoch(model, [draw.tokens(B, T, V=V) for B in (3, 2)], mask_token_id=V,
                           device=draw.one_of(["cpu", torch.device("cpu")]))
        found[case] = passes
    return found


eval_autocast.judge(judge_autocast)


@probe("eval_one_epoch", weight=2)
def eval_masks(eval_one_epoch, draw):
    """The masks come from sample_mask with its defaults, as in training: each row has a ratio of its own."""
    V, T, B, batches = 5, 64, 256, 4
    mask, model = draw.mask(T, *(draw.integer(1, T) for _ in range(12))), ByToken(torch.zeros(V + 1, V + 1))
    passes = watched(model, lambda module, z_indices, logits: z_indices == V)
    with using(sample_mask=dealt(mask, strict=True)):
        eval_one_epoch(model, [draw.tokens(n, T, V=V) for n in (5, 4, 3)], mask_token_id=V, device="cpu",
                       generator=draw.generator())
    given = torch.cat(passes)
    passes.clear()
    eval_one_epoch(model, [draw.tokens(B, T, V=V) for _ in range(batches)], mask_token_id=V, device="cpu",
                   generator=draw.generator())
    return {"given": given, "mask": mask, "counts": [one.sum(dim=1) for one in passes]}


eval_masks.judge(judge_masks)


@probe("eval_one_epoch")
def eval_generator(eval_one_epoch, draw):
    """The same state of the generator gives the same value, and another state another."""
    V, T, B, found = 5, 32, 128, []
    batches, model = [draw.tokens(B, T, V=V) for _ in range(2)], ByToken(draw.normal(V + 1, V + 1))
    for one in draw.generators():
        torch.manual_seed(draw.integer(0, 10**6))
        found.append(float(eval_one_epoch(model, batches, mask_token_id=V, device="cpu", generator=one)))
    return found


@eval_generator.judge
def judge_eval_generator(seen, right):
    found = numbers(seen, len(right), "losses")
    expect(np.allclose(found, right, atol=0.5), "losses of such tokens", "others")
    judge_states(found)


@probe("eval_one_epoch")
def eval_empty_loader(eval_one_epoch, draw):
    """A loader without a batch is refused, and no other."""
    V, results = 5, []
    for case, loader in loaders(draw, V, 6):
        model = ByToken(draw.normal(V + 1, V + 1))
        passes = watched(model, lambda module, z_indices, logits: len(z_indices))
        result = attempt(eval_one_epoch, model, loader, mask_token_id=V, device="cpu", generator=draw.generator())
        results.append({"case": case, "rows": passes, "result": result})
    return results


eval_empty_loader.judge(judge_empty_loader)
