"""The page's generator of random numbers (lab3/explorer/browser/decoding.js) in Python, put under PyTorch's draws.

In: a seed. Out: a context in which `exponential_`, `multinomial` and `rand` with a generator draw from it: answers that
are written for PyTorch then draw what the page draws.
"""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class SharedNoise(TorchDispatchMode):
    """Uniform numbers in (0, 1), a function of seed and position: Wellons' "lowbias32" hash of a counter."""

    def __init__(self, seed):
        super().__init__()
        self.seed, self.position = seed, 0

    def uniform(self, shape):
        n = int(np.prod(shape))
        x = np.arange(self.position, self.position + n, dtype=np.uint32) + np.uint32(self.seed * 0x9E3779B9 % 2**32)
        self.position += n
        x = (x ^ x >> 16) * np.uint32(0x21F0AAAD)
        x = (x ^ x >> 15) * np.uint32(0x735A2D97)
        return torch.from_numpy((((x ^ x >> 15) >> 8) + 0.5) / 2**24).view(shape)

    def exponential(self, shape):
        return -self.uniform(shape).log().float()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function is torch.ops.aten.exponential_.default:
            return arguments[0].copy_(self.exponential(arguments[0].shape))
        if function is torch.ops.aten.multinomial.default:  # one of a row: the largest p / noise, as PyTorch does it
            p = arguments[0]
            return (p / self.exponential(p.shape)).argmax(dim=-1, keepdim=True)
        if function is torch.ops.aten.rand.generator:
            return self.uniform(tuple(arguments[0])).float()
        return function(*arguments, **(options or {}))
