"""The checks of notebooks 04 and 05: gamma_func, inpainting and iterative_decode.

In: the function that was written. Out: nothing where it is right, `CheckFailed` where it is not. A stub whose logits
are known replaces the transformer, so counts, confidences and shares are known too.
"""

import math

import numpy as np
import torch

from lab3.exercises.checks.tools import (
    FINISHED,
    FLAT,
    INVERTED,
    NEAR,
    ROWS,
    CheckFailed,
    Stub,
    V,
    as_text,
    expect,
    follows_generator,
    is_pair,
    is_tensor,
    one_of,
    randint,
    refuses,
    rng,
    row_mask,
    same,
    saw,
    suspect,
    takes,
    untouched,
)

RAW = "the confidence is a logit, which compares the codes of one token only: log p compares tokens with each other"
SURE = "the most confident are hidden: they are the ones to keep"
TWICE = "a softmax is taken of a softmax: one turns logits into probabilities"
TEMPERED = "choice_temperature changes the draw of the tokens: it belongs to the noise on their order alone"
CARRY = "each step starts from the first tokens again: what a step revealed must be passed on to the next"
TOO_MANY = "one step too many: steps are counted from 0 to total_iter - 1, and the last has progress 1"
FROM_0 = "progress is counted from 0: it is progress after the step, so the first step has 1 / total_iter"
DRIFT = "tokens change between steps: carry tokens and mask forward, never predict or encode again what is known"
RISES = "gamma rises: it is the share still hidden, and falls from 1 to 0"

# gamma_func

GAMMAS = {  # values at 0, 1/3, 1/2, 1
    "cosine": [1, math.sqrt(3) / 2, math.sqrt(2) / 2, 0],
    "linear": [1, 2 / 3, 1 / 2, 0],
    "square": [1, 8 / 9, 3 / 4, 0],
}
SCHEDULE = {"cosine": "this is the schedule cosine", "linear": "this is the schedule linear",
            "square": "this is the schedule square"}
AT = (0.0, 1 / 3, 1 / 2, 1.0)


def gamma_values(gamma_func):
    """Each schedule falls from 1 to 0 along its own curve."""
    for mode, right in GAMMAS.items():
        gamma = gamma_func(mode)
        expect(callable(gamma), "a function of ratio", f"a {type(gamma).__name__}", "the function itself is to be "
               "returned, not its value")
        found = [_number(gamma(r)) for r in AT]
        same(found, right, [
            ([1, 0.5, 0, -1], "the cosine makes half a turn: a quarter is wanted, so that it ends at 0"),
            ([math.cos(r / 2) for r in AT], "the angle lacks pi"),
            ([math.cos(r * 90) for r in AT], "the angle is in degrees: math and numpy take radians"),
            ([(1 - r) ** 2 for r in AT], "the square is of the ratio, not of what is left of it"),
            ([math.sqrt(1 - r * r) for r in AT], "a root was taken: the text has none"),
            *[(other, SCHEDULE[name]) for name, other in GAMMAS.items() if name != mode],
        ], RISES if found[0] < found[-1] else "", f"{mode} at 0, 1/3, 1/2, 1: ")
    same(_number(gamma_func()(0.5)), math.sqrt(0.5), what="cosine by default, at 1/2 ")


def _number(value):
    expect(isinstance(value, float), "a float for a float", f"a {type(value).__name__}", "the same kind is wanted back")
    return float(value)


def gamma_arrays(gamma_func):
    """An array gives an array of the same shape."""
    for mode, right in GAMMAS.items():
        ratio = np.array(AT).reshape(2, 2)
        with untouched(ratio=ratio):
            found = gamma_func(mode)(ratio)
        expect(isinstance(found, np.ndarray) and found.shape == (2, 2), "an array (2, 2) for an array (2, 2)",
               f"a {type(found).__name__} {np.shape(found)}", "the same kind is wanted back")
        same(found.ravel().tolist(), right, what=f"{mode} of an array: ")


def gamma_refuses(gamma_func):
    """Another mode is refused at once."""
    for mode in ("other", None):
        refuses("mode", repr(mode), gamma_func, mode)


# inpainting


