import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: gamma_func
def gamma_func(mode="cosine"):
    """A schedule: how much of a hole is still hidden after a share of the steps.

    Args:
        mode: "linear", 1 - r; "cosine", cos(pi r / 2); or "square", 1 - r ** 2.

    Returns:
        gamma, a function of progress r in [0, 1]: a float gives a float,
            a numpy array an array of its shape.

    Raises:
        ValueError: mode is none of these.
    """
    schedules = {
        "linear": lambda r: 1 - r,
        "cosine": lambda r: np.cos(np.pi * r / 2),
        "square": lambda r: 1 - r**2,
    }
    if mode not in schedules:
        raise ValueError(f"mode must be one of {', '.join(schedules)}, not {mode!r}")
    return schedules[mode]
