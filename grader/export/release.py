"""What students get: the lab without answers and hidden probes, as one zip with a version and checksums.

In: this project. Out: `lab3-VERSION.zip` and its SHA-256. The zip holds one folder: starters, package, data, and the
files of `grader/export/student`, among them `update.py`, which brings a folder of an earlier release up to this one.
"""

import hashlib
import io
import json
import re
import tomllib
import zipfile
from pathlib import Path

import jinja2

from lab3.common.files import InputError, atomic_path, write_text
from lab3.common.paths import ROOT
from lab3.exercises.table import IMPORTS, NBGRADER

TAKEN = ("notebooks/*.ipynb", "lab3/**/*", "data/**/*", "constraints.txt", "lab.mk", "setup_lab.py", "LICENSE")
# how the data were made: these need what students do not get
MADE_BY = ("ship.py", "convert_lite0.py", "build_layers.py")
STUDENT = Path(__file__).parent / "student"
SUMS, VERSION = "SHA256SUMS", "VERSION"  # as `update.py` reads them
SHORTEST = 30  # characters without spaces: what is shorter may stand anywhere by chance
_SOLUTION = re.compile(f"{NBGRADER[0]}.*?{NBGRADER[1]}", re.DOTALL)
_READABLE = re.compile(rb"[\t\n\r\x20-\x7e]{12,}")  # in a file that is no text
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same zip


def release(out, root=ROOT):
    """Write the release.

    Args:
        out: the folder for the zip and the file with its SHA-256.
        root: the project.

    Returns:
        The zip's path.

    Raises:
        InputError: a file holds a reference answer; or `out` has this version with another content.
        SaveError: a file cannot be written.
    """
    files = collect(root)
    version = files[VERSION].decode().strip()
    archive = Path(out) / f"lab3-{version}.zip"
    made = pack({f"lab3-{version}/{name}": content for name, content in files.items()})
    if archive.is_file() and archive.read_bytes() != made:
        raise InputError(f"{archive}: version {version} is out with another content. Raise the version in "
                         "pyproject.toml, so that students can tell the two apart, or choose another folder.")
    with atomic_path(archive) as temporary:
        temporary.write_bytes(made)
    write_text(archive.with_name(f"{archive.name}.sha256"), f"{hashlib.sha256(made).hexdigest()}  {archive.name}\n")
    return archive


def collect(root=ROOT):
    """The files of a release: a dict, name -> bytes. Raises `InputError` where one holds a reference answer."""
    root = project_folder(root)
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project, setuptools = settings["project"], settings["tool"]["setuptools"]
    files = {path.relative_to(root).as_posix(): path.read_bytes()
             for pattern in TAKEN for path in root.glob(pattern) if _wanted(path, root)}
    pages = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    for path in sorted(path for path in STUDENT.iterdir() if path.is_file()):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jinja":
            text = pages.from_string(text).render(project=project, setuptools=setuptools, toml=json.dumps)
        files[path.name.removesuffix(".jinja")] = text.encode()
    files[VERSION] = f"{project['version']}\n".encode()
    parts = answer_parts(root)
    for name, content in files.items():
        text = seen_text(name, content)
        if found := next((exercise for part, exercise in parts.items() if part in text), None):
            raise InputError(f"{name}: holds a part of the reference answer to {found}. Build the starters again "
                             "(make notebooks), or take it out.")
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return {**files, SUMS: sums.encode()}


def project_folder(root):
    """The project as a `Path`. Raises `InputError` where the grader is installed without it."""
    if not (Path(root) / "pyproject.toml").is_file():
        raise InputError("needs the project itself, which the installed package does not hold: clone its "
                         "repository and run the command in that folder.")
    return Path(root)


def _wanted(path, root):
    parts = path.relative_to(root).parts
    return (path.is_file() and path.name not in MADE_BY and path.suffix != ".pyc"
            and not any(part.startswith((".", "__pycache__")) for part in parts))


def answer_parts(root=ROOT):
    """What gives a reference answer away: a dict, text without spaces -> exercise.

    Each part is two successive lines of an answer's code that are not given with the exercise.
    """
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted(Path(root).glob("solutions/source/*.py")))
    given, parts = squeezed(IMPORTS + _SOLUTION.sub("", sources)), {}
    for path in sorted(Path(root).glob("solutions/work/*.py")) + sorted(Path(root).glob("solutions/fast/*.py")):
        lines = [squeezed(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line and line not in given]
        parts |= {"".join(pair): path.stem for pair in zip(lines, lines[1:]) if len("".join(pair)) >= SHORTEST}
    return parts


def seen_text(name, content):
    """All text in a file, without spaces; of a notebook every string in it, outputs and metadata too."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\n".join(part.decode() for part in _READABLE.findall(content))
    if name.endswith(".ipynb"):
        text = "\n".join(_strings(json.loads(text)))
    return squeezed(text)


def squeezed(text):
    """The text without spaces and line ends."""
    return re.sub(r"\s+", "", text)


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        if isinstance(value, dict):
            yield from value
            value = value.values()
        for one in value:
            yield from _strings(one)


def pack(files, programs=()):
    """A zip's bytes: the same files give the same bytes.

    Args:
        files: a dict, name -> bytes.
        programs: names of those that are to be executable.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3  # Unix, whose modes follow
            entry.external_attr = (0o100755 if name in programs else 0o100644) << 16
            archive.writestr(entry, files[name])
    return packed.getvalue()
