"""The files of what a student handed in, a folder, a zip or one notebook, under limits that no claim of theirs moves.

In: a path. Out: a list of `Entry`, each to be read block by block. Links are not followed. Only a zip in a zip is
unpacked here, into a temporary file.
"""

import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lab3.common.files import SaveError

MB = 1_000_000
MAX_ENTRIES = 20_000  # files, hidden ones aside; 1500 are the pictures that notebook 06 saves
MAX_DIRECTORY = 16 * MB  # a zip's list of what it holds
MAX_DEPTH = 12  # folders in folders
MAX_INNER = 300 * MB  # of all zips in a zip, as long as they are copied
MAX_ZIPS = 5  # beside one another, and in one another
BLOCK = 1 << 20
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")  # only the first can be read
LINK = "is a link or no ordinary file. Hand in the file itself"
NOTEBOOK = re.compile(r"\.ipynb(?:\.(?:txt|json|download))?$", re.IGNORECASE)  # the latter is what browsers add
# What programs make, not people: of environments, everything that packages bring.
MADE = {"__MACOSX", "__pycache__", "site-packages", "dist-packages", "node_modules"}


class Unusable(Exception):
    """Something that cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """A file.

    Attributes:
        place: its path within what was handed in.
        size: in bytes, as claimed.
        open: gives it opened for reading.
        path: where it lies; None in a zip.
        reason: why it must not be read, else empty.
        order: which of several files that were handed in it is from, 0 for the latest.
    """

    place: PurePosixPath
    size: int = 0
    open: Callable | None = None
    path: Path | None = None
    reason: str = ""
    order: int = 0

    @property
    def kind(self):
        """Its suffix in lower case, `.ipynb` for every notebook."""
        return ".ipynb" if NOTEBOOK.search(self.place.name) else self.place.suffix.lower()

    def blocks(self, most, remedy):
        """Its content, block by block; in a damaged file some blocks may come before the error.

        Args:
            most: how many bytes it may have.
            remedy: what to do where it has more.

        Raises:
            Unusable: it is larger, damaged, or must not be read.
        """
        large = Unusable(f"is larger than the {most / MB:.0f} MB that are read. {remedy}")
        if self.reason:
            raise Unusable(self.reason)
        if self.size > most:
            raise large
        try:
            with self.open() as file:
                while block := file.read(BLOCK):
                    most -= len(block)
                    if most < 0:
                        raise large
                    yield block
        except Unusable:
            raise
        except Exception as error:  # zipfile and zlib raise all sorts of things at damaged data
            reason = getattr(error, "strerror", None) or error
            raise Unusable(f"cannot be read ({shown(reason)}). Hand it in again") from None


def shown(text, most=100):
    """A text from outside, fit for a message of one line."""
    text = "".join(char if char.isprintable() else "?" for char in str(text))
    return text if len(text) <= most else f"{text[:most]}..."


def hidden(name):
    """Whether programs, not people, made a file or folder of this name."""
    return name.startswith(".") or name in MADE


@contextmanager
def unpacked(path, note):
    """The files of a folder, a zip or a single notebook. Zips are looked into where there is no notebook beside them.

    Args:
        path: where it lies.
        note: is called with what the student should know.

    Yields:
        A list of `Entry`, hidden ones left out.

    Raises:
        Unusable: nothing of it can be read.
        SaveError: there is no room to copy a zip in a zip.
        OSError: it does not exist or must not be looked into.
    """
    copied = 0

    def seekable(entry):
        """A zip's file, to be read in any order: of a zip in a zip, a copy."""
        nonlocal copied
        if entry.path:
            return stack.enter_context(_open(entry.path))
        try:
            copy = stack.enter_context(tempfile.TemporaryFile(prefix="lab3-"))
            for block in entry.blocks(MAX_INNER - copied, "Pack your notebooks alone"):
                copied += copy.write(block)
        except OSError as error:
            raise SaveError(f"{entry.place}: a zip in a zip could not be copied ({error.strerror}). Free some space."
                            ) from error
        return copy

    with ExitStack() as stack:
        if path.is_dir():
            entries = _folder(path, note)
        else:
            file = stack.enter_context(_open(path.resolve()))
            size = os.fstat(file.fileno()).st_size
            one = Entry(PurePosixPath(path.name), size, lambda: _open(path.resolve()), path)
            packed = one.kind != ".ipynb" and (one.kind in ARCHIVES or file.read(2) == b"PK")
            entries = _zip(file) if packed else [one]
        added = entries
        for _ in range(MAX_ZIPS):
            zips = [entry for entry in added if entry.kind == ".zip" and not entry.reason]
            if not zips or _notebooks(entries):
                break
            added = _inside(zips, lambda zipped: _zip(seekable(zipped)), note)
            entries = entries + added
        yield entries