def _step(inpainting, stub, z, mask, ratio=0.5, n_hidden=None, **options):
    n_hidden = mask.sum(dim=1) if n_hidden is None else torch.tensor(n_hidden)
    options = dict(gamma=lambda r: 0.5, choice_temperature=0.0, mask_token_id=V, generator=rng()) | options
    with untouched(z_indices=z, mask=mask, n_hidden=n_hidden):
        z_predict, next_mask = is_pair(
            inpainting(stub, z, mask, ratio, n_hidden, **options), "z_predict and next_mask")
    is_tensor(z_predict, tuple(z.shape), torch.long, "z_predict")
    return z_predict, is_tensor(next_mask, tuple(z.shape), torch.bool, "next_mask")


def _scene():
    """Random logits, three rows that hide 6, 0 and 11 of 12 tokens, and whatever in the hidden places."""
    stub, mask = Stub(torch.randn(12, V + 1)), row_mask(12, 6, 0, 11)
    stub.logits[:, V] = 50
    return stub, randint(3, 12).masked_fill(mask, -1), mask


def step_sees(inpainting):
    """One forward pass, that sees the mask token at hidden places and the tokens elsewhere."""
    stub, z, mask = _scene()
    _step(inpainting, stub, z, mask, choice_temperature=4.5)
    expect(len(stub.seen) == 1, "one call of the transformer", f"{len(stub.seen)} calls")
    saw(stub.seen[0], z, mask)


def step_known(inpainting):
    """Known tokens come back unchanged, and are never hidden."""
    stub, z, mask = _scene()
    z_predict, next_mask = _step(inpainting, stub, z, mask, choice_temperature=4.5)
    changed = int((z_predict != z)[~mask].sum())
    expect(not changed, "known tokens unchanged", f"{changed} of {int((~mask).sum())} known tokens changed",
           "only hidden tokens take the prediction")
    reason = (INVERTED if next_mask[~mask].all() else
              "known tokens compete with the hidden ones: they must count as the most confident")
    expect(not (next_mask & ~mask).any(), "next_mask within mask", "known tokens hidden", reason)


KEPT = "the mask token's logit is kept: drop it before the softmax"
SHARED = "the mask token's logit is kept: drop it before the softmax, else it takes its share of the probability"


def step_codes(inpainting):
    """Hidden tokens become codes, never the mask token."""
    stub, z, mask = _scene()
    for sampling in ("categorical", "argmax"):
        z_predict, _ = _step(inpainting, stub, z, mask, sampling=sampling, choice_temperature=4.5)
        new = z_predict[mask]
        expect(bool(((new >= 0) & (new < V)).all()), f"codes 0 to {V - 1} at hidden places", f"{int(new.min())} to "
               f"{int(new.max())}", KEPT if (new == V).any() else "hidden places keep what was there before")


def step_mask_logit(inpainting):
    """The mask token's logit plays no part in the confidence."""
    for own, reason in (((-60.0, -60.0), SURE), ((50.0, -50.0), SHARED)):
        stub = Stub(one_of([1, 4]))
        stub.logits[:, V] = torch.tensor(own)  # the mask token's
        z, mask = torch.zeros(1, 2, dtype=torch.long), row_mask(2, 2)
        _, next_mask = _step(inpainting, stub, z, mask)
        stub.logits[0] += 20  # moves logits, but no probability
        _, shifted = _step(inpainting, stub, z, mask)
        expect(next_mask.tolist() != [[True, False]], "the token with probability 1 kept, the one with 1/4 hidden",
               "the other way round", RAW if shifted.tolist() != next_mask.tolist() else reason)


