"""Files that are written whole or not at all, and the one error for input that cannot be used.

In: paths and data. Out: files that are complete, or an `InputError` that names the file and the remedy.
"""

import hashlib
import json
import os
import re
import struct
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

ROW = re.compile(r"[\[{]\n[^\[\]{}]*\n\s*[\]}]")  # of JSON: a list or an object that holds no other
RETRIES = (0.05, 0.1, 0.2, 0.4, None)  # seconds to wait for a file that another program has open
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, half characters


class InputError(ValueError):
    """Something that the user gave cannot be used. The message names it and says what to do."""

    def _render_traceback_(self):
        """What a notebook shows: the message alone."""
        return [f"lab3: {self}"]


class SaveError(OSError):
    """A file could not be written. What stood there before is untouched."""


def clean(text):
    """Text that every reader takes: no control characters but line ends and tab, nothing that UTF-8 cannot hold."""
    return _UNREADABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


@contextmanager
def atomic_path(path):
    """Give a temporary path beside `path`; when the block ends well, it replaces `path`.

    Whatever happens before that, a full disk or a kill, `path` keeps its old content.

    Raises:
        SaveError: the file cannot be written (no space left, no permission).
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb+") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        _replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "Close the program that has it open" if isinstance(error, PermissionError) else "Free some space"
        raise SaveError(f"{path}: could not be saved ({reason}). "
                        f"{remedy} or choose another folder; what was there before is kept.") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _replace(temporary, path):
    """Put `temporary` in the place of `path`, and the folder's new entry on the disk where the system allows it.

    Windows refuses while another program has `path` open. A virus scanner or an index lets go in a moment.
    """
    for pause in RETRIES:
        try:
            os.replace(temporary, path)
            break
        except PermissionError:
            if path.is_dir() or pause is None:
                raise
            time.sleep(pause)
    with suppress(OSError):  # Windows opens no folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path, text, encoding="utf-8"):
    """Write `text` to `path`, atomically. Raises `SaveError`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding=encoding)


def write_json(path, value):
    """Write `value` to `path` as JSON, atomically: indented, short rows on a line. Raises `SaveError`."""
    write_text(path, ROW.sub(_on_one_line, json.dumps(value, indent=2)) + "\n")


def _on_one_line(row):
    line = re.sub(r"\n\s*", " ", row[0])
    return line if len(line) <= 110 else row[0]


def read_json(path):
    """Read a JSON file. Raises `InputError` where there is none or it cannot be parsed."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}). Delete it and make it again.") from None


def save_tensors(path, tensors, about=None):
    """Save a dict of tensors as safetensors, atomically, with `about` (JSON-able) in the file's header.

    Raises:
        SaveError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"about": json.dumps(about or {})})


def load_tensors(path):
    """Read a safetensors file on the CPU.

    Returns:
        (tensors, about): a dict of tensors, and what `save_tensors` was given as `about`.

    Raises:
        InputError: no such file, a truncated one, or one that is no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            # copies: what stays mapped from the file keeps Windows from replacing it
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error}). "
                         "It is truncated or damaged: copy it again or train a new one.") from None
    return tensors, about


def config_of(about, config_class, kind, path):
    """The configuration in a checkpoint's `about`, as a dataclass; `path` is named in errors.

    Raises:
        InputError: the checkpoint is of another kind, or its configuration has other fields.
    """
    if about.get("kind") != kind:
        raise InputError(f"{path}: holds no {kind} but {about.get('kind') or 'something unknown'}. "
                         f"Name a file that lab3 saved as {kind}.")
    names = {field.name for field in fields(config_class)}
    if set(about.get("config", {})) != names:
        raise InputError(f"{path}: its configuration does not fit this version of lab3. Train a new one.")
    return config_class(**{name: _tuples(value) for name, value in about["config"].items()})


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def load_weights(module, tensors, path):
    """Load `tensors` into `module`; `path` is named in errors.

    Floating tensors take the module's type, so half-precision files fit.

    Raises:
        InputError: keys or shapes do not match; the message names the first that does not.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    if missing or surplus:
        name, what = (missing[0], "lacks") if missing else (surplus[0], "has an unknown")
        raise InputError(f"{path}: the checkpoint {what} tensor {name!r}: it belongs to another model. "
                         "Use the preset it was trained with.")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(f"{path}: {name} has shape {tuple(tensor.shape)}, the model expects "
                             f"{tuple(wanted[name].shape)}. Use the preset it was trained with.")
    module.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()})
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point()):
        raise InputError(f"{path}: holds values that are not finite. Train a new one.")


def sha256(path):
    """The SHA-256 of a file, as a hexadecimal string."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_key(parts):
    """A short key for a sequence of byte strings or arrays: another content or order gives another key."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
