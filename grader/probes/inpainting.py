"""The probes of inpainting, one step of decoding.

In: what an answer and the reference did with transformers whose logits are known. Out: nothing where the answer keeps
its contract, else `Wrong`. Whatever is random is judged as a share of thousands of rows: a right answer fails a probe
by chance less than once in 10^9 runs.
"""

import itertools
import math
import random

import numpy as np

from grader.probes.inside import ByToken, Stub, attempt, torch
from grader.probes.probe import SEEDED, Wrong, array, exception_name, expect, probe, refused
from lab3.exercises.checks.tools import FINISHED, UNUSED

FLAT = "top-k over the flattened batch? Each row ranks its own tokens"
KEPT = "the mask token's logit is kept: drop it before the softmax"
DRIFT = "tokens must be carried forward: what is known is never predicted or encoded again"
CHANCE = 26  # a share strays by chance farther than `stray` = CHANCE with a probability below 2 exp(-CHANCE), 10^-11


def pair(seen, names):
    """Two results, as a list."""
    got = "nothing (None)" if seen is None else f"{len(seen)}" if isinstance(seen, list) else "another type"
    expect(isinstance(seen, list) and len(seen) == 2, f"two results, {names}", got, "a return is missing or short")
    return seen


def tokens(seen, shape, name):
    """A tensor of tokens, as int64."""
    return array(seen, shape, "int", name).astype(np.int64)


def step(seen, shape):
    """z_predict and next_mask."""
    z_predict, next_mask = pair(seen, "z_predict and next_mask")
    return tokens(z_predict, shape, "z_predict"), array(next_mask, shape, "bool", "next_mask")


def softmax(logits):
    """The probabilities of the codes: the last logit, the mask token's, is left out."""
    w = np.exp(logits[:, :-1].astype(np.float64))
    return w / w.sum(axis=1, keepdims=True)


def wrong_shares(z, p):
    """How many codes have another share in z (R, T) than p (T, V) says, beyond chance."""
    return sum(stray(int((z[:, i] == code).sum()), len(z), p[i, code]) > CHANCE for i, code in np.ndindex(*p.shape))


def stray(count, n, p):
    """How far `count` of n is from a share p: n times the Kullback-Leibler divergence (Chernoff's bound)."""
    q = count / n
    return n * sum(a * math.log(a / b) for a, b in ((q, p), (1 - q, 1 - p)) if a > 0)


def hidden_sets(log_w, stay):
    """P(the set of `stay` tokens that is left) where tokens are taken one by one, in proportion to exp(log_w).

    That is the order of log_w + Gumbel noise. A set is the sum of 2 ** place.
    """
    w, chances = np.exp(np.asarray(log_w) - np.max(log_w)), {}
    for order in itertools.permutations(range(len(w))):
        chance = math.prod(w[i] / w[list(order[n:])].sum() for n, i in enumerate(order))
        left = sum(2**i for i in order[len(order) - stay:])
        chances[left] = chances.get(left, 0) + chance
    return chances


def off(next_mask, log_w, stay):
    """How far the shares of the hidden sets are from those of `hidden_sets`; up to CHANCE is chance."""
    left = next_mask @ (2 ** np.arange(next_mask.shape[1]))
    chances = hidden_sets(log_w, stay)
    return max(stray(int((left == one).sum()), len(left), p) for one, p in chances.items())


def rows_differ(found, right):
    """In how many rows two arrays differ."""
    return int((found != right).any(axis=1).sum())


@probe("inpainting", 4)
def one_pass(inpainting, draw):
    """The transformer is called once, and sees the mask token where hidden and the real tokens elsewhere."""
    calls = []
    for B in (1, draw.integer(3, 6)):
        T, V = draw.integer(9, 17), draw.integer(7, 40)
        mask = draw.mask(T, *(draw.integer(2, T - 2) for _ in range(B)))
        z = draw.tokens(B, T, V=V)
        whatever = draw.tokens(B, T, V=V + 2) - 1  # -1 and the mask token too
        stub = Stub(draw.normal(T, V + 1))
        inpainting(stub, torch.where(mask, whatever, z), mask, draw.number(0.2, 0.8), mask.sum(dim=1),
                   gamma=lambda r: 0.5 + 0 * r, choice_temperature=1.0, mask_token_id=V, generator=draw.generator())
        calls.append({"z": z, "mask": mask, "V": V, "seen": stub.seen})
    return calls


