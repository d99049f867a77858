"""The probes of notebook 02: sample_mask, masked_forward and mvtm_loss.

In: the function. Out: `Wrong` where counts, shares, what the transformer saw, logits or losses are not the contract's.
Shares of random draws have bounds that a right answer leaves by chance less than once in 10^9 runs.
"""

import math

import numpy as np

from grader.probes.inside import F, Stub, attempt, random, torch
from grader.probes.probe import (
    SEEDED,
    array,
    case,
    each,
    every,
    expect,
    follows_state,
    likely,
    near,
    probe,
    refusals,
    unchanged,
)
from lab3.exercises.checks.tools import FLAT, INVERTED, SAME_SHARE

OWN = "places are drawn once for the whole batch: each row has its own"


# sample_mask


def _mask(seen, shape):
    return array(seen, shape, "bool", "the mask")


def _counts(seen, right, case=""):
    """Rows of `seen` must hide as many tokens as those of `right`."""
    found, wanted, tokens = _mask(seen, right.shape).sum(axis=1), right.sum(axis=1), right.shape[1]
    reason = likely(found, [
        (tokens - wanted, INVERTED),
        (np.maximum(wanted - 1, 0), "at least one token must be hidden" if (wanted == 1).all() else
         "the product is rounded down, not up")])
    if found.sum() == wanted.sum() and not reason:
        reason = FLAT
    expect((found == wanted).all(), f"max(1, ceil(ratio * tokens)) of {tokens} tokens hidden in each row{case}",
           f"another number in {int((found != wanted).sum())} of {len(found)} rows", reason)


def _near(found, wanted, most, expected, likely=""):
    far = float(np.abs(np.asarray(found) - wanted).max())
    expect(far <= most, expected, f"shares that differ by up to {far:.2f}", likely)


@probe("sample_mask", 3, every(_counts, ", for one ratio for all rows"))
def counts(sample_mask, draw):
    """With topk, the default, each row hides exactly max(1, ceil(ratio * tokens)) tokens."""
    found, ratios = [], [(0.0, 40), (1.0, draw.integer(20, 60)), (0.5, 2 * draw.integer(10, 30)), (0.25, 44)]
    for share in (0.1, 0.25, 0.45, 0.55, 0.75, 0.9):  # of a token, beside whole ones
        tokens = draw.integer(30, 70)
        ratios.append(((draw.integer(0, tokens - 1) + share) / tokens, tokens))
    for number, (ratio, tokens) in enumerate(draw.shuffled(ratios)):
        batch = draw.one_of([1, 2, 5])
        if number % 2:
            found.append(sample_mask(batch, tokens, "topk", ratio, generator=draw.generator(), device="cpu"))
        else:
            found.append(sample_mask(batch, tokens, ratio=ratio))
    return found


@probe("sample_mask", 2, every(_counts, ", for a ratio for each row", key="mask"), every(unchanged, key="kept"))
def ratio_for_each_row(sample_mask, draw):
    """A tensor ratio (batch,) holds a ratio for each row, and stays as it is."""
    found = []
    for dtype in (torch.float32, torch.float64):
        for batch in (1, draw.integer(4, 6)):
            tokens = draw.integer(30, 60)
            places = [draw.integer(0, tokens - 1) + draw.number(0.1, 0.9) for _ in range(batch)]
            ratio = torch.tensor([place / tokens for place in places], dtype=dtype)
            if batch > 1:
                ratio[0], ratio[1] = 0, 1
            mask = sample_mask(batch, tokens, prob_type="topk", ratio=ratio, generator=draw.generator())
            found.append({"mask": mask, "kept": {"ratio": ratio}})
    return found


@probe("sample_mask")
def products_in_float64(sample_mask, draw):
    """The product ratio * tokens is taken in float64."""
    cases = []
    while len(cases) < 6:
        tokens = draw.integer(100, 300)
        whole = len(cases) % 2 == 0
        ratio = draw.integer(1, 99) / 100 if whole else (draw.integer(64, tokens - 1) + 5e-6) / tokens
        single, product = np.float32(ratio), ratio * tokens
        wrong = [math.ceil(single * np.float32(tokens)), math.ceil(float(single) * tokens)]
        clear = product == round(product) if whole else 3e-6 < product - math.floor(product) < 7e-6
        if clear and math.ceil(product) not in wrong:
            cases.append((ratio, tokens))
    while len(cases) < 9:  # a float32 tensor of ratios, whose exact products are just above whole numbers
        tokens = draw.integer(100, 300)
        ratio = torch.tensor((draw.integer(64, tokens - 1) + 5e-6) / tokens)
        product = ratio.item() * tokens
        if 2e-6 < product - math.floor(product) < 7e-6 and math.ceil(ratio * tokens) != math.ceil(product):
            cases.append((ratio.expand(2), tokens))
    return [sample_mask(2, tokens, ratio=ratio) for ratio, tokens in cases]


