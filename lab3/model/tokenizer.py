"""The VQGAN tokenizer: a picture becomes 16x16 tokens from a codebook, and tokens become a picture.

In: uint8 pictures (N, 3, 64, 64). Out: token indices (N, 256), and pictures from them.
The scheme is that of Esser, Rombach and Ommer (2021), "Taming Transformers for High-Resolution Image Synthesis";
its training is in `tokenizer_training.py`.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn

from lab3.common.files import InputError, config_of, load_tensors, load_weights, save_tensors
from lab3.presets import CODES, TokenizerConfig


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut, (B, channels_in, H, W) -> (B, channels_out, H, W)."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


def _blocks(channels, widths):
    """Residual blocks of the given widths; returns the modules and the channels that come out."""
    modules = []
    for width in widths:
        modules.append(ResidualBlock(channels, width))
        channels = width
    return modules, channels


def make_encoder(config):
    """(B, 3, 64, 64) -> (B, code_dim, 16, 16)."""
    modules, channels = [nn.Conv2d(3, config.stem, 3, padding=1)], config.stem
    for stage, widths in enumerate(config.encoder):
        if stage:
            after = widths[0] if widths else channels
            modules.append(nn.Conv2d(channels, after, 4, stride=2, padding=1))
            channels = after
        blocks, channels = _blocks(channels, widths)
        modules += blocks
    modules += [nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, config.code_dim, 1)]
    return nn.Sequential(*modules)


def make_decoder(config):
    """(B, code_dim, 16, 16) -> (B, 3, 64, 64)."""
    channels = config.decoder[0][0]
    modules = [nn.Conv2d(config.code_dim, channels, 3, padding=1)]
    for stage, widths in enumerate(config.decoder):
        if stage:
            after = widths[0] if widths else channels
            modules += [nn.Conv2d(channels, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
            channels = after
        blocks, channels = _blocks(channels, widths)
        modules += blocks
    modules += [nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1)]
    return nn.Sequential(*modules)


class Tokenizer(nn.Module):
    """A VQGAN without its discriminator.

    Args:
        config: a `TokenizerConfig`.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.decoder = make_decoder(config)
        self.register_buffer("codebook", torch.randn(CODES, config.code_dim))
        self.to(memory_format=torch.channels_last)

    def latents(self, pictures):
        """uint8 pictures (B, 3, 64, 64) -> what the codebook is searched for, (B, 256, code_dim) float32."""
        x = pictures.to(self.codebook.device, memory_format=torch.channels_last).float() / 127.5 - 1
        return self.encoder(x).flatten(2).transpose(1, 2).float()

    def draw(self, codes):
        """Code vectors (B, 256, code_dim) -> pictures (B, 3, 64, 64), float32 around [-1, 1]."""
        side = int(codes.shape[1] ** 0.5)
        x = codes.transpose(1, 2).unflatten(2, (side, side))
        return self.decoder(x.contiguous(memory_format=torch.channels_last)).float()

    @torch.no_grad()
    def encode(self, pictures, batch_size=128):
        """Tokens of pictures.

        Args:
            pictures: (N, 3, 64, 64) uint8.

        Returns:
            (N, 256) long, on the CPU, row by row from the top left.
        """
        return torch.cat([nearest(self.codebook, self.latents(batch)).cpu() for batch in pictures.split(batch_size)])

    @torch.no_grad()
    def decode(self, z_indices, batch_size=32):
        """Pictures from tokens.

        Args:
            z_indices: (N, 256) long, each in 0 ... 1023.

        Returns:
            (N, 3, 64, 64) uint8, on the CPU.

        Raises:
            InputError: an index that the codebook does not have, the mask token among them.
        """
        low, high = int(z_indices.min()), int(z_indices.max())
        if low < 0 or high >= len(self.codebook):
            raise InputError(f"z_indices must lie in 0 ... {len(self.codebook) - 1}, but {low if low < 0 else high} "
                             "is among them: is a mask token left that was never filled?")
        batches = z_indices.to(self.codebook.device).split(batch_size)
        return torch.cat([to_uint8(self.draw(self.codebook[batch])).cpu() for batch in batches])


def nearest(codebook, latents):
    """The codes of a codebook (V, D) next to latents (..., D) in Euclidean distance: (...) long."""
    distance = codebook.square().sum(1) - 2 * latents.detach().flatten(0, -2) @ codebook.T
    return distance.argmin(1).view(latents.shape[:-1])


def save_tokenizer(path, tokenizer):
    """Save a tokenizer in half precision, with its configuration. Raises `SaveError`."""
    tensors = {name: tensor.half() for name, tensor in tokenizer.state_dict().items()}
    save_tensors(path, tensors, {"kind": "tokenizer", "config": asdict(tokenizer.config)})


def load_tokenizer(path):
    """A tokenizer in eval mode, as it was saved.

    Raises:
        InputError: no such file, a damaged one, or one of another model.
    """
    tensors, about = load_tensors(path)
    tokenizer = Tokenizer(config_of(about, TokenizerConfig, "tokenizer", path))
    load_weights(tokenizer, tensors, path)
    return tokenizer.eval()


def to_uint8(pictures):
    """float pictures around [-1, 1] -> uint8."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
