"""The checks of notebook 07: guided_logits.

In: the function that was written. Out: nothing where it is right, `CheckFailed` where it is not. The logits are few and
whole numbers, so each usual slip gives numbers of its own.
"""

import torch

from lab3.exercises.checks.tools import expect, is_tensor, refuses, rng, same, takes, untouched


def _guided(guided_logits, conditional, unconditional, scale):
    with untouched(conditional=conditional, unconditional=unconditional):
        found = guided_logits(conditional, unconditional, scale)
    return is_tensor(found, tuple(conditional.shape), conditional.dtype, "the guided logits")


def guidance_formula(guided_logits):
    """The difference that the labels make is added to the conditional logits, scale times."""
    c, u = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([1.0, 2.0, 4.0])
    for scale in (2.0, 0.5, 3):
        same(_guided(guided_logits, c, u, scale).tolist(), ((c - u) * scale + c).tolist(), [
            ((scale * (c - u)).tolist(), "1 is missing: 1 + scale times the conditional logits"),
            ((u + scale * (c - u)).tolist(), "1 is missing: this is 1 - scale times the unconditional logits, another "
                                             "way to count the scale"),
            ((c + scale * (c + u)).tolist(), "the unconditional logits are to be subtracted"),
            ((u + scale * (u - c)).tolist(), "conditional and unconditional are exchanged"),
            ((c + scale * (u - c)).tolist(), "the sign is wrong: this leads away from what the labels ask for"),
            (((1 + scale) * (c - u)).tolist(), "the unconditional logits get 1 + scale too: their factor is scale"),
            ((scale * c - (1 + scale) * u).tolist(), "scale and 1 + scale are exchanged"),
            (c.tolist(), "the scale plays no part"),
        ], what=f"logits 3, 1, -2 and 1, 2, 4 at scale {scale:g}: ")


def guidance_ends(guided_logits):
    """Scale 0 gives the conditional logits; where the labels change nothing, no scale does."""
    c, u = torch.randn(2, 2, 5, 7, generator=rng())
    none = _guided(guided_logits, c, u, 0.0)
    expect(torch.equal(none, c), "the conditional logits at scale 0, exactly",
           "the unconditional ones" if torch.allclose(none, u) else
           "nearly these" if torch.allclose(none, c) else "other numbers")
    u[0, 0, 0] = -torch.inf
    expect(torch.equal(_guided(guided_logits, c, u, 0), c), "the conditional logits at scale 0, exactly, also where an "
           "unconditional one is infinite", "other numbers", "0 times infinity is NaN: treat scale 0 on its own")
    expect(torch.allclose(_guided(guided_logits, c, c.clone(), 4.0), c, atol=1e-4),
           "the logits themselves at scale 4, where both are equal", "other numbers",
           "the two factors must differ by 1")


def guidance_refuses(guided_logits):
    """A negative scale and shapes that differ are refused."""
    c, u = torch.zeros(2, 5), torch.zeros(2, 6)
    refuses("scale", "scale -0.5", guided_logits, c, c.clone(), -0.5)
    refuses("conditional or unconditional or shape", "shapes (2, 5) and (2, 6)", guided_logits, c, u, 1.0)
    refuses("conditional or unconditional or shape", "shapes (2, 5) and (5,)", guided_logits, c, c[0], 1.0)


CHECKS = {
    "guided_logits": (
        takes(lambda conditional, unconditional, scale: None), guidance_formula, guidance_ends, guidance_refuses),
}