@products_in_float64.judge_each
def judge_products_in_float64(seen, right):
    found, wanted = _mask(seen, right.shape).sum(axis=1), right.sum(axis=1)
    expect((found == wanted).all(), "products that are whole, or just above a whole number, rounded up in float64",
           "one token more or less" if (abs(found - wanted) <= 1).all() else "other counts",
           "float32 holds seven digits: before rounding up, the product needs float64")


@probe("sample_mask", weight=3)
def a_ratio_drawn_for_each_row(sample_mask, draw):
    """Without a ratio one is drawn for each row, from U(0, 1)."""
    found = {}
    for prob_type in ("topk", "bernoulli"):
        generator = draw.generator()
        found[prob_type] = [sample_mask(32, 64, prob_type, generator=generator) for _ in range(64)]
    found["topk"][0] = sample_mask(32, 64)
    return found


@a_ratio_drawn_for_each_row.judge
def judge_a_ratio_drawn_for_each_row(seen, right):
    levels = np.arange(1, 65)
    for prob_type, below in (("topk", levels / 64), ("bernoulli", (levels + 1) / 65)):
        hidden = np.stack([_mask(one, (32, 64)).sum(axis=1) for one, _ in each(seen[prob_type], right[prob_type])])
        apart = abs(hidden[:, ::2] - hidden[:, 1::2]) > 6  # a row and its neighbour
        expect(apart.mean() > 0.5, f"rows of a batch that hide different shares, with {prob_type}",
               "rows that hide nearly the same share",
               "one ratio was drawn for the whole batch: draw one for each row" if hidden.mean(axis=1).std() > 6 else
               SAME_SHARE)
        for rows, most, text in ((hidden.ravel(), 0.08, "all rows"), (hidden[:, 0], 0.45, "the first row of each call"),
                                 (hidden[:, -1], 0.45, "the last row of each call")):
            found = (rows[:, None] <= levels).mean(axis=0)
            _near(found, below, most, f"shares that are uniform over (0, 1) in {text}, with {prob_type}",
                  "ratio itself is the share hidden: gamma belongs to decoding" if text == "all rows" else "")


@probe("sample_mask", weight=2)
def uniform_places(sample_mask, draw):
    """With topk, every choice of places is equally likely, in each row on its own."""
    found = [sample_mask(2048, 6, "topk", 0.5, generator=draw.generator()), sample_mask(2048, 6, "topk", 0.5)]
    return {"masks": found, "large": [sample_mask(3, 64, ratio=0.5) for _ in range(2)],
            "single": [sample_mask(1, 64, ratio=0.5) for _ in range(2)]}


@uniform_places.judge
def judge_uniform_places(seen, right):
    masks = [_mask(one, (2048, 6)) for one in seen["masks"]]
    large, single = ([_mask(one, (B, 64)) for one in seen[name]] for B, name in ((3, "large"), (1, "single")))
    both = np.concatenate(masks)
    expect((both.sum(axis=1) == 3).all() and all((one.sum(axis=1) == 32).all() for one in large + single),
           "half of the tokens hidden in each row for ratio 0.5", "others")
    for one in masks:
        alike = (one[1:] == one[:-1]).all(axis=1)
        expect(alike.mean() < 0.25, "rows with places of their own", "rows that are alike", OWN)
    expect(not any(np.array_equal(*two) for two in (masks, large, single)), "other places at each call",
           "the same places again", SEEDED)
    expect(not (large[0][1:] == large[0][:-1]).all(axis=1).any(), "rows with places of their own", "rows alike", OWN)
    kinds, shares = np.unique(both @ (1 << np.arange(6)), return_counts=True)
    expect(len(kinds) == 20, "all 20 choices of 3 of 6 places, in 4096 rows", f"{len(kinds)} of them",
           "the places of a row hang together")
    _near(shares / len(both), 0.05, 0.03, "each choice of 3 of 6 places in a twentieth of the rows",
          "the places are not drawn uniformly")