def step_draws(inpainting):
    """Hidden tokens are drawn from the softmax, or are its maximum where sampling is argmax."""
    p = torch.tensor([0.6, 0.3, 0.1])
    stub = Stub(torch.cat([p.log(), torch.full((V - 3,), -60.0), torch.tensor([50.0])]).repeat(2, 1))
    z, mask = torch.zeros(ROWS, 2, dtype=torch.long), torch.ones(ROWS, 2, dtype=torch.bool)
    best, _ = _step(inpainting, stub, z, mask, sampling="argmax")
    expect(not best.any(), "the most probable code everywhere, with argmax", "others too", "argmax draws nothing")
    right = np.append(p, [0] * (V - 3))

    def shares(temperature):
        drawn, _ = _step(inpainting, stub, z, mask, choice_temperature=temperature)
        return drawn, [(drawn == code).double().mean().item() for code in range(V)]

    twice = np.exp(right) / np.exp(right).sum()
    for temperature in (4.5, 0.0):
        z_predict, found = shares(temperature)
        if np.allclose(found, right, rtol=0, atol=NEAR):
            continue
        reason = TWICE if np.allclose(found, twice, rtol=0, atol=0.02) else ""
        if temperature == 0 or not np.allclose(found, shares(0.5)[1], rtol=0, atol=NEAR):
            reason = TEMPERED
        elif found[0] == 1:
            reason = "argmax is taken where the text samples: all pictures of a hole would be alike"
        expect(False, f"codes drawn with shares 0.6, 0.3, 0.1, at choice_temperature {temperature}",
               as_text([round(one, 2) for one in found[:3]]), reason)
    both = ((z_predict == 0).all(dim=1)).double().mean().item()
    expect(abs(both - 0.36) < NEAR, "two tokens drawn on their own", "tokens drawn together",
           "one draw serves many tokens")


def step_counts(inpainting):
    """floor(gamma(ratio) * n_hidden) tokens stay hidden in each row."""
    asked, mask, stub = [], row_mask(32, 29, 21, 13, 0), Stub(torch.randn(32, V + 1))
    shares = "hidden and revealed are exchanged: gamma is the share that stays hidden"

    def gamma(r):
        asked.append(float(r))
        return 0.35

    _, next_mask = _step(inpainting, stub, randint(4, 32), mask, 0.7, gamma=gamma)
    found, right = next_mask.sum(dim=1).tolist(), [10, 7, 4, 0]
    reason = FLAT if sum(found) in (sum(right), 22) or max(found) > 22 else ""
    if len(set(found[:3])) == 1:
        reason = "one number for all rows: each row has its own n_hidden"
    reason = suspect(found, [
        ([11, 8, 5, 0], "the product is rounded up, not down"),
        ([10, 7, 5, 0], "the product is rounded to the nearest, not down"),
        ([20, 14, 9, 0], "ratio is used for gamma(ratio): progress is not the share still hidden"),
        ([8, 6, 3, 0], "1 - ratio is used for gamma(ratio)"),
        ([18, 13, 8, 0], shares), ([19, 14, 9, 0], shares),
    ], reason)
    expect(found == right, f"{as_text(right)} tokens hidden, of 29, 21, 13, 0, where gamma gives 0.35", as_text(found),
           reason)
    expect(asked and all(abs(r - 0.7) < 1e-6 for r in asked), "gamma(ratio), with ratio 0.7",
           f"gamma({as_text(asked[0])})" if asked else "no call of gamma", "ratio is progress already")
    _, next_mask = _step(inpainting, stub, randint(1, 32), row_mask(32, 12), n_hidden=[20], gamma=lambda r: 0.35)
    found = int(next_mask.sum())
    expect(found == 7, "7 hidden: 0.35 of the 20 that the row's first mask hid", str(found),
           "the product is taken with those hidden now, not with n_hidden" if found == 4 else "")
    stub, mask = Stub(torch.randn(256, V + 1)), torch.ones(1, 256, dtype=torch.bool)
    for n_hidden, share, right in ((100, 0.53, 53), (256, 0.5 - 1e-8, 127)):
        _, next_mask = _step(inpainting, stub, randint(1, 256), mask, n_hidden=[n_hidden], gamma=lambda r: share)
        expect(int(next_mask.sum()) == right, f"{right} hidden where gamma gives {share!r} of {n_hidden}",
               str(int(next_mask.sum())), "float32 holds seven digits: before rounding down, the product needs float64")


def step_clamp(inpainting):
    """At least one token fewer is hidden after each step, and none at ratio 1."""
    stub, z, mask = Stub(torch.randn(8, V + 1)), randint(4, 8), row_mask(8, 5, 1, 0, 8)
    for ratio, right in ((0.5, [4, 0, 0, 7]), (1.0, [0, 0, 0, 0])):
        _, next_mask = _step(inpainting, stub, z, mask, ratio, gamma=lambda r: 1.0)
        found = next_mask.sum(dim=1).tolist()
        reason = ("at ratio 1 all is revealed, whatever gamma gives" if ratio == 1 else
                  "no clamp on how many stay hidden: a step must reveal at least one" if found == [5, 1, 0, 8] else
                  "a row of a single hidden token must come to 0, and one of none must stay at 0")
        expect(found == right, f"{as_text(right)} hidden, of 5, 1, 0, 8, where gamma gives 1 and ratio is {ratio:g}",
               as_text(found), reason)
    _, next_mask = _step(inpainting, stub, z, row_mask(8, 5, 0, 0, 8), n_hidden=[5, 6, 0, 8], gamma=lambda r: 1.0)
    expect(not next_mask[1].any(), "nothing hidden in a row whose 6 hidden tokens are all revealed",
           f"{int(next_mask[1].sum())}", FINISHED)


