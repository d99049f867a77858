"""What is wrong with a folder of pictures, before it spoils a measurement.

In: a folder, as `open_photos` takes it. Out: an `Audit`, ready for JSON, and a text that says what to do: unreadable
files, duplicates, pictures that are in two splits, masks that do not fit.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lab3.data.duplicates import MAX_CANDIDATES, MAX_SHIFT, NEAR, difference, find_duplicates
from lab3.data.masks import GREY
from lab3.data.photos import Layout, find_layout
from lab3.data.pictures import FORMATS, SIZE, NotAPicture, decode, read_bytes, to_holes, to_mask, to_pixels


@dataclass
class Unreadable:
    """A file that is not used, and why."""

    name: str
    reason: str


@dataclass
class Pair:
    """Two pictures that show the same. `difference` is 0 where every compared pixel is equal."""

    name: str
    duplicate: str
    difference: float
    mirrored: bool = False


@dataclass
class Overlap:
    """Pictures of one split that stand in another too. `same` and `near` count those of `split`; `pairs` has one each.

    Where a test picture's original is unknown, its masked version is compared, on the known pixels only.
    """

    split: str
    within: str
    same: int = 0
    near: int = 0
    pairs: list[Pair] = field(default_factory=list)


@dataclass
class MaskAudit:
    """Masks and masked pictures. Shares are hole area / picture area."""

    pairs: int = 0
    min_share: float = 0.0
    mean_share: float = 0.0
    max_share: float = 0.0
    without_mask: list[str] = field(default_factory=list)
    without_picture: list[str] = field(default_factory=list)  # masks and originals that no masked picture goes with
    without_original: list[str] = field(default_factory=list)
    other_values: list[str] = field(default_factory=list)  # masks with values besides 0 and 255
    no_hole: list[str] = field(default_factory=list)
    not_grey: list[str] = field(default_factory=list)  # masked pictures that are not grey in their holes
    unlike_original: list[str] = field(default_factory=list)  # differ from their original in known pixels


@dataclass
class Audit:
    """What `audit` found. Names are relative to `folder`; `dataclasses.asdict` makes it ready for JSON."""

    folder: str
    layout: str
    counts: dict[str, int]
    unreadable: list[Unreadable] = field(default_factory=list)
    left_out: list[Unreadable] = field(default_factory=list)  # other files below the folder, which are not used
    wrong_size: list[str] = field(default_factory=list)
    wrong_suffix: int = 0
    wrong_suffix_examples: list[str] = field(default_factory=list)
    exact: list[list[str]] = field(default_factory=list)  # groups of equal pixels
    exact_files: int = 0  # how many of those groups hold byte-identical files
    near: list[Pair] = field(default_factory=list)  # between the first pictures of their exact groups
    near_complete: bool = True
    overlaps: list[Overlap] = field(default_factory=list)
    masks: MaskAudit | None = None


@dataclass
class Survey:
    """Everything in a folder, read once, for the audit and the import."""

    layout: Layout
    audit: Audit
    pixels: dict = field(default_factory=dict)  # name -> uint8 (64, 64, 3)
    masks: dict = field(default_factory=dict)  # name -> uint8 (64, 64)
    digests: dict = field(default_factory=dict)  # name -> hash of the file's bytes


def survey_folder(folder, progress=True):
    """Read every file of a folder and note what can be said of each alone: a `Survey`. Raises as `audit` does."""
    layout = find_layout(folder)
    counts = {"train": len(layout.train), "val": len(layout.val), "test": len(layout.test)}
    if layout.kind == "lab":
        counts |= {"masked_image": len(layout.masked), "mask64": len(layout.masks)}
    report = Audit(str(folder), layout.kind, counts,
                   left_out=[Unreadable(name, why) for name, why in layout.left_out.items()])
    survey = Survey(layout, report)
    masks = set(layout.masks)
    for name in tqdm(layout.files(), desc=f"reading {layout.root.name}", unit="picture", disable=not progress):
        try:
            data = read_bytes(layout.root / name)
            decoded = decode(data)
            if name in masks:
                survey.masks[name] = to_mask(decoded)
            else:
                survey.pixels[name] = to_pixels(decoded)
        except NotAPicture as reason:
            report.unreadable.append(Unreadable(name, str(reason)))
            continue
        survey.digests[name] = hashlib.sha256(data).hexdigest()
        width, height = decoded.size
        if (width, height) != (SIZE, SIZE):
            report.wrong_size.append(f"{name} ({width}x{height})")
        if FORMATS[Path(name).suffix.lower()] != decoded.format:
            report.wrong_suffix += 1
            if len(report.wrong_suffix_examples) < 5:
                report.wrong_suffix_examples.append(f"{name} ({decoded.format})")
    return survey


def survey_duplicates(survey, progress=True):
    """Which pictures of a survey are alike, in the order test, train, val: a `Duplicates`.

    A test picture without an original is known through its masked version.
    """
    layout, pixels = survey.layout, survey.pixels
    masks, originals = layout.partners()
    masked = {name: (pixels[name], to_holes(survey.masks[masks[name]])) for name in layout.masked
              if name in pixels and masks[name] in survey.masks and originals[name] not in pixels}
    names = layout.test + layout.train + layout.val
    return find_duplicates({name: pixels[name] for name in names if name in pixels}, masked, progress)


def _overlap(alike, names, split, within):
    """Which pictures of `split` have a duplicate among the names of `within`: an `Overlap`."""
    overlap = Overlap(split, within)
    # class -> its first member in `within`
    first = {alike.class_of[name]: name for name in reversed(names[within]) if name in alike.class_of}
    for name in names[split]:
        there = [(*match, first[c]) for c, match in alike.matches(name).items() if c in first]
        if there:
            distance, mirrored, duplicate = min(there)
            overlap.same += distance == 0 and not mirrored
            overlap.near += distance > 0 or mirrored
            overlap.pairs.append(Pair(name, duplicate, distance, mirrored))
    return overlap


def _audit_masks(survey):
    layout, pixels = survey.layout, survey.pixels
    masks, originals = layout.partners()
    report, shares = MaskAudit(), []
    report.without_mask = [name for name in layout.masked if masks[name] is None]
    report.without_original = [name for name in layout.masked if layout.test and originals[name] is None]
    used = set(masks.values()) | set(originals.values())
    report.without_picture = [name for name in layout.masks + layout.test if name not in used]
    for name, mask in survey.masks.items():
        if not np.isin(mask, (0, 255)).all():
            report.other_values.append(name)
        if not to_holes(mask).any():
            report.no_hole.append(name)
    for name in layout.masked:
        if name not in pixels or masks[name] not in survey.masks:
            continue
        hole = to_holes(survey.masks[masks[name]])
        shares.append(float(hole.mean()))
        # JPEG spreads colours over the edge of a hole: judge the whole hole, not single pixels.
        if hole.any() and np.abs(pixels[name][hole].astype(int) - GREY).mean() > 8:
            report.not_grey.append(name)
        if originals[name] in pixels and not hole.all():
            distance, shift = difference(pixels[name][None], pixels[originals[name]][None], ~hole[None])
            if distance[0] > NEAR or shift[0] > MAX_SHIFT:
                report.unlike_original.append(name)
    if shares:
        report.pairs = len(shares)
        report.min_share, report.mean_share, report.max_share = min(shares), float(np.mean(shares)), max(shares)
    return report


def audit(folder, progress=True):
    """Look for everything in a data folder that would spoil a measurement; changes nothing.

    A test picture without an original is known through its masked version: that is compared with all train and
    val pictures on its known pixels.

    Returns:
        `Audit`.

    Raises:
        InputError: no such folder, no pictures in it, or too few for three splits.
    """
    survey = survey_folder(folder, progress)
    alike = survey_duplicates(survey, progress)
    layout, report = survey.layout, survey.audit
    report.exact = [names for names in alike.members if len(names) > 1]
    report.exact_files = sum(len({survey.digests[name] for name in names}) < len(names) for names in report.exact)
    report.near = [Pair(alike.members[i][0], alike.members[j][0], distance, mirrored)
                   for i, row in sorted(alike.near.items()) for j, (distance, mirrored) in sorted(row.items()) if i < j]
    report.near_complete = alike.complete
    names = {"train": layout.train, "val": layout.val, "test": layout.test + sorted(alike.known)}
    report.overlaps = [_overlap(alike, names, *pair) for pair in (("val", "train"), ("test", "train"), ("test", "val"))]
    if layout.masked or layout.masks:
        report.masks = _audit_masks(survey)
    return report


def _examples(lines):
    more = [f"… and {len(lines) - 5} more"] if len(lines) > 5 else []
    return [f"    {line}" for line in lines[:5] + more]


def _pair_lines(pairs):
    return [f"{pair.name} = {pair.duplicate}" if pair.difference == 0 and not pair.mirrored else
            f"{pair.name} ~ {pair.duplicate} (difference {pair.difference:.3f}{', mirrored' if pair.mirrored else ''})"
            for pair in pairs]


def format_audit(report):
    """An `Audit` as text to read: what was found, a few examples of each, and what to do about it."""
    kind = {"lab": "the lab's folders", "plain": "a plain folder, split by content"}[report.layout]
    lines = [f"Audit of {report.folder} ({kind})",
             "  " + ", ".join(f"{part} {count}" for part, count in report.counts.items())]

    def finding(title, examples, advice=""):
        if examples:
            lines.extend([f"[!] {title}", *_examples(examples), *([f"    -> {advice}"] if advice else [])])

    def good(text):
        lines.append(f"[OK] {text}")

    finding(f"{len(report.unreadable)} unreadable files", [f"{bad.name}: {bad.reason}" for bad in report.unreadable],
            "Remove them or copy them again, or pass --skip-unreadable.")
    finding(f"files left out: {len(report.left_out)}", [f"{one.name}: {one.reason}" for one in report.left_out])
    if not report.unreadable:
        good("every picture that is used can be read")
    finding(f"{len(report.wrong_size)} pictures are not {SIZE}x{SIZE}", report.wrong_size,
            "They are cut to a square and resized when read. The import stores them so.")
    if report.wrong_suffix:
        lines += [f"[i] {report.wrong_suffix} files are of another format than their name says, such as",
                  *_examples(report.wrong_suffix_examples),
                  "    -> No harm here: content decides. The import writes PNGs."]

    copies = sum(len(group) - 1 for group in report.exact)
    finding(f"{copies} exact duplicates, in {len(report.exact)} groups of equal pixels "
            f"({report.exact_files} of them with byte-identical files)", [" = ".join(group) for group in report.exact])
    finding(f"{len(report.near)} pairs of near duplicates (difference up to {NEAR} of the variance)",
            _pair_lines(sorted(report.near, key=lambda pair: pair.difference)))
    if report.exact or report.near:
        lines.append("    -> Import with --drop-duplicates keeps one of each; test keeps all of its pictures.")
    else:
        good("no duplicates")
    if not report.near_complete:
        lines += [f"[!] So many pictures are alike (a film?) that the search stopped after {MAX_CANDIDATES} pairs.",
                  "    -> Import with --drop-duplicates, then audit the result."]
    for overlap in report.overlaps:
        title = f"of the {overlap.split} pictures stand in {overlap.within} too"
        finding(f"{len(overlap.pairs)} {title} ({overlap.same} the same, {overlap.near} near duplicates)",
                _pair_lines(overlap.pairs),
                "Scores would measure memory. Import with --drop-duplicates; test keeps all of its pictures.")
        if not overlap.pairs and report.counts[overlap.within]:
            good(f"none {title}")
    if any(pair.name.startswith("masked_image/") for overlap in report.overlaps for pair in overlap.pairs):
        lines.append("[i] Pictures in masked_image/ were compared on their known pixels: they have no originals.")

    masks = report.masks
    if masks:
        good(f"{masks.pairs} masked pictures with masks; holes cover {masks.min_share:.1%} to {masks.max_share:.1%} "
             f"of a picture, {masks.mean_share:.1%} on average")
        finding(f"{len(masks.without_mask)} masked pictures without a mask", masks.without_mask,
                "Add mask64/mask_NNN.png of the same number, or remove the picture.")
        finding(f"{len(masks.without_picture)} masks or originals that go with no masked picture",
                masks.without_picture, "They are not used. Check their numbers.")
        finding(f"{len(masks.without_original)} masked pictures without an original", masks.without_original,
                "Add the originals, or take the others away.")
        finding(f"{len(masks.other_values)} masks with values besides 0 and 255", masks.other_values,
                "What is darker than half of the brightest is taken as hole. Save masks as PNG.")
        finding(f"{len(masks.no_hole)} masks without a hole", masks.no_hole, "0 is hole, 255 is known.")
        finding(f"{len(masks.not_grey)} masked pictures are not grey ({GREY}) in their holes", masks.not_grey,
                "Are the masks inverted? 0 must be the hole. Holes are painted grey when read.")
        finding(f"{len(masks.unlike_original)} masked pictures do not show their original", masks.unlike_original,
                "Check the numbers: original and masked picture must carry the same one.")
    return "\n".join(lines)
