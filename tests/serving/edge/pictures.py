"""Pictures for screens to show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 320, height: int = 180) -> Image.Image:
    """A picture of large random blocks, unlike that of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=90)
    return buffer.getvalue()


def frames(folder: Path) -> list[Path]:
    """Screens of many sizes, subsampled or not, progressive, grey, and turned by EXIF; noisy, as cameras are."""
    noise = np.random.default_rng(3)
    files = []

    def add(image: Image.Image, **options: Any) -> None:
        files.append(folder / f"{len(files):02}.jpg")
        pixels = np.asarray(image, np.int16) + noise.integers(-25, 25, np.asarray(image).shape)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(files[-1], "JPEG", **options)

    for seed, size in enumerate([(1920, 1080), (320, 180), (97, 300), (50, 20), (3000, 2000), (48, 48), (1000, 49)]):
        add(picture(seed, *size))
        add(picture(seed, *size), quality=30)
        add(picture(seed, *size), subsampling=0, progressive=True)
        add(picture(seed, *size).convert("L"))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(picture(0, 700, 300), exif=exif)
    return files


def png_frames(folder: Path) -> list[Path]:
    """Screenshots as PNG: colours, greys, palettes, bits, deep colours, transparent ones, and turned by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = picture(0, 640, 360)
    veil = Image.linear_gradient("L").resize(colours.size)
    see_through = colours.copy()
    see_through.putalpha(veil)
    grey_veil = colours.convert("L")
    grey_veil.putalpha(veil)
    palette = colours.quantize(200)
    images: list[tuple[Image.Image, dict[str, Any]]] = [
        (colours, {}),
        (picture(1, 97, 300), {}),
        (picture(2, 1920, 1080), {}),
        (picture(3, 50, 20), {}),
        (colours.convert("L"), {}),
        (colours.convert("1"), {}),
        (palette, {}),
        (palette, {"transparency": 3}),
        (picture(99, 640, 360).quantize(4), {"bits": 2}),
        (colours, {"transparency": colours.getpixel((0, 0))}),
        (see_through, {}),
        (grey_veil, {}),
        (picture(0, 700, 300), {"exif": exif}),
    ]
    files = []
    for image, options in images:
        files.append(folder / f"{len(files):02}.png")
        image.save(files[-1], "PNG", compress_level=1, **options)
    return files
