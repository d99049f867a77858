"""The import: a clean copy of a folder, or nothing."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from photo_folders import draw, hole, recode, refuses_useless_folders, save, save_test, spoil, spread
from PIL import Image

from lab3.common.files import InputError, SaveError
from lab3.data.audit import audit
from lab3.data.duplicates import NEAR, difference
from lab3.data.photo_import import import_photos
from lab3.data.photos import open_photos


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_that_cannot_be_imported(tmp_path):
    refuses_useless_folders(lambda folder, progress: import_photos(folder, tmp_path / "out", progress=progress),
                            tmp_path)


@pytest.mark.parametrize("originals", [True, False])
def test_import_keeps_what_is_good(lab, tmp_path, originals):
    save(lab / "train/image_00000.png", draw(0, 90), format="JPEG")
    if not originals:
        shutil.rmtree(lab / "test")
    done = import_photos(lab, tmp_path / "out", progress=False)
    before, after = open_photos(lab, progress=False), open_photos(tmp_path / "out", progress=False)
    for part in ("train", "val", "masked", "holes") + (("test",) if originals else ()):
        assert torch.equal(getattr(before, part), getattr(after, part)), part
    assert done.counts == {"train": 6, "val": 3, "test": 3 if originals else 0, "masked_image": 3, "mask64": 3}
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))
            assert image.mode == ("L" if "mask64" in path.parts else "RGB")
    assert json.loads((tmp_path / "out/import.json").read_text()) == asdict(done)
    assert done.pictures["train/image_00000.png"] == "train/image_00000.png" and done.dropped == []
    again = import_photos(tmp_path / "out", tmp_path / "again", progress=False)
    copies = [{k: v for k, v in tree(tmp_path / name).items() if k != "import.json"} for name in ("out", "again")]
    assert copies[0] == copies[1] and again.counts == done.counts


def test_import_of_a_plain_folder(tmp_path):
    for i in range(12):
        save(tmp_path / "cats" / f"{i}.jpg", draw(i))
    import_photos(tmp_path / "cats", tmp_path / "out", progress=False)
    before, after = (open_photos(tmp_path / name, progress=False) for name in ("cats", "out"))
    assert after.layout.kind == "lab"
    for part in ("train", "val", "test", "masked", "holes"):
        assert torch.equal(getattr(before, part), getattr(after, part)), part


@pytest.mark.parametrize("originals", [True, False])
def test_import_drops_duplicates(lab, tmp_path, originals):
    spread(lab)
    save(lab / "train/y_00030.png", draw(5))
    save(lab / "train/y_00031.png", recode(draw(4)))
    save_test(lab, 3, draw(20))  # a test picture stands twice in test: it stays
    if not originals:
        shutil.rmtree(lab / "test")
    test = "test" if originals else "masked_image"
    done = import_photos(lab, tmp_path / "out", drop_duplicates=True, progress=False)
    assert {drop.name: drop.duplicate for drop in done.dropped} == {
        "train/x_00020.png": f"{test}/image_000.png", "train/x_00021.png": f"{test}/image_001.png",
        "train/y_00030.png": "train/image_00005.png", "train/y_00031.png": "train/image_00004.png",
        "val/x_00010.png": "train/image_00000.png", "val/x_00011.png": "train/image_00001.png",
        "val/x_00022.png": f"{test}/image_002.png"}
    assert (done.counts["train"], done.counts["val"], done.counts["masked_image"]) == (6, 3, 4)
    assert "Test pictures are always kept" in done.rule
    after = audit(tmp_path / "out", progress=False)
    assert all(not o.pairs for o in after.overlaps) and not after.near
    assert len(after.exact) == (1 if originals else 0)


def test_a_chain_of_near_duplicates_keeps_both_ends(lab, tmp_path):
    """Only a kept picture drops others: what is near to a dropped one alone stays."""
    steps = [draw(0) * (1 - t) + draw(1) * t for t in (0, 0.16, 0.32)]
    a, b, c = (step.round().astype(np.uint8) for step in steps)
    near = [float(difference(x[None], y[None])[0][0]) <= NEAR for x, y in ((a, b), (b, c), (a, c))]
    assert near == [True, True, False]
    for index, pixels in enumerate((a, b, c)):
        save(lab / f"train/image_{index:05d}.png", pixels)
    done = import_photos(lab, tmp_path / "out", drop_duplicates=True, progress=False)
    assert [drop.name for drop in done.dropped] == ["train/image_00001.png"]


def test_import_refuses_to_overwrite(lab, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    import_photos(lab, out, progress=False)  # an empty folder may be filled
    before = tree(out)
    with pytest.raises(InputError, match="out: exists and is not an empty folder"):
        import_photos(lab, out, progress=False)
    assert tree(out) == before
    with pytest.raises(InputError, match="exists"):
        import_photos(lab, lab / "train/image_00000.png", progress=False)
    with pytest.raises(InputError, match="lies inside"):
        import_photos(lab, lab / "clean", progress=False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_import_leaves_nothing(lab, tmp_path, monkeypatch, stop):
    written, whole = [], Image.Image.save

    def save_some(self, path, *args, **options):
        if len(written) == 5:
            raise stop
        written.append(path)
        whole(self, path, *args, **options)

    monkeypatch.setattr(Image.Image, "save", save_some)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else SaveError):
        import_photos(lab, tmp_path / "out", progress=False)
    assert len(written) == 5 and not any(path.exists() for path in written)
    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


def test_import_and_unreadable_files(lab, tmp_path):
    spoil(lab / "train/image_00003.png", "truncated PNG")
    spoil(lab / "masked_image/image_001.png", "text")
    with pytest.raises(InputError, match=r"train/image_00003.png: not a readable picture \(truncated PNG\)"):
        import_photos(lab, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    done = import_photos(lab, tmp_path / "out", skip_unreadable=True, progress=False)
    assert [bad.name for bad in done.skipped] == ["train/image_00003.png", "masked_image/image_001.png"]
    assert done.counts == {"train": 5, "val": 3, "test": 2, "masked_image": 2, "mask64": 2}
    assert (tmp_path / "out/masked_image/image_002.png").exists()  # numbers stay
    assert np.array_equal(open_photos(tmp_path / "out", progress=False).holes[1].numpy(), hole(2))


def test_a_folder_with_nothing_left_to_import(tmp_path):
    for i in range(3):
        spoil(tmp_path / "bad" / f"{i}.png", "empty")
        (tmp_path / "bad" / f"{i}.png").write_bytes(bytes(i + 1))
    with pytest.raises(InputError, match="no train or val picture is left"):
        import_photos(tmp_path / "bad", tmp_path / "out", skip_unreadable=True, progress=False)
    assert not (tmp_path / "out").exists()
