import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: frechet_distance
def frechet_distance(mu1, sigma1, mu2, sigma2):
    """The Fréchet distance of two normal distributions.

    Args:
        mu1, mu2: (d,) float64 arrays, the means.
        sigma1, sigma2: (d, d) float64 arrays, the covariances; they may be singular.

    Returns:
        A float: |mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)).

    Raises:
        ValueError: shapes that do not match.
    """
    mu1, sigma1, mu2, sigma2 = (
        np.asarray(value, dtype=np.float64) for value in (mu1, sigma1, mu2, sigma2))
    d = len(mu1) if mu1.ndim == 1 else -1
    if mu1.shape != (d,) or mu2.shape != (d,):
        raise ValueError(f"mu1 and mu2 must both have shape (d,), not {mu1.shape} and {mu2.shape}")
    if sigma1.shape != (d, d) or sigma2.shape != (d, d):
        raise ValueError(f"sigma1 and sigma2 must have shape ({d}, {d}), "
                         f"not {sigma1.shape} and {sigma2.shape}")
    # The eigenvalues of sigma1 sigma2 are those of the symmetric root1 sigma2 root1,
    # which never are complex.
    values, vectors = np.linalg.eigh(sigma1)
    root1 = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root1 @ sigma2 @ root1)
    trace_root = np.sqrt(eigenvalues.clip(min=0)).sum()
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_root)
