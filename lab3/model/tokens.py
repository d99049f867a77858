"""The data set as tokens: encoded once, cached on disk; those of the embedded cats ship with the kit.

In: pictures and a tokenizer. Out: a (N, 256) int16 tensor, the same whether it was just encoded or read again.
"""

import hashlib
import lzma
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from lab3.common.files import SaveError, atomic_path, content_key
from lab3.common.paths import SHIPPED, cache_folder
from lab3.common.progress import progress_bar
from lab3.presets import CODES, TOKENS

MAGIC = b"lab3tok1"
HEADER = 8 + 16 + 64  # the magic, the number of rows as text, the SHA-256 of what follows as text


def weights_key(module):
    """A key that changes with a module's weights."""
    return _key(module.state_dict().items())


def tokenizer_key(tokenizer):
    """A key that changes with the tokens that a tokenizer makes: with its encoder and its codebook."""
    return _key((name, tensor) for name, tensor in tokenizer.state_dict().items() if not name.startswith("decoder."))


def _key(named):
    return content_key(tensor.detach().cpu().contiguous().numpy().tobytes() for _, tensor in named)


def tokens(pictures, tokenizer, *, folder=None, progress=True):
    """Tokens of pictures, from the shipped ones or the cache where these have them.

    The key covers the pixels and the tokenizer's weights, so a stale cache is never read; a damaged file is
    found by its checksum and made again.

    Args:
        pictures: (N, 3, 64, 64) uint8.
        tokenizer: a `Tokenizer`.
        folder: where the cache lies; None: `cache_folder()`.

    Returns:
        (N, 256) int16, not to be written to.
    """
    folder = cache_folder() if folder is None else Path(folder)
    name = f"tokens-{content_key([pictures.contiguous().numpy()])}-{tokenizer_key(tokenizer)}.bin"
    found = _read(SHIPPED / f"{name}.xz", len(pictures))
    if found is None:
        found = _read(folder / name, len(pictures))
    if found is None:
        bar = progress_bar(pictures.split(128), desc="encoding", unit="batch", disable=not progress)
        encoded = torch.cat([tokenizer.encode(batch) for batch in bar]).to(torch.int16).numpy()
        try:
            _write(folder / name, encoded)
        except SaveError as error:
            warnings.warn(f"{error} LAB3_CACHE names one. Pictures are encoded again next time.", stacklevel=2)
        found = torch.from_numpy(encoded)
    return found


def training_tokens(data, tokenizer, training, *, folder=None, progress=True):
    """The tokens to train on and to validate on, as many as a `TrainingConfig` says: a pair of (N, 256) int16."""
    wanted = (data.train[:training.train_pictures], data.val[:training.val_pictures])
    return tuple(tokens(pictures, tokenizer, folder=folder, progress=progress) for pictures in wanted)


def ship_tokens(data, tokenizer, training, folder):
    """Write what `training_tokens` gives into `folder`, compressed, in place of all that was shipped there before."""
    for old in folder.glob("tokens-*.bin.xz"):
        old.unlink()
    with tempfile.TemporaryDirectory() as encoded:
        training_tokens(data, tokenizer, training, folder=Path(encoded))
        for path in sorted(Path(encoded).glob("tokens-*.bin")):
            (folder / f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))


def _write(path, encoded):
    body = encoded.astype("<i2").tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(MAGIC + f"{len(encoded):16d}".encode() + _digest(body) + body)


def _digest(body):
    return hashlib.sha256(body).hexdigest().encode()


def _read(path, n):
    """The cached tokens, or None where the file is missing, damaged or of another length."""
    try:
        with open(path, "rb") as file:
            content = file.read()
        view = bytearray(lzma.decompress(content) if path.suffix == ".xz" else content)
    except (OSError, ValueError, lzma.LZMAError, EOFError):
        return None
    body = memoryview(view)[HEADER:]
    if view[:8] != MAGIC or view[8:24] != f"{n:16d}".encode() or len(body) != n * TOKENS * 2:
        return None
    if view[24:HEADER] != _digest(body):
        return None
    values = torch.from_numpy(np.frombuffer(view, dtype="<i2", offset=HEADER)).view(n, TOKENS)
    return values if n == 0 or 0 <= int(values.min()) <= int(values.max()) < CODES else None
