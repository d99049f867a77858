"""The probes of notebook 04: gamma_func.

In: the schedules that it gives. Out: `Wrong` where a value is not the formula's, where a float or an array does not
come back as one, and where a mode is taken that does not exist.
"""

import numpy as np

from grader.probes.inside import along, attempt
from grader.probes.probe import array, case, each, expect, probe, refusals, same


def ratio(formula):
    """A function of a case that gives `formula` at its ratios."""
    return lambda one: formula(np.array(one["ratio"]))


curve = case("values", "the formula's values at ratios from 0 to 1", [
    (lambda one: 1 - np.array(one["values"]), "gamma rises: it is the share still hidden"),
    (ratio(lambda r: r), "gamma rises: it falls where ratio grows"),
    (ratio(lambda r: np.cos(np.pi * r)), "the cosine makes half a turn: a quarter is wanted"),
    (ratio(lambda r: np.cos(r / 2)), "the angle lacks pi"),
    (ratio(lambda r: np.cos(90 * r)), "the angle is in degrees, not radians"),
    (ratio(lambda r: (1 - r) ** 2), "the square is of the ratio alone"),
    (ratio(lambda r: np.sqrt((1 - r**2).clip(0))), "a root was taken"),
    (ratio(lambda r: 1 - r), "this is the schedule linear"), (ratio(lambda r: 1 - r**2), "this is the schedule square"),
    (ratio(lambda r: np.cos(np.pi * r / 2)), "this is the schedule cosine")], rtol=1e-4)


@probe("gamma_func", 1, curve)
def linear_curve(gamma_func, draw):
    """The schedule "linear" has its values."""
    return along(gamma_func("linear"), draw)


@probe("gamma_func", 2, curve)
def cosine_curve(gamma_func, draw):
    """The schedule "cosine" has its values."""
    return along(gamma_func(mode="cosine"), draw)


@probe("gamma_func", 1, curve)
def square_curve(gamma_func, draw):
    """The schedule "square" has its values."""
    return along(gamma_func("square"), draw)


@probe("gamma_func", 1, curve)
def default_curve(gamma_func, draw):
    """Without a mode the schedule is the cosine."""
    return along(gamma_func(), draw)


@probe("gamma_func", 2)
def same_kind(gamma_func, draw):
    """A float gives a float, and a numpy array an array of its shape."""
    ratio = np.array([draw.number(0.02, 0.98) for _ in range(12)])
    arrays = [ratio, ratio.reshape(3, 4), ratio[:1], ratio[::2], ratio.reshape(2, 1, 6), np.array([0.0, 1.0])]
    return [[gamma_func(mode)(one) for one in (draw.number(0.1, 0.9), *arrays)]
            for mode in ("linear", "cosine", "square")]


@same_kind.judge
def judge_kind(seen, right):
    for found, wanted in each(seen, right, "schedules"):
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


@probe("gamma_func", 1, case("values", "each schedule's own values, called in any order", (), "is the mode looked up "
       "when gamma is called, or kept in a global name? Each gamma keeps its own", rtol=1e-4))
def schedules_apart(gamma_func, draw):
    """Schedules that were made one after the other keep their own curves."""
    modes = draw.shuffled(["linear", "cosine", "square"])
    gammas = [gamma_func(mode) for mode in modes]
    ratio = [draw.number(0.2, 0.8) for _ in range(6)]
    return {"values": np.array([float(gammas[i](r)) for r in ratio for i in draw.shuffled(range(3))])}


@probe("gamma_func", 1, refusals({"mode": "a mode that does not exist"}))
def mode_refused(gamma_func, draw):
    """Any other mode is a ValueError that names mode, raised by gamma_func itself."""
    known, ratio = ["linear", "cosine", "square"], draw.number(0.2, 0.8)

    def call(mode):
        gamma = gamma_func(mode)
        return float(gamma(ratio)) if mode in known else 0.0

    return [attempt(call, mode) for mode in draw.shuffled([*known, "other", "exponential", "", "linear, cosine", None])]
