import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3


#| exercise: guided_logits
def guided_logits(conditional, unconditional, scale):
    """Logits that follow the labels further than the model does by itself.

    Args:
        conditional: (..., V + 1), the logits of a pass with labels.
        unconditional: (..., V + 1), those of the same tokens with every label "any".
        scale: how far to go, 0 or more; 0 gives the conditional logits.

    Returns:
        (..., V + 1), the guided logits.

    Raises:
        ValueError: scale < 0, or shapes that differ.
    """
    if scale < 0:
        raise ValueError(f"scale must be 0 or more, not {scale}")
    if conditional.shape != unconditional.shape:
        raise ValueError(f"conditional and unconditional differ in shape: "
                         f"{tuple(conditional.shape)} and {tuple(unconditional.shape)}")
    if scale == 0:  # 0 times an infinite logit would be NaN
        return conditional.clone()
    return (1 + scale) * conditional - scale * unconditional
