"""Reading a picture, a folder, its splits."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import draw, hole, recode, refuses_useless_folders, save, save_test, spoil
from PIL import Image

from lab3.common.files import InputError
from lab3.data import photos
from lab3.data.photos import open_photos, read_folder
from lab3.data.pictures import read_picture

# ---------------------------------------------------------------------------------------------- one picture

def test_a_picture_that_fits_keeps_its_pixels(tmp_path):
    assert np.array_equal(read_picture(save(tmp_path / "a.png", draw(1))), draw(1))


def test_format_comes_from_content(tmp_path):
    path = save(tmp_path / "a.png", draw(1), format="JPEG", quality=85)
    assert np.array_equal(read_picture(path), recode(draw(1)))


@pytest.mark.parametrize("suffix", ["bmp", "webp", "gif", "tiff", "ppm"])
def test_usual_formats(tmp_path, suffix):
    kind = suffix.upper()
    options = {"lossless": True} if kind == "WEBP" else {}
    grey = np.repeat(draw(1)[..., :1], 3, axis=2)  # a GIF's palette holds 256 greys, but not all colours
    assert np.array_equal(read_picture(save(tmp_path / f"a.{suffix}", grey, format=kind, **options)), grey)


def test_modes(tmp_path):
    grey = draw(1)[..., 0]
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    modes = {
        "grey": (Image.fromarray(grey), as_rgb, 0),
        "palette": (Image.fromarray(as_rgb).quantize(256), as_rgb, 8),
        "one bit": (Image.fromarray(grey > 127), np.where(as_rgb > 127, 255, 0), 0),
        "16 bit": (Image.fromarray(grey.astype(np.uint16) * 257), as_rgb, 0),
        "16 bit, dark": (Image.fromarray(grey.astype(np.uint16)), np.zeros_like(as_rgb), 1),
    }
    for name, (image, wanted, tolerance) in modes.items():
        got = read_picture(save(tmp_path / f"{name}.png", image))
        assert got.shape == (64, 64, 3) and got.dtype == np.uint8
        assert np.abs(got.astype(int) - wanted).max() <= tolerance, name
    flat = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    got = read_picture(save(tmp_path / "c.jpg", flat, format="JPEG"))
    assert np.abs(got.astype(int) - (255, 0, 0)).max() < 4
    floats = Image.fromarray((grey / 255).astype(np.float32))
    assert np.array_equal(read_picture(save(tmp_path / "f.tif", floats, format="TIFF")), as_rgb)


@pytest.mark.parametrize("size", [64, 32])
def test_transparent_parts_become_white(tmp_path, size):
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    pixels[: size // 2, :, 3] = 255
    got = read_picture(save(tmp_path / "a.png", pixels))
    assert (got[:24] == 0).all() and (got[40:] == 255).all()
    palette = Image.fromarray(pixels[..., 0]).convert("P")
    assert (read_picture(save(tmp_path / "p.png", palette, transparency=0)) == 255).all()


def test_turned_by_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    path = save(tmp_path / "a.png", draw(1), exif=exif)
    assert np.array_equal(read_picture(path), draw(1)[::-1, ::-1])


def test_other_sizes_are_cut_to_the_central_square(tmp_path):
    wide = np.zeros((128, 256, 3), dtype=np.uint8)
    wide[:, 64:192] = draw(1, 128)
    got = read_picture(save(tmp_path / "a.png", wide))
    inner = np.array(Image.fromarray(draw(1, 128)).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.abs(got.astype(int) - inner)[:, 3:-3].max() <= 1
    assert read_picture(save(tmp_path / "b.png", draw(1, 7)), size=16).shape == (16, 16, 3)


BAD = {"text": "no picture format", "empty": "empty file", "truncated PNG": "truncated PNG",
       "truncated JPEG": "truncated JPEG", "truncated header": "truncated picture",
       "damaged": "PNG", "bomb": "megapixels", "pipe": "not a regular file", "dead link": "No such file"}


@pytest.mark.parametrize("how", BAD)
def test_each_bad_file_is_one_clear_error(tmp_path, how):
    path = spoil(tmp_path / "train" / "0031.png", how)
    with pytest.raises(InputError) as error:
        read_picture(path)
    message = str(error.value)
    assert "train/0031.png: not a readable picture (" in message and BAD[how] in message
    assert message.endswith("Remove it, or pass --skip-unreadable.") and "\n" not in message


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match="a.png: no such file"):
        read_picture(tmp_path / "a.png")


# ---------------------------------------------------------------------------------------------- a folder

def test_read_folder(tmp_path):
    for name, seed in (("b.PNG", 2), ("sub/c.jpeg", 3), ("a.png", 1)):
        save(tmp_path / name, draw(seed))
    for name in (".hidden.png", ".DS_Store", "Thumbs.db", "notes.txt", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    names, pictures = read_folder(tmp_path, progress=False)
    assert names == ["a.png", "b.PNG", "sub/c.jpeg"]
    assert np.array_equal(pictures, np.stack([draw(1), draw(2), draw(3)]))
    names, pictures = read_folder(tmp_path, ["sub/c.jpeg"], progress=False)
    assert names == ["sub/c.jpeg"] and np.array_equal(pictures[0], draw(3))


def test_read_folder_leaves_out_only_what_is_asked(tmp_path):
    save(tmp_path / "a.png", draw(1))
    spoil(tmp_path / "b.png", "text")
    with pytest.raises(InputError, match="b.png"):
        read_folder(tmp_path, progress=False)
    names, pictures = read_folder(tmp_path, skip_unreadable=True, progress=False)
    assert names == ["a.png"] and len(pictures) == 1


def test_folders_that_cannot_be_used(tmp_path):
    for use in (read_folder, open_photos):
        refuses_useless_folders(use, tmp_path)
    spoil(tmp_path / "bad" / "a.png", "text")
    with pytest.raises(InputError, match="none of its 1 pictures can be read"):
        read_folder(tmp_path / "bad", skip_unreadable=True, progress=False)
    with pytest.raises(InputError, match="three is the least"):
        open_photos(tmp_path / "bad")


def test_circles_of_links_end(tmp_path):
    save(tmp_path / "d/a.png", draw(1))
    (tmp_path / "d/up").symlink_to(tmp_path)
    (tmp_path / "d/self").symlink_to(tmp_path / "d")
    assert photos.find_pictures(tmp_path) == ["d/a.png"]
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="holds no pictures"):
        open_photos(tmp_path / "loop")


# ---------------------------------------------------------------------------------------------- the split

contents = st.sets(st.binary(max_size=6), min_size=3, max_size=25)


@settings(max_examples=40, deadline=None)
@given(contents)
def test_every_split_of_any_folder_has_a_picture(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("split")
    for index, content in enumerate(sorted(files)):
        (root / f"{index}.png").write_bytes(content)
    names = [f"{index}.png" for index in range(len(files))]
    splits = photos.split_names(root, names)
    assert sorted(sum(splits.values(), [])) == sorted(names)
    assert all(splits[split] for split in ("train", "val", "test"))
    assert photos.split_names(root, names[::-1]) == splits


def test_a_picture_keeps_its_split_when_others_go(tmp_path):
    names = [f"{index}.png" for index in range(600)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 3)
    splits = photos.split_names(tmp_path, names)
    kept = names[::2]
    assert photos.split_names(tmp_path, kept) == {s: [n for n in members if n in kept] for s, members in splits.items()}
    assert 420 < len(splits["train"]) < 490 and 80 < len(splits["val"]) < 150 and 14 < len(splits["test"]) < 50
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for name in names:
        (renamed / f"x{name}").write_bytes(name.encode() * 3)
    again = photos.split_names(renamed, [f"x{name}" for name in names])
    assert {split: [name[1:] for name in members] for split, members in again.items()} == splits


# ---------------------------------------------------------------------------------------------- the data set

@pytest.mark.parametrize("original", ["test", "test_gt", "test_gt_recovered"])
def test_the_labs_layout(tmp_path, original):
    root = tmp_path / "data" / "nycu"
    for i in range(4):
        save(root / f"train/image_{i:05d}.png", draw(i), format="JPEG")
    save(root / "val/image_00000.png", draw(10))
    for number in (2, 10, 9):
        save_test(root, number, draw(20 + number), original)
    (tmp_path / "data" / ".DS_Store").write_text("x")
    data = open_photos(tmp_path / "data", progress=False)
    assert data.name == "nycu"
    assert data.train.shape == (4, 3, 64, 64) and data.val.shape == (1, 3, 64, 64) and data.train.dtype == torch.uint8
    assert np.array_equal(data.val[0].permute(1, 2, 0).numpy(), draw(10))
    for row, number in enumerate((2, 9, 10)):
        assert np.array_equal(data.test[row].permute(1, 2, 0).numpy(), draw(20 + number))
        assert np.array_equal(data.holes[row].numpy(), hole(number))
    assert data.holes.dtype == torch.bool
    assert torch.equal(data.masked, torch.where(data.holes[:, None], 128, data.test).to(torch.uint8))
    assert data.train is data.train  # read once
    assert data.has_originals


def test_pictures_are_read_when_asked_for(lab):
    spoil(lab / "train" / "image_00000.png", "text")
    data = open_photos(lab, progress=False)
    assert len(data.val) == 3 and len(data.masked) == 3
    with pytest.raises(InputError, match="train/image_00000.png"):
        data.train
    assert len(open_photos(lab, skip_unreadable=True, progress=False).train) == 5


@pytest.mark.parametrize("part", ["test/image_001.png", "masked_image/image_001.png", "mask64/mask_001.png"])
def test_a_skipped_test_file_takes_its_partners_along(lab, part):
    spoil(lab / part, "text")
    with pytest.raises(InputError, match=part):
        open_photos(lab, progress=False).masked
    data = open_photos(lab, skip_unreadable=True, progress=False)
    assert np.array_equal(data.test[1].permute(1, 2, 0).numpy(), draw(22))
    assert len(data.test) == len(data.masked) == len(data.holes) == 2
    assert np.array_equal(data.holes[1].numpy(), hole(2))


def test_without_originals(lab):
    shutil.rmtree(lab / "test")
    data = open_photos(lab, progress=False)
    assert data.masked.shape == (3, 3, 64, 64)
    assert not data.has_originals
    with pytest.raises(InputError, match=r"originals of the test pictures are not there. Put them into .*/test,"):
        data.test


@pytest.mark.parametrize("gone, message", [
    ("mask64/mask_001.png", "masked_image/image_001.png: has no mask of its number in mask64/"),
    ("test/image_001.png", "masked_image/image_001.png: has no original of its number in test/"),
    ("masked_image", "no masked pictures for the masks in mask64/")])
def test_missing_partners(lab, gone, message):
    shutil.rmtree(lab / gone) if (lab / gone).is_dir() else (lab / gone).unlink()
    with pytest.raises(InputError, match=message):
        open_photos(lab, progress=False).masked


def test_missing_val(lab):
    shutil.rmtree(lab / "val")
    with pytest.raises(InputError, match="val: no pictures there"):
        open_photos(lab, progress=False).val


def test_masks_of_0_and_1_mean_the_same(lab):
    for number in range(3):
        save(lab / f"mask64/mask_{number:03d}.png", np.where(hole(number), 0, 1).astype(np.uint8))
    assert np.array_equal(open_photos(lab, progress=False).holes.numpy(), np.stack([hole(n) for n in range(3)]))


def test_a_plain_folder(tmp_path):
    for i in range(40):
        save(tmp_path / "cats" / f"{i % 3}" / f"{i}.png", draw(i))
    data = open_photos(tmp_path / "cats", progress=False)
    assert len(data.train) + len(data.val) + len(data.test) == 40
    assert min(len(data.train), len(data.val), len(data.test)) >= 1
    assert data.has_originals and data.holes.shape == (len(data.test), 64, 64)
    assert torch.equal(data.masked[0, 0], torch.where(data.holes[0], 128, data.test[0, 0]).to(torch.uint8))


def test_key_names_the_content(lab):
    key = open_photos(lab).key
    assert key == open_photos(lab).key and int(key, 16) >= 0
    (lab / "notes.txt").write_text("no picture")
    assert open_photos(lab).key == key
    (lab / "val/image_00000.png").rename(lab / "val/image_00000b.png")
    renamed = open_photos(lab).key
    save(lab / "val/image_00000b.png", draw(99))
    assert len({key, renamed, open_photos(lab).key}) == 3
