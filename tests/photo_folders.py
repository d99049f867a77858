"""Pictures and folders that the tests of photos draw for themselves, from seeds."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from lab3.common.files import InputError
from lab3.data.masks import GREY


def draw(seed, size=64):
    """A picture of soft blotches, uint8 (size, size, 3); two seeds give two unrelated ones."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **({"format": "PNG"} | options))
    return path


def recode(pixels, quality=85):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def hole(index):
    """True in a hole of 20 x 20 that moves with `index`."""
    holes = np.zeros((64, 64), dtype=bool)
    holes[4 + index:24 + index, 10:30] = True
    return holes


def save_test(root, number, pixels, original="test"):
    masked = pixels.copy()
    masked[hole(number)] = GREY
    save(root / f"masked_image/image_{number:03d}.png", masked)
    save(root / f"mask64/mask_{number:03d}.png", np.where(hole(number), 0, 255).astype(np.uint8))
    if original:
        save(root / f"{original}/image_{number:03d}.png", pixels)


def spoil(path, how):
    whole = save(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).read_bytes()
    if how == "text":
        path.write_text("not a cat")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated PNG":
        path.write_bytes(whole[:len(whole) // 2])
    elif how == "truncated JPEG":
        save(path, draw(1), format="JPEG")
        path.write_bytes(path.read_bytes()[:-300])
    elif how == "truncated header":
        save(path, draw(1), format="JPEG")
        path.write_bytes(path.read_bytes()[:300])
    elif how == "damaged":
        path.write_bytes(whole[:200] + bytes(1000) + whole[1200:])
    elif how == "bomb":
        save(path, Image.new("1", (12_000, 12_000)))
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "dead link":
        path.unlink()
        path.symlink_to("nowhere.png")
    return path


def spread(lab):
    """Put copies of pictures into other splits."""
    save(lab / "val/x_00010.png", draw(0))  # train's
    save(lab / "val/x_00011.png", recode(draw(1)))
    save(lab / "train/x_00020.png", draw(20))  # test's
    save(lab / "train/x_00021.png", recode(draw(21)))
    save(lab / "val/x_00022.png", draw(22)[:, ::-1])


def refuses_useless_folders(use, tmp_path):
    """Check that `use` says of a folder that is not there, or bare, what is wrong with it."""
    with pytest.raises(InputError, match="nowhere: no such folder"):
        use(tmp_path / "nowhere", progress=False)
    (tmp_path / "bare").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="holds no pictures"):
        use(tmp_path / "bare", progress=False)