def step_least_sure(inpainting):
    """Without noise the least confident of the hidden tokens stay hidden, row by row."""
    counts = torch.tensor([10, 3, 8, 1, 6, 10, 2, 7, 4, 5])  # -log p of a place: the larger, the less sure
    mask = torch.tensor([[0, 1, 1, 1, 1, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0, 1, 0, 1, 0]]).bool()
    for sampling in ("argmax", "categorical"):
        _, next_mask = _step(inpainting, Stub(one_of(counts.tolist())), randint(2, 10), mask, sampling=sampling)
        found = [sorted(counts[row].tolist()) for row in next_mask]
        same_size = [len(one) for one in found] == [4, 2]
        reason = FLAT if not same_size else "the confidence is log p of the drawn token, without noise at temperature 0"
        if found == [[1, 2, 3, 4], [1, 2]]:
            reason = SURE
        expect(found == [[5, 6, 7, 8], [3, 4]], "the tokens drawn from 5, 6, 7, 8 and from 3, 4 codes hidden",
               f"those from {' and from '.join(as_text(one) for one in found)}", reason)
    flat = Stub(torch.zeros(10, V + 1))
    found = _step(inpainting, flat, randint(2, 10), mask)[1].sum(dim=1).tolist()
    expect(found == [4, 2], "4 and 2 hidden also where all are equally sure", as_text(found),
           "a threshold takes all equals: take as many as wanted by rank")


def step_chosen(inpainting):
    """The confidence is that of the token that was drawn, not of the most probable one."""
    logits = one_of([7, 4])
    logits[0, 0] = math.log(4)  # 0.4 for code 0, 0.1 for six others; 0.25 for each of four at the second place
    z, mask = torch.zeros(256, 2, dtype=torch.long), torch.ones(256, 2, dtype=torch.bool)
    z_predict, next_mask = _step(inpainting, Stub(logits), z, mask)
    rare = z_predict[:, 0] != 0
    reason = "" if next_mask[:, 0].any() else "the confidence is the largest probability, not that of the token drawn"
    expect(torch.equal(next_mask[:, 0], rare), "a token of probability 0.1 hidden, one of 0.4 kept, beside one of 0.25",
           f"the rare one hidden in {int(next_mask[rare, 0].sum())} of {int(rare.sum())} rows", reason)


def step_noise(inpainting):
    """The noise is choice_temperature * (1 - ratio) * Gumbel noise on log p, and fades as ratio grows."""
    stub, mask = Stub(one_of([1] + [8] * 8)), torch.ones(ROWS, 9, dtype=torch.bool)
    found = []
    for temperature, ratio in ((5.0, 0.8), (1.25, 0.2)):  # the noise has scale 1 both times
        _, next_mask = _step(inpainting, stub, torch.zeros_like(mask, dtype=torch.long), mask, ratio,
                             choice_temperature=temperature, gamma=lambda r: 0.9)
        found.append((~next_mask[:, 0]).double().mean().item())

    def kept(first, second, gap=math.log(8)):
        """How often the most confident of nine is kept, at two scales of the noise: a softmax of log p / scale."""
        return [1 / (1 + 8 * math.exp(-gap / scale)) for scale in (first, second)]

    grows = "the temperature grows as decoding goes on: noise shrinks where ratio, the progress, grows"
    plain = "Gumbel noise is added to probabilities: it belongs on log-probabilities"
    suspects = (
        (kept(1, 1, 7 / 8), plain), (kept(4.5, 1.125, 7 / 8), plain), (kept(4, 0.25, 7 / 8), plain),
        (kept(5, 1.25, 7 / 8), plain), (kept(4, 0.25), grows),
        (kept(0.5, 0.125), "the temperature grows as decoding goes on, as 1 - gamma does: 1 - ratio is wanted"),
        (kept(4.5, 1.125), "the temperature is multiplied by gamma(ratio): 1 - ratio is wanted"),
        (kept(5, 1.25), "the temperature does not fade: 1 - ratio is missing"),
        (kept(0.2, 0.8), "choice_temperature is not used, or 1 - ratio counts twice"),
        ([1, 1], "there is no Gumbel noise, or rows or tokens share one draw"),
        ([0.72, 0.72], "the noise is not Gumbel noise: its sign is wrong, or it is of another distribution"),
    )
    off, reason = min((max(abs(one - two) for one, two in zip(found, value, strict=True)), text)
                      for value, text in suspects)
    reason = reason if off < 0.03 else "the noise must be a Gumbel draw for each token, added to log p"
    expect(all(abs(one - 0.5) < NEAR for one in found), "the most confident of nine tokens kept in half of the rows, "
           "at temperature 5 and ratio 0.8 as at 1.25 and 0.2", as_text([round(one, 2) for one in found]), reason)


