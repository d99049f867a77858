"""The bidirectional transformer: tokens in, some of them hidden, logits for every place out.

In: token indices (B, 256), an attention class (the student's), where wanted labels. Out: logits (B, 256, 1025).
The shape is that of MaskGIT (Chang et al., 2022), with the output tied to the token embedding. By default each layer
normalises its inputs (pre-norm; Xiong et al., 2020, "On Layer Normalization in the Transformer Architecture"), sees
neighbouring tokens through a 3x3 depthwise convolution and begins as the identity: short trainings then learn more.
MaskGIT's own is `norm="post", conv=False`.
"""

import copy
import math
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from lab3.common.files import config_of, load_tensors, load_weights, save_tensors
from lab3.presets import CODES, TOKENS, TransformerConfig

MASK_TOKEN_ID = CODES
ROWS = 64  # products are made for multiples of so many rows: oneDNN keeps memory for each number that it meets
# What a file has that was saved before there were such options.
BEFORE_OPTIONS = {"norm": "post", "conv": False, "labels": ()}


class Layer(nn.Module):
    """A convolution, attention and a two-layer perceptron, each added to its input, (B, T, D) -> (B, T, D)."""

    def __init__(self, config, attention):
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention = attention(config.dim, config.heads, config.attn_drop)
        self.norm1 = nn.LayerNorm(config.dim)
        self.conv = None
        if config.conv:
            self.conv = nn.Conv2d(config.dim, config.dim, 3, padding=1, groups=config.dim, bias=False)
        self.perceptron = nn.Sequential(
            nn.Linear(config.dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim))
        self.norm2 = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.apply_to(x, self.neighbours, self.attention)

    def apply_to(self, x, neighbours, attention):
        """The layer for the tokens in x (..., D), given functions that mix tokens: (..., D) -> (..., D)."""
        if self.conv is not None:
            x = x + neighbours(x)
        if self.pre:
            x = x + self.drop(attention(self.norm1(x)))
            return x + self.drop(self.perceptron(self.norm2(x)))
        x = self.norm1(x + self.drop(attention(x)))
        return self.norm2(x + self.drop(self.perceptron(x)))

    def neighbours(self, x):
        """The convolution over the square of places, (B, T, D) -> (B, T, D)."""
        side = math.isqrt(x.shape[1])
        return self.conv(x.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)


class BidirectionalTransformer(nn.Module):
    """Predict the token at every place from all places.

    Args:
        config: a `TransformerConfig`.
        attention: a class like the exercise's `MultiHeadAttention`: `attention(dim, num_heads, attn_drop)` maps
            (B, T, dim) to (B, T, dim).

    `labels` holds what the pictures of the next calls show: (B, P) long, or (1, P) for all rows alike; -1 is "any".
    None: "any" for every part. Calls take tokens alone, so functions written for other models work with it.
    """

    def __init__(self, config, attention):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(CODES + 1, config.dim)
        self.place_embedding = nn.Parameter(torch.zeros(TOKENS, config.dim))
        self.label_embeddings = nn.ModuleList(nn.Embedding(values + 1, config.dim) for values in config.labels)
        self.labels = None
        self.norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))
        self.last_norm = nn.LayerNorm(config.dim) if config.norm == "pre" else nn.Identity()
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.bias = nn.Parameter(torch.zeros(TOKENS, CODES + 1))
        self.apply(_init)
        nn.init.trunc_normal_(self.place_embedding, std=0.02)
        if config.norm == "pre":  # each layer begins as the identity
            for layer in self.layers:
                for last in (getattr(layer.attention, "output", None), layer.perceptron[2], layer.conv):
                    if last is not None:
                        nn.init.zeros_(last.weight)

    def forward(self, z_indices, where=None):
        """Logits for every place, or for some.

        Args:
            z_indices: (B, T) long, each in 0 ... 1024.
            where: (B, T) bool, True at the places whose logits are wanted; None: all.

        Returns:
            (B, T, 1025), or (n, 1025) for the n places of `where`, row by row.
        """
        x = self.embed(z_indices)
        for layer in self.layers:
            x = layer(x)
        if where is None:
            return self.logits(x, self.bias)
        wanted = where.flatten().nonzero()[:, 0]  # the head is computed for these alone
        return self.logits_at(x.flatten(0, 1).index_select(0, wanted), wanted % where.shape[1])

    def with_labels(self, labels):
        """The same transformer, weights shared, for pictures with these labels: (B, P) or (1, P) long, or None."""
        labelled = copy.copy(self)
        labelled.labels = labels
        return labelled

    def embed(self, z_indices):
        """Tokens with their places and the sum of their picture's labels, (B, T) -> (B, T, D)."""
        x = self.token_embedding(z_indices) + self.place_embedding
        for part, embedding in enumerate(self.label_embeddings):
            chosen = z_indices.new_full((1,), -1) if self.labels is None else self.labels[:, part]
            x = x + embedding(chosen % embedding.num_embeddings)[:, None]  # the last one is "any"
        return self.drop(self.norm(x))

    def logits(self, x, bias):
        """The head: what the layers give, (..., D), and the places' bias, (..., V + 1) -> (..., V + 1)."""
        return self.head(self.last_norm(x)) @ self.token_embedding.weight.T + bias

    def logits_at(self, x, places):
        """The head for some tokens: what the layers give, (n, D), and where they stand, (n,) -> (n, V + 1)."""
        extra = -len(x) % ROWS
        x, bias = F.pad(x, (0, 0, 0, extra)), F.embedding(F.pad(places, (0, extra)), self.bias)
        return self.logits(x, bias)[:len(places)]


def _init(module):
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def save_transformer(path, transformer, *, half=False, record=None):
    """Save the weights with their configuration and, where given, the record of their training. Raises `SaveError`."""
    tensors = {name: tensor.half() if half else tensor for name, tensor in transformer.state_dict().items()}
    save_tensors(path, tensors, {"kind": "transformer", "config": asdict(transformer.config), "record": record})


def load_transformer(path, attention):
    """A transformer in eval mode, as it was saved.

    Raises:
        InputError: no such file, a damaged one, or one of another model.
    """
    tensors, about = load_tensors(path)
    if about.get("kind") == "transformer":
        about["config"] = BEFORE_OPTIONS | about.get("config", {})
    transformer = BidirectionalTransformer(config_of(about, TransformerConfig, "transformer", path), attention)
    load_weights(transformer, tensors, path)
    return transformer.eval()
