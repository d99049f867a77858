import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: gamma_func
def gamma_func(mode="cosine"):
    """The schedule of that name: a function of progress in [0, 1], a float or an array, same kind back."""
    schedules = {
        "linear": lambda r: 1 - r,
        "cosine": lambda r: np.cos(np.pi * r / 2),
        "square": lambda r: 1 - r**2,
    }
    if mode not in schedules:
        raise ValueError(f"mode must be one of {', '.join(schedules)}, not {mode!r}")
    return schedules[mode]
