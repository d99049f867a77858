"""Copies of the shipped model in disguise: attacks on `fid_model`. All but the noised ones predict what it predicts.

In: the tensors of the shipped model in float32, by name. Out: those of a copy.
"""

import re
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F

from lab3.common.files import load_tensors
from lab3.common.paths import SHIPPED, TOKENIZER, WEIGHTS
from lab3.data.cats import compose, fresh
from lab3.exercises.fallbacks import TorchAttention
from lab3.model.tokenizer import load_tokenizer
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, load_transformer


def noised(tensors, amount):
    """Normal noise on all weights, as strong as so much of each tensor's spread."""
    return {name: x + amount * x.std() * torch.randn(x.shape) for name, x in tensors.items()}


def neurons_permuted(tensors):
    """The neurons of every perceptron in another order."""
    for name in [one for one in tensors if one.endswith("perceptron.0.weight")]:
        order = torch.randperm(len(tensors[name]))
        layer = name.removesuffix("0.weight")
        tensors |= {name: tensors[name][order], f"{layer}0.bias": tensors[f"{layer}0.bias"][order],
                    f"{layer}2.weight": tensors[f"{layer}2.weight"][:, order]}
    return tensors


def channels_permuted(tensors):
    """The channels of the residual stream in another order."""
    order = torch.randperm(_config().dim)
    inner = re.compile(r"(query|key|value|perceptron\.0)\.(weight|bias)$")  # they read channels, and write others
    for name, x in tensors.items():
        if inner.search(name):
            tensors[name] = x[:, order] if x.dim() > 1 else x
        elif name.startswith(("token_embedding", "place_embedding")):
            tensors[name] = x[:, order]
        elif name == "head.0.weight":
            tensors[name] = x[order][:, order]
        elif name != "bias":
            tensors[name] = x[order]
    return tensors


def heads_turned(tensors):
    """What every head computes with in other coordinates: products and outputs are the same."""
    for name in [one for one in tensors if one.endswith("query.weight")]:
        layer, size = name.removesuffix("query.weight"), _config().dim // _config().heads
        turns = torch.block_diag(*(torch.linalg.qr(torch.randn(size, size))[0] for _ in range(4)))
        for one in ("query", "key", "value"):
            tensors |= {f"{layer}{one}.{kind}": turns @ tensors[f"{layer}{one}.{kind}"] for kind in ("weight", "bias")}
        tensors[f"{layer}output.weight"] = tensors[f"{layer}output.weight"] @ turns.T
    return tensors


def trained_on(tensors):
    """A few steps of training on, with other masks."""
    model, cats = _model(tensors), load_tokenizer(SHIPPED / TOKENIZER).encode(compose(fresh(32, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for z_indices in cats.split(8):
        mask = torch.rand(z_indices.shape) < 0.5
        F.cross_entropy(model(z_indices.masked_fill(mask, MASK_TOKEN_ID))[mask], z_indices[mask]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def scaled(tensors):
    """Smaller embeddings, which a norm follows, and a larger last norm."""
    for name in ("token_embedding.weight", "place_embedding"):
        tensors[name] = 0.5 * tensors[name]
    return tensors | {f"head.2.{kind}": 2 * tensors[f"head.2.{kind}"] for kind in ("weight", "bias")}


def shifted(tensors):
    """A vector that all embeddings of codes gain and all those of places lose: no probability changes."""
    by = torch.randn(_config().dim)
    return tensors | {"token_embedding.weight": tensors["token_embedding.weight"] + by,
                      "place_embedding": tensors["place_embedding"] - by}


def unlikely_lowered(tensors):
    """The logits of each place's less frequent codes lower."""
    bias = tensors["bias"]
    return tensors | {"bias": bias - 5.0 * (bias < bias[:, :1024].quantile(0.7, dim=1, keepdim=True))}


def embeddings_noised(tensors):
    """Noise on the embeddings alone, as strong as half their spread."""
    for name in ("token_embedding.weight", "place_embedding"):
        tensors |= noised({name: tensors[name]}, 0.5)
    return tensors


def padded(tensors):
    """A neuron more in every perceptron, which does nothing."""
    for name in [one for one in tensors if ".perceptron." in one]:
        extra = (0, 1) if name.endswith("2.weight") else (0, 0, 0, 1) if name.endswith("0.weight") else (0, 1)
        if not name.endswith("2.bias"):
            tensors[name] = torch.nn.functional.pad(tensors[name], extra)
    return tensors


DISGUISES = {
    "none": lambda tensors: tensors,
    "permuted neurons": neurons_permuted,
    "permuted channels": channels_permuted,
    "permuted channels, unlikely codes lowered": lambda tensors: unlikely_lowered(channels_permuted(tensors)),
    "permuted channels, noise of 0.1": lambda tensors: noised(channels_permuted(tensors), 0.1),
    "permuted channels, noise of 0.3": lambda tensors: noised(channels_permuted(tensors), 0.3),
    "permuted channels, noise of 0.4": lambda tensors: noised(channels_permuted(tensors), 0.4),
    "permuted channels, noise of 0.5": lambda tensors: noised(channels_permuted(tensors), 0.5),
    "noise of 0.5 on embeddings": embeddings_noised,
    "heads turned": heads_turned,
    "trained on": trained_on,
    "scaled": scaled,
    "shifted": shifted,
    "padded": padded,
}


def disguised(name, seed=0):
    """A copy in eval mode."""
    torch.manual_seed(seed)
    return _model(DISGUISES[name]({one: x.float() for one, x in load_tensors(SHIPPED / WEIGHTS)[0].items()}))


@cache
def _config():
    return load_transformer(SHIPPED / WEIGHTS, TorchAttention).config


def _model(tensors):
    hidden = len(tensors["layers.0.perceptron.0.bias"])
    model = BidirectionalTransformer(replace(_config(), hidden=hidden), TorchAttention)
    model.load_state_dict(tensors)
    return model.eval()
