"""A clean copy of a folder of pictures: `train/ val/ test/ masked_image/ mask64/`, all of it 64x64 PNGs.

In: a folder, as `open_photos` takes it. Out: the copy, without duplicates where that is asked for, and an
`import.json` that says what came from where and what was left out.
"""

import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lab3.common.files import InputError, SaveError, write_json
from lab3.data.audit import Pair, Unreadable, survey_duplicates, survey_folder
from lab3.data.cats import SEED
from lab3.data.masks import GREY, random_holes
from lab3.data.photos import Splits
from lab3.data.pictures import to_holes, unreadable

RULE = ("In the order test, train, val, and by name within each: a picture is dropped where an earlier, kept one is "
        "its exact or near duplicate, mirror images included. Test pictures are always kept.")


@dataclass
class Imported:
    """What `import_photos` did; `import.json` holds the same. `pictures` maps each file written to its source."""

    source: str
    key: str
    counts: dict[str, int]
    skipped: list[Unreadable]
    left_out: list[Unreadable]  # files that are not used, such as those of other formats
    rule: str
    dropped: list[Pair]
    pictures: dict[str, str]


def _drop(alike, layout):
    """Apply `RULE`: the train and val pictures to drop, each as a `Pair` with the picture it repeats."""
    dropped, kept = [], {alike.class_of[name]: name for name in reversed(layout.test) if name in alike.class_of}
    hidden = {c: (*match, name) for name, row in sorted(alike.known.items(), reverse=True) for c, match in row.items()}
    for name in layout.train + layout.val:
        if name not in alike.class_of:  # unreadable
            continue
        own = alike.class_of[name]
        repeats = [(*match, kept[c]) for c, match in alike.matches(name).items() if c in kept]
        repeats += [hidden[own]] if own in hidden else []
        if repeats:
            distance, mirrored, duplicate = min(repeats)
            dropped.append(Pair(name, duplicate, distance, mirrored))
        else:
            kept[own] = name
    return dropped


def import_photos(folder, out, *, drop_duplicates=False, skip_unreadable=False, progress=True):
    """Write a clean copy of a data folder: `train/ val/ test/ masked_image/ mask64/`, all of it 64x64 PNGs.

    `out` appears whole or not at all; it gets an `import.json` that says what came from where and what was left out.
    With `drop_duplicates`, train and val lose the pictures that `RULE` names; test loses none.

    Returns:
        `Imported`.

    Raises:
        InputError: a folder that cannot be used (see `open_photos`), an unreadable picture, an `out` that is not
            empty or lies inside `folder`.
        SaveError: `out` could not be written.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not an empty folder. Choose another --out, or remove it first.")
    if Path(folder).resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"{out}: lies inside {folder}, where the copies would count as its pictures. "
                         "Choose an --out outside.")
    survey = survey_folder(folder, progress)
    layout = survey.layout
    if survey.audit.unreadable and not skip_unreadable:
        bad = survey.audit.unreadable[0]
        raise unreadable(layout.root / bad.name, bad.reason)
    dropped = _drop(survey_duplicates(survey, progress), layout) if drop_duplicates else []

    left_out = {pair.name for pair in dropped}
    files = {}  # file to write -> (its pixels, its source)
    for split in ("train", "val"):
        names = [name for name in getattr(layout, split) if name in survey.pixels and name not in left_out]
        files |= {f"{split}/image_{i:05d}.png": (survey.pixels[name], name) for i, name in enumerate(names)}
    if not files:
        raise InputError(f"{layout.root}: no train or val picture is left to import. Add readable ones.")
    files |= _test_files(survey)

    counts = {part: sum(name.startswith(f"{part}/") for name in files)
              for part in ("train", "val", "test", "masked_image", "mask64")}
    rule = RULE if drop_duplicates else ""
    sources = {name: source for name, (_, source) in files.items()}
    done = Imported(str(folder), Splits(layout).key, counts, survey.audit.unreadable, survey.audit.left_out, rule,
                    dropped, sources)
    _write_folder(out, files, done, progress)
    return done


def _test_files(survey):
    """The files to write for the test pictures, under the numbers that these have: {file: (pixels, source)}."""
    layout, pixels = survey.layout, survey.pixels
    if layout.masked or layout.masks:
        rows = [row for row in layout.test_rows() if row[1] in pixels and row[2] in survey.masks
                and (row[3] is None or row[3] in pixels)]
        holes = [to_holes(survey.masks[mask]) for _, _, mask, _ in rows]
    else:
        rows = [(None, None, None, name) for name in layout.test if name in pixels]
        holes = random_holes(len(rows), seed=SEED).numpy()
    numbers = [number for number, _, _, _ in rows]
    # Submissions are compared by number: keep the ones that the masked pictures have.
    if len(set(numbers)) < len(rows) or not all(isinstance(number, int) for number in numbers):
        numbers = range(len(rows))
    files = {}
    for number, hole, (_, masked, mask, original) in zip(numbers, holes, rows):
        if original:
            files[f"test/image_{number:03d}.png"] = pixels[original], original
        grey = np.where(hole[..., None], np.uint8(GREY), pixels[masked or original])
        files[f"masked_image/image_{number:03d}.png"] = grey, masked or original
        files[f"mask64/mask_{number:03d}.png"] = np.where(hole, 0, 255).astype(np.uint8), mask or "drawn"
    return files


def _write_folder(out, files, done, progress):
    """Write pictures and `import.json` into a folder beside `out`, which becomes `out` when it is complete."""
    temporary = out.parent / f".{out.name}.{secrets.token_hex(4)}.part"
    try:
        for part in sorted({name.split("/")[0] for name in files}):
            (temporary / part).mkdir(parents=True, exist_ok=True)
        for name, (pixels, _) in tqdm(files.items(), desc=f"writing {out.name}", unit="picture", disable=not progress):
            Image.fromarray(pixels).save(temporary / name, format="PNG")
        write_json(temporary / "import.json", asdict(done))
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise SaveError(f"{out}: could not be written ({error.strerror or error}). "
                        "Free some space or choose another folder; nothing was left behind.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
