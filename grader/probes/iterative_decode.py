"""The probes of iterative_decode: what is carried from step to step, the schedule, history, what is handed on.

In: what an answer and the reference did with transformers whose logits are known. Out: `Wrong` where the answer breaks
its contract. The words and the bounds of chance are those of `grader.probes.inpainting`.
"""

import math
import random

import numpy as np

from grader.probes.inpainting import (
    CHANCE,
    DRIFT,
    likely_codes,
    off,
    pair,
    possible,
    softmax,
    step,
    stray,
    tokens,
    wrong_shares,
)
from grader.probes.inside import ByContext, Stub, attempt, torch
from grader.probes.probe import SEEDED, array, expect, probe, refused
from lab3.exercises.checks.tools import UNUSED


def history_of(seen, right, steps):
    """z_final and the entries of history, checked for shapes and number."""
    z_final, history = pair(seen, "z_final and history")
    z_final = tokens(z_final, right["mask"].shape, "z_final")
    expect(isinstance(history, list), "history: a list", "another type")
    expect(len(history) == steps, "one entry in history for each step", f"{len(history)} entries for {steps} steps",
           "the start is no step" if len(history) == steps + 1 else "")
    return z_final, [step(entry, right["mask"].shape) for entry in history]


def predicted(z, hidden, right):
    """What the transformer holds most likely in each hidden place, known tokens elsewhere. For `ByContext`."""
    shown = torch.from_numpy(np.where(hidden, right["V"], z))
    return np.where(hidden, right["best"][ByContext.key(shown, len(right["best"])).numpy()], z)


@probe("iterative_decode", 3)
def carried_forward(iterative_decode, draw):
    """Tokens revealed at one step are known, and the same, at every later step and in z_final."""
    T, V, K = draw.integer(14, 20), draw.integer(7, 12), 31
    tables = draw.normal(K, T, V + 1, scale=3)
    tables[:, :, V] = -60.0
    mask, z = draw.mask(T, T, 11, 7, 3), draw.tokens(4, T, V=V)
    result = iterative_decode(ByContext(tables), z, mask, gamma=lambda r: 1 - r, total_iter=5, mask_token_id=V,
                              sampling="argmax", generator=draw.generator())
    return {"result": result, "z": z, "mask": mask, "V": V, "best": tables[:, :, :V].argmax(dim=2)}


@carried_forward.judge
def judge_carried(seen, right):
    z_final, history = history_of(seen["result"], right, 5)
    z, hidden = right["z"], right["mask"]
    for t, (z_predict, next_mask) in enumerate(history, 1):
        changed = int((z_predict != z)[~hidden].sum())
        expect(changed == 0, "known and revealed tokens the same at each step", f"{changed} changed at step {t}", DRIFT)
        expect(not (next_mask & ~hidden).any(), "masks that only shrink", f"tokens hidden again at step {t}",
               "each step starts from the mask that the last one gave")
        wrong = int((z_predict != predicted(z, hidden, right)).sum())
        expect(wrong == 0, "the prediction of a transformer that sees what is known and revealed, and the mask token "
               "where tokens are still hidden", f"another at {wrong} of {int(hidden.sum())} places, at step {t}",
               f"{DRIFT}; what is still hidden is masked again" if t > 1 else "")
        z, hidden = z_predict, next_mask
    expect((z_final == z).all(), "z_final as the last step left the tokens", f"{int((z_final != z).sum())} others")


