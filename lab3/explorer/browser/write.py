"""Writes the explorer as one HTML file that holds the models and computes in the browser.

In: a tokenizer, a transformer, pictures with their holes. Out: a page that loads nothing from elsewhere. Its modules
are the files beside this one; `joined` puts them into one script, so the page also opens from disk.
"""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np
from torch import nn

from lab3.common.files import InputError, write_text
from lab3.data.cats import Cats
from lab3.decoding.generate import halton_rank
from lab3.explorer.filmstrip import CONFIDENCE
from lab3.explorer.formula import FORMULAS

HERE = Path(__file__).parent
WEB = HERE.parent / "web"
# The exercise's three as its text gives them, then those from papers.
SCHEDULES = {"linear": "1 - r", "cosine": "cos(pi * r / 2)", "square": "1 - r^2"} | FORMULAS
PICTURES = 12  # how many of the test pictures come with the page
LEVELS = 63  # of an int8 weight on either side of 0
PANEL = 8  # columns that the matrix product takes at a time
_IMPORT = re.compile(r'^import (\w+|\{[^}]*\}) from "([^"]+)";\n', re.MULTILINE)


def write_page(path, tokenizer, transformer, data):
    """Write the page.

    Args:
        path: where it goes, a file.
        tokenizer: a `Tokenizer`.
        transformer: a `BidirectionalTransformer` with PyTorch's attention.
        data: pictures, as `open_data` gives them.

    Returns:
        The size of the page in bytes.

    Raises:
        InputError: a transformer whose heads the matrix product does not take.
        SaveError: the file cannot be written.
    """
    config = transformer.config
    for what, width, remedy in (("heads", config.dim // config.heads, "dim or other heads"),
                                ("a perceptron", config.hidden, "hidden")):
        if width % PANEL:
            raise InputError(f"the page takes transformers with {what} of a multiple of {PANEL} channels, not {width}: "
                             f"train one with another {remedy}.")
    script, style = joined("page.js"), "".join((place / name).read_text(encoding="utf-8") for place, name in (
        (HERE, "page.css"), (WEB, "pads.css")))
    colours = (255 * CONFIDENCE(np.linspace(0, 1, 64))[:, :3]).round().astype(int).tolist()
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined)
    page = environment.get_template("page.html").render(
        script=script, script_hash=_hash(script), style=style, style_hash=_hash(style), worker=joined("worker.js"),
        wasm=_coded((HERE / "matmul.wasm").read_bytes()),
        weights=_coded(gzip.compress(packed(tokenizer, transformer, data), mtime=0)),
        options=json.dumps({"schedules": SCHEDULES, "colours": colours}), schedules=SCHEDULES,
        credit=isinstance(data, Cats))
    write_text(path, page, encoding="utf-16")  # with its mark; two bytes a character, also those of the weights
    return Path(path).stat().st_size


def packed(tokenizer, transformer, data):
    """Models and pictures as bytes: a length, a JSON header, then the tensors one after the other.

    float16 keeps the tokens that Python gives. The decoder only draws pictures from tokens: its filters are int8, in
    so few levels that they compress well and change its pictures by less than one grey level in the mean.
    """
    header, body = [], []
    for name, tensor in _tensors(tokenizer, transformer, data).items():
        small = name.startswith("tokenizer.decoder.") and name.endswith(".weight") and tensor.ndim > 2
        kind = str(tensor.dtype) if tensor.dtype == np.uint8 else "int8" if small else "float16"
        header.append({"name": name, "shape": tensor.shape, "kind": kind})
        if kind == "uint8":
            body.append(tensor.tobytes())
        elif kind == "int8":
            scales = np.abs(tensor).max(axis=-2, keepdims=True).clip(1e-12) / LEVELS
            body += [scales.astype("<f4").tobytes(), (tensor / scales).round().astype(np.int8).tobytes()]
        else:  # all low bytes, then all high ones, which compress better by themselves
            body.append(tensor.astype("<f2").reshape(-1, 1).view(np.uint8).T.tobytes())
    config = {"tokenizer": {name: _modules(name, getattr(tokenizer, name)) for name in ("encoder", "decoder")},
              "transformer": asdict(transformer.config), "halton": halton_rank().tolist()}
    about = json.dumps({"config": config, "tensors": header}).encode()
    return b"".join([len(about).to_bytes(4, "little"), about, *body])


