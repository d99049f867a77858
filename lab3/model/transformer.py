"""The bidirectional transformer: tokens in, some of them hidden, logits for every place out.

In: token indices (B, 256), an attention class (the student's). Out: logits (B, 256, 1025).
The shape is that of MaskGIT (Chang et al., 2022), which is BERT's: post-norm, the output tied to the token embedding.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from lab3.common.files import config_of, load_tensors, load_weights, save_tensors
from lab3.presets import CODES, TOKENS, TransformerConfig

MASK_TOKEN_ID = CODES


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each added to its input and normalised after, (B, T, D) -> (B, T, D)."""

    def __init__(self, config, attention):
        super().__init__()
        self.attention = attention(config.dim, config.heads, config.attn_drop)
        self.norm1 = nn.LayerNorm(config.dim)
        self.perceptron = nn.Sequential(
            nn.Linear(config.dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim))
        self.norm2 = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x):
        x = self.norm1(x + self.drop(self.attention(x)))
        return self.norm2(x + self.drop(self.perceptron(x)))


class BidirectionalTransformer(nn.Module):
    """Predict the token at every place from all places.

    Args:
        config: a `TransformerConfig`.
        attention: a class like the exercise's `MultiHeadAttention`: `attention(dim, num_heads, attn_drop)` maps
            (B, T, dim) to (B, T, dim).
    """

    def __init__(self, config, attention):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(CODES + 1, config.dim)
        self.place_embedding = nn.Parameter(torch.zeros(TOKENS, config.dim))
        self.norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.bias = nn.Parameter(torch.zeros(TOKENS, CODES + 1))
        self.apply(_init)
        nn.init.trunc_normal_(self.place_embedding, std=0.02)

    def forward(self, z_indices, where=None):
        """Logits for every place, or for some.

        Args:
            z_indices: (B, T) long, each in 0 ... 1024.
            where: (B, T) bool, True at the places whose logits are wanted; None: all.

        Returns:
            (B, T, 1025), or (n, 1025) for the n places of `where`, row by row.
        """
        x = self.token_embedding(z_indices) + self.place_embedding
        x = self.drop(self.norm(x))  # (B, T, D)
        for layer in self.layers:
            x = layer(x)
        bias = self.bias
        if where is not None:  # the head is computed for these alone
            wanted = where.flatten().nonzero()[:, 0]
            x = x.flatten(0, 1).index_select(0, wanted)  # (n, D)
            bias = F.embedding(wanted % where.shape[1], bias)  # (n, V + 1)
        return self.head(x) @ self.token_embedding.weight.T + bias


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
    transformer = BidirectionalTransformer(config_of(about, TransformerConfig, "transformer", path), attention)
    load_weights(transformer, tensors, path)
    return transformer.eval()
