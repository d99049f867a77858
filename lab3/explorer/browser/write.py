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

from lab3.common.files import InputError, write_text
from lab3.data.cats import Cats
from lab3.explorer.filmstrip import CONFIDENCE
from lab3.explorer.formula import FORMULAS

HERE = Path(__file__).parent
WEB = HERE.parent / "web"
# The exercise's three as its text gives them, then those from papers.
SCHEDULES = {"linear": "1 - r", "cosine": "cos(pi * r / 2)", "square": "1 - r^2"} | FORMULAS
PICTURES = 12  # how many of the test pictures come with the page
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
    width = transformer.config.dim // transformer.config.heads
    if width % PANEL:
        raise InputError(f"the page takes transformers with heads of a multiple of {PANEL} channels, not {width}: "
                         "train one with another dim or other heads.")
    script, style = joined("page.js"), "".join((place / name).read_text(encoding="utf-8") for place, name in (
        (HERE, "page.css"), (WEB, "pads.css")))
    colours = (255 * CONFIDENCE(np.linspace(0, 1, 64))[:, :3]).round().astype(int).tolist()
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined)
    page = environment.get_template("page.html").render(
        script=script, script_hash=_hash(script), style=style, style_hash=_hash(style), worker=joined("worker.js"),
        wasm=base64.b64encode((HERE / "matmul.wasm").read_bytes()).decode(),
        weights=base64.b64encode(gzip.compress(packed(tokenizer, transformer, data), mtime=0)).decode(),
        options=json.dumps({"schedules": SCHEDULES, "colours": colours}), credit=isinstance(data, Cats))
    write_text(path, page)
    return len(page.encode())


def packed(tokenizer, transformer, data):
    """Models and pictures as bytes: a length, a JSON header, then the tensors one after the other.

    float16 keeps the tokens that Python gives. The decoder only draws pictures from tokens: its filters are int8.
    """
    pictures = (data.test if data.has_originals else data.masked)[:PICTURES].permute(0, 2, 3, 1).contiguous()
    tensors = {f"{kind}.{name}": tensor.detach().cpu().float().numpy() for kind, model in (
        ("tokenizer", tokenizer), ("transformer", transformer)) for name, tensor in model.state_dict().items()}
    tensors |= {"pictures": pictures.numpy(), "holes": data.holes[:PICTURES].numpy().astype(np.uint8)}
    header, body = [], []
    for name, tensor in tensors.items():
        small = name.startswith("tokenizer.decoder.") and tensor.ndim > 1
        kind = str(tensor.dtype) if tensor.dtype == np.uint8 else "int8" if small else "float16"
        header.append({"name": name, "shape": tensor.shape, "kind": kind})
        if kind == "uint8":
            body.append(tensor.tobytes())
        elif kind == "int8":
            rows = tensor.reshape(len(tensor), -1)
            scales = np.abs(rows).max(axis=1, keepdims=True).clip(1e-12) / 127
            body += [scales.astype("<f4").tobytes(), (rows / scales).round().astype(np.int8).tobytes()]
        else:  # all low bytes, then all high ones, which compress better by themselves
            body.append(tensor.astype("<f2").reshape(-1, 1).view(np.uint8).T.tobytes())
    about = json.dumps({"config": {"tokenizer": asdict(tokenizer.config), "transformer": asdict(transformer.config)},
                        "tensors": header}).encode()
    return b"".join([len(about).to_bytes(4, "little"), about, *body])


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
