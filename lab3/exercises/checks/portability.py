"""The check that every exercise has: an answer runs where it is graded.

In: the text of the answer. Out: nothing, or `CheckFailed` where it needs a newer Python, another package, a GPU or
keyboard input.
"""

import ast
import io
import linecache
import re
import sys
import tokenize

from lab3.exercises.checks.tools import NO_GPU, NO_INPUT, NO_PACKAGE, expect
from lab3.exercises.table import PACKAGES

OLDEST = (3, 11)  # the Python that the course asks for


def portable(answer, namespace):
    """It runs where answers are graded."""
    text = "".join(linecache.getlines(namespace.get("__file__", "")))
    expect(not newer_syntax(text), f"code that Python {'.'.join(map(str, OLDEST))} reads", "newer syntax",
           "answers may be graded with an older Python than yours: in an f-string, use other quotes and no backslash")
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    expect(not (others := other_packages(tree)), f"imports of {', '.join(PACKAGES)} and of Python's own modules",
           f"import {', '.join(others)}", NO_PACKAGE)
    expect(not any(isinstance(one.func, ast.Name) and one.func.id == "input" for one in calls), "no question",
           "input()", NO_INPUT)
    expect("is_available" in text or not any(map(_on_gpu, calls)), "tensors on the device of the inputs",
           "a call that asks for cuda", NO_GPU)


def newer_syntax(text):
    """Whether an older Python than this one could not read a text, although the course allows it."""
    if sys.version_info[:2] <= OLDEST:
        return False
    try:
        ast.parse(text, feature_version=OLDEST)
    except SyntaxError:
        return True
    opened = []  # the quotes of f-strings: inside them, neither these nor a backslash were allowed
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_END":
            opened.pop()
        if kind in ("STRING", "FSTRING_START"):
            quote = re.search(r"\"\"\"|'''|[\"']", token.string)[0]
            if quote in opened or opened and "\\" in token.string:
                return True
            if kind == "FSTRING_START":
                opened.append(quote)
    return False


def other_packages(tree):
    """The packages that an answer imports and that need not be there; not those for which it has an `except`."""
    guarded = {node for one in ast.walk(tree) if isinstance(one, ast.Try) and one.handlers
               for part in one.body for node in ast.walk(part)}
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in guarded:
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node not in guarded:
            names.append(node.module or ".")
    return sorted({name.split(".")[0] for name in names} - {*sys.stdlib_module_names, *PACKAGES})


def _on_gpu(call):
    """Whether a call puts something on a GPU: `.cuda()`, `.to("cuda")`, `device="cuda:0"`."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    places = [*(call.args if name in ("to", "device") else ()),
              *(one.value for one in call.keywords if one.arg == "device")]
    return name == "cuda" or any(isinstance(one, ast.Constant) and str(one.value).startswith("cuda") for one in places)