@probe("sample_mask", weight=2)
def bernoulli(sample_mask, draw):
    """With bernoulli each token is hidden on its own, with probability ratio."""
    ratio = draw.one_of([0.2, 0.3, 0.7, 0.8]) + draw.number(-0.02, 0.02)
    rows = torch.tensor([0.0, draw.number(0.2, 0.3), draw.number(0.7, 0.8), 1.0])[draw.shuffled(range(4))]
    generator = draw.generator()
    return {
        "ratio": ratio, "rows": rows,
        "mask": sample_mask(4096, 6, "bernoulli", ratio, generator=generator),
        "by_row": sample_mask(4, 2048, prob_type="bernoulli", ratio=rows, generator=generator),
        "none": sample_mask(32, 16, "bernoulli", 0.0), "all": sample_mask(32, 16, "bernoulli", 1.0),
    }


@bernoulli.judge
def judge_bernoulli(seen, right):
    mask, r = _mask(seen["mask"], (4096, 6)), right["ratio"]
    hidden = mask.sum(axis=1)
    expect(len(np.unique(hidden)) > 1, "numbers that differ from row to row", "the same number in every row",
           "bernoulli has no fixed number: each token is drawn on its own")
    _near(mask.mean(), r, 0.06, "the share ratio hidden", INVERTED if abs(mask.mean() - 1 + r) < 0.06 else "")
    _near(mask.mean(axis=0), r, 0.06, "the share ratio hidden at each place")
    alike = (mask[1:] == mask[:-1]).all(axis=1)
    expect(alike.mean() < 0.3, "rows with places of their own", "rows that are alike", OWN)
    pairs = (mask.T.astype(float) @ mask / len(mask))[~np.eye(6, dtype=bool)]
    alone = "tokens are not drawn on their own"
    _near(pairs, r * r, 0.06, "two tokens hidden together with probability ratio^2", alone)
    number = np.bincount(hidden, minlength=7) / len(mask)
    _near(number, [math.comb(6, k) * r**k * (1 - r)**(6 - k) for k in range(7)], 0.06, "a binomial number in each row",
          alone)
    _near(_mask(seen["by_row"], (4, 2048)).mean(axis=1), right["rows"], 0.09, "each row's own ratio hidden in it",
          "a tensor ratio holds a ratio for each row")
    expect(_mask(seen["none"], (32, 16)).sum() <= 2, "nothing hidden for ratio 0", "hidden tokens",
           "the least number of one is for topk alone")
    expect((~_mask(seen["all"], (32, 16))).sum() <= 2, "everything hidden for ratio 1", "tokens left")


@probe("sample_mask", weight=2)
def follows_generator(sample_mask, draw):
    """The generator alone decides the mask."""
    found = []
    for options in ({}, {"ratio": 0.5}, {"prob_type": "bernoulli"}, {"prob_type": "bernoulli", "ratio": 0.5},
                    {"ratio": torch.full((6,), 0.5), "device": torch.device("cpu")}):
        generator = draw.generator()
        state, masks = generator.get_state(), []
        for kind in ("first", "later", "again", "other"):  # `later` goes on with the generator of `first`
            for seed in (torch.manual_seed, np.random.seed, random.seed):
                seed(draw.integer(0, 2**31))
            if kind == "again":
                generator.set_state(state)
            masks.append(sample_mask(6, 64, **options, generator=draw.generator() if kind == "other" else generator))
        found.append(masks)
    return found


@follows_generator.judge_each
def judge_follows_generator(seen, right):
    first, later, again, other = (_mask(one, (6, 64)) for one in seen)
    follows_state(first, again, later, other, "mask")


