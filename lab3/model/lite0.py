"""EfficientNet-Lite0, trained on ImageNet: EfficientNet (Tan and Le 2019) in Google's variant for phones.

In: pictures. Out: a frozen network without its classifier; the tokenizer's perceptual loss and the FD-Lite0 distance
use its features. The weights ship with the kit; their licence and their source are in `data/checkpoints/lite0`.
"""

import zlib
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from lab3.common.files import load_tensors, load_weights
from lab3.common.paths import LITE0

# Each stage: blocks, kernel size, stride of the first block, expansion, channels.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))
STEM, FEATURES = 32, 1280


class Convolution(nn.Sequential):
    """Convolution, batch normalization and, unless `linear`, ReLU6: (B, channels_in, H, W) -> (B, channels_out, h, w).

    With stride 2, H and W must be even: padding is then TensorFlow's "SAME", one pixel more at the right and below.
    """

    def __init__(self, channels_in, channels_out, kernel=1, stride=1, groups=1, linear=False):
        convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(channels_out, eps=1e-3), *([] if linear else [nn.ReLU6()]))
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, x):
        return super().forward(F.pad(x, (self.before, self.after, self.before, self.after)))


class Block(nn.Sequential):
    """An inverted bottleneck (Sandler et al. 2018): expand, filter each channel, project; around it a shortcut."""

    def __init__(self, channels_in, channels_out, kernel, stride, expansion):
        wide = channels_in * expansion
        expand = [Convolution(channels_in, wide)] if expansion > 1 else []
        super().__init__(*expand, Convolution(wide, wide, kernel, stride, groups=wide),
                         Convolution(wide, channels_out, linear=True))
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x):
        return super().forward(x) + x if self.shortcut else super().forward(x)


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: (B, 3, H, W) -> (B, 1280, H / 32, W / 32).

    Its input is (x - 127) / 128 for x in 0 ... 255; H and W are multiples of 32.
    """

    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, STEM, 3, stride=2)
        blocks, before = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            for number in range(count):
                blocks.append(Block(before, channels, kernel, 1 if number else stride, expansion))
                before = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(before, FEATURES)

    def forward(self, pictures):
        x = self.stem(pictures)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def pack(tensors):
    """Tensors as they ship: of a convolution's float32 (...) the low three bytes of each weight, uint8 (..., 3), and
    under NAME.top the high ones, compressed. They hold the exponent, which repeats: a seventh less, and nothing lost.
    """
    packed = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 4:
            octets = tensor.contiguous().unsqueeze(-1).view(torch.uint8)
            top = zlib.compress(octets[..., 3].numpy().tobytes(), 9)
            packed[name] = octets[..., :3].contiguous()
            packed[f"{name}.top"] = torch.frombuffer(bytearray(top), dtype=torch.uint8)
        else:
            packed[name] = tensor
    return packed


def unpack(packed):
    """The tensors that `pack` was given."""
    tensors = {name: tensor for name, tensor in packed.items() if not name.endswith(".top")}
    for name in packed.keys() - tensors.keys():
        top, low = zlib.decompress(packed[name].numpy().tobytes()), tensors[name.removesuffix(".top")]
        top = torch.frombuffer(bytearray(top), dtype=torch.uint8).reshape(*low.shape[:-1], 1)
        tensors[name.removesuffix(".top")] = torch.cat([low, top], dim=-1).view(torch.float32).squeeze(-1)
    return tensors


@cache
def lite0():
    """EfficientNet-Lite0 in eval mode, its weights frozen, on the CPU. Raises `InputError` for a damaged file."""
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        network = Lite0()
    tensors, _ = load_tensors(LITE0)
    load_weights(network, unpack(tensors), LITE0)
    return network.eval().requires_grad_(False)


def early_features(network, pictures):
    """The outputs of the network's blocks 0, 2 and 4.

    Args:
        pictures: (B, 3, H, W) float, around [-1, 1].

    Returns:
        A list of (B, C, h, w) tensors.
    """
    seen = []
    x = network.stem(pictures)
    for depth, block in enumerate(network.blocks[:5]):
        x = block(x)
        if depth % 2 == 0:
            seen.append(x)
    return seen
