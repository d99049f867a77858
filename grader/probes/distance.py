"""The probes of notebook 06: frechet_distance.

In: the function. Out: `Wrong` where a distance is not that of the reference, by the contract's tolerances.
"""

import math
import re

import numpy as np

from grader.probes.inside import attempt, distance_of
from grader.probes.probe import exception_name, expect, probe, unchanged

REGULAR, SINGULAR = 1e-6, 1e-3  # the contract's relative tolerances
NAMED = re.compile(r"(?<![a-z])(mu|sigmas?|means?|cov\w*)(?![a-z])|[μσΣ]", re.IGNORECASE)  # not "matmul", "must"


def distance(case, rtol=REGULAR, suspects=()):
    """A verdict: each case's "found", (real, imaginary), is near the reference's; for suspects see `probe.case`."""
    def judge(seen, right):
        for one, other in zip(seen, right, strict=True):
            found, (wanted, _) = one["found"], other["found"]
            expect(found is not None, f"a number, for {case}", "nothing (None)", "a return is missing")
            real, imaginary = map(float, found)
            expect(math.isfinite(real), f"a finite number, for {case}", "NaN or infinity, or no number",
                   "a singular covariance has eigenvalues of 0, and rounding makes some slightly negative")
            apart = abs(real - wanted)
            reason = "close, but not close enough: was something added to the covariances, or float32 used?" if (
                apart <= 0.001 * abs(wanted)) else ""
            for formula, text in reversed(suspects):
                value = other[formula] if isinstance(formula, str) else formula(other, wanted)
                if abs(real - value) <= 1e-4 * abs(value) + 1e-9 < abs(value - wanted):
                    reason = text
            expect(apart <= rtol * abs(wanted), f"the distance that the formula gives, for {case}", "another number",
                   reason)
            expect(imaginary == 0 or rtol == REGULAR, f"a real number, for {case}", "a complex one", "the matrix root "
                   "came out complex: rounding made eigenvalues slightly negative, take the real part")

    return judge


@probe("frechet_distance", guessable=True)
def gives_a_float(frechet_distance, draw):
    """It gives a float, a real one also where covariances are singular."""
    x = draw.normal(3, 12).double().numpy()
    cases = [(np.eye(12), 4 * np.eye(12)), (x.T @ x, x.T @ x + np.eye(12)), (x.T @ x, 0.5 * (x.T @ x)[::-1, ::-1])]
    found = [frechet_distance(x[0], one, x[1], two) for one, two in cases]
    return [{"missing": value is None, "value": value if isinstance(value, float) else None} for value in found]


@gives_a_float.judge_each
def judge_gives_a_float(seen, right):
    expect(seen["missing"] is False, "a float", "nothing (None)", "a return is missing")
    expect(isinstance(seen["value"], float), "a float", "a number of another type, or none",
           "complex numbers and arrays are none: take the real part, then float(...)")


@probe("frechet_distance", 2, distance("equal covariances", suspects=[
    (lambda one, wanted: wanted**0.5, "the distance of the means is not squared"),
    (lambda one, wanted: 0.0, "the means play no part"),
    (lambda one, wanted: wanted / one["d"], "the squares are averaged, not added")]))
def means_alone(frechet_distance, draw):
    """Between equal covariances the distance is the squared distance of the means."""
    found = []
    for d in (2, 3, draw.integer(5, 9)):
        mu1, mu2 = (draw.normal(d, scale=3).double().numpy() + sign * 2 for sign in (1, -1))
        found.append({"found": distance_of(frechet_distance, mu1, np.eye(d), mu2, np.eye(d)), "d": d})
    return found


@probe("frechet_distance", 2, distance("covariances with the same axes", suspects=[
    ("traces", "the trace of the root is missing"), ("no factor", "the factor 2 before the root is missing"),
    ("plus", "the root must be subtracted"), ("product", "the product's own trace is taken: its matrix root is wanted"),
    ("root of trace", "the root of the trace is taken: the trace of the root is wanted"),
    ("entries", "a root was taken of each entry: the root of a matrix is another thing")]))
def shared_axes(frechet_distance, draw):
    """Between covariances with the same axes it is the squared distance of the standard deviations."""
    d, found = draw.integer(4, 7), []
    turn = np.linalg.qr(draw.normal(d, d).double().numpy())[0]
    for basis in (np.eye(d), turn):
        one, two = (np.array([draw.number(0.5, 4) for _ in range(d)]) for _ in range(2))
        sigma1, sigma2 = (basis @ np.diag(deviations**2) @ basis.T for deviations in (one, two))
        value = distance_of(frechet_distance, np.zeros(d), sigma1, np.zeros(d), sigma2)
        product, traces = sigma1 @ sigma2, float(np.trace(sigma1 + sigma2))
        found.append({"found": value, "traces": traces, "no factor": float(traces - one @ two),
                      "plus": float(traces + 2 * one @ two), "product": float(traces - 2 * np.trace(product)),
                      "root of trace": float(traces - 2 * np.trace(product)**0.5),
                      "entries": float(traces - 2 * np.sqrt(np.abs(product)).trace())})
    return found


