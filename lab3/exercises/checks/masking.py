"""The checks of notebook 02: sample_mask, masked_forward and mvtm_loss.

In: the function that was written. Out: nothing where it is right, `CheckFailed` where it is not. The counts of masks
are exact and their shares lie within bounds that chance keeps; a stub replaces the transformer; losses are those
of logits whose cross-entropy has a closed form.
"""

import math

import numpy as np
import torch

from lab3.exercises.checks.tools import (
    FLAT,
    INVERTED,
    NEAR,
    ROWS,
    SAME_SHARE,
    Stub,
    V,
    as_text,
    expect,
    follows_generator,
    is_pair,
    is_tensor,
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

# sample_mask


def _mask(sample_mask, batch, tokens, *args, **options):
    options = {"generator": rng(), "device": "cpu"} | options
    return is_tensor(sample_mask(batch, tokens, *args, **options), (batch, tokens), torch.bool, "the mask")


def mask_shape(sample_mask):
    """The mask is a bool tensor (batch, tokens), with and without a ratio."""
    for prob_type in ("topk", "bernoulli"):
        for batch, tokens, ratio in ((3, 8, 0.5), (1, 1, None), (5, 4, None)):
            _mask(sample_mask, batch, tokens, prob_type, ratio)


def mask_counts(sample_mask):
    """With topk each row hides exactly max(1, ceil(ratio * tokens)) tokens."""
    for ratio, count, down, cosine in (
            (0.7, 180, 179, 117), (0.3, 77, 76, 229), (0.5, 128, 128, 182), (1.0, 256, 256, 1), (0.0, 1, 0, 256)):
        found = _mask(sample_mask, 4, 256, "topk", ratio).sum(dim=1).tolist()
        otherwise = FLAT if sum(found) == 4 * count else ""
        if len(set(found)) > 1 and ratio == 0:
            otherwise = "a ratio of 0 is a ratio: only None means that one is drawn"
        elif max(found) < count and len(set(found)) > 1:
            otherwise = "rows hide too few: a place is drawn more than once"
        nearest = ratio == 0.7 and _mask(sample_mask, 1, 256, "topk", 0.3).sum() == 77
        reason = suspect(found, [
            ([0] * 4, "at least one token must be hidden, also at ratio 0"),
            ([256 - count] * 4, INVERTED),
            ([down] * 4, "the product is rounded to the nearest, not up" if nearest else
             "the product is rounded down, not up"),
            ([count + 1] * 4, "one too many where the product is a whole number: rounding up leaves it as it is"),
            ([255] * 4, "at ratio 1 every token is hidden"),
            ([cosine] * 4, "gamma belongs to decoding: ratio itself is the share hidden"),
        ], otherwise)
        expect(found == [count] * 4, f"{count} of 256 tokens hidden in each row for ratio {ratio}", as_text(found),
               reason)
    for dtype in (torch.float32, torch.float64):
        ratio = torch.tensor([0.1, 0.5, 0.9], dtype=dtype)
        with untouched(ratio=ratio):
            found = _mask(sample_mask, 3, 64, "topk", ratio).sum(dim=1).tolist()
        expect(found == [7, 32, 58], "7, 32, 58 of 64 hidden for the ratios 0.1, 0.5, 0.9 of three rows",
               as_text(found), "a tensor ratio holds a ratio for each row")


def mask_products(sample_mask):
    """The product ratio * tokens is taken in float64."""
    for ratio, tokens, count in ((0.54, 100, 54), (0.5 + 1e-8, 256, 129)):
        found = _mask(sample_mask, 2, tokens, ratio=ratio).sum(dim=1).tolist()
        early = int(_mask(sample_mask, 1, 100, ratio=0.05).sum()) == 6  # 0.05 in float32 is a little more than 0.05
        expect(found == [count] * 2, f"{count} hidden for ratio {ratio!r} of {tokens}", as_text(found),
               "the ratio is rounded to float32 before it becomes float64: make a float64 tensor of it at once" if early
               else "float32 holds seven digits: before rounding up, the product needs float64")


def mask_ratio_a_row(sample_mask):
    """Without a ratio, one is drawn for each row, from U(0, 1)."""
    one = "one ratio was drawn for the whole batch: draw a ratio for each row"
    counts = set(_mask(sample_mask, 64, 256).sum(dim=1).tolist())
    expect(len(counts) > 1, "rows of a batch of 64 hide different numbers of tokens",
           f"all 64 rows hide {min(counts)}", one)
    for prob_type in ("topk", "bernoulli"):
        shares, again = (_mask(sample_mask, ROWS, 64, prob_type, generator=rng(n)).double().mean(dim=1) for n in (0, 1))
        below = [(shares <= level).double().mean().item() for level in (0.25, 0.5, 0.75)]
        same_share = abs(shares.mean() - again.mean()) < 0.05
        reason = (SAME_SHARE if same_share else one) if shares.std() < 0.1 else ""
        if abs(shares.mean() - 2 / math.pi) < 0.02:
            reason = "the ratio went through gamma: gamma belongs to decoding"
        expect(np.allclose(below, [0.25, 0.5, 0.75], rtol=0, atol=NEAR + 0.02),
               f"{prob_type}: a quarter of the rows hides up to 0.25, half up to 0.5, three quarters up to 0.75",
               f"shares {as_text([round(value, 3) for value in below])} of the rows", reason)


def mask_places(sample_mask):
    """The hidden places are uniformly random, and each row has its own."""
    mask = _mask(sample_mask, ROWS, 8, "topk", 0.5).double()
    alike = (mask[1:] == mask[:-1]).all(dim=1).double().mean().item()
    expect(alike < 0.2, "rows with places of their own", f"{alike:.0%} of the rows equal the row before",
           "the places are drawn once for the whole batch")
    share = mask.mean(dim=0)
    expect(bool(((share - 0.5).abs() < NEAR).all()), "each of 8 places hidden in half of the rows",
           as_text([round(value, 2) for value in share.tolist()]), "the places are not drawn uniformly")
    _pairs(mask, 3 / 14, "the places of a row hang together")


def _pairs(mask, share, reason):
    pairs = (mask.T @ mask / len(mask))[~torch.eye(8, dtype=torch.bool)]
    expect(bool(((pairs - share).abs() < NEAR).all()),
           f"any two of 8 places hidden together in {share:.2f} of the rows",
           f"{pairs.min():.2f} to {pairs.max():.2f}", reason)


def mask_bernoulli(sample_mask):
    """With bernoulli each token is hidden on its own, with probability ratio."""
    mask = _mask(sample_mask, ROWS, 8, "bernoulli", 0.3).double()
    expect(len(set(mask.sum(dim=1).tolist())) > 1, "numbers that differ from row to row",
           "every row hides the same number", "bernoulli has no fixed number: each token is drawn on its own")
    share = mask.mean().item()
    expect(abs(share - 0.3) < NEAR, "three tenths hidden for ratio 0.3", f"{share:.2f}",
           INVERTED if abs(share - 0.7) < NEAR else "")
    _pairs(mask, 0.09, "the tokens of a row are not drawn on their own")
    rows = _mask(sample_mask, 3, ROWS, "bernoulli", torch.tensor([0.0, 0.3, 1.0])).double().mean(dim=1)
    expect(bool(((rows - torch.tensor([0.0, 0.3, 1.0])).abs() < NEAR).all()),
           "shares 0, 0.3, 1 for such a tensor ratio",
           as_text([round(value, 2) for value in rows.tolist()]), "a tensor ratio holds a ratio for each row")


def mask_generator(sample_mask):
    """The generator alone decides the mask."""
    for prob_type, ratio in (("topk", None), ("topk", 0.5), ("bernoulli", 0.5)):
        follows_generator(lambda generator: _mask(sample_mask, 6, 64, prob_type, ratio, generator=generator))


def mask_refuses(sample_mask):
    """Impossible arguments are refused."""
    refuses("prob_type", "'other'", sample_mask, 2, 8, "other")
    for prob_type in ("topk", "bernoulli"):
        for ratio in (-0.1, 1.1, torch.tensor([0.5, 1.5])):
            refuses("ratio", ratio, sample_mask, 2, 8, prob_type, ratio)


# masked_forward


def _forward(masked_forward):
    z, mask = randint(3, 6), row_mask(6, 2, 5, 0)
    stub = Stub(torch.randn(6, V + 1))
    stub.logits.requires_grad_()
    with untouched(z_indices=z, mask=mask):
        logits, targets = is_pair(masked_forward(stub, z, mask, V), "logits and targets")
    return z, mask, stub, logits, targets


def forward_hides(masked_forward):
    """The transformer sees the mask token where the mask is True, and the real tokens elsewhere."""
    z, mask, stub, *_ = _forward(masked_forward)
    expect(len(stub.seen) == 1, "one call of the transformer", f"{len(stub.seen)} calls")
    saw(stub.seen[0], z, mask)


def forward_logits(masked_forward):
    """The logits are the transformer's over the codes: the mask token's logit is dropped."""
    *_, stub, logits, _ = _forward(masked_forward)
    kept = isinstance(logits, torch.Tensor) and logits.shape == (3, 6, V + 1)
    expect(not kept, f"logits of shape (3, 6, {V})", f"shape (3, 6, {V + 1})",
           "the mask token's logit is kept: the model could predict the mask token")
    expect(getattr(logits, "shape", None) != (3, 6), "logits, then targets", "the other order",
           "logits and targets are exchanged: logits come first")
    is_tensor(logits, (3, 6, V), torch.float32, "the logits")
    whole = stub.logits.detach().repeat(3, 1, 1)
    reason = suspect(logits.detach(), [
        (whole[..., 1:], "a code's logit was dropped: the mask token's is the last"),
        (whole[..., :V].softmax(dim=-1), "a softmax was taken: logits are wanted"),
        (whole.softmax(dim=-1)[..., :V], "a softmax was taken: logits are wanted"),
        (whole[..., :V].log_softmax(dim=-1), "a log-softmax was taken: logits are wanted"),
    ])
    expect(torch.allclose(logits, whole[..., :V]), "the transformer's logits, but the last", "others", reason)
    expect(logits.requires_grad, "logits with a gradient", "logits without one",
           "they were detached, or made without one")


def forward_targets(masked_forward):
    """The targets are the real tokens."""
    z, mask, _, _, targets = _forward(masked_forward)
    one_hot = isinstance(targets, torch.Tensor) and targets.dim() == 3
    expect(not one_hot, "targets (3, 6), token indices", "a tensor of rank 3", "one-hot targets: indices are wanted")
    is_tensor(targets, (3, 6), torch.long, "the targets")
    expect(torch.equal(targets, z), "the tokens given", as_text(targets[0].tolist()),
           "the targets are taken after the mask was laid on" if (targets[mask] == V).all() else "")


# mvtm_loss


def _peaked(heights, targets):
    """Logits (B, T, V), 0 but for `heights` (B, T) at the targets; each place's loss, ln(e^height + V - 1) - height."""
    logits = torch.zeros(*targets.shape, V).scatter(2, targets[..., None], heights[..., None])
    return logits, (heights.exp() + V - 1).log() - heights


def loss_of_zeros(mvtm_loss):
    """Where all logits are alike the loss is ln 10, for 10 codes at 6 places."""
    logits, targets, every = torch.zeros(4, 6, V), randint(4, 6), row_mask(6, 6, 6, 6, 6)
    for mask in (None, every):
        with untouched(logits=logits, targets=targets, mask=every):
            loss = mvtm_loss(logits, targets, mask)
        loss = is_tensor(loss, (), torch.float32, "the loss").item()
        positions = "the softmax runs over the positions: cross_entropy takes axis 1 of its logits as the classes"
        one_hot = "the softmax runs over the positions, and the targets are one-hot: cross_entropy takes indices"
        same(loss, math.log(V), [
            (math.log(6), positions), (0.6 * math.log(6), one_hot),
            (24 / 25 * math.log(V), "the sum is divided by one more than there are tokens"),
            (math.log(4), "the softmax runs over the batch"),
            (math.log(V + 1), "the mask token counts as a class"),
            (24 * math.log(V), "the losses are added, not averaged"), (6 * math.log(V), "each row's losses are added"),
            (-math.log(V), "the sign is wrong: minus log p"),
            (0.0, "the mask is inverted: True means hidden, and hidden tokens count"),
            (math.log2(V), "the logarithm is to base 2"),
        ], what="ln 10 = ")


PER_ROW = ("a mean of the rows' means, which weighs a token by how few its row hides: that bounds the likelihood, but "
           "here all hidden tokens count alike")


def loss_over_hidden(mvtm_loss):
    """It is the mean over the hidden tokens of the whole batch, or over all tokens where mask is None."""
    mask, targets, heights = row_mask(6, 1, 4, 0), randint(3, 6), torch.linspace(-1, 4, 18).view(3, 6)
    logits, each = _peaked(heights, targets)
    rows = [each[b][mask[b]].mean() for b in range(2)]
    p = logits.softmax(dim=-1)
    twice = ((p.exp().sum(dim=-1)).log() - p.amax(dim=-1))[mask].mean()
    with untouched(logits=logits, targets=targets, mask=mask):
        loss, whole = mvtm_loss(logits, targets, mask).item(), mvtm_loss(logits, targets).item()
    right = each[mask].mean().item()
    same(loss, right, [
        (each.mean().item(), "the mean runs over all tokens, although a mask is given"),
        (each[mask].sum().item() / 18, "the sum over hidden tokens is divided by the number of all tokens"),
        (each[mask].sum().item() / 3, "the sum over hidden tokens is divided by the batch size"),
        (each[mask].sum().item(), "the losses are added, not averaged"),
        (each[mask & (targets != 0)].mean().item(), "token 0 is left out: it is a code like the others"),
        ((each[mask].sum().item() + int((~mask).sum()) * math.log(V)) / 18,
         "known tokens count too, with all logits alike: the mean is over hidden tokens alone"),
        (each[~mask].mean().item(), "the mask is inverted: True means hidden, and hidden tokens count"),
        (sum(rows).item() / 2, PER_ROW), (sum(rows).item() / 3, PER_ROW),
        (twice.item(), "a softmax was taken before: cross-entropy takes logits"),
    ], "logits and targets no longer belong together: were axes joined in another order?",
    "the mean over hidden tokens ")
    same(whole, each.mean().item(), what="without a mask, the mean over all tokens ")


def loss_gradient(mvtm_loss):
    """The gradient reaches hidden tokens alone."""
    mask, targets = row_mask(6, 1, 4, 0), randint(3, 6)
    logits = torch.randn(3, 6, V, requires_grad=True)
    loss = mvtm_loss(logits, targets, mask)
    expect(loss.requires_grad, "a loss with a gradient", "one without", "it was detached, or turned into a number")
    loss.backward()
    reached = logits.grad.abs().sum(dim=-1) > 0
    expect(torch.equal(reached, mask), "gradients at hidden places alone",
           f"at {int(reached.sum())} places, not {int(mask.sum())}")


def loss_of_nothing(mvtm_loss):
    """Where no token is hidden it is 0, with a gradient."""
    logits = torch.randn(3, 6, V, requires_grad=True)
    loss = mvtm_loss(logits, randint(3, 6), row_mask(6, 0, 0, 0))
    is_tensor(loss, (), torch.float32, "the loss")
    expect(loss.item() == 0, "0", str(loss.item()), "a mean over no tokens is NaN: treat that case on its own"
           if loss.isnan() else "")
    expect(loss.requires_grad, "a loss with a gradient", "one without",
           "backward would fail on it: make the 0 from the logits")
    loss.backward()
    expect(logits.grad is None or not logits.grad.any(), "a gradient of 0", "another")


def loss_smoothing(mvtm_loss):
    """Label smoothing means what it means in F.cross_entropy."""
    targets = randint(3, 6)
    logits, plain = _peaked(torch.full((3, 6), 3.0), targets)
    smooth = mvtm_loss(logits, targets, row_mask(6, 1, 4, 6), 0.2).item()
    same(smooth, (plain + 0.2 * 3.0 * (V - 1) / V).mean().item(), [
        (plain.mean().item(), "label_smoothing is not used"),
        ((plain + 0.2 * 3.0).mean().item(), "the target's own share of the smoothing is missing")])


def loss_bfloat16(mvtm_loss):
    """Large logits and bfloat16 do no harm."""
    logits, targets = torch.zeros(2, 6, V), torch.zeros(2, 6, dtype=torch.long)
    logits[..., 1] = 1000
    for one in (logits, logits.bfloat16()):
        found = float(mvtm_loss(one, targets, row_mask(6, 3, 3)))
        expect(abs(found - 1000) < 5, "1000 for a logit 1000 above the target's", str(found),
               "the logarithm of a softmax overflows or is cut: take log-softmax or cross-entropy at once")


CHECKS = {
    "sample_mask": (
        takes(lambda batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None: None), mask_shape,
        mask_counts, mask_ratio_a_row, mask_places, mask_bernoulli, mask_generator, mask_products, mask_refuses),
    "masked_forward": (
        takes(lambda transformer, z_indices, mask, mask_token_id: None), forward_hides, forward_logits,
        forward_targets),
    "mvtm_loss": (
        takes(lambda logits, targets, mask=None, label_smoothing=0.0: None), loss_of_zeros, loss_over_hidden,
        loss_gradient, loss_of_nothing, loss_bfloat16, loss_smoothing),
}
