"""The audit of a folder: everything wrong with it is found, and nothing else."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from photo_folders import draw, hole, recode, refuses_useless_folders, save, save_test, spoil, spread

from lab3.data.audit import Audit, MaskAudit, audit, format_audit
from lab3.data.duplicates import NEAR
from lab3.data.masks import GREY


def overlap(report, split, within):
    return next(o for o in report.overlaps if (o.split, o.within) == (split, within))


def test_folders_that_cannot_be_audited(tmp_path):
    refuses_useless_folders(audit, tmp_path)


def test_a_clean_folder_has_a_clean_audit(lab):
    report = audit(lab, progress=False)
    assert report.counts == {"train": 6, "val": 3, "test": 3, "masked_image": 3, "mask64": 3}
    assert report == Audit(str(lab), "lab", report.counts, overlaps=report.overlaps, masks=report.masks)
    assert all(o.same == o.near == 0 and not o.pairs for o in report.overlaps)
    share = 400 / 4096
    assert asdict(report.masks) == asdict(MaskAudit(3, share, pytest.approx(share), share))
    assert "[!]" not in format_audit(report) and "9.8%" in format_audit(report)
    assert json.loads(json.dumps(asdict(report)))["counts"]["train"] == 6


def test_the_audit_names_what_is_wrong_with_files(lab):
    spoil(lab / "train/image_00000.png", "truncated PNG")
    spoil(lab / "val/image_00000.png", "empty")
    save(lab / "train/image_00001.png", draw(1), format="JPEG")
    save(lab / "train/image_00002.png", draw(2, 80))
    report = audit(lab, progress=False)
    assert [(bad.name, bad.reason) for bad in report.unreadable] == [
        ("train/image_00000.png", "truncated PNG"), ("val/image_00000.png", "empty file")]
    assert report.wrong_suffix == 1 and report.wrong_suffix_examples == ["train/image_00001.png (JPEG)"]
    assert report.wrong_size == ["train/image_00002.png (80x80)"]
    text = format_audit(report)
    assert "2 unreadable files" in text and "train/image_00000.png: truncated PNG" in text


def test_the_audit_finds_duplicates(lab):
    shutil.copy(lab / "train/image_00000.png", lab / "train/x_00010.png")
    save(lab / "train/x_00011.png", draw(1), format="BMP")  # same pixels, other bytes
    save(lab / "train/x_00012.png", recode(draw(2)))
    save(lab / "train/x_00013.png", draw(3)[:, ::-1])
    report = audit(lab, progress=False)
    assert report.exact == [["train/image_00000.png", "train/x_00010.png"],
                            ["train/image_00001.png", "train/x_00011.png"]]
    assert report.exact_files == 1
    assert [(pair.name, pair.duplicate, pair.mirrored) for pair in report.near] == [
        ("train/image_00002.png", "train/x_00012.png", False), ("train/image_00003.png", "train/x_00013.png", True)]
    assert 0 < report.near[0].difference < NEAR and report.near[1].difference == 0


@pytest.mark.parametrize("originals", [True, False])
def test_the_audit_finds_overlap_between_splits(lab, originals):
    spread(lab)
    if not originals:
        shutil.rmtree(lab / "test")
    folder = "test" if originals else "masked_image"
    report = audit(lab, progress=False)
    found = {(o.split, o.within): (o.same, o.near) for o in report.overlaps}
    assert found == {("val", "train"): (1, 1), ("test", "train"): (1, 1), ("test", "val"): (0, 1)}
    assert [(p.name, p.duplicate) for p in overlap(report, "test", "train").pairs] == [
        (f"{folder}/image_000.png", "train/x_00020.png"), (f"{folder}/image_001.png", "train/x_00021.png")]
    pair = overlap(report, "test", "val").pairs[0]
    assert (pair.name, pair.duplicate, pair.mirrored) == (f"{folder}/image_002.png", "val/x_00022.png", True)
    assert ("compared on their known pixels" in format_audit(report)) != originals


def test_only_known_pixels_count(lab):
    """A picture that differs from a masked one inside the hole alone is the same; outside it is another."""
    shutil.rmtree(lab / "test")
    save(lab / "train/x_00020.png", np.where(hole(0)[..., None], draw(77), draw(20)))
    save(lab / "train/x_00021.png", np.where(hole(1)[..., None], draw(21), draw(77)))
    found = overlap(audit(lab, progress=False), "test", "train")
    assert (found.same, found.near) == (1, 0) and found.pairs[0].name == "masked_image/image_000.png"


def test_the_audit_checks_masks(lab):
    (lab / "mask64/mask_000.png").rename(lab / "mask64/mask_050.png")
    save(lab / "mask64/mask_001.png", np.where(hole(1), 7, 250).astype(np.uint8))
    inverted = draw(33)
    inverted[~hole(2)] = GREY
    save(lab / "masked_image/image_002.png", inverted)
    save_test(lab, 5, draw(55))
    save(lab / "mask64/mask_005.png", np.full((64, 64), 255, np.uint8))
    (lab / "test/image_001.png").unlink()
    masks = audit(lab, progress=False).masks
    assert masks.without_mask == ["masked_image/image_000.png"]
    assert masks.without_picture == ["mask64/mask_050.png"]
    assert masks.without_original == ["masked_image/image_001.png"]
    assert masks.other_values == ["mask64/mask_001.png"]
    assert masks.no_hole == ["mask64/mask_005.png"]
    assert masks.not_grey == ["masked_image/image_002.png"]
    assert "masked_image/image_002.png" in masks.unlike_original
    assert masks.pairs == 3 and masks.min_share == 0


def test_the_report_is_short(lab):
    for i in range(20):
        shutil.copy(lab / "train/image_00000.png", lab / f"train/x_{i}.png")
        spoil(lab / f"train/y_{i}.png", "empty")
    text = format_audit(audit(lab, progress=False))
    assert "… and 15 more" in text and len(text.splitlines()) < 40


def test_too_many_alike_is_said(tmp_path, monkeypatch):
    for module in ("duplicates", "audit"):
        monkeypatch.setattr(f"lab3.data.{module}.MAX_CANDIDATES", 10)
    for i in range(8):
        save(tmp_path / f"{i}.png", draw(1) // 2 + i)
    report = audit(tmp_path, progress=False)
    assert not report.near_complete and len(report.near) == 10
    assert all(pair.difference > 0 for pair in report.near)  # brighter is not the same
    assert "the search stopped after 10 pairs" in format_audit(report)