@probe("sample_mask", 1, refusals({"prob_type": "an unknown one", "ratio": "one outside [0, 1]"}, _counts))
def refuses(sample_mask, draw):
    """An unknown prob_type and a ratio outside [0, 1] are ValueErrors, and nothing else is."""
    low, high = -draw.number(0.1, 2), 1 + draw.number(0.1, 2)
    calls = [("", "topk", 0.0), ("", "topk", 1.0), ("", "topk", torch.tensor([0.0, 0.31, 1.0])),
             ("", "bernoulli", 1.0), ("prob_type", draw.one_of(["uniform", "gumbel", "random"])),
             ("prob_type", draw.one_of(["cosine", "normal", "none"]), 0.5)]
    for prob_type in ("topk", "bernoulli"):
        calls += [("ratio", prob_type, ratio) for ratio in (
            low, high, torch.tensor(draw.shuffled([0.5, 0.2, high])), torch.tensor(draw.shuffled([0.5, 0.2, low])))]
    return [{"refused": name, **attempt(sample_mask, 3, 20, *arguments, generator=draw.generator())}
            for name, *arguments in draw.shuffled(calls)]


# masked_forward


@probe("masked_forward", weight=8)
def hides(masked_forward, draw):
    """The transformer sees mask_token_id where the mask is True, and the real tokens elsewhere."""
    found = []
    for B in (1, 4):
        V, T = draw.integer(5, 9), draw.integer(6, 9)
        z_indices, mask = draw.tokens(B, T, V=V), draw.mask(T, *(draw.integer(1, T - 1) for _ in range(B)))
        if B > 1:
            mask[0], mask[1] = False, True
        stub = Stub(draw.normal(T, V + 1))
        masked_forward(stub, z_indices.clone(), mask.clone(), V)
        found.append({"seen": torch.cat(stub.seen), "z_indices": z_indices, "mask": mask})
    return found