def step_rows(inpainting):
    """Rows do not influence one another."""
    z, mask = randint(3, 12), row_mask(12, 9, 4, 12)
    stub = Stub(torch.randn(12, V + 1))
    together = _step(inpainting, stub, z, mask, sampling="argmax")
    for b in range(3):
        alone = _step(inpainting, stub, z[b:b + 1], mask[b:b + 1], sampling="argmax")
        agree = all(torch.equal(one[b:b + 1], two) for one, two in zip(together, alone, strict=True))
        expect(agree, "a row alone as in a batch", "another result", FLAT)


def step_generator(inpainting):
    """The generator alone decides what is drawn, also under autocast and in bfloat16."""
    stub, mask = Stub(torch.zeros(64, V + 1)), row_mask(64, 64, 40, 64)
    z = randint(3, 64)
    for options in (dict(choice_temperature=4.5), dict(choice_temperature=4.5, sampling="argmax")):
        follows_generator(lambda generator: torch.cat([part.long() for part in _step(
            inpainting, stub, z, mask, generator=generator, **options)]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, next_mask = _step(inpainting, Stub(torch.randn(64, V + 1).bfloat16()), z, mask, choice_temperature=4.5)
    expect(next_mask.sum(dim=1).tolist() == [32, 20, 32], "32, 20, 32 hidden with bfloat16 logits", "others")


def step_refuses(inpainting):
    """Impossible arguments are refused."""
    stub, z, mask = _scene()
    for ratio in (0.0, 1.1):
        refuses("ratio", ratio, _step, inpainting, stub, z, mask, ratio)
    refuses("sampling", "'other'", _step, inpainting, stub, z, mask, sampling="other")


# iterative_decode


def _decode(iterative_decode, stub, z, mask, **options):
    options = dict(gamma=lambda r: 1 - r, total_iter=4, choice_temperature=0.0, mask_token_id=V,
                   generator=rng()) | options
    with untouched(z_indices=z, mask=mask):
        z_final, history = is_pair(iterative_decode(stub, z, mask, **options), "z_final and history")
    is_tensor(z_final, tuple(z.shape), torch.long, "z_final")
    expect(isinstance(history, list), "history: a list", f"a {type(history).__name__}")
    steps, length = options.get("sweet_spot") or options["total_iter"], len(history)
    reason = ("one entry for each step, after it: the start is not a step" if length == steps + 1 else
              "one entry for each step, after it")
    if len(stub.seen) == length == steps + 1:
        reason = TOO_MANY
    if options.get("sweet_spot") and length == options["total_iter"]:
        reason = "sweet_spot is not used: only so many steps are made"
    if not mask.any() and length < steps:
        reason = "one entry for each step, also when nothing is left to hide"
    expect(length == steps, f"{steps} entries in history", f"{length}", reason)
    if length > 1 and mask.sum(dim=1).max() > 3 and history[0][0] is history[1][0]:  # the second step has work to do
        raise CheckFailed("an entry of its own for each step", "the same tensor in all of them",
                          "each entry of history is the same tensor, which later steps overwrite: append a new one")
    for entry in history:
        z_predict, next_mask = is_pair(entry, "z_predict and next_mask, in each entry of history")
        is_tensor(z_predict, tuple(z.shape), torch.long, "z_predict in history")
        is_tensor(next_mask, tuple(z.shape), torch.bool, "next_mask in history")
    return z_final, history


def decode_history(iterative_decode):
    """It gives the tokens, and a history with one entry for each step."""
    stub, z, mask = _scene()
    z_final, history = _decode(iterative_decode, stub, z, mask)
    expect(torch.equal(z_final[~mask], z[~mask]), "known tokens unchanged", "others", DRIFT)
    expect(not any((z_predict[mask] == V).any() for z_predict, _ in history), "codes in history", "the mask token",
           "history holds z_predict, with a prediction at each hidden place: no mask token")
    expect(0 <= z_final.min() and z_final.max() < V, f"codes 0 to {V - 1} in z_final",
           f"{z_final.min()} to {z_final.max()}", CARRY if z_final.min() < 0 else "")


def decode_carries(iterative_decode):
    """Tokens revealed at one step are known, and the same, at every later step."""
    stub = Stub(torch.randn(16, V + 1), turns=True)  # every step prefers other codes
    z, mask = randint(2, 16), row_mask(16, 16, 8)
    z_final, history = _decode(iterative_decode, stub, z, mask, sampling="argmax")
    expect(len(stub.seen) == 4, "one call of the transformer for each of 4 steps", f"{len(stub.seen)} calls")
    expect(not torch.equal(history[0][1], mask), "the mask after the first step", "the one before it",
           "history holds the mask before its step: next_mask is wanted")
    before, hidden = z, mask
    for t, (z_predict, next_mask) in enumerate(history):
        seen = stub.seen[t]
        known = ~hidden
        reason = DRIFT
        if t and (seen[mask] == V).all():
            reason = "revealed tokens are hidden again: each step starts from the first mask, not from the last one"
        expect(torch.equal(seen[known], before[known]),
               f"the transformer sees known and revealed tokens at step {t + 1}",
               f"{int((seen != before)[known].sum())} of {int(known.sum())} differ", reason)
        expect(bool((seen[hidden] == V).all()), f"the mask token at places still hidden, at step {t + 1}", "tokens",
               "places still hidden must be masked again: their predictions are not kept")
        expect(torch.equal(z_predict[known], before[known]), f"revealed tokens unchanged at step {t + 1}",
               f"{int((z_predict != before)[known].sum())} changed", reason)
        expect(not (next_mask & ~hidden).any(), "masks that only shrink", "a revealed token hidden again", reason)
        before, hidden = z_predict, next_mask
    expect(torch.equal(z_final, before), "z_final as the last step left it", "others", "revealed tokens change")


def decode_schedule(iterative_decode):
    """After step t, gamma((t + 1) / total_iter) of the first mask is hidden."""
    z, mask, stub = randint(3, 64), row_mask(64, 64, 40, 13), Stub(torch.randn(64, V + 1))
    whole = [[56, 35, 11], [48, 30, 9], [40, 25, 8], [32, 20, 6], [24, 15, 4], [16, 10, 3], [8, 5, 1], [0, 0, 0]]
    for sweet_spot in (None, 3):
        _, history = _decode(iterative_decode, stub, z, mask, total_iter=8, sweet_spot=sweet_spot)
        found = [next_mask.sum(dim=1).tolist() for _, next_mask in history]
        right, reason = whole[:sweet_spot], ""
        if found[:2] == [[63, 39, 12], whole[0]]:
            reason = FROM_0
        elif found[0] == [63, 39, 12]:
            reason = "n_hidden is one number for the whole batch: count the hidden tokens of each row"
        elif found[1] == [42, 26, 8]:
            reason = "n_hidden is counted again at each step: it is the number that the first mask hid"
        elif sweet_spot and found[0] == [42, 26, 8]:
            reason = "the schedule is squeezed into sweet_spot steps: total_iter alone sets it"
        elif [sum(one) for one in found] == [sum(one) for one in right]:
            reason = FLAT
        expect(found == right, f"hidden of 64, 40, 13 after each step, linearly: {str(right[:3])[1:-1]} ...",
               f"{str(found[:3])[1:-1]} ...", reason)


def decode_sweet_spot(iterative_decode):
    """With sweet_spot so many steps are made, and what is hidden then takes the last prediction."""
    z, mask = randint(2, 16).masked_fill(row_mask(16, 16, 9), V), row_mask(16, 16, 9)
    for sweet_spot in (1, 2, 4):
        z_final, history = _decode(iterative_decode, Stub(torch.randn(16, V + 1), True), z, mask, sweet_spot=sweet_spot)
        expect(bool((z_final < V).all()) and bool((z_final >= 0).all()), "codes everywhere in z_final",
               "the mask token", "tokens still hidden at the end must take the last prediction")
        expect(torch.equal(z_final, history[-1][0]), "z_final equal to the last prediction", "others")


def decode_passes_on(iterative_decode):
    """Temperature and sampling reach every step."""
    counts = [1, 2, 3, 4, 5, 6, 7, 8]
    z, mask, stub = randint(64, 8), torch.ones(64, 8, dtype=torch.bool), Stub(one_of(counts))

    def first(**options):
        z_final, history = _decode(iterative_decode, stub, z, mask, total_iter=2, **options)
        return z_final, history[0][1]

    cold = first()[1]
    expect(torch.equal(cold, (torch.arange(8) >= 4).expand(64, -1)), "the most confident kept, at temperature 0",
           "others", "choice_temperature does not reach the steps")
    expect(not torch.equal(first(choice_temperature=100.0)[1], cold), "another order at temperature 100", "the same",
           "choice_temperature does not reach the steps")
    alike = [bool((first(sampling=name)[0] == first(sampling=name)[0][:1]).all()) for name in ("argmax", "categorical")]
    expect(alike[0], "64 equal rows filled alike, with argmax", "differently", "sampling does not reach the steps")
    expect(not alike[1], "equal rows filled differently, with categorical", "alike",
           "argmax is taken where the text samples, or sampling does not reach the steps")


def decode_hidden_content(iterative_decode):
    """What is in hidden places does not matter, and rows that hide nothing stay as they are."""
    stub, z, mask = _scene()
    first, _ = _decode(iterative_decode, stub, z, mask, sampling="argmax")
    for content in (V, 0):
        again, _ = _decode(iterative_decode, stub, z.masked_fill(mask, content), mask, sampling="argmax")
        expect(torch.equal(first, again), "the same result whatever is in hidden places", "another",
               "the mask tells what is hidden, not the tokens")
    nothing = torch.zeros_like(mask)
    z_final, history = _decode(iterative_decode, stub, randint(3, 12), nothing)
    expect(torch.equal(z_final, randint(3, 12)) and not any(next_mask.any() for _, next_mask in history),
           "tokens without a hole unchanged", "others")


def decode_generator(iterative_decode):
    """The generator alone decides the result."""
    stub, mask = Stub(torch.zeros(64, V + 1)), row_mask(64, 64, 40)
    follows_generator(lambda generator: _decode(
        iterative_decode, stub, randint(2, 64), mask, generator=generator, choice_temperature=4.5)[0])


def decode_refuses(iterative_decode):
    """Impossible arguments are refused."""
    stub, z, mask = _scene()
    refuses("total_iter", 0, iterative_decode, stub, z, mask, gamma=lambda r: 1 - r, total_iter=0, mask_token_id=V)
    for value in (0, 5):
        refuses("sweet_spot", f"{value} (total_iter = 4)", iterative_decode, stub, z, mask, gamma=lambda r: 1 - r,
                total_iter=4, sweet_spot=value, mask_token_id=V)
    refuses("sampling", "'other'", _decode, iterative_decode, stub, z, mask, sampling="other")


CHECKS = {
    "gamma_func": (takes(lambda mode="cosine": None), gamma_values, gamma_arrays, gamma_refuses),
    "inpainting": (
        takes(lambda transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, mask_token_id,
              sampling="categorical", generator=None: None), step_sees, step_known, step_codes, step_draws,
        step_mask_logit, step_counts, step_clamp, step_least_sure, step_chosen, step_noise, step_rows, step_generator,
        step_refuses),
    "iterative_decode": (
        takes(lambda transformer, z_indices, mask, *, gamma, total_iter, sweet_spot=None, choice_temperature=4.5,
              mask_token_id, sampling="categorical", generator=None: None), decode_history,
        decode_hidden_content, decode_carries, decode_schedule, decode_sweet_spot, decode_passes_on, decode_generator,
        decode_refuses),
}
