"""Makes `import torchvision` work where its compiled part does not load.

In: nothing. Out: the imported module.

PyPI's torchvision is compiled for PyPI's torch. With a torch built for CPUs only the compiled part does not load;
torchvision allows for that, but then describes two of the part's operators, `nms` and `qnms`, to a torch that has never
heard of them, and the import fails. The kit needs torchvision's Inception only (by way of pytorch-fid), which is
plain Python.
"""

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision():
    """Import torchvision, with the two operators declared where that alone is what is missing.

    A torchvision that imports is left as it is. Declared operators have no code: calling one still raises.

    Returns:
        The module `torchvision`.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision fails for another reason.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(f"torchvision::{name}", SIGNATURE)
        import torchvision
    return torchvision
