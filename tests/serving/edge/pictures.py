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