def _notebooks(entries):
    return any(entry.kind == ".ipynb" for entry in entries)


def _inside(zips, read, note):
    """What zips beside one another hold; nothing where more than one of them holds notebooks."""
    inside = {}
    for entry in zips[:MAX_ZIPS]:
        try:
            inside[entry] = read(entry)
        except Unusable as error:
            note(f"{shown(entry.place)}: not read: {error}.")
    several = [shown(entry.place) for entry, entries in inside.items() if _notebooks(entries)]
    if len(several) > 1 or len(zips) > MAX_ZIPS:
        note(f"{len(zips)} zips, and no notebook beside them: which one counts is not clear. Hand in one zip, not "
             f"{', '.join(several or [shown(entry.place) for entry in zips[:3]])}.")
        return []
    for entry in inside:
        note(f"{shown(entry.place)}: there are no notebooks beside it, so it is what counts.")
    return [one for entries in inside.values() for one in entries]


def _folder(path, note):
    entries = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not hidden(name))
        if len(Path(folder).relative_to(path).parts) == MAX_DEPTH and folders:
            note(f"{shown(Path(folder).relative_to(path))}: its folders are not looked into, they are nested too deep.")
            folders.clear()
        entries += [_file(Path(folder, name), path) for name in sorted(files) if not hidden(name)]
        if len(entries) > MAX_ENTRIES:
            raise _too_many()
    return entries


def _file(path, root):
    place, found = PurePosixPath(path.relative_to(root)), path.lstat()
    if not stat.S_ISREG(found.st_mode):
        return Entry(place, reason=LINK)
    return Entry(place, found.st_size, lambda: _open(path), path)


def _open(path):
    """Open a file for reading, but none that is a link or makes one wait."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unusable(LINK)
    return os.fdopen(handle, "rb")


class _Frugal:
    """A file that gives no large piece at once: a zip's list of what it holds must not fill the memory."""

    def __init__(self, file):
        self.file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable

    def read(self, size=-1):
        if size > MAX_DIRECTORY:
            raise _too_many()
        return self.file.read(size)


def _zip(file):
    try:
        archive = zipfile.ZipFile(_Frugal(file))
    except Unusable:
        raise
    except Exception as error:  # zipfile raises all sorts of things at nonsense
        file.seek(0)
        what = "the zip is cut off or damaged" if file.read(2) == b"PK" else "it is no zip"
        raise Unusable(f"{what} ({shown(error)}). Pack your notebooks as a zip again and hand it in again") from None
    entries, seen = [], set()
    for info in archive.infolist():
        if not info.filename.strip("\0/"):  # a damaged list of files; zipfile itself fails on an empty name
            continue
        place = PurePosixPath(info.filename.replace("\\", "/"))  # as some Windows programs write it
        outside = place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", info.filename)
        if info.is_dir() or any(map(hidden, place.parts)) and not outside:
            continue
        reason = (
            "has a path that leads out of the zip. Pack it again" if outside else
            "is nested too deep. Pack it again with fewer folders" if len(place.parts) > MAX_DEPTH + 1 else
            LINK if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) else
            "is encrypted. Pack it again without a password" if info.flag_bits & 0x41 else
            "is packed in an unusual way. Pack it again as an ordinary zip"
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else  # others unpack without limits
            "is in the zip twice. The first one counts" if place in seen else "")
        entries.append(Entry(place, info.file_size, lambda info=info: archive.open(info), reason=reason))
        seen.add(place)
        if len(entries) > MAX_ENTRIES:
            raise _too_many()
    return entries


def _too_many():
    return Unusable(f"it holds more than {MAX_ENTRIES} files. Hand in notebooks and work/maskgit.safetensors alone")