@probe("iterative_decode", 3)
def schedule(iterative_decode, draw):
    """After step t each row hides gamma((t + 1) / total_iter) of what its first mask hid."""
    T, V, calls = draw.integer(50, 64), draw.integer(5, 9), []
    for total_iter, sweet_spot in draw.shuffled([(6, None), (8, 4), (1, None), (draw.integer(9, 12), 3)]):
        while True:
            power, n = draw.number(0.8, 1.5), [T, *(draw.integer(25, T) for _ in range(2)), draw.integer(3, 9)]
            ratio = np.arange(1, total_iter)[:, None] / total_iter
            part = (1 - ratio**power) * np.array(n) % 1
            if total_iter == 1 or part.min() > 0.01 and part.max() < 0.99:
                break
        mask, z = draw.mask(T, *n), draw.tokens(4, T, V=V)
        calls.append({"mask": mask, "n": n, "total_iter": total_iter, "steps": sweet_spot or total_iter, "power": power,
                      "result": iterative_decode(
                          Stub(draw.normal(T, V + 1)), z, mask, gamma=lambda r, power=power: 1 - r**power,
                          total_iter=total_iter, sweet_spot=sweet_spot, mask_token_id=V, generator=draw.generator())})
    return calls


@schedule.judge
def judge_schedule(seen, right):
    for found, one in zip(seen, right, strict=True):
        n, total, steps = np.array(one["n"]), one["total_iter"], one["steps"]
        counts = np.stack([next_mask.sum(axis=1) for _, next_mask in history_of(found["result"], one, steps)[1]])
        wanted = np.stack([next_mask.sum(axis=1) for _, next_mask in history_of(one["result"], one, steps)[1]])

        def after(ratio, n=n, power=one["power"]):
            return np.minimum(np.floor((1 - ratio**power) * n), n - 1)

        likely = ""
        if steps < total and (counts[0] == after(1 / steps)).all():
            likely = "the schedule is squeezed into sweet_spot steps: total_iter alone sets it"
        elif (counts[0] == n - 1).all() and (counts[0] != wanted[0]).any():
            likely = "is progress counted from 0? It is the progress after the step, (t + 1) / total_iter"
        elif (counts[0] == wanted[0]).all():
            likely = "is n_hidden counted again at each step? It is the number that the first mask hid"
        expect((counts == wanted).all(), "gamma((t + 1) / total_iter) of each row's n_hidden tokens hidden, rounded "
               "down, after step t", f"another number in {int((counts != wanted).any(axis=1).sum())} of {steps} steps "
               f"(total_iter {total})", likely)


@probe("iterative_decode", 2)
def stops_at_sweet_spot(iterative_decode, draw):
    """With sweet_spot so many steps are made, and tokens still hidden take the last prediction."""
    T, V, K, calls = draw.integer(14, 20), draw.integer(7, 12), 31, []
    tables = draw.normal(K, T, V + 1, scale=3)
    tables[:, :, V] = -60.0
    for total_iter, sweet_spot in draw.shuffled([(5, 1), (7, 3), (4, 4), (1, 1)]):
        mask, z = draw.mask(T, T, 9, 5), draw.tokens(3, T, V=V)
        result = iterative_decode(ByContext(tables), z, mask, gamma=lambda r: 1 - r, total_iter=total_iter,
                                  sweet_spot=sweet_spot, mask_token_id=V, sampling="argmax", generator=draw.generator())
        calls.append({"result": result, "z": z, "mask": mask, "V": V, "best": tables[:, :, :V].argmax(dim=2),
                      "steps": sweet_spot})
    return calls


