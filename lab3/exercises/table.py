"""The exercises, one table that everything reads, and the marks that their cells carry.

To add one: a row here, its cell in a notebook source, its checks in `checks/`, its probes in `grader/probes/`, its
points in the rubric. An optional one is in `OPTIONAL`: it is checked and saved, never graded, and needs no probes
and no points.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        id: names its cell, its file in `work/`, its column in the grades.
        defines: the name that the answer defines.
        notebook: the number of the notebook that asks for it.
        shows: what an answer that passes its checks has shown.
        builds_on: ids of the answers that it calls by name; when it is graded, these are the reference answers.
    """

    id: str
    defines: str
    notebook: str
    shows: str
    builds_on: tuple = ()


LOSS = ("sample_mask", "masked_forward", "mvtm_loss")
EXERCISES = {one.id: one for one in (
    Exercise("multi_head_attention", "MultiHeadAttention", "01",
             "same output as nn.MultiheadAttention, dropout on the weights"),
    Exercise("sample_mask", "sample_mask", "02", "both mask types, exact counts, one ratio a row"),
    Exercise("masked_forward", "masked_forward", "02", "hidden tokens masked, the mask token's logit dropped"),
    Exercise("mvtm_loss", "mvtm_loss", "02", "over the codes, over hidden tokens, 0 where none is hidden"),
    Exercise("configure_optimizers", "configure_optimizers", "03",
             "warm-up from 0, half a cosine, exactly eta_min at the end"),
    Exercise("train_one_epoch", "train_one_epoch", "03",
             "one step a batch, own gradients, the scaler that is given", LOSS),
    Exercise("eval_one_epoch", "eval_one_epoch", "03",
             "mean of the batch losses, model and modes left as they were", LOSS),
    Exercise("gamma_func", "gamma_func", "04", "three schedules from 1 to 0, floats and arrays"),
    Exercise("inpainting", "inpainting", "05", "exact counts, the least confident hidden, noise that fades"),
    Exercise("iterative_decode", "iterative_decode", "05", "tokens carried forward, the schedule, sweet_spot",
             ("inpainting",)),
    Exercise("frechet_distance", "frechet_distance", "06", "closed forms, singular covariances"),
)}
OPTIONAL = {one.id: one for one in (
    Exercise("guided_logits", "guided_logits", "07", "away from the unconditional logits, by the scale"),
)}
ALL_EXERCISES = EXERCISES | OPTIONAL
TRAINING = tuple(name for name, one in EXERCISES.items() if one.notebook <= "03")  # the answers that train a model
DECODING = ("gamma_func", "inpainting", "iterative_decode")  # the answers that fill a hole

MARK = "#| exercise:"
# The same line as people and formatters write it: Black makes it "# | exercise:". Its group is the id.
MARKER = re.compile(r"^[ \t]*#[ \t]*\|[ \t]*exercise[ \t]*:[ \t]*(\S+)[ \t]*\r?$", re.MULTILINE)
NBGRADER = ("### BEGIN SOLUTION", "### END SOLUTION")

# What an answer may import, besides Python's own modules.
PACKAGES = ("lab3", "matplotlib", "numpy", "PIL", "scipy", "torch", "torchvision", "tqdm")

# What every notebook imports in its first cell, so that an answer's cell can count on it.
IMPORTS = """\
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lab3
"""
