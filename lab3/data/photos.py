"""A folder of your own pictures: which file plays which part, and the three splits that training needs.

In: a folder, either the original lab's (`train/ val/ masked_image/ mask64/`, and the test pictures' originals in
`test/`, `test_gt/` or `test_gt_recovered/` where they are known) or any folder of pictures, which is then split.
Out: uint8 pictures of three splits, with holes for the test pictures.
"""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from tqdm import tqdm

from lab3.common.files import InputError
from lab3.data.cats import SEED, SPLITS, Cats
from lab3.data.masks import paint, random_holes
from lab3.data.pictures import (
    FORMATS,
    SIZE,
    content_of,
    read_as,
    read_picture,
    to_holes,
    to_mask,
    to_pixels,
    why_not_read,
)

SUFFIXES = ", ".join(suffix[1:] for suffix in FORMATS)
ORIGINALS = ("test", "test_gt", "test_gt_recovered")
LAB_FOLDERS = ("train", "val", "masked_image", "mask64", *ORIGINALS)
# How browsers and file managers call a file whose name is taken; the first group is that name.
COPY = re.compile(r"(.+?)(?: ?\(\d+\)| - Copy(?: \(\d+\))?|[ _]copy(?: \d+)?)", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------- a folder

def _existing(folder):
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder. Give the folder that holds the pictures.")
    return Path(folder)


def find_pictures(folder):
    """Names, relative to `folder` with `/`, of all files below it that are pictures by their names, sorted.

    Hidden files and folders do not count. A linked folder is entered once, so that circles of links end.

    Raises:
        InputError: no such folder, or one that cannot be listed.
    """
    return [name for name in _find_files(folder) if not why_not_read(name)]


def _find_files(folder):
    """As `find_pictures`, whatever the files are."""
    folder = _existing(folder)

    def refuse(error):
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}). Check its permissions.")

    names, entered = [], {os.path.realpath(folder)}
    for base, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        fresh = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(base, name))
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                fresh.append(name)
        folders[:] = fresh
        names += [Path(base, name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def read_folder(folder, names=None, *, skip_unreadable=False, progress=True):
    """Read the pictures of a folder and its sub-folders.

    Args:
        names: which ones, relative to `folder`; None takes all, in the order of their names.
        skip_unreadable: leave out what cannot be read instead of raising.

    Returns:
        (names, pictures): the names read, and uint8 (N, 64, 64, 3).

    Raises:
        InputError: no such folder, no picture in it, or an unreadable one.
    """
    names = find_pictures(folder) if names is None else list(names)
    read, pictures = [], np.empty((len(names), SIZE, SIZE, 3), dtype=np.uint8)
    for name in tqdm(names, desc=f"reading {Path(folder).name}", unit="picture", disable=not progress):
        try:
            pictures[len(read)] = read_picture(Path(folder, name))
            read.append(name)
        except InputError:
            if not skip_unreadable:
                raise
    if not read:
        what = f"none of its {len(names)} pictures can be read" if names else "holds no pictures"
        raise InputError(f"{folder}: {what}. Put pictures there ({SUFFIXES}).")
    return read, pictures[:len(read)]


def _number(name):
    """What a test picture, its mask and its original share: the last number in the name, or a name without one."""
    digits = re.findall(r"\d+", PurePosixPath(name).stem)
    return int(digits[-1]) if digits else PurePosixPath(name).stem


def _stem(name):
    return PurePosixPath(name).stem


def _partners(names, others):
    """Which of `others` goes with which of `names`: same name, or same number where that is one file's on each side."""
    by_stem = {_stem(other): other for other in reversed(others)}
    ours, theirs = (Counter(map(_number, side)) for side in (names, others))
    by_number = {_number(other): other for other in others if theirs[_number(other)] == 1}
    return {name: by_stem.get(_stem(name)) or (by_number.get(_number(name)) if ours[_number(name)] == 1 else None)
            for name in names}


def _copies(names):
    """Which of `names` are copies by their names, of a file that lies beside them: {name: that file's name}."""
    there = {str(PurePosixPath(name).with_suffix("")): PurePosixPath(name).name for name in names}
    found = {name: COPY.fullmatch(_stem(name)) for name in names}
    return {name: there[place] for name, match in found.items()
            if match and (place := str(PurePosixPath(name).parent / match[1])) in there}


@dataclass
class Layout:
    """Which file plays which part; all names are relative to `root`."""

    root: Path
    kind: str  # "lab": the original lab's folders; "plain": any folder, split here
    train: list[str]
    val: list[str]
    test: list[str]  # originals of the test pictures
    masked: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # other files, name -> why they are not used

    def files(self):
        return self.train + self.val + self.test + self.masked + self.masks

    def partners(self):
        """(masks, originals): for each masked picture the name of its mask and of its original, or None."""
        return _partners(self.masked, self.masks), _partners(self.masked, self.test)

    def test_rows(self):
        """(number, masked, mask, original or None) of each test picture, by number.

        Raises:
            InputError: a mask or an original is missing.
        """
        if not self.masked:
            raise InputError(f"{self.root / 'masked_image'}: no masked pictures for the masks in mask64/. "
                             "Put them there, or take mask64/ away to have holes drawn.")
        masks, originals = self.partners()
        for name in self.masked:
            if masks[name] is None:
                raise InputError(f"{self.root / name}: has no mask of its number in mask64/. Add the mask, "
                                 "or remove the picture.")
            if self.test and originals[name] is None:
                raise InputError(f"{self.root / name}: has no original of its number in "
                                 f"{PurePosixPath(self.test[0]).parts[0]}/. Add the original, or remove the picture.")
        rows = [(_number(name), name, masks[name], originals[name]) for name in self.masked]
        return sorted(rows, key=lambda row: (isinstance(row[0], str), row[:2]))


def _is_lab(folder):
    """Whether a folder has the lab's layout. Raises `InputError` where only parts of it are there."""
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    folders = [path.name for path in inside if path.is_dir()]
    for name in folders:
        if (small := name.casefold()) in LAB_FOLDERS and small not in folders:
            raise InputError(f"{folder / name}: the lab's layout has a folder {small}/. Rename it to {small}, or, to "
                             "have all pictures split here, to another name.")
    there = [name for name in LAB_FOLDERS if name in folders]
    alone = len(folders) == 1 and all(why_not_read(path.name) or path.is_dir() for path in inside)
    if not there or (alone and there[0] not in ("masked_image", "mask64")):
        return False  # a folder train/ alone holds the pictures
    if "train" not in there or len(there) == 1:
        missing = "val" if "train" in there else "train"
        raise InputError(f"{folder}: has {', '.join(f'{name}/' for name in there)} but no {missing}/. If this is the "
                         f"lab's layout, add {missing}/. To have all pictures split here, rename {there[0]}/.")
    return True


def find_layout(folder):
    """Say which files of `folder` are `train`, `val`, `test`, `masked` and `masks`.

    A folder that holds nothing but one folder stands for that one. A folder without the lab's sub-folders is split
    by `split_names`. Whatever is not used is noted with the reason, but for hidden files.

    Raises:
        InputError: no such folder, no pictures, too few to split, or parts of the lab's layout alone.
    """
    root, seen = _existing(folder), set()
    while root.resolve() not in seen:  # a link to its own parent would lead down for ever
        seen.add(root.resolve())
        # Archives packed on a Mac bring a second folder that holds no pictures.
        inside = [path for path in root.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        folders = [path for path in inside if path.is_dir()]
        pictures = [path for path in inside if not why_not_read(path.name) and not path.is_dir()]
        if _is_lab(root) or pictures or len(folders) != 1:
            break
        root = folders[0]
    files = _find_files(root)
    left_out = {name: why for name in files if (why := why_not_read(name))}
    names = [name for name in files if name not in left_out]
    if not _is_lab(root):
        if not names:
            raise InputError(f"{folder}: holds no pictures{_and_others(left_out)}. Put pictures there ({SUFFIXES}), "
                             "or the folders train/ and val/.")
        return Layout(root, "plain", **split_names(root, names), left_out=left_out)

    parts = {part: [name for name in names if name.startswith(f"{part}/")] for part in LAB_FOLDERS}
    if not parts["train"]:
        raise InputError(f"{root / 'train'}: holds no pictures{_and_others(left_out)}. "
                         "Put the training pictures there.")
    originals = next((part for part in ORIGINALS if parts[part]), None)
    for part in LAB_FOLDERS[2:]:
        left_out |= {name: f"a copy of {first} by its name" for name, first in _copies(parts[part]).items()}
    for name in names:
        part = name.partition("/")[0] if "/" in name else ""
        if part in ORIGINALS and part != originals:
            left_out[name] = f"originals are taken from {originals}/"
        elif part not in LAB_FOLDERS:
            left_out[name] = "in none of the lab's folders"
    used = {part: [name for name in parts[part] if name not in left_out] for part in LAB_FOLDERS}
    return Layout(root, "lab", used["train"], used["val"], used[originals] if originals else [], used["masked_image"],
                  used["mask64"], left_out)


def _and_others(left_out):
    return f", but {len(left_out)} other files ({next(iter(left_out.values()))})" if left_out else ""


def say_left_out(left_out):
    """Files that are not used, as lines: {name: reason} -> one line a reason, with how many and an example."""
    groups = {}
    for name, why in left_out.items():
        groups.setdefault(why, []).append(name)
    return [f"left out: {names[0]} ({why})" if len(names) == 1 else
            f"left out: {len(names)} files, such as {names[0]} ({why})" for why, names in groups.items()]


def split_names(root, names):
    """Split pictures as the cats are, 12000 : 3000 : 747, by a hash of each file's content.

    Where a picture goes depends on its bytes alone, so it stays there when others come or go, and copies of a file
    stay together. Only where a split would be empty does it take its neighbour's nearest.

    Returns:
        {"train": names, "val": names, "test": names}, each sorted and not empty.

    Raises:
        InputError: fewer than three pictures.
    """
    if len(names) < 3:
        raise InputError(f"{root}: {len(names)} pictures cannot make three splits. Add some: three is the least.")

    def place(name):
        content = content_of(Path(root, name), name.encode(errors="surrogatepass"))
        return int.from_bytes(hashlib.sha256(b"%d " % SEED + content).digest()[:7]) / 256**7

    places = sorted((place(name), name) for name in names)
    total = sum(SPLITS.values())
    n_test = max(1, sum(at < SPLITS["test"] / total for at, _ in places))
    n_train = max(1, sum(at >= (SPLITS["test"] + SPLITS["val"]) / total for at, _ in places))
    while n_test + n_train > len(names) - 1:
        n_test, n_train = (n_test - 1, n_train) if n_test > n_train else (n_test, n_train - 1)
    ordered = [name for _, name in places]
    middle = len(names) - n_train
    return {"train": sorted(ordered[middle:]), "val": sorted(ordered[n_test:middle]), "test": sorted(ordered[:n_test])}


# ---------------------------------------------------------------------------------------------- the data set

def channels_first(pictures):
    """A NumPy array (N, H, W, 3) -> a tensor (N, 3, H, W)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


@dataclass
class Splits:
    """Pictures of three splits, each read when first asked for. Made by `open_photos`.

    `train`, `val`, `test`: uint8 (N, 3, 64, 64). `masked`: the test pictures, grey in their holes.
    `holes`: bool (N, 64, 64), True in the hole. `key` changes when any file or its name does.
    `test`, `holes` and `masked` go together row by row. Where a folder is missing, asking for it is an `InputError`;
    `has_originals` says whether there is a `test`.
    """

    layout: Layout
    skip_unreadable: bool = False
    progress: bool = True

    @property
    def name(self):
        return self.layout.root.resolve().name

    @property
    def has_originals(self):
        return bool(self.layout.test)

    @cached_property
    def key(self):
        digest = hashlib.sha256(b"photos 1")
        for name in sorted(self.layout.files()):
            content = content_of(self.layout.root / name, b"")
            named = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
            digest.update(named + hashlib.sha256(content).digest())
        return digest.hexdigest()[:16]

    @cached_property
    def train(self):
        return self._split("train")

    @cached_property
    def val(self):
        return self._split("val")

    @property
    def test(self):
        if not self.has_originals:
            raise InputError(f"{self.layout.root}: the originals of the test pictures are not there. "
                             f"Put them into {self.layout.root / 'test'}, with the numbers of masked_image/.")
        return self._test_set[0]

    @property
    def masked(self):
        return self._test_set[1]

    @property
    def holes(self):
        return self._test_set[2]

    def _split(self, split):
        names = getattr(self.layout, split)
        if not names:
            raise InputError(f"{self.layout.root / split}: no pictures there. Put the {split} pictures into it.")
        _, pictures = read_folder(self.layout.root, names, skip_unreadable=self.skip_unreadable, progress=self.progress)
        return channels_first(pictures)

    @cached_property
    def _test_set(self):
        """(originals or None, masked, holes): read together, so that skipping a file skips its partners."""
        layout, root = self.layout, self.layout.root
        if not layout.masked and not layout.masks:
            originals = self._split("test")
            holes = random_holes(len(originals), seed=SEED)
            return originals, paint(originals, holes), holes

        rows = []
        for _, masked, mask, original in tqdm(layout.test_rows(), desc="reading test", unit="picture",
                                              disable=not self.progress):
            try:
                rows.append((read_as(root / original, to_pixels) if original else None,
                             read_as(root / masked, to_pixels), to_holes(read_as(root / mask, to_mask))))
            except InputError:
                if not self.skip_unreadable:
                    raise
        if not rows:
            raise InputError(f"{root / 'masked_image'}: none of the test pictures can be read. Copy them again.")
        originals, masked, holes = zip(*rows)
        holes = torch.from_numpy(np.stack(holes))
        masked = paint(channels_first(np.stack(masked)), holes)
        return channels_first(np.stack(originals)) if self.has_originals else None, masked, holes


def open_photos(folder, *, skip_unreadable=False, progress=True, n_train=None):
    """Open a folder of pictures, of either layout, as `Splits`; pictures are read when asked for.

    Raises:
        InputError: no such folder, no pictures in it, too few for three splits, or fewer than `n_train` to train on.
    """
    layout = find_layout(folder)
    if n_train is not None:
        if not 1 <= n_train <= len(layout.train):
            raise InputError(f"train-pictures must lie in 1 ... {len(layout.train)}, the number of training pictures "
                             f"in {folder}, not {n_train}.")
        layout.train = layout.train[:n_train]
    return Splits(layout, skip_unreadable, progress)


def open_data(folder, *, skip_unreadable=False, n_train=None):
    """The pictures of a folder, or the embedded cats where `folder` is None; of those to train on the first `n_train`.

    Raises `InputError`.
    """
    if folder is None:
        return Cats() if n_train is None else Cats(n_train)
    return open_photos(folder, skip_unreadable=skip_unreadable, n_train=n_train)
