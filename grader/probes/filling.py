"""How the student's decoding fills the pictures whose distance is graded: `FILLING`, a probe of no exercise.

In: two files in the kernel's box, the kit's model and the scene as `save_scene` writes it. Out: the tokens of the
filled pictures.
"""

from pathlib import Path

import numpy as np

from grader.probes.inside import math, os, torch
from grader.probes.probe import Probe, array, expect
from lab3.common.files import save_tensors

SCENE = "scene.safetensors"


def save_scene(scene, folder):
    """Write a `lab3.metrics.decoding_score.Scene` as the kernel reads it: z_indices, mask and options of each call."""
    tensors, options = {}, []
    for number, (z_indices, mask, one) in enumerate(scene.calls()):
        tensors |= {f"z_indices {number}": z_indices, f"mask {number}": mask}
        options.append(one)
    path = Path(folder) / SCENE
    save_tensors(path, tensors, {"calls": options})
    return path


def filled_pictures(iterative_decode, draw):
    """Pictures that your decoding fills are like those that a right one fills with the same model."""
    from lab3 import autocast
    from lab3.common.files import load_tensors
    from lab3.exercises.fallbacks import TorchAttention
    from lab3.model.transformer import load_transformer

    given, filled = os.environ["LAB3_GIVEN"], []
    scene, about = load_tensors(f"{given}/scene.safetensors")
    transformer = load_transformer(f"{given}/maskgit.safetensors", TorchAttention)
    with torch.no_grad(), autocast("cpu"):
        for number, options in enumerate(about["calls"]):
            z_final, _ = iterative_decode(
                transformer, scene[f"z_indices {number}"], scene[f"mask {number}"],
                gamma=lambda r: math.cos(math.pi * r / 2) if isinstance(r, (int, float)) else np.cos(np.pi * r / 2),
                generator=torch.Generator().manual_seed(options.pop("seed")), **options)
            filled.append(z_final)
    return filled


def tokens(seen, right):
    """The kernel must give long tensors; what is in them is judged by `lab3.metrics.decoding_score`."""
    expect(isinstance(seen, list) and len(seen) > 0, "tokens of filled pictures", "something else")
    for one in seen:
        expect(isinstance(one, np.ndarray), "tokens of filled pictures", "something else")
        array(one, (len(one), 256), "int", "z_final")


FILLING = Probe.of(filled_pictures, "iterative_decode", 1, verdicts=(tokens,))