@one_pass.judge
def judge_pass(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask, z, V = one["mask"], one["z"], one["V"]
        count = len(found["seen"])
        expect(count == 1, "one call of the transformer", f"{count}",
               "all rows go through it together" if count == len(mask) > 1 else "")
        shown = array(found["seen"][0], mask.shape, "int", "the transformer's input")
        hidden, known = shown[mask], shown[~mask]
        likely = "hidden places must hold mask_token_id, whatever stood there" if (hidden != V).any() else ""
        if (known == V).all():
            likely = "the mask is inverted: True means hidden"
        elif (known != z[~mask]).any():
            likely = "known tokens must reach the transformer as they are"
        expect((hidden == V).all() and (known == z[~mask]).all(), "the mask token where hidden, the tokens elsewhere",
               f"{int((hidden != V).sum())} hidden and {int((known != z[~mask]).sum())} known places with other tokens",
               likely)


@probe("inpainting", 4)
def known_tokens(inpainting, draw):
    """Known tokens come back unchanged and stay known, also where a row or the whole batch hides nothing."""
    T, V = draw.integer(16, 24), draw.integer(9, 30)
    table = torch.zeros(V + 1, V + 1)  # known places: as unsure as can be
    table[V] = draw.alike(1, V=V)[0]  # hidden places: sure of one code
    table[:, V] = -60.0
    calls = []
    for counts in draw.shuffled([(10, 0, 7, T - 2), (0, 0, 0), (0,), (9,), (0, 13)]):
        z, mask = draw.tokens(len(counts), T, V=V), draw.mask(T, *counts)
        n_hidden = mask.sum(dim=1)
        given = z.clone(), mask.clone(), n_hidden.clone()
        result = inpainting(ByToken(table), *given[:2], 0.4, given[2], gamma=lambda r: 0.5 + 0 * r,
                            choice_temperature=1.0, mask_token_id=V, generator=draw.generator())
        calls.append({"result": result, "given": given, "z": z, "mask": mask, "n_hidden": n_hidden})
    return calls


@known_tokens.judge
def judge_known(seen, right):
    for found, one in zip(seen, right, strict=True):
        z, mask = one["z"], one["mask"]
        for now, name in zip(found["given"], ("z", "mask", "n_hidden"), strict=True):
            now = array(now, one[name].shape, "bool" if name == "mask" else "int", name)
            expect((now == one[name]).all(), "arguments as they were before the call", f"{name} changed in place",
                   "work on a copy")
        expect(pair(found["result"], "z_predict and next_mask")[0].dtype == np.int64, "z_predict of type torch.long",
               "another type")
        z_predict, next_mask = step(found["result"], mask.shape)
        filled, wanted = step(one["result"], mask.shape)
        changed = int((z_predict != z)[~mask].sum())
        expect(changed == 0, "known tokens unchanged", f"{changed} of {int((~mask).sum())} known tokens changed",
               "only hidden tokens take the prediction")
        again = int((next_mask & ~mask).sum())
        expect(again == 0, "next_mask within mask", f"{again} known tokens hidden",
               "known tokens must count as the most confident of all")
        wrong = int((z_predict != filled).sum())
        expect(wrong == 0, "the one likely code at hidden places", f"another at {wrong} of {int(mask.sum())}")
        other = int((next_mask.sum(axis=1) != wanted.sum(axis=1)).sum())
        expect(other == 0, "as many tokens hidden as the contract says", f"another number in {other} rows",
               "do known tokens compete with the hidden ones? They were made unsure here")


@probe("inpainting", 3)
def choice_of_tokens(inpainting, draw):
    """Hidden tokens are drawn from the softmax over the codes, each on its own, or are its maximum with argmax."""
    V, R = draw.integer(5, 8), 2048
    logits = draw.normal(2, V + 1, scale=1.2)[torch.tensor([0, 0, 1])]  # two places alike
    logits[:, V] = -60.0
    found = {"logits": logits}
    for name, sampling, rows, ratio in (("categorical", "categorical", R, 0.4), ("last", "categorical", R, 1.0),
                                        ("argmax", "argmax", 16, draw.one_of([0.4, 1.0]))):
        mask = torch.ones(rows, 3, dtype=torch.bool)
        found[name] = inpainting(
            Stub(logits), draw.tokens(rows, 3, V=V), mask, ratio, mask.sum(dim=1), gamma=lambda r: 0.5 + 0 * r,
            choice_temperature=4.5, mask_token_id=V, sampling=sampling, generator=draw.generator())
    return found


@choice_of_tokens.judge
def judge_choice(seen, right):
    p = softmax(right["logits"])
    V, likeliest = p.shape[1], p.argmax(axis=1)
    best, _ = step(seen["argmax"], (16, 3))
    expect((best == likeliest).all(), "the most probable code everywhere, with sampling='argmax'", "other codes too",
           "argmax draws nothing" if (best == likeliest).any() else "")
    for name, text in (("last", " at ratio 1"), ("categorical", "")):
        z, _ = step(seen[name], (2048, 3))
        expect(((z >= 0) & (z < V)).all(), "codes at all hidden places", "the mask token or no token",
               KEPT if (z == V).any() else "")
        wrong = wrong_shares(z, p)
        expect(wrong == 0, f"codes drawn with the shares of the softmax, with sampling='categorical'{text}",
               f"other shares for {wrong} of {p.size} codes",
               "argmax is taken where the contract samples" if (z == likeliest).all() else "")
    equal = (p**2).sum(axis=1)
    expect(stray(int((z[:, 0] == z[:, 1]).sum()), len(z), equal[0]) < CHANCE, "two tokens of a row drawn on their own",
           "tokens that depend on one another", "one draw serves several tokens")
    for i in range(3):
        alike = int((z[::2, i] == z[1::2, i]).sum())
        expect(stray(alike, len(z) // 2, equal[i]) < CHANCE, "rows drawn on their own",
               "rows that depend on one another", "one draw serves several rows")


@probe("inpainting", 2)
def mask_token_left_out(inpainting, draw):
    """The mask token's own logit plays no part: neither in what is drawn nor in the confidence."""
    V = draw.integer(20, 30)
    logits, R = draw.normal(2, V + 1), 1024
    logits[:, V] = 3.0 + draw.number(0, 1)
    found = {"logits": logits}
    for sampling in ("categorical", "argmax"):
        mask = torch.ones(R, 2, dtype=torch.bool)
        found[sampling] = inpainting(
            Stub(logits), draw.tokens(R, 2, V=V), mask, 0.5, mask.sum(dim=1), gamma=lambda r: 0.5 + 0 * r,
            choice_temperature=1.0, mask_token_id=V, sampling=sampling, generator=draw.generator())
    counts = draw.shuffled([1, 2, 4, 7, 12, 20])
    logits = draw.alike(*counts, V=V)
    logits[:, V] = torch.tensor([15.0 - 3 * sorted(counts).index(count) for count in counts])  # most where it is sure
    mask = torch.ones(16, 6, dtype=torch.bool)
    found["order"] = inpainting(
        Stub(logits), draw.tokens(16, 6, V=V), mask, 0.5, mask.sum(dim=1), gamma=lambda r: 0.6 + 0 * r,
        choice_temperature=0.0, mask_token_id=V, sampling="categorical", generator=draw.generator())
    return found


@mask_token_left_out.judge
def judge_mask_token(seen, right):
    p = softmax(right["logits"])
    V = p.shape[1]
    for sampling in ("argmax", "categorical"):
        z, _ = step(seen[sampling], (1024, 2))
        expect(((z >= 0) & (z < V)).all(), f"codes alone, with sampling='{sampling}'",
               f"the mask token in {int((z == V).any(axis=1).sum())} rows" if (z == V).any() else "no codes", KEPT)
        wrong = int((z != p.argmax(axis=1)).sum()) if sampling == "argmax" else wrong_shares(z, p)
        expect(wrong == 0, f"what the softmax over the codes gives, with sampling='{sampling}'", "other codes",
               "drop the mask token's logit, the last of the V + 1, before the softmax")
    wanted, (_, found) = array(right["order"][1], (16, 6), "bool", "next_mask"), step(seen["order"], (16, 6))
    expect(rows_differ(found, wanted) <= 1, "the least confident hidden, confidence without the mask token",
           f"others in {rows_differ(found, wanted)} of 16 rows", f"{KEPT}, else it takes its share of the probability")


@probe("inpainting", 5)
def counts(inpainting, draw):
    """In each row floor(gamma(ratio) * n_hidden) tokens stay hidden."""
    calls = []
    for low, high in draw.shuffled([(0.22, 0.38), (0.62, 0.78), (0.22, 0.78)]):
        T, V = draw.integer(46, 60), draw.integer(5, 12)
        while True:  # until each wrong count differs in some row, and no product is near a whole number
            ratio, power = draw.number(0.15, 0.85), draw.number(0.6, 2.5)
            share = 1 - ratio**power
            n = np.array([draw.integer(10, 13), draw.integer(14, 17), *(draw.integer(30, 44) for _ in range(4))])
            part = share * n % 1
            apart = min(abs(share - one) for one in (ratio, 1 - ratio, 0.5, 1 - (1 - ratio) ** power))
            if low < share < high and apart > 0.11 and 0.02 < part.min() < 0.4 and 0.6 < part.max() < 0.98:
                break
        logits, rank = draw.ladder(T, V)
        now = n.copy()
        now[2] = int(share * n[2]) + 1
        now[3] = draw.integer(int(share * n[3]) + 1, int(n[3]))
        mask = draw.mask(T, *now.tolist())
        mask[0], mask[1] = rank >= T - int(n[0]), rank < int(n[1])  # the surest places, the least sure
        calls.append({
            "result": inpainting(
                Stub(logits), draw.tokens(6, T, V=V), mask, ratio, torch.from_numpy(n),
                gamma=lambda r, power=power: 1 - r**power, choice_temperature=draw.one_of([0.0, 1.0]),
                mask_token_id=V, sampling=draw.one_of(["argmax", "categorical"]), generator=draw.generator()),
            "mask": mask, "n_hidden": n, "ratio": ratio, "power": power})
    return calls


@counts.judge
def judge_counts(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask, n, ratio = one["mask"], one["n_hidden"], one["ratio"]
        share, now = 1 - ratio ** one["power"], one["mask"].sum(axis=1)
        count = step(found["result"], mask.shape)[1].sum(axis=1)
        wanted = array(one["result"][1], mask.shape, "bool", "next_mask").sum(axis=1)
        rule = "the product is rounded down, and is that of gamma(ratio) and n_hidden"
        likely = next((text for other, text in (
            (np.ceil(share * n), "the product is rounded up, not down"),
            (np.round(share * n), "the product is rounded to the nearest, not down"),
            (np.floor(share * now), "n_hidden is what the row's first mask hid, not what is hidden now"),
            (np.floor(ratio * n), "ratio is used for gamma(ratio)"),
            (np.floor((1 - ratio) * n), "1 - ratio is used for gamma(ratio)"),
            (np.floor((1 - (1 - ratio) ** one["power"]) * n), "gamma is given 1 - ratio: ratio is progress already"),
            (np.floor((1 - share) * n), "hidden and revealed are exchanged"),
            (now - np.floor(share * n), "hidden and revealed are exchanged"),
        ) if (count == np.clip(other, 0, now - 1)).all() or (count == other).all()), "")
        if count.sum() == wanted.sum() and (count != wanted).any():
            likely = FLAT
        elif len(set(count.tolist())) == 1:
            likely = "one number for all rows: each row has its own n_hidden"
        expect((count == wanted).all(), "floor(gamma(ratio) * n_hidden) tokens hidden in each row",
               f"another number in {int((count != wanted).sum())} of {len(count)} rows", likely or rule)


@probe("inpainting", 2)
def at_least_one(inpainting, draw):
    """Each step hides at least one token fewer in a row that hides any, none at ratio 1; a finished row stays so."""
    calls = []
    for ratio, share in draw.shuffled([(draw.number(0.1, 0.9), 1.0), (draw.number(0.1, 0.9), 0.9), (1.0, 0.7),
                                       (1.0, 1.0), (draw.number(0.2, 0.6), 0.01)]):
        T, V = draw.integer(12, 20), draw.integer(4, 9)
        n_hidden = torch.tensor(draw.shuffled([T, T - 1, 8, 5, 1, 0, 1, 2]))
        now = [min(n, 6) if share == 0.9 else n for n in n_hidden.tolist()]
        now[n_hidden.tolist().index(8)] = 0  # finished: what it hid is known by now
        mask, z = draw.mask(T, *now), draw.tokens(8, T, V=V)
        calls.append({"mask": mask, "ratio": ratio, "result": inpainting(
            Stub(draw.normal(T, V + 1)), z, mask, ratio, n_hidden, gamma=lambda r, share=share: share + 0 * r,
            choice_temperature=2.0, mask_token_id=V, generator=draw.generator())})
    return calls


@at_least_one.judge
def judge_at_least_one(seen, right):
    for found, one in zip(seen, right, strict=True):
        mask, last = one["mask"], one["ratio"] == 1
        now, count = mask.sum(axis=1), step(found["result"], mask.shape)[1].sum(axis=1)
        wanted = array(one["result"][1], mask.shape, "bool", "next_mask").sum(axis=1)
        if last:
            expect((count == 0).all(), "no token hidden at ratio 1, whatever gamma gives",
                   f"hidden tokens in {int((count > 0).sum())} of 8 rows", "at ratio 1 all is revealed")
        again = int((count[now == 0] > 0).sum())
        expect(again == 0, "no token hidden in a row that hides none now, whatever its n_hidden",
               f"hidden tokens in {again} of {int((now == 0).sum())} such rows",
               FINISHED)
        more = int((count > np.maximum(now - 1, 0)).sum())
        expect(more == 0, "at least one token fewer hidden in a row that hides any", f"not so in {more} of 8 rows",
               "no clamp on how many stay hidden: floor(gamma * n_hidden) may be as many as are hidden now")
        expect((count == wanted).all(), "the smaller of floor(gamma(ratio) * n_hidden) and one fewer than now, never "
               "below 0", f"another number in {int((count != wanted).sum())} of 8 rows",
               "a row of one hidden token must come to 0, a row of none stay at 0")


@probe("inpainting", 3)
def least_sure(inpainting, draw):
    """At temperature 0 the least confident of the tokens drawn stay hidden, row by row, and each row as if alone."""
    T, V, B = 20, draw.integer(30, 40), 12
    logits, _ = draw.ladder(T, V)
    levels = draw.alike(*draw.shuffled(range(1, T + 1)), V=V) + draw.normal(T, 1, scale=5)
    levels[:, V] = -60.0
    mask, z, found = draw.mask(T, *(draw.integer(5, T) for _ in range(B))), draw.tokens(B, T, V=V), {}
    options = dict(gamma=lambda r: 0.52 + 0 * r, choice_temperature=0.0, mask_token_id=V)
    for sampling, stub in (("argmax", Stub(logits)), ("categorical", Stub(levels))):
        found[sampling] = inpainting(stub, z, mask, 0.5, mask.sum(dim=1), sampling=sampling,
                                     generator=draw.generator(), **options)[1]
    found["alone"] = torch.cat([inpainting(
        Stub(logits), z[b:b + 1], mask[b:b + 1], 0.5, mask[b:b + 1].sum(dim=1), sampling="argmax",
        generator=draw.generator(), **options)[1] for b in range(B)])
    # In one place a code of probability 0.4 and six of 0.1, in the other four codes of 0.25.
    first, p = draw.integer(0, 1), torch.full((2, 9), 1e-20)
    codes = draw.shuffled(range(8))
    p[first, codes[:7]], p[1 - first, codes[:4]] = torch.tensor([0.4, *[0.1] * 6]), torch.tensor(0.25)
    mask = torch.ones(512, 2, dtype=torch.bool)
    result = inpainting(Stub(p.log()), draw.tokens(512, 2, V=8), mask, 0.5, mask.sum(dim=1), generator=draw.generator(),
                        **options | {"mask_token_id": 8})
    return found | {"chosen": result, "first": first, "common": codes[0]}


@least_sure.judge
def judge_least_sure(seen, right):
    texts = {"argmax": " with argmax", "categorical": " with categorical", "alone": " in a batch of one row"}
    for name, text in texts.items():
        wanted = array(right[name], (12, 20), "bool", "next_mask")
        found = array(seen[name], (12, 20), "bool", "next_mask")
        wrong, counts_differ = rows_differ(found, wanted), (found.sum(axis=1) != wanted.sum(axis=1)).any()
        likely = FLAT if counts_differ and name != "alone" else (
            "is the confidence log p of the token drawn? Logits of different places cannot be compared; and the least "
            "confident are to be hidden, not the most confident")
        expect(wrong <= 1, f"the least confident hidden{text}", f"others in {wrong} of 12 rows", likely)
    z, next_mask = step(seen["chosen"], (512, 2))
    rare = z[:, right["first"]] != right["common"]
    expect(0.3 < rare.mean() < 0.9, "codes drawn from the softmax", "others")
    agree = (next_mask[:, right["first"]] == rare) & (next_mask.sum(axis=1) == 1)
    expect(agree.mean() > 0.98, "the confidence of the code that was drawn: rare codes hidden, common ones kept",
           f"another order in {int((~agree).sum())} of 512 rows",
           "the confidence is the largest probability, not that of the code drawn"
           if len(np.unique(next_mask, axis=0)) == 1 else "")


@probe("inpainting", 4)
def gumbel_noise(inpainting, draw):
    """Confidence is log p plus Gumbel noise, drawn for each token on its own."""
    R, found = 3072, []
    for levels, share in (([1, 8, 8, 8, 8, 8], 0.9), ([8, 1, 1, 1, 1], 0.25)):  # all but one stay hidden, or one alone
        V, T, ratio, scale = 12, len(levels), draw.number(0.3, 0.6), draw.number(0.95, 1.05)
        levels = draw.shuffled(levels)
        mask = torch.ones(R, T, dtype=torch.bool)
        _, next_mask = inpainting(
            Stub(draw.alike(*levels, V=V)), draw.tokens(R, T, V=V), mask, ratio, mask.sum(dim=1),
            gamma=lambda r, share=share: share + 0 * r, choice_temperature=scale / (1 - ratio), mask_token_id=V,
            sampling=draw.one_of(["categorical", "argmax"]), generator=draw.generator())
        found.append({"next_mask": next_mask, "levels": levels, "scale": scale, "stay": int(share * T)})
    return found


@gumbel_noise.judge
def judge_noise(seen, right):
    def fits(log_w):
        """How far what came is from noise on such confidences."""
        return max(off(next_mask, log_w(np.array(one["levels"]), one["scale"]), one["stay"])
                   for next_mask, one in zip(masks, right, strict=True))

    masks = [array(found["next_mask"], (3072, len(one["levels"])), "bool", "next_mask")
             for found, one in zip(seen, right, strict=True)]
    for next_mask, one in zip(masks, right, strict=True):
        expect((next_mask.sum(axis=1) == one["stay"]).all(), "floor(gamma(ratio) * n_hidden) tokens hidden", "others")
    likely = "the noise is of another distribution or scale, or added to something else than log p"
    if all(len(np.unique(one, axis=0)) == 1 for one in masks):
        likely = "there is no noise, or rows or tokens share one draw"
    elif fits(lambda levels, scale: 1 / levels / scale) < 2 * CHANCE:
        likely = "Gumbel noise is added to probabilities: it belongs on log-probabilities"
    expect(fits(lambda levels, scale: -np.log(levels) / scale) < CHANCE,
           "tokens hidden with the shares that log p + temperature * Gumbel noise gives", "other shares", likely)


@probe("inpainting", 3)
def noise_fades(inpainting, draw):
    """The noise has the scale choice_temperature * (1 - ratio)."""
    R, found, V = 2048, [], 12
    for low, high in draw.shuffled([(0.74, 0.85), (0.12, 0.22), (0.4, 0.6)]):
        ratio, scale, share = draw.number(low, high), draw.number(0.8, 1.2), draw.number(0.86, 0.97)
        levels = draw.shuffled([1, 8, 8, 8, 8, 8])
        mask = torch.ones(R, 6, dtype=torch.bool)
        _, next_mask = inpainting(
            Stub(draw.alike(*levels, V=V)), draw.tokens(R, 6, V=V), mask, ratio, mask.sum(dim=1),
            gamma=lambda r, share=share: share + 0 * r, choice_temperature=scale / (1 - ratio), mask_token_id=V,
            generator=draw.generator())
        found.append({"next_mask": next_mask, "surest": levels.index(1), "ratio": ratio, "scale": scale,
                      "share": share})
    return found


@noise_fades.judge
def judge_fades(seen, right):
    kept = []
    for found, one in zip(seen, right, strict=True):
        next_mask = array(found["next_mask"], (2048, 6), "bool", "next_mask")
        expect((next_mask.sum(axis=1) == 5).all(), "floor(gamma(ratio) * n_hidden) tokens hidden", "others")
        kept.append(int((~next_mask[:, one["surest"]]).sum()))

    def fits(factor):
        """How far what came is from noise whose scale is choice_temperature times a factor."""
        worst = 0
        for count, one in zip(kept, right, strict=True):
            scale = one["scale"] / (1 - one["ratio"]) * factor(one)
            worst = max(worst, stray(count, 2048, 1 / (1 + 5 * math.exp(-min(math.log(8) / scale, 30)))))
        return worst

    suspects = (
        (lambda one: one["ratio"], "the temperature grows: noise shrinks where ratio, the progress, grows"),
        (lambda one: 1 - one["share"], "1 - gamma(ratio) is used for 1 - ratio: the temperature then grows"),
        (lambda one: one["share"], "the temperature is multiplied by gamma(ratio), not by 1 - ratio"),
        (lambda one: 1.0, "the temperature does not fade: 1 - ratio is missing"),
        (lambda one: (1 - one["ratio"]) ** 2 / one["scale"], "choice_temperature is not used"),
    )
    least, likely = min((fits(factor), text) for factor, text in suspects)
    expect(fits(lambda one: 1 - one["ratio"]) < CHANCE, "noise of the scale choice_temperature * (1 - ratio), early "
           "and late", "noise of another scale", likely if least < 2 * CHANCE else "")


def likely_codes(z, mask, allowed):
    """Which hidden tokens are among the codes that `allowed` (T, V) names for their places."""
    places, z = np.nonzero(mask)[1], z[mask]
    return (z >= 0) & (z < allowed.shape[1]) & allowed[places, z.clip(0, allowed.shape[1] - 1)]


@probe("inpainting", 2)
def generator_decides(inpainting, draw):
    """The generator's state decides all that is drawn, whatever the global random state."""
    T, V, B, found = draw.integer(30, 40), draw.integer(12, 20), 4, {}
    logits, mask = draw.alike(*[draw.integer(3, 9) for _ in range(T)], V=V), draw.mask(T, T, 20, 15, T)
    found["allowed"], found["mask"] = logits[:, :V] == 0, mask
    z, n_hidden = draw.tokens(B, T, V=V), mask.sum(dim=1)

    def call(generator, **options):
        seed = draw.integer(0, 2**31)
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        return inpainting(Stub(logits), z, mask, 0.4, n_hidden, gamma=lambda r: 0.5 + 0 * r, choice_temperature=3.0,
                          mask_token_id=V, generator=generator, **options)

    for sampling in ("categorical", "argmax"):
        generator, again = draw.generator(), torch.Generator()
        again.set_state(generator.get_state())
        found[sampling] = [call(one, sampling=sampling) for one in (generator, again, again, draw.generator())]
    state, again = draw.generator(), torch.Generator()
    again.set_state(state.get_state())
    return found | {"default": [call(state), call(again, sampling="categorical")], "none": [call(None), call(None)]}


@generator_decides.judge
def judge_generator(seen, right):
    mask, allowed = right["mask"], right["allowed"]

    def same_result(one, two):
        return all((a == b).all() for a, b in zip(one, two, strict=True))

    for sampling in ("categorical", "argmax"):
        one, again, later, other = (step(result, mask.shape) for result in seen[sampling])
        for z_predict, _ in (one, again, later, other):
            expect(likely_codes(z_predict, mask, allowed).all(), "likely codes at hidden places", "others")
        expect(same_result(one, again), f"the same result from the same generator state, with {sampling}",
               "two results", "a draw is made without the generator")
        for result, text in ((later, "a later state of the generator"), (other, "another generator")):
            expect((one[1] != result[1]).any(), f"other noise from {text}, with {sampling}", "the same",
                   UNUSED)
            if sampling == "categorical":
                expect((one[0] != result[0]).any(), f"other codes from {text}", "the same",
                       UNUSED)
    expect(same_result(*(step(result, mask.shape) for result in seen["default"])), "sampling='categorical' by default",
           "another result without it")
    for one, other in zip(*(step(result, mask.shape) for result in pair(seen["none"], "without a generator")),
                          strict=True):
        expect((one != other).any(), "other draws at each call without a generator", "the same", SEEDED)


@probe("inpainting", 1)
def exact_counts(inpainting, draw):
    """Counts are exact: products in float64, whatever the ties, and with logits in bfloat16 under autocast."""
    T, V, calls = 256, 4, []
    while len(calls) < 8:  # whole products and products just beside one, where float32 rounds to the other side
        n, beside = draw.integer(100, T), draw.one_of([0, 3e-6, -3e-6])
        share = (draw.integer(n // 4, n - 2) + beside) / n
        clear = abs(share * n - round(share * n))
        if np.floor(np.float32(share) * np.float32(n)) == np.floor(share * n) or 0 < clear < 2e-6:
            continue
        mask = draw.mask(T, n)
        calls.append(inpainting(
            Stub(torch.zeros(T, V + 1)), draw.tokens(1, T, V=V), mask, 0.5, torch.tensor([n]),
            gamma=lambda r, share=share: share + 0 * r, choice_temperature=0.0, mask_token_id=V,
            sampling=draw.one_of(["categorical", "argmax"]), generator=draw.generator())[1].sum())
    n = torch.tensor([draw.integer(140, T) for _ in range(6)])
    while True:
        share = draw.number(0.3, 0.6)
        exact, part = (share * n.double()).floor(), share * n.double() % 1
        if ((share * n.bfloat16()).floor() != exact).any() and part.min() > 0.01 and part.max() < 0.99:
            break
    rank = torch.from_numpy(draw.rng.permutation(T))
    logits = draw.alike(*[1 if one < 60 else 8 for one in rank.tolist()], V=10)
    mask = draw.mask(T, *n.tolist())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = inpainting(
            Stub(logits.bfloat16()), draw.tokens(6, T, V=10), mask, 0.5, n, gamma=lambda r: share + 0 * r,
            choice_temperature=0.2, mask_token_id=10, generator=draw.generator())
    return {"counts": calls, "bfloat16": result, "mask": mask, "surest": rank < 60, "allowed": logits[:, :10] == 0}


@exact_counts.judge
def judge_exact(seen, right):
    wrong = sum(int(one) != int(two) for one, two in zip(seen["counts"], right["counts"], strict=True))
    expect(wrong == 0, "exact counts for products that are whole or just beside a whole number, all tokens equally "
           "sure", f"another number in {wrong} of {len(right['counts'])} rows", "float32 holds seven digits: take the "
           "product in float64. And where all are equally sure, hide by rank, not by a threshold")
    mask = right["mask"]
    z, next_mask = step(seen["bfloat16"], mask.shape)
    wanted = array(right["bfloat16"][1], mask.shape, "bool", "next_mask")
    differ = int((next_mask.sum(axis=1) != wanted.sum(axis=1)).sum())
    expect(differ == 0, "exact counts also with logits in bfloat16", f"another number in {differ} of {len(mask)} rows",
           "the product must not take the type of the logits")
    expect(likely_codes(z, mask, right["allowed"]).mean() > 0.9, "likely codes with logits in bfloat16", "others")
    expect((next_mask & right["surest"]).sum() < 0.1 * next_mask.sum(), "the least confident hidden, with logits in "
           "bfloat16", "others")


@probe("inpainting", 1)
def impossible_arguments(inpainting, draw):
    """An impossible ratio or sampling is a ValueError that names it, and any callable will do as transformer."""
    T, V = draw.integer(7, 11), draw.integer(5, 9)
    logits = draw.alike(*[1] * T, V=V)
    mask, z = draw.mask(T, T, 3, 1), draw.tokens(3, T, V=V)
    cases = draw.shuffled([
        ("", 1.0, "categorical"), ("", 1e-3, "argmax"), ("", 0.5, "categorical"), ("ratio", 0.0, "categorical"),
        ("ratio", 1 + 1e-3, "argmax"), ("ratio", -0.5, "categorical"), ("ratio", 2.0, "categorical"),
        ("sampling", 0.5, "greedy"), ("sampling", 0.25, ""), ("sampling", 1.0, "gumbel")])
    return {"names": [name for name, _, _ in cases], "calls": [attempt(
        inpainting, lambda tokens: logits.expand(len(tokens), -1, -1).clone(), z, mask, ratio, mask.sum(dim=1),
        gamma=lambda r: 0.5 + 0 * r, choice_temperature=1.0, mask_token_id=V, sampling=sampling,
        **draw.one_of([{}, {"generator": draw.generator()}])) for _, ratio, sampling in cases]}


@impossible_arguments.judge
def judge_impossible(seen, right):
    for name, found, wanted in zip(right["names"], seen["calls"], right["calls"], strict=True):
        if name:
            refused(found, name, f"a {name} that the contract excludes")
            continue
        possible(found)
        z = wanted["value"][0]
        expect((step(found["value"], z.shape)[0] == z).all(), "the one likely code at hidden places, for a legal call",
               "others")


def possible(found):
    """A legal call must give a value."""
    if "value" not in found:
        raise Wrong("a result for a legal call, with a plain function as transformer",
                    f"a {exception_name(found['error'])}", "only impossible arguments are refused, and the "
                    "transformer may be any callable")
