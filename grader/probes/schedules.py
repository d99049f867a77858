"""The probes of notebook 04: gamma_func.

In: the schedules that it gives. Out: `Wrong` where a value is not the formula's, where a float or an array does not
come back as one, and where a mode is taken that does not exist.
"""

import numpy as np

from grader.probes.inside import along, attempt
from grader.probes.probe import array, expect, probe, refused, same


@probe("gamma_func", 1)
def linear_curve(gamma_func, draw):
    """The schedule "linear" has its values."""
    return along(gamma_func("linear"), draw)


@probe("gamma_func", 2)
def cosine_curve(gamma_func, draw):
    """The schedule "cosine" has its values."""
    return along(gamma_func(mode="cosine"), draw)


@probe("gamma_func", 1)
def square_curve(gamma_func, draw):
    """The schedule "square" has its values."""
    return along(gamma_func("square"), draw)


@probe("gamma_func", 1)
def default_curve(gamma_func, draw):
    """Without a mode the schedule is the cosine."""
    return along(gamma_func(), draw)


@linear_curve.judge
@cosine_curve.judge
@square_curve.judge
@default_curve.judge
def judge_curve(seen, right):
    r, values = np.array(right["ratio"]), np.array(right["values"])
    found = np.array([float(one) for one in seen["values"]])
    expect(len(found) == len(r), "a value for each ratio", "another number of them")
    likely = next((text for other, text in (
        (1 - values, "gamma rises: it is the share still hidden"), (r, "gamma rises: it falls where ratio grows"),
        (np.cos(np.pi * r), "the cosine makes half a turn: a quarter is wanted"), (np.cos(r / 2), "the angle lacks pi"),
        (np.cos(90 * r), "the angle is in degrees, not radians"), ((1 - r) ** 2, "the square is of the ratio alone"),
        (np.sqrt((1 - r**2).clip(0)), "a root was taken"), (1 - r, "this is the schedule linear"),
        (1 - r**2, "this is the schedule square"), (np.cos(np.pi * r / 2), "this is the schedule cosine"),
    ) if np.allclose(found, other, rtol=1e-4, atol=1e-5)), "")
    near = np.isclose(found, values, rtol=1e-4, atol=1e-5)
    expect(near.all(), "the formula's values at ratios from 0 to 1",
           f"others at {int((~near).sum())} of {len(r)} ratios", likely)


@probe("gamma_func", 2)
def same_kind(gamma_func, draw):
    """A float gives a float, and a numpy array an array of its shape."""
    ratio = np.array([draw.number(0.02, 0.98) for _ in range(12)])
    arrays = [ratio, ratio.reshape(3, 4), ratio[:1], ratio[::2], ratio.reshape(2, 1, 6), np.array([0.0, 1.0])]
    return [[gamma_func(mode)(one) for one in (draw.number(0.1, 0.9), *arrays)]
            for mode in ("linear", "cosine", "square")]


@same_kind.judge
def judge_kind(seen, right):
    expect(isinstance(seen, list) and len(seen) == len(right), "three schedules", "another number")
    for found, wanted in zip(seen, right, strict=True):
        number, *arrays = found
        expect(isinstance(number, float), "a float for a float",
               "an array or tensor" if isinstance(number, np.ndarray) else "another type", "the same kind is owed back")
        for one, other in zip(arrays, wanted[1:], strict=True):
            array(one, other.shape, "float", "gamma of an array")
        same(found, wanted, what="values")


@probe("gamma_func", 1)
def input_kept(gamma_func, draw):
    """The array given is left as it is."""
    ratio = np.array([draw.number(0.1, 0.9) for _ in range(9)])
    found = []
    for mode in draw.shuffled(["linear", "cosine", "square"]):
        gamma = gamma_func(mode)
        found.append(gamma(ratio).copy())
        found.append(gamma(ratio).copy())
    return {"values, each schedule called twice": found, "the array given, afterwards": ratio}


@probe("gamma_func", 1)
def schedules_apart(gamma_func, draw):
    """Schedules that were made one after the other keep their own curves."""
    modes = draw.shuffled(["linear", "cosine", "square"])
    gammas = [gamma_func(mode) for mode in modes]
    ratio = [draw.number(0.2, 0.8) for _ in range(6)]
    return [float(gammas[i](r)) for r in ratio for i in draw.shuffled(range(3))]


@schedules_apart.judge
def judge_apart(seen, right):
    found = np.array([float(one) for one in seen])
    expect(found.shape == (len(right),), "a value for each call", "another number of them")
    wrong = int((~np.isclose(found, right, rtol=1e-4, atol=1e-5)).sum())
    expect(wrong == 0, "each schedule's own values, called in any order", f"{wrong} of {len(right)} differ",
           "is the mode looked up when gamma is called, or kept in a global name? Each gamma keeps its own")


@probe("gamma_func", 1)
def mode_refused(gamma_func, draw):
    """Any other mode is a ValueError that names mode, raised by gamma_func itself."""
    known, ratio = ["linear", "cosine", "square"], draw.number(0.2, 0.8)
    names = draw.shuffled([*known, "other", "exponential", "", "linear, cosine", None])

    def call(mode):
        gamma = gamma_func(mode)
        return float(gamma(ratio)) if mode in known else 0.0

    return {"modes": names, "calls": [attempt(call, mode) for mode in names]}


@mode_refused.judge
def judge_mode(seen, right):
    for mode, found, wanted in zip(right["modes"], seen["calls"], right["calls"], strict=True):
        if "error" in wanted:
            refused(found, "mode", "a mode that does not exist")
        else:
            same(found, wanted, what=f"the schedule {mode}")