def _tensors(tokenizer, transformer, data):
    """A dict, name -> array, with matrices as the page's matrix product takes them."""
    found = {}
    for name, tensor in _numpy(transformer.state_dict()).items():
        matrix = tensor.ndim == 2 and name.endswith(".weight")
        found[f"transformer.{name}"] = _panels(tensor) if matrix else tensor
    places = found.pop("transformer.place_embedding")
    for embedding in _numpy({str(i): one.weight for i, one in enumerate(transformer.label_embeddings)}).values():
        places = places + embedding[-1]  # "any"
    found |= {"transformer.places.weight": places, "transformer.codes.bias": found.pop("transformer.bias")[:, :-1]}
    for name, tensor in _numpy(tokenizer.state_dict()).items():
        if tensor.ndim == 4:  # filters: for each of their rows a matrix, from columns x channels to channels
            tensor = np.stack([_panels(row.reshape(len(row), -1)) for row in tensor.transpose(2, 0, 3, 1)])
        else:
            tensor = _panels(tensor) if tensor.ndim == 2 else np.pad(tensor, (0, -len(tensor) % PANEL))
        found[f"tokenizer.{name}"] = tensor
    found["tokenizer.codebook.weight"] = found.pop("tokenizer.codebook")
    pictures = (data.test if data.has_originals else data.masked)[:PICTURES].permute(0, 2, 3, 1).contiguous()
    return found | {"pictures": pictures.numpy(), "holes": data.holes[:PICTURES].numpy().astype(np.uint8)}


def _modules(name, modules):
    """The modules of an encoder or a decoder in their order: kind and name, of a convolution also size and stride."""
    return [(type(one).__name__, f"{name}.{i}",
             *((one.kernel_size[0], one.stride[0]) if isinstance(one, nn.Conv2d) else ()))
            for i, one in enumerate(modules)]


def _panels(matrix):
    """A matrix (n, k) in panels of eight columns of its transpose, (n / 8, k, 8), the last one filled up with 0."""
    rows = np.pad(matrix, ((0, -len(matrix) % PANEL), (0, 0)))
    return np.ascontiguousarray(rows.reshape(-1, PANEL, matrix.shape[1]).transpose(0, 2, 1))


def _numpy(tensors):
    return {name: tensor.detach().cpu().float().numpy() for name, tensor in tensors.items()}


def _coded(content):
    """Bytes as text, 15 bits a character, from U+5000 on, where HTML takes every character as it is."""
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    rows = np.pad(bits, (0, -len(bits) % 15)).reshape(-1, 15)
    codes = np.packbits(np.pad(rows, ((0, 0), (1, 0))), axis=1).view(">u2").ravel() + 0x5000
    return f"{len(content)} {codes.astype('<u2').tobytes().decode('utf-16-le')}"


def joined(name):
    """A module and all that it imports as one script: each becomes a function that returns its exports."""
    done = {}

    def add(path):
        if path in done:
            return
        done[path] = None  # its place comes after those that it imports
        code = path.read_text(encoding="utf-8")
        for _, other in _IMPORT.findall(code):
            add((path.parent / other).resolve())
        code = _IMPORT.sub(lambda found: f"const {_taken(found[1])} = {_name(found[2])};\n", code)
        exports = re.findall(r"^export (?:async )?(?:function\*?|const) (\w+)", code, re.MULTILINE)
        returned = ", ".join(exports)
        if default := re.search(r"^export default (\{.*\});\n", code, re.MULTILINE):
            code, returned = code.replace(default[0], ""), f"default: {default[1]}"
        code = re.sub(r"^export ", "", code, flags=re.MULTILINE)
        del done[path]
        done[path] = f"const {_name(path.name)} = (() => {{\n{code}return {{ {returned} }};\n}})();\n"

    add((HERE / name).resolve())
    return '"use strict";\n' + "".join(done.values())


def _name(path):
    return f"module_{Path(path).stem}"


def _taken(names):
    return names if names.startswith("{") else f"{{ default: {names} }}"


def _hash(text):
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
