"""Bring a folder of an earlier release up to this one: `python update.py FOLDER`.

In: the folder that this file is in, and the one that you worked in. Out: FOLDER with this release's files, and a
line for each that was yours. `work/` is never touched. A notebook that you changed or ran stays as it is; where its
starter is new, that is put beside it. Another file that you changed is replaced, and yours is kept beside it.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path, PurePosixPath

SUMS, VERSION = "SHA256SUMS", "VERSION"


class Refused(Exception):
    """The update was not begun; the text says why."""


def update(new, old, say=print):
    """Update the folder `old` with the release in the folder `new`. Raises `Refused`, `OSError`."""
    new, old = Path(new).resolve(), Path(old).resolve()
    if old == new or not old.is_dir() or not (old / "notebooks").is_dir():
        raise Refused(f"{old}: name the folder that you work in, the one that holds notebooks/ and work/.")
    sums, before = read_sums(new), read_sums(old) if (old / SUMS).is_file() else {}
    damaged = [name for name, wanted in sums.items() if hash_of(new / name) != wanted]
    if damaged:
        raise Refused(f"{new}: {damaged[0]} is damaged or missing. Unpack the release again.")
    version, earlier = ((one / VERSION).read_text().strip() if (one / VERSION).is_file() else "unknown"
                        for one in (new, old))
    for name, wanted in sums.items():
        place, mine = old / name, hash_of(old / name)
        if mine in (wanted, before.get(name), None):  # as released, or gone
            if mine != wanted:
                copy(new / name, place)
        elif name.startswith("notebooks/"):
            if before.get(name) != wanted:
                beside = place.with_stem(f"{place.stem}-{version}")
                copy(new / name, beside)
                say(f"{name}: yours stays. The new starter is {beside.relative_to(old)}.")
        else:
            kept = unused(place.with_name(f"{place.name}.yours"))
            os.replace(place, kept)
            copy(new / name, place)
            say(f"{name}: replaced. Yours is {kept.relative_to(old)}.")
    for name in before.keys() - sums.keys():
        if hash_of(old / name) == before[name]:
            (old / name).unlink()
    copy(new / SUMS, old / SUMS)  # last: what was stopped half-way goes on with the same command
    say(f"{old}: {earlier} -> {version}.")


def read_sums(folder):
    """What a release says of its files: a dict, name -> SHA-256. Raises `Refused`."""
    try:
        sums = {name: digest for digest, name in (
            line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines())}
    except (OSError, ValueError):
        raise Refused(f"{folder / SUMS}: missing or damaged. Unpack the release again.") from None
    for name in map(PurePosixPath, sums):
        if name.is_absolute() or ".." in name.parts or name.parts[0] == "work":
            raise Refused(f"{folder / SUMS}: names {name}, which is no file of a release.")
    return sums


def hash_of(path):
    """The SHA-256 of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def copy(source, place):
    """Copy a file: it is there whole, or as it was."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    shutil.copyfile(source, part)
    os.replace(part, place)


def unused(path):
    """The path, or where it is taken the first free one with a number."""
    number, free = 2, path
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}-{number}")
    return free


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise Refused("name the folder that you work in: python update.py FOLDER")
        update(Path(__file__).parent, sys.argv[1])
    except (Refused, OSError) as error:
        sys.exit(f"update: {error}")
