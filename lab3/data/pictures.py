"""One picture file of any kind, as 64x64 pixels.

In: a path. Out: uint8 pixels or a mask, or an error that names the file and says what is wrong with it. Formats are
read from the content, never from the suffix.
"""

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lab3.common.files import InputError

SIZE = 64
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".bmp": "BMP",
           ".webp": "WEBP", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM"}
RAW = "a camera's raw format"
NOT_READ = {".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".svg": "SVG",
            ".psd": "Photoshop's format", ".dng": RAW, ".cr2": RAW, ".cr3": RAW, ".nef": RAW, ".arw": RAW, ".raf": RAW}


def why_not_read(name):
    """Why a file with this name is not read as a picture, in a few words; "" where it is."""
    suffix = Path(name).suffix.lower()
    if suffix in FORMATS:
        return ""
    kind = NOT_READ.get(suffix)
    return f"{kind} cannot be read: save as JPEG or PNG" if kind else "not a picture by its name"


class NotAPicture(Exception):
    """Why a file is not a picture, in a few words."""


@dataclass
class Decoded:
    """A picture, loaded and upright, with the format and (width, height) that its file has."""

    picture: Image.Image
    format: str
    size: tuple[int, int]


def decode(data):
    """Bytes of a file -> `Decoded`. Raises `NotAPicture`."""
    if not data:
        raise NotAPicture("empty file")
    kind = "picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            # An MPO is a JPEG with further pictures behind it, a DIB a BMP without its first header.
            kind = {"MPO": "JPEG", "DIB": "BMP"}.get(picture.format, picture.format)
            size = picture.size
            picture.load()
            return Decoded(ImageOps.exif_transpose(picture), kind, size)
    except UnidentifiedImageError:
        raise NotAPicture("its content is no picture format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAPicture(f"over {Image.MAX_IMAGE_PIXELS // 10**6} megapixels") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file drives them into
        cut_off = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise NotAPicture(f"truncated {kind}" if cut_off else f"damaged {kind}: {error}") from None


def to_rgb(picture):
    """Any mode of Pillow's -> RGB: transparent parts on white, 16 bits and floats scaled to 8."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        top = values.max(initial=0)
        # Pillow's own conversion cuts at 255, which turns a 16-bit picture white.
        full = 65535 if picture.mode.startswith("I;16") or top > 255 else 255 if top > 1 else 1
        picture = Image.fromarray((values / full * 255).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _square(picture, size, resample):
    # A picture that fits keeps its very pixels: resampling would change some.
    return np.array(picture if picture.size == (size, size) else ImageOps.fit(picture, (size, size), resample))


def to_pixels(decoded, size=SIZE):
    """`Decoded` -> uint8 (size, size, 3)."""
    return _square(to_rgb(decoded.picture), size, Image.Resampling.LANCZOS)


def to_mask(decoded, size=SIZE):
    """`Decoded` -> uint8 (size, size), values as they are in the file."""
    return _square(to_rgb(decoded.picture).convert("L"), size, Image.Resampling.NEAREST)


def to_holes(mask):
    """A mask's values -> bool, True in the hole: what is darker than half of the brightest."""
    # A mask saved as 0 and 1, or as a JPEG, means the same as one of 0 and 255.
    return mask <= mask.max() / 2


def read_bytes(path):
    """The content of a file. Raises `NotAPicture` where there is none to read."""
    try:
        # A pipe that is called cat.png would be waited on for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NotAPicture("not a regular file")
        return Path(path).read_bytes()
    except OSError as error:
        raise NotAPicture(error.strerror or str(error)) from None


def content_of(path, otherwise):
    """What identifies a file; one that cannot be read has a place too, and reading it will say what is wrong."""
    try:
        return read_bytes(path)
    except NotAPicture:
        return otherwise


def unreadable(path, reason):
    """The `InputError` for a file that is not a picture."""
    return InputError(f"{path}: not a readable picture ({reason}). Remove it, or pass --skip-unreadable.")


def read_as(path, convert, size=SIZE):
    """Read one file and convert it, by `to_pixels` or `to_mask`. Raises `InputError`."""
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file. Check its name.")
    try:
        return convert(decode(read_bytes(path)), size)
    except NotAPicture as reason:
        raise unreadable(path, reason) from None


def read_picture(path, size=SIZE):
    """Read one picture as uint8 RGB (size, size, 3), whatever its format, mode and orientation.

    The format comes from the content, never from the name. Transparent parts become white. Another size than
    `size` x `size` is cut to its central square and resized (Lanczos).

    Raises:
        InputError: no such file, or no complete picture in it; the message names file and reason.
    """
    return read_as(path, to_pixels, size)