@probe("frechet_distance", 3, distance("regular covariances", suspects=[
    ("roots", "the root of a product is not the product of roots")]))
def regular(frechet_distance, draw):
    """Any two regular covariances, small or large, to 1e-6."""
    found = []
    for d, scale, far in ((2, 1, 0), (3, 0.003, 0), (8, 100, 0), (draw.integer(12, 20), 1, 0), (6, 1, 3000)):
        sigmas = []
        for _ in range(2):
            x = draw.normal(4 * d + 4, d).double().numpy() * np.linspace(0.5, 2, d)
            sigmas.append(scale * (x.T @ x / len(x) + 0.1 * np.eye(d)))
        mu1, mu2 = (draw.normal(d, scale=scale**0.5).double().numpy() + far for _ in range(2))
        value = distance_of(frechet_distance, mu1, sigmas[0], mu2, sigmas[1])
        roots = [(vectors * np.sqrt(values)) @ vectors.T for values, vectors in map(np.linalg.eigh, sigmas)]
        wrong = ((mu1 - mu2)**2).sum() + np.trace(sigmas[0] + sigmas[1] - 2 * roots[0] @ roots[1])
        found.append({"found": value, "roots": float(wrong)})
    return found


@probe("frechet_distance", 2, distance("singular covariances", SINGULAR))
def singular(frechet_distance, draw):
    """Singular covariances, of fewer samples than dimensions, give a real and finite number, to 1e-3."""
    found, d = [], 24
    for n1, n2 in draw.shuffled([(1, 1), (5, draw.integer(7, 12)), (0, 40), (6, 40), (draw.integer(12, 20), 3)]):
        xs = [draw.normal(max(n, 1), d, scale=2).double().numpy() * (n > 0) / max(n, 1)**0.5 for n in (n1, n2)]
        mu1, mu2 = (draw.normal(d).double().numpy() for _ in range(2))
        found.append({"found": distance_of(frechet_distance, mu1, xs[0].T @ xs[0], mu2, xs[1].T @ xs[1])})
    return found


@probe("frechet_distance", 1, unchanged, guessable=True)
def leaves_its_inputs(frechet_distance, draw):
    """It changes none of its inputs."""
    inputs = []
    for _ in range(2):
        x = draw.normal(30, 6).double().numpy()
        inputs += [x.mean(axis=0) + draw.number(1, 2), x.T @ x]
    frechet_distance(*inputs)
    return dict(zip(("mu1", "sigma1", "mu2", "sigma2"), inputs, strict=True))


@probe("frechet_distance")
def refuses_shapes(frechet_distance, draw):
    """Shapes that do not match are a ValueError, and no others are."""
    d = draw.integer(3, 6)
    fits = [((n,), (n, n)) * 2 for n in (1, 2, d)]
    wrong = [((d,), (d, d), (d + 1,), (d + 1, d + 1)), ((d,), (d, d), (d,), (d + 1, d + 1)),
             ((d,), (d + 1, d + 1), (d,), (d + 1, d + 1)), ((d,), (d,), (d,), (d,)), ((1,), (d, d), (d,), (d, d)),
             ((d,), (1, 1), (d,), (1, 1)), ((d,), (d, d), (d,), (1, 1)), ((d,), (d, d + 1), (d,), (d, d + 1)),
             ((1, d), (d, d), (d,), (d, d)), ((d,), (d, d), (1,), (d, d)), ((d,), (d, d), (1, d), (d, d))]

    def call(*shapes):
        arrays = [np.full(shape, 0.5) + (np.eye(shape[0]) if shape == shape[:1] * 2 else 0) for shape in shapes]
        return distance_of(frechet_distance, arrays[0] + 1, arrays[1], arrays[2] - 1, arrays[3])

    return [attempt(call, *shapes) for shapes in draw.shuffled(fits + wrong)]


@refuses_shapes.judge_each
def judge_refuses_shapes(seen, right):
    if "value" in right:
        expect("value" in seen, "a distance where shapes match", "an exception")
        expect(seen["value"] is not None and math.isfinite(seen["value"][0]), "a distance where shapes match", "none")
        return
    expected = "a ValueError that names mu or sigma, where shapes do not match"
    expect("error" in seen, expected, "no error", "numpy stretches a shape such as (1,): compare shapes first")
    expect(seen["error"]["value_error"] is True, expected, f"a {exception_name(seen['error'])}")
    named = NAMED.search(str(seen["error"]["text"]))
    expect(named, expected, "a ValueError that does not name it", "numpy's own error says what failed, not why")