@stops_at_sweet_spot.judge
def judge_sweet_spot(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask, V, steps = one["mask"], one["V"], one["steps"]
        z_final, _ = pair(found["result"], "z_final and history")
        z_final = tokens(z_final, mask.shape, "z_final")
        expect(((z_final >= 0) & (z_final < V)).all(), "codes everywhere in z_final", "the mask token or no token",
               "tokens still hidden at the end must take the last prediction")
        z_final, history = history_of(found["result"], one, steps)
        expect((history[0][0] == predicted(one["z"], mask, one)).all(), "the transformer's prediction in the first "
               "step", "others")
        expect((z_final == history[-1][0]).all(), "z_final as the last prediction left it",
               f"{int((z_final != history[-1][0]).sum())} other tokens",
               "tokens still hidden at the end must take the last prediction")


@probe("iterative_decode", 2)
def history_has_each_step(iterative_decode, draw):
    """history has one entry (z_predict, next_mask) for each step, also when nothing is left to hide."""
    T, V, calls = draw.integer(9, 14), draw.integer(5, 9), []
    logits, _ = draw.ladder(T, V)
    for n, total_iter, sweet_spot in draw.shuffled([
            ((3, 1, 2), 7, None), ((3,), 9, 5), ((0, 0), 4, None), ((0,), 6, 2), ((T, 0), 3, None), ((5,), 5, 2)]):
        mask, z = draw.mask(T, *n), draw.tokens(len(n), T, V=V)
        result = iterative_decode(Stub(logits), z, mask, gamma=lambda r: 1 - r**3, total_iter=total_iter,
                                  sweet_spot=sweet_spot, mask_token_id=V, sampling="argmax", generator=draw.generator())
        calls.append({"result": result, "z": z, "mask": mask, "best": logits[:, :V].argmax(dim=1),
                      "steps": sweet_spot or total_iter})
    return calls


@history_has_each_step.judge
def judge_history(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask, steps = one["mask"], one["steps"]
        made = pair(found["result"], "z_final and history")[1]
        expect(isinstance(made, list), "history: a list", "another type")
        expect(len(made) >= steps, "one entry in history for each step", f"{len(made)} entries for {steps} steps",
               "steps count also when nothing is left to hide: break leaves them out")
        z_final, history = history_of(found["result"], one, steps)
        filled, hidden = np.where(mask, one["best"], one["z"]), mask
        for z_predict, next_mask in history:
            expect((z_predict == filled).all(), "z_predict in history: each hidden token predicted, known ones as "
                   "they are", f"{int((z_predict != filled).sum())} others", "tokens that are hidden again have their "
                   "predictions there, too")
            expect(not (next_mask & ~hidden).any(), "masks in history that only shrink", "tokens hidden again",
                   "a row that hides nothing any more stays as it is, also when the schedule lags behind")
            hidden = next_mask
        expect((z_final == filled).all(), "z_final filled, known tokens unchanged", "others")
        left = [next_mask for _, next_mask in one["result"][1]]
        wrong = sum((next_mask.sum(axis=1) != other.sum(axis=1)).any()
                    for (_, next_mask), other in zip(history, left, strict=True))
        expect(wrong == 0, "next_mask in history: what is hidden after its step",
               f"another number in {wrong} of {steps} entries")


@probe("iterative_decode", 2)
def temperature_reaches(iterative_decode, draw):
    """choice_temperature reaches every step, fades with progress, and is 4.5 by default."""
    R, T, V, found = 2048, 5, 12, {}
    options = dict(gamma=lambda r: 1 - r, total_iter=4, mask_token_id=V)
    mask, z = torch.ones(R, T, dtype=torch.bool), draw.tokens(R, T, V=V)
    for name, scale in (("lower", draw.number(0.8, 1.0)), ("higher", draw.number(1.8, 2.4))):
        levels = draw.shuffled([1, 3, 6, 9, 12])
        _, history = iterative_decode(Stub(draw.alike(*levels, V=V)), z, mask, choice_temperature=scale,
                                      generator=draw.generator(), **options)
        found[name] = {"masks": [next_mask for _, next_mask in history], "levels": levels, "scale": scale}
    logits, state = draw.alike(*[draw.integer(1, 12) for _ in range(40)], V=V), draw.generator().get_state()
    mask, z, found["default"] = torch.ones(32, 40, dtype=torch.bool), draw.tokens(32, 40, V=V), []
    for given in ({}, {"choice_temperature": 4.5}):
        generator = torch.Generator()
        generator.set_state(state)
        _, history = iterative_decode(Stub(logits), z, mask, generator=generator, **given, **options)
        found["default"].append([next_mask for _, next_mask in history])
    return found


@temperature_reaches.judge
def judge_temperature(seen, right):
    for name in ("lower", "higher"):
        log_p, scale = -np.log(np.array(right[name]["levels"])), right[name]["scale"]
        first, second, third, _ = [array(one, (2048, 5), "bool", "next_mask") for one in seen[name]["masks"]]
        expect((first.sum(axis=1) == 3).all() and (second.sum(axis=1) == 2).all() and (third.sum(axis=1) == 1).all(),
               "as many hidden as the schedule says", "others")
        expect(off(first, log_p / (0.75 * scale), 3) < CHANCE, "noise of the scale choice_temperature * (1 - ratio) in "
               "the first step", "other shares of the tokens hidden", "does choice_temperature reach the steps?")
        left = np.argwhere(second)[:, 1].reshape(-1, 2)  # the two that the third step chooses between
        low = log_p[left].min(axis=1)
        p = 1 / (1 + np.exp((low - log_p[left].max(axis=1)) / (0.25 * scale)))  # the less sure one stays
        stays = (log_p[third.argmax(axis=1)] == low).sum()
        expect(abs(stays - p.sum()) < math.sqrt(CHANCE / 2 * len(p)), "less noise in the third step, as 1 - ratio says",
               "another scale of the noise", "it fades with progress")
    by_default, given = seen["default"]
    wanted = right["default"][0]
    for one, other, like in zip(by_default, given, wanted, strict=True):
        one, other = (array(part, like.shape, "bool", "next_mask") for part in (one, other))
        expect((one == other).all(), "the same without choice_temperature as with 4.5, from the same generator state",
               "another result", "its default is 4.5")
    expect((array(given[0], wanted[0].shape, "bool", "next_mask").any(axis=0)).all(), "an order that noise decides",
           "the same order in all rows")


@probe("iterative_decode", 2)
def sampling_reaches(iterative_decode, draw):
    """sampling reaches every step, is categorical by default, and hidden tokens are predicted again at each step."""
    R, V, found = 2048, draw.integer(5, 8), {}
    logits = draw.normal(2, V + 1, scale=1.2)
    logits[:, V] = -60.0
    mask, z = torch.ones(R, 2, dtype=torch.bool), draw.tokens(R, 2, V=V)
    for name, options in (("default", {"sweet_spot": 1}), ("categorical", {"sweet_spot": 1, "sampling": "categorical"}),
                          ("last", {"sampling": "categorical"}), ("argmax", {"sampling": "argmax"})):
        found[name], _ = iterative_decode(Stub(logits), z, mask, gamma=lambda r: 1 - r, mask_token_id=V,
                                          total_iter=1 if name == "last" else 3, generator=draw.generator(), **options)
    mask, z = torch.ones(R, 4, dtype=torch.bool), draw.tokens(R, 4, V=V)
    _, history = iterative_decode(Stub(draw.alike(V, V, V, V, V=V)), z, mask, gamma=lambda r: 1 - r, total_iter=2,
                                  mask_token_id=V, generator=draw.generator())
    return found | {"logits": logits, "history": history}


@sampling_reaches.judge
def judge_sampling(seen, right):
    p = softmax(right["logits"])
    z = tokens(seen["argmax"], (2048, 2), "z_final")
    expect((z == p.argmax(axis=1)).all(), "the most probable codes, with sampling='argmax'", "others",
           "does sampling reach the steps?")
    for name, text in (("categorical", "with sampling='categorical'"), ("default", "without sampling given"),
                       ("last", "also in the last step")):
        z = tokens(seen[name], (2048, 2), "z_final")
        likely = "argmax is taken where the contract samples" if (z == p.argmax(axis=1)).all() else ""
        wrong = wrong_shares(z, p)
        expect(wrong == 0, f"codes with the shares of the softmax, {text}", f"other shares for {wrong} of {p.size}",
               likely)
    (first, hidden), (second, _) = (step(entry, (2048, 4)) for entry in pair(seen["history"], "for total_iter=2"))
    expect((hidden.sum(axis=1) == 2).all(), "as many hidden as the schedule says", "others")
    again = int((first == second)[hidden].sum())
    expect(stray(again, int(hidden.sum()), 1 / p.shape[1]) < CHANCE, "tokens still hidden drawn again at the next step",
           "predictions that depend on the last step's", "a step's draws must not be used twice")


@probe("iterative_decode", 1)
def decode_generator(iterative_decode, draw):
    """The generator's state decides the result, whatever the global random state."""
    T, V = draw.integer(30, 40), draw.integer(12, 20)
    logits, mask = draw.alike(*[draw.integer(3, 9) for _ in range(T)], V=V), draw.mask(T, T, 20, 15)
    z, generator, again = draw.tokens(3, T, V=V), draw.generator(), torch.Generator()
    again.set_state(generator.get_state())
    results = []
    for one in (generator, again, again, draw.generator(), None, None):
        seed = draw.integer(0, 2**31)
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        z_final, history = iterative_decode(Stub(logits), z, mask, gamma=lambda r: 1 - r, total_iter=3, mask_token_id=V,
                                            generator=one)
        results.append([z_final, *(next_mask for _, next_mask in history)])
    return {"results": results, "allowed": logits[:, :V] == 0, "mask": mask}


@decode_generator.judge
def judge_decode_generator(seen, right):
    mask, results = right["mask"], []
    for z_final, *masks in seen["results"]:
        z_final = tokens(z_final, mask.shape, "z_final")
        expect(likely_codes(z_final, mask, right["allowed"]).all(), "likely codes at hidden places", "others")
        expect(len(masks) == 3, "one entry in history for each step", f"{len(masks)} entries for 3 steps")
        results.append(np.stack([z_final, *(array(one, mask.shape, "bool", "next_mask") for one in masks)]))
    one, again, later, other, *without = results
    expect((one == again).all(), "the same result from the same generator state", "two results",
           "a draw is made without the generator")
    for result, text in ((later, "a later state of the generator"), (other, "another generator")):
        expect((one[0] != result[0]).any() and (one[1] != result[1]).any(), f"another result from {text}", "the same",
               UNUSED)
    first, second = without
    expect((first[0] != second[0]).any() and (first[1] != second[1]).any(),
           "other draws at each call without a generator", "the same", SEEDED)


@probe("iterative_decode", 1)
def hidden_content(iterative_decode, draw):
    """What stands in hidden places of z_indices does not matter, and the arguments are left as they are."""
    T, V, K = draw.integer(14, 20), draw.integer(7, 12), 31
    tables = draw.normal(K, T, V + 1, scale=3)
    tables[:, :, V] = -60.0
    mask, z, state = draw.mask(T, T, 9, 0, 4), draw.tokens(4, T, V=V), draw.generator().get_state()
    found = {"z": z, "mask": mask, "V": V, "best": tables[:, :, :V].argmax(dim=2), "results": [], "given": []}
    contents = [z, torch.full_like(z, -1), torch.full_like(z, V), draw.tokens(4, T, V=V), torch.full_like(z, 10**6)]
    for content in draw.shuffled(contents):
        given, generator = [torch.where(mask, content, z), mask.clone()], torch.Generator()
        generator.set_state(state)
        before = given[0].clone()
        found["results"].append(iterative_decode(
            ByContext(tables), *given, gamma=lambda r: 1 - r, total_iter=4, mask_token_id=V, sampling="argmax",
            generator=generator))
        found["given"].append({"before": before, "z": given[0], "mask": given[1]})
    return found


@hidden_content.judge
def judge_content(seen, right):
    z, mask = right["z"], right["mask"]
    for given, was in zip(seen["given"], right["given"], strict=True):
        now = array(given["z"], z.shape, "int", "z_indices"), array(given["mask"], z.shape, "bool", "mask")
        expect((now[0] == was["before"]).all() and (now[1] == mask).all(), "z_indices and mask as they were before the "
               "call", "one of them changed in place", "work on a copy")
    finals = []
    for result in seen["results"]:
        z_final, history = history_of(result, right, 4)
        expect((z_final == z)[~mask].all(), "known tokens unchanged", "others", DRIFT)
        expect((history[0][0] == predicted(z, mask, right)).all(), "the transformer's prediction in hidden places, "
               "whatever stood there", "others", "the mask tells what is hidden, not the tokens")
        finals.append(z_final)
    wrong = sum((one != finals[0]).any() for one in finals)
    expect(wrong == 0 and len(finals) == len(right["results"]), "the same result whatever stands in hidden places",
           "different results", "the mask tells what is hidden, not the tokens")


@probe("iterative_decode", 1)
def decode_refuses(iterative_decode, draw):
    """An impossible total_iter, sweet_spot or sampling is a ValueError that names it."""
    T, V = draw.integer(7, 11), draw.integer(5, 9)
    stub, mask, z = Stub(draw.alike(*[1] * T, V=V)), draw.mask(T, T, 3, 1), draw.tokens(3, T, V=V)
    cases = draw.shuffled([
        ("", dict(total_iter=1)), ("", dict(total_iter=3, sweet_spot=3)), ("", dict(total_iter=4, sweet_spot=1)),
        ("", dict(total_iter=2, sweet_spot=None)), ("total_iter", dict(total_iter=0)),
        ("total_iter", dict(total_iter=-draw.integer(1, 5))), ("sweet_spot", dict(total_iter=4, sweet_spot=0)),
        ("sweet_spot", dict(total_iter=4, sweet_spot=5)), ("sweet_spot", dict(total_iter=3, sweet_spot=-1)),
        ("sampling", dict(total_iter=3, sampling="greedy")), ("sampling", dict(total_iter=1, sampling=""))])
    return {"names": [name for name, _ in cases], "calls": [attempt(
        iterative_decode, stub, z, mask, gamma=lambda r: 1 - r, mask_token_id=V, **options) for _, options in cases]}


@decode_refuses.judge
def judge_decode_refuses(seen, right):
    for name, found, wanted in zip(right["names"], seen["calls"], right["calls"], strict=True):
        if name:
            refused(found, name, f"a {name} that the contract excludes")
            continue
        possible(found)
        z = wanted["value"][0]
        found, _ = pair(found["value"], "z_final and history")
        expect((tokens(found, z.shape, "z_final") == z).all(), "the one likely code at hidden places, for a legal call",
               "others")


@probe("iterative_decode", 1)
def any_callable(iterative_decode, draw):
    """Any callable will do as transformer, with logits in bfloat16 under autocast, for pictures of any size."""
    calls = []
    for T, V, B in ((draw.integer(5, 9), draw.integer(3, 6), 1), (64, 28, 3)):
        best = draw.tokens(67, T, V=V)
        tables = torch.nn.functional.one_hot(best, V + 1).float() * 30
        mask, z = draw.mask(T, *(draw.integer(2, T) for _ in range(B))), draw.tokens(B, T, V=V)
        model = ByContext(tables.bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = iterative_decode(lambda tokens, model=model: model(tokens), z, mask, gamma=lambda r: 1 - r * r,
                                      total_iter=4, mask_token_id=V, generator=draw.generator())
        calls.append({"result": result, "z": z, "mask": mask, "V": V, "best": best})
    return calls


@any_callable.judge
def judge_callable(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask = one["mask"]
        z_final, history = history_of(found["result"], one, 4)
        expect((z_final == one["z"])[~mask].all(), "known tokens unchanged", "others", DRIFT)
        agree = (history[0][0] == predicted(one["z"], mask, one))[mask].mean()
        expect(agree > 0.9, "the transformer's prediction in the first step", "others")
        expect(((z_final >= 0) & (z_final < one["V"])).all(), "codes everywhere in z_final", "others")