@hides.judge_each
def judge_hides(seen, right):
    one, wanted, z, mask = seen["seen"], right["seen"], right["z_indices"], right["mask"]
    calls = max(1, len(one) // len(wanted)) if isinstance(one, np.ndarray) else 1
    one = array(one, (calls * len(wanted), wanted.shape[1]), "int", "what the transformer sees")
    first, reason = one[:len(wanted)], ""
    if np.array_equal(first, z):
        reason = "the tokens go in without the mask: the transformer would see what it has to predict"
    elif np.array_equal(first != z, ~mask):
        reason = INVERTED
    elif np.array_equal(first[~mask], z[~mask]):
        reason = "hidden places must hold mask_token_id"
    expect(np.array_equal(one, np.tile(wanted, (calls, 1))), "mask_token_id at hidden places, the tokens elsewhere",
           f"{int((first != wanted).sum())} of {wanted.size} places that hold something else", reason)


@probe("masked_forward", weight=2)
def codes_logits(masked_forward, draw):
    """The logits are the transformer's own, without the mask token's."""
    calls = []
    for B in (draw.integer(2, 4), 1):
        T, V = draw.integer(5, 7), draw.integer(8, 10)
        logits = draw.normal(T, V + 1, scale=3)
        calls.append({"given": logits.expand(B, T, V + 1), "logits": masked_forward(
            Stub(logits), draw.tokens(B, T, V=V), draw.mask(T, *[2] * B), V)[0]})
    return calls


@codes_logits.judge_each
def judge_codes_logits(seen, right):
    given, wanted, found = right["given"], right["logits"], seen["logits"]
    kept = isinstance(found, np.ndarray) and found.shape == given.shape
    expect(not kept, f"logits of shape {wanted.shape}", f"shape {given.shape}",
           "the mask token's logit is kept: the model could predict the mask token")
    found = array(found, wanted.shape, "float", "logits")
    softmax = np.allclose(np.exp(found).sum(axis=-1), 1, atol=1e-4) or (found >= 0).all()
    near(found, wanted, "the transformer's logits, but the last", [
        (given[..., 1:], "a code's logit was dropped: the mask token's is the last")],
        "a softmax or log-softmax was taken: logits are wanted" if softmax else "", rtol=1e-4)


@probe("masked_forward", weight=1, guessable=True)
def real_targets(masked_forward, draw):
    """The targets are the real tokens, also at hidden places."""
    B, T, V = draw.integer(2, 4), draw.integer(5, 7), draw.integer(8, 10)
    z_indices, mask = draw.tokens(B, T, V=V), draw.mask(T, *[draw.integer(1, 4) for _ in range(B)])
    _, targets = masked_forward(Stub(draw.normal(T, V + 1)), z_indices, mask, V)
    return {"targets": targets, "mask_token_id": V, "mask": mask}


@real_targets.judge
def judge_real_targets(seen, right):
    wanted, mask = right["targets"], right["mask"]
    one_hot = isinstance(seen["targets"], np.ndarray) and seen["targets"].ndim == 3
    expect(not one_hot, "targets (B, T), token indices", "a tensor of rank 3", "one-hot targets: indices are wanted")
    found = array(seen["targets"], wanted.shape, "int", "targets")
    expect(found.dtype == np.int64, "targets of type torch.long", str(found.dtype))
    masked = (found[mask] == right["mask_token_id"]).all()
    expect(np.array_equal(found, wanted), "the tokens that were given", "others",
           "the targets are taken after the mask was laid on" if masked else "")


@probe("masked_forward", 1, unchanged, guessable=True)
def forward_inputs(masked_forward, draw):
    """It changes neither z_indices nor the mask."""
    V, z_indices, mask = 9, draw.tokens(3, 6, V=9), draw.mask(6, 2, 5, 3)
    masked_forward(Stub(draw.normal(6, V + 1)), z_indices, mask, V)
    return {"z_indices": z_indices, "mask": mask}


@probe("masked_forward", weight=2)
def gradients(masked_forward, draw):
    """Gradients go through the logits to the transformer."""
    B, T, V = 2, draw.integer(4, 6), draw.integer(5, 8)
    stub = Stub(draw.normal(T, V + 1))
    stub.logits.requires_grad_()
    logits = masked_forward(stub, draw.tokens(B, T, V=V), draw.mask(T, 1, 3), V)[0][..., :V]
    if logits.requires_grad:
        (logits * draw.normal(B, T, V)).sum().backward()
    return stub.logits.grad


@gradients.judge
def judge_gradients(seen, right):
    likely = "the logits were detached, or made without gradients"
    expect(seen is not None, "a gradient of the transformer's logits", "none", likely)
    seen = array(seen, right.shape, "float", "the gradient")
    expect(bool(seen.any()), "a gradient of the transformer's logits", "zeros", likely)
    near(seen, right, "the gradient of the codes' logits", atol=1e-4)


@probe("masked_forward")
def any_transformer(masked_forward, draw):
    """Any callable is a transformer, also one that gives bfloat16."""
    V, T, B, found = 8, 5, 3, []
    table = draw.normal(V + 1, V + 1, scale=2)
    for dtype in (torch.float32, torch.bfloat16):
        z_indices, mask = draw.tokens(B, T, V=V), draw.mask(T, *[2] * B)
        logits, targets = masked_forward(lambda z: F.embedding(z, table).to(dtype), z_indices, mask, V)
        found.append({"logits": logits, "targets": targets})
    return found


@any_transformer.judge_each
def judge_any_transformer(seen, right):
    near(seen["logits"], right["logits"], "the logits that the transformer gives for the masked tokens", rtol=0.02,
         atol=0.02, what="logits")
    array(seen["targets"], right["targets"].shape, "int", "targets")


# mvtm_loss

AXIS = "the softmax runs over the positions: cross_entropy takes axis 1 of its logits as the classes"
ADDED = "the losses are added, not averaged"
ROWS = "a mean of the rows' means: all hidden tokens count alike"


def _loss(key, expected, suspects=(), **options):
    return case(key, f"the mean cross-entropy {expected}", suspects, what="the loss", **options)


@probe("mvtm_loss", 3, _loss("loss", "over the codes", [
    ("positions", f"{AXIS} (and the targets are one-hot)"),
    ("twice", "a softmax was taken before: cross-entropy takes logits"),
    (lambda one: one["loss"] * one["B"] * one["T"], ADDED),
    (lambda one: one["loss"] * one["T"], "each row's losses are added"),
    (lambda one: -one["loss"], "the sign is wrong: minus log p"),
    (lambda one: one["loss"] / math.log(2), "the logarithm is to base 2")]),
    _loss("zeros", "over the codes, where all logits are alike", [
        (lambda one: math.log(one["T"]), AXIS), (lambda one: math.log(one["B"]), "the softmax runs over the batch"),
        (lambda one: one["zeros"] * one["B"] * one["T"], ADDED)]))
def over_the_codes(mvtm_loss, draw):
    """It is the mean cross-entropy over the codebook axis, of all tokens where there is no mask."""
    found = []
    for _ in range(3):
        B, T, V = draw.integer(2, 3), draw.integer(5, 7), draw.integer(9, 12)
        logits, targets = draw.normal(B, T, V, scale=2), draw.tokens(B, T, V=V)
        found.append({
            "loss": mvtm_loss(logits, targets), "zeros": mvtm_loss(torch.zeros(B, T, V), targets, None), "B": B, "T": T,
            "positions": F.cross_entropy(logits, F.one_hot(targets, V).float()),
            "twice": F.cross_entropy(logits.softmax(dim=-1).mT, targets)})
    return found


HIDDEN_ALONE = [
    ("all", "the mean runs over all tokens, although a mask is given"),
    ("known", f"{INVERTED}, and hidden tokens count"),
    (lambda one: one["loss"] * one["n"] / one["T"], "the sum is divided by the number of all tokens"),
    (lambda one: one["loss"] * one["n"], "the sum is divided by the batch size"),
    (lambda one: one["loss"] * one["n"] * one["B"], ADDED)]


@probe("mvtm_loss", 3, *(_loss(key, "of hidden tokens", HIDDEN_ALONE) for key in ("loss", "named")))
def over_hidden_tokens(mvtm_loss, draw):
    """With a mask, it is the mean over hidden tokens."""
    found = []
    for _ in range(3):
        B, T, V, n = draw.integer(2, 4), draw.integer(7, 9), draw.integer(10, 12), draw.integer(2, 4)
        logits, targets, mask = draw.normal(B, T, V, scale=2), draw.tokens(B, T, V=V), draw.mask(T, *[n] * B)
        logits[mask] += 2 * F.one_hot(targets, V)[mask]
        found.append({"loss": mvtm_loss(logits, targets, mask), "named": mvtm_loss(logits, targets, mask=mask),
                      "all": mvtm_loss(logits, targets), "known": mvtm_loss(logits, targets, ~mask),
                      "B": B, "T": T, "n": n})
    return found


@probe("mvtm_loss", 2, _loss("loss", "of all hidden tokens of the batch", [
    (lambda one: sum(one["rows"]) / 3, ROWS), (lambda one: sum(one["rows"]) / 4, ROWS)]))
def tokens_count_alike(mvtm_loss, draw):
    """All hidden tokens count alike, whatever the number of them in their row."""
    found = []
    for _ in range(3):
        T, V = draw.integer(8, 10), draw.integer(10, 12)
        targets, mask = draw.tokens(4, T, V=V), draw.mask(T, *draw.shuffled([0, 1, 3, 7]))
        easier = mask.sum(dim=1)[:, None, None] / 2  # the more a row hides
        logits = draw.normal(4, T, V) + easier * F.one_hot(targets, V)
        rows = [mvtm_loss(logits[b:b + 1], targets[b:b + 1], mask[b:b + 1]) for b in range(4) if mask[b].any()]
        found.append({"loss": mvtm_loss(logits, targets, mask), "rows": rows})
    return found


@probe("mvtm_loss", weight=2)
def nothing_hidden(mvtm_loss, draw):
    """Where no token is hidden the loss is 0, with a gradient of zeros, never NaN."""
    def call(n, options):
        logits = draw.normal(2, 5, 8, scale=2).requires_grad_()
        loss = mvtm_loss(logits, draw.tokens(2, 5, V=8), draw.mask(5, n, 0), **options)
        loss.backward()
        return {"loss": loss.detach(), "gradient": logits.grad}

    calls = [(0, {}), (0, {"label_smoothing": 0.1}), (0, {}), (2, {}), (1, {"label_smoothing": 0.1})]
    return [{"hidden": n, **attempt(call, n, options)} for n, options in draw.shuffled(calls)]


@nothing_hidden.judge_each
def judge_nothing_hidden(seen, right):
    some = right["hidden"] > 0
    where = "where tokens are hidden" if some else "where no token is hidden"
    expect("value" in seen, f"a loss with a gradient, {where}", "an exception in the call or in backward",
           "" if some else "backward fails on a new 0: make it from the logits")
    loss, gradient = array(seen["value"]["loss"], (), "float", "the loss"), seen["value"]["gradient"]
    moved = gradient is not None and bool(array(gradient, (2, 5, 8), "float", "the gradient").any())
    if some:
        expect(loss > 0, f"a loss above 0 {where}", "another number")
    else:
        near(loss, 0.0, f"0 {where}", atol=1e-6, otherwise="" if np.isfinite(loss) else
             "a mean over no tokens is NaN: treat that case on its own")
    expect(moved == some, f"a gradient{'' if some else ' of zeros'} {where}", "none" if some else "another")


@probe("mvtm_loss", 1, _loss("all", "with label_smoothing", [("plain", "label_smoothing is not used")]),
       _loss("hidden", "of hidden tokens with label_smoothing"),
       _loss("plain", "without smoothing, as label_smoothing is 0 by default"))
def smoothing(mvtm_loss, draw):
    """label_smoothing means what it means in torch.nn.functional.cross_entropy, and is 0 by default."""
    targets, mask, strength = draw.tokens(3, 6, V=9), draw.mask(6, 2, 2, 2), draw.number(0.2, 0.5)
    logits = draw.normal(3, 6, 9) + 4 * F.one_hot(targets, 9)
    return {"hidden": mvtm_loss(logits, targets, mask, label_smoothing=strength), "plain": mvtm_loss(logits, targets),
            "all": mvtm_loss(logits, targets, None, strength)}


@probe("mvtm_loss", weight=2)
def loss_gradient(mvtm_loss, draw):
    """It is a scalar with a gradient, which reaches hidden tokens alone."""
    T, V, found = draw.integer(6, 8), draw.integer(9, 11), []
    mask = draw.mask(T, 1, 4, 2)
    for given in (mask, None):
        logits = draw.normal(3, T, V).requires_grad_()
        loss = mvtm_loss(logits, draw.tokens(3, T, V=V), given)
        connected = isinstance(loss, torch.Tensor) and loss.requires_grad
        if connected:
            loss.sum().backward()
        found.append({"connected": connected, "loss": loss, "gradient": logits.grad,
                      "reached": mask if given is not None else torch.ones_like(mask)})
    return found


@loss_gradient.judge_each
def judge_loss_gradient(seen, right):
    expect(seen["connected"] is True, "a loss with a gradient", "one without",
           "it was detached, or turned into a number")
    array(seen["loss"], (), "float", "the loss")
    wanted, mask = right["gradient"], right["reached"]
    found = array(seen["gradient"], wanted.shape, "float", "the gradient")
    reached = (found != 0).any(axis=-1)
    expect(mask.all() or np.array_equal(reached, mask), "gradients at hidden places alone",
           f"at {int(reached.sum())} places, not {int(mask.sum())}")
    expect(bool(found.any()), "a gradient", "zeros")
    near(found, wanted, "the gradient of the mean cross-entropy")


CUT = "the logarithm of a softmax overflows or is cut: take log-softmax or cross-entropy at once"


@probe("mvtm_loss", 1, *(_loss(name, f"for {name}", otherwise=CUT if "large" in name else "", rtol=rtol)
                         for name, rtol in (("large logits", 1e-3), ("large logits in bfloat16", 0.03),
                                            ("logits in bfloat16", 0.03), ("autocast", 0.03))))
def large_logits(mvtm_loss, draw):
    """Large logits, bfloat16 and autocast do no harm."""
    found = {}
    logits, targets, mask = draw.normal(2, 6, 9), draw.tokens(2, 6, V=9), draw.mask(6, 3, 3)
    far = logits.scatter(2, ((targets + 1) % 9)[..., None], draw.number(500, 2000))
    for name, one in (("large logits", far), ("large logits in bfloat16", far.bfloat16()),
                      ("logits in bfloat16", logits.bfloat16())):
        found[name] = mvtm_loss(one, targets, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found["autocast"] = mvtm_loss(logits, targets, mask)
    return found


@probe("mvtm_loss", 1, _loss("masked", "for logits cut from a larger tensor"),
       _loss("all", "for logits cut from a larger tensor"), every(unchanged, key="inputs"))
def loss_inputs(mvtm_loss, draw):
    """It takes logits that were cut from a larger tensor, as masked_forward's are, and changes none of its inputs."""
    T, V = draw.integer(6, 8), draw.integer(9, 11)
    whole, targets, mask = draw.normal(3, T, V + 1, scale=2), draw.tokens(3, T, V=V), draw.mask(T, 1, 3, 5)
    logits = whole[..., :V]
    return {"masked": mvtm_loss(logits, targets, mask), "all": mvtm_loss(logits, targets),
            "inputs": {"logits": whole, "targets": targets, "mask": mask}}
