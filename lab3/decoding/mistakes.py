"""Common mistakes, each made with a right answer: what the answer is given, or what it gives, is changed.

In: the part of a decoding that a mistake concerns. Out: the same part with the mistake, made in a reference answer or
in a student's. Weights stay as they were trained.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lab3.exercises.fallbacks import TorchAttention

ATTENTION, GAMMA, STEP, LOOP = "attention", "gamma", "inpainting", "iterative_decode"  # the parts


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        name: what to call it.
        part: what it changes: `ATTENTION`, a class; `GAMMA`, a schedule; `STEP` and `LOOP`, those answers.
        change: `change(part, tokenizer)` gives the part with the mistake.
        says: what is wrong, a sentence.
        over_rows: whether it shows only where a batch has several rows.
    """

    name: str
    part: str
    change: Callable
    says: str
    over_rows: bool = False


class Unscaled(TorchAttention):
    """Scores that are not divided by the root of a head's width."""

    def mix(self, q, k, v, dropout=0.0):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)


class OverQueries(TorchAttention):
    """A softmax over the queries: with their roles exchanged, a key's weights add up to 1, not a query's."""

    def mix(self, q, k, v, dropout=0.0):
        unit = torch.eye(q.shape[-2], device=q.device, dtype=q.dtype).expand(*q.shape[:-1], -1)
        return super().mix(k, q, unit, dropout).transpose(-2, -1) @ v  # weights (B, H, keys, queries)


class _Answers:
    """Stands in for a transformer whose answer is known: gives the logits of all places."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, z_indices):
        return self.logits


def _asked(transformer, z_indices, mask, mask_token_id):
    """The logits of one pass with hidden tokens masked out, (B, T, V + 1)."""
    return transformer(z_indices.masked_fill(mask, mask_token_id))


def _noise_on_probabilities(inpainting, tokenizer):
    def wrong(transformer, z_indices, mask, ratio, n_hidden, *, choice_temperature, mask_token_id, generator=None,
              **options):
        logits = _asked(transformer, z_indices, mask, mask_token_id)
        z_predict, next_mask = inpainting(
            _Answers(logits), z_indices, mask, ratio, n_hidden, mask_token_id=mask_token_id,
            choice_temperature=choice_temperature, generator=generator, **options)
        p = logits[..., :mask_token_id].float().softmax(dim=-1).gather(2, z_predict[..., None])[..., 0]
        noise = -torch.empty_like(p).exponential_(generator=generator).log()
        order = (p + choice_temperature * (1 - ratio) * noise).masked_fill(~mask, torch.inf).argsort(dim=1)
        return z_predict, mask & (order.argsort(dim=1) < next_mask.sum(dim=1, keepdim=True))
    return wrong


def _temperature_grows(inpainting, tokenizer):
    def wrong(transformer, z_indices, mask, ratio, n_hidden, *, gamma, choice_temperature, **options):
        if ratio < 1:  # times 1 - ratio, it is the temperature times 1 - gamma(ratio)
            choice_temperature = choice_temperature * (1 - float(gamma(ratio))) / (1 - ratio)
        return inpainting(transformer, z_indices, mask, ratio, n_hidden, gamma=gamma,
                          choice_temperature=choice_temperature, **options)
    return wrong


def _over_the_batch(inpainting, tokenizer):
    def wrong(transformer, z_indices, mask, ratio, n_hidden, *, mask_token_id, **options):
        logits = _asked(transformer, z_indices, mask, mask_token_id)
        one_row = (each.reshape(1, -1) for each in (z_indices, mask))
        found = inpainting(_Answers(logits.flatten(0, 1)[None]), *one_row, ratio, n_hidden.sum()[None],
                           mask_token_id=mask_token_id, **options)
        return tuple(each.view_as(mask) for each in found)
    return wrong


def _mask_token_predicted(inpainting, tokenizer):
    def wrong(transformer, z_indices, mask, ratio, n_hidden, *, mask_token_id, **options):
        logits = _asked(transformer, z_indices, mask, mask_token_id)
        return inpainting(_Answers(F.pad(logits, (0, 1))), z_indices, mask, ratio, n_hidden,
                          mask_token_id=mask_token_id + 1, **options)  # one more, so that this one is not dropped
    return wrong


class _FromTheFirstStep:
    """An `inpainting` that knows when a decoding begins: progress does not go on from the call before."""

    def __init__(self, inpainting):
        self.inpainting, self.ratio = inpainting, 1.0

    def begins(self, ratio):
        first, self.ratio = ratio <= self.ratio, ratio
        return first


class _NothingIsKept(_FromTheFirstStep):
    def __call__(self, transformer, z_indices, mask, ratio, n_hidden, **options):
        if self.begins(ratio):
            self.mask = mask
        return self.inpainting(transformer, z_indices, self.mask, ratio, n_hidden, **options)


class _ReEncoded(_FromTheFirstStep):
    def __init__(self, inpainting, tokenizer):
        super().__init__(inpainting)
        self.tokenizer = tokenizer

    def __call__(self, transformer, z_indices, mask, ratio, n_hidden, **options):
        if not self.begins(ratio):
            z_indices = self.tokenizer.encode(self.tokenizer.decode(z_indices)).to(z_indices.device)
        return self.inpainting(transformer, z_indices, mask, ratio, n_hidden, **options)


def _mask_inverted(iterative_decode, tokenizer):
    return lambda transformer, z_indices, mask, **options: iterative_decode(transformer, z_indices, ~mask, **options)


MISTAKES = {one.name: one for one in (
    Mistake("no scaling", ATTENTION, lambda attention, tokenizer: Unscaled,
            "Scores are not divided by the root of a head's width: a few tokens get nearly all the weight."),
    Mistake("softmax over queries", ATTENTION, lambda attention, tokenizer: OverQueries,
            "The softmax of attention is taken over the wrong axis: a token's weights do not add up to 1."),
    Mistake("mask inverted", LOOP, _mask_inverted,
            "True is read as known: the known tokens are masked and drawn again, the hole stays."),
    Mistake("linear for cosine", GAMMA, lambda gamma, tokenizer: lambda r: 1 - r,
            "The schedule is a straight line: too many tokens are kept while little is known."),
    Mistake("noise on probabilities", STEP, _noise_on_probabilities,
            "The Gumbel noise is added to p, not to log p: the order is nearly random."),
    Mistake("temperature grows", STEP, _temperature_grows,
            "The noise is multiplied by 1 - gamma(r), not by 1 - r: it grows from step to step instead of fading."),
    Mistake("top-k over the batch", STEP, _over_the_batch,
            "The least confident tokens are taken over all rows: some rows keep too many, others too few.", True),
    Mistake("nothing is kept", STEP, lambda inpainting, tokenizer: _NothingIsKept(inpainting),
            "Finished tokens are hidden again: every step predicts the whole hole, and only the last step counts."),
    Mistake("mask token's logit kept", STEP, _mask_token_predicted,
            "The mask token's logit is not dropped: a hidden token may be predicted to be hidden."),
    Mistake("re-encoded at each step", STEP, _ReEncoded,
            "Between steps tokens are decoded to a picture and encoded again: known tokens change."),
)}
