"""The checks of notebook 06: frechet_distance.

In: the function that was written. Out: nothing where it is right, `CheckFailed` where it is not. The Gaussians are
such that their distance has a closed form, or follows from singular values.
"""

import math

import numpy as np

from lab3.exercises.checks.tools import expect, normal, refuses, same, suspect, takes, untouched

CLOSE = "close, but not to 1e-6: was something added to regular covariances, or float32 used?"
ENTRIES = "a root was taken of each entry: the root of a matrix is another thing"


def _distance(frechet_distance, mu1, sigma1, mu2, sigma2):
    inputs = dict(mu1=mu1, sigma1=sigma1, mu2=mu2, sigma2=sigma2)
    with untouched(**inputs):
        value = frechet_distance(*inputs.values())
    expect(not isinstance(value, complex), "a real number", f"{value}",
           "the matrix root came out complex: rounding made eigenvalues slightly negative, take the real part")
    expect(isinstance(value, float), "a float", f"a {type(value).__name__}",
           "a return is missing" if value is None else "")
    expect(math.isfinite(value), "a finite number", str(value),
           "a singular covariance has eigenvalues of 0, and rounding makes some slightly negative")
    return float(value)


def distance_of_means(frechet_distance):
    """Equal covariances leave the squared distance of the means."""
    found = _distance(frechet_distance, np.array([3.0, 0, 1]), np.eye(3), np.array([0.0, 4, 1]), np.eye(3))
    same(found, 25.0, [
        (5.0, "the distance of the means is not squared"), (7.0, "absolute values are added, not squares"),
        (25 / 3, "the squares are averaged, not added"), (0.0, "the means play no part")])


def distance_of_axes(frechet_distance):
    """Covariances that share their axes differ by their standard deviations."""
    zero, turn = np.zeros(3), np.linalg.qr(normal(3, 3))[0]
    one, two = np.diag([1.0, 4, 9]), np.diag([4.0, 16, 1])  # roots 1, 2, 3 and 2, 4, 1: 1 + 4 + 4 = 9
    for basis, kind in ((np.eye(3), "diagonal"), (turn, "rotated")):
        sigma1, sigma2 = basis @ one @ basis.T, basis @ two @ basis.T
        product = sigma1 @ sigma2
        entries = np.sqrt(np.abs(product)).trace()
        found = _distance(frechet_distance, zero, sigma1, zero, sigma2)
        same(found, 9.0, [
            (35.0, "the trace of the root is missing"), (22.0, "the factor 2 before the root is missing"),
            (35.0 - 2 * product.trace(), "the product's own trace is taken: its matrix root is wanted"),
            (35.0 - 2 * math.sqrt(product.trace()), "the root of the trace is taken: the trace of the root is wanted"),
            (35.0 - 2 * entries, ENTRIES),
            (3.0, "a root is taken of the whole: the distance is the square"),
            (35.0 + 26.0, "the root must be subtracted"), (0.0, "the covariances play no part"),
        ], CLOSE if abs(found - 9) < 0.1 else ENTRIES if basis is turn else "",
            f"{kind} covariances with deviations 1, 2, 3 and 2, 4, 1: ")


def _samples(d, n, offset):
    """A factor x of a covariance x.T @ x of rank n: the trace of the root is the nuclear norm of x1 @ x2.T, the sum of
    its singular values."""
    return normal(n, d, offset=offset) / math.sqrt(n) * np.linspace(0.5, 2, d)


def distance_in_general(frechet_distance):
    """Any two regular covariances."""
    for d in (1, 2, 16):
        x1, x2, mu = _samples(d, 3 * d, 1), _samples(d, 4 * d, 2), np.arange(d) / d
        root1, root2 = x1.T @ x1 + np.eye(d), x2.T @ x2 + np.eye(d)
        fixed = (mu**2).sum() + (root1**2).sum() + (root2**2).sum()
        right = fixed - 2 * np.linalg.norm(root1 @ root2, "nuc")
        found = _distance(frechet_distance, mu, root1 @ root1, 0 * mu, root2 @ root2)
        reason = suspect(found, [(fixed - 2 * (root1 @ root2).trace(),
                                  "the root of a product is not the product of roots")])
        if not reason and abs(found - right) < 0.01 * right:
            reason = "the result is rounded" if round(found, 4) == found else CLOSE
        expect(abs(found - right) <= 1e-6 * right, f"{right:.8g} in {d} dimensions", f"{found:.8g}", reason)


def distance_of_singular(frechet_distance):
    """Singular covariances, of fewer samples than dimensions, give a real and finite number."""
    for n1, n2 in ((1, 1), (4, 9), (0, 40), (0, 0)):
        x1, x2 = _samples(24, max(n1, 1), 1) * (n1 > 0), _samples(24, max(n2, 1), 2) * (n2 > 0)
        right = 1 + (x1**2).sum() + (x2**2).sum() - 2 * np.linalg.norm(x1 @ x2.T, "nuc")
        found = _distance(frechet_distance, np.eye(24)[0], x1.T @ x1, np.zeros(24), x2.T @ x2)
        expect(abs(found - right) <= 1e-3 * right, f"{right:.6g} for covariances of rank {n1} and {n2}", f"{found:.6g}",
               "negative eigenvalues that rounding made must count as 0, and what is added for stability must be tiny")


def distance_refuses(frechet_distance):
    """Shapes that do not match are refused."""
    for shapes in (((3,), (3, 3), (4,), (4, 4)), ((3,), (3, 3), (3,), (4, 4)), ((3,), (3,), (3,), (3,)),
                   ((1,), (3, 3), (3,), (3, 3)), ((3,), (1, 1), (3,), (1, 1))):
        refuses("mu or sigma", f"shapes {shapes}", frechet_distance, *(np.ones(one) for one in shapes))


CHECKS = {
    "frechet_distance": (
        takes(lambda mu1, sigma1, mu2, sigma2: None), distance_of_axes, distance_of_means, distance_in_general,
        distance_of_singular, distance_refuses),
}
