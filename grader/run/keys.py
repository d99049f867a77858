"""What marks depend on, as content hashes: a key for each column, and one of the whole grader.

In: a seed and a rubric. Out: keys. A changed probe changes only its exercise's key: of the files of probes, a key
holds the statements that its exercise's probes reach by name. All other code counts for every column.
"""

import ast
from functools import cache, cached_property
from pathlib import Path

import torch

from grader.kernels.sandbox import GRADER
from grader.probes import TOPICS
from grader.rubric import read_rubric
from lab3.common.files import content_key
from lab3.common.paths import FAST, PACKAGE, SHIPPED, SOLUTIONS
from lab3.exercises.table import EXERCISES
from lab3.metrics.decoding_score import RIGHT

PROBES = "grader.probes."  # the package of the files of probes
# Code that the two distances alone depend on.
DISTANCES = ("grader/run/distances.py", "grader/probes/filling.py", "lab3/metrics/decoding_score.py")
# Code that changes no mark: what reads commands, writes pages and tables, and runs a batch.
APART = ("grader/cli.py", "grader/__main__.py", "grader/export/", "grader/similar/", "grader/results/",
         "grader/run/batch.py", "grader/run/dask", "grader/run/dry_run.py", "grader/run/keys.py", "grader/run/pool",
         "grader/run/selfcheck.py",
         "lab3/cli.py", "lab3/__main__.py", "lab3/demo.py", "lab3/explorer/", "lab3/notebook/", "lab3/report/")


def grader_key(seed):
    """The content hash of all that marks depend on, besides the submission; with the seed None, of the code alone.

    Late penalties are not included: they are deducted later.
    """
    files = [*sorted(GRADER.rglob("*.py")), *sorted(PACKAGE.rglob("*.py")),
             *sorted(SOLUTIONS.glob("*.py")), *sorted(SHIPPED.glob("*.safetensors"))]
    return content_key([*(file.read_bytes() for file in files), repr(read_rubric().marking).encode(),
                        torch.__version__.encode(), str(seed).encode()])


def column_keys(seed, rubric):
    """The content hash of all that each column's marks depend on, besides the submission: a dict, column -> key."""
    common = [_common(), repr(rubric.limits).encode(), torch.__version__.encode(), str(seed).encode()]
    code = _code()
    distances = [path.read_bytes() for path in [*(code[name] for name in DISTANCES), RIGHT,
                                                *sorted(SOLUTIONS.glob("*.py")), *sorted(FAST.glob("*.py")),
                                                *sorted(SHIPPED.glob("*.safetensors"))]]
    keys, probes = {}, probe_code()
    for column, points in rubric.points.items():
        if column in EXERCISES:
            answers = (SOLUTIONS / f"{name}.py" for name in (column, *EXERCISES[column].builds_on))
            own = [*map(str.encode, probes[column]), *(path.read_bytes() for path in answers if path.is_file())]
        else:
            threshold = {name: value for name, value in rubric.thresholds[column].items() if name != "measured"}
            own = [*distances, repr(threshold).encode()]
        keys[column] = content_key([*common, repr(points).encode(), *own])
    return keys


def _code():
    """All files of code of both packages, wherever each is installed: a dict, such as `grader/cli.py` -> its path."""
    return {path.relative_to(package.parent).as_posix(): path
            for package in (GRADER, PACKAGE) for path in sorted(package.rglob("*.py"))}


@cache
def _common():
    """All code that counts for every column."""
    topics, apart = {Path(topic.__file__) for topic in TOPICS}, (*APART, *DISTANCES)
    return content_key([path.read_bytes() for name, path in _code().items()
                        if path not in topics and not name.startswith(apart)]).encode()


def probe_code(texts=None):
    """The statements in the files of probes that the probes of each exercise use.

    Args:
        texts: file's stem -> its text; None: as they are on disk.

    Returns:
        A dict, exercise -> a sorted list of texts.
    """
    texts = texts or {Path(topic.__file__).stem: Path(topic.__file__).read_text(encoding="utf-8") for topic in TOPICS}
    files = {stem: [_Statement(stem, node) for node in ast.parse(text).body] for stem, text in texts.items()}
    wanted = {exercise: [] for exercise in EXERCISES}
    for statements in files.values():
        owners = {}
        for one in statements:
            if owner := one.owner(owners):
                wanted[owner].append(one)
                owners |= dict.fromkeys(one.defines, owner)
    return {exercise: sorted(one.text for one in _reached(first, files)) for exercise, first in wanted.items()}


def _reached(wanted, files):
    """Statements, and all that they use by name, in their own file or in another of probes."""
    found, wanted = {}, list(wanted)
    while wanted:
        one = wanted.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        for other in files[one.stem]:
            wanted += [other] * bool(other.defines & one.uses)
            for home, original in (other.imports[name] for name in other.imports.keys() & one.uses):
                wanted += [far for far in files.get(home, ()) if original in far.defines]
    return found.values()


class _Statement:
    """A statement at the top of a file: the names that it defines, imports from other files of probes, and uses."""

    def __init__(self, stem, node):
        self.stem, self.node, self.imports = stem, node, {}
        names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
        self.uses = {one.id for one in names}
        self.defines = {one.id for one in names if isinstance(one.ctx, ast.Store)}
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            self.defines = {node.name}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROBES):
            self.imports = {one.asname or one.name: (node.module.removeprefix(PROBES), one.name) for one in node.names}

    @cached_property
    def text(self):
        return ast.unparse(self.node)

    def owner(self, owners):
        """The exercise whose probe this is, or is judged by this; `owners` knows those of the probes before it."""
        bare = [self.node.value] if isinstance(self.node, ast.Expr) else []
        for call in [*getattr(self.node, "decorator_list", ()), *bare]:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "probe":
                return call.args[0].value
            method = call.func if isinstance(call, ast.Call) else call
            if isinstance(method, ast.Attribute) and isinstance(method.value, ast.Name):
                return owners.get(method.value.id)
        return None
