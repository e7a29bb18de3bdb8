"""Photograph-like JPEGs for benchmarks: smooth shapes under the grain of a sensor and a line of text, quality 85.

A number and a size always give the same picture, so that a folder of them serves later benchmarks too.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

_GRAIN = 7.0
_QUALITY = 85
_TEXT_SHARE = 0.12
_WRITTEN_AT_A_TIME = 64


def cached_photographs(count: int, width: int, height: int) -> list[Path]:
    """The first so many pictures of a size, from a folder of the user's cache; those that it lacks are made.

    Args:
        count: How many.
        width: In pixels.
        height: In pixels.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return write_photographs(cache / "adclick-benchmarks" / f"{width}x{height}", count, width, height)


def write_photographs(folder: Path, count: int, width: int = 600, height: int = 500) -> list[Path]:
    """Writes pictures that are not there yet, on all cores, and tells of its progress.

    Args:
        folder: Where to write; made if need be.
        count: How many.
        width: In pixels.
        height: In pixels.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"creative-{number:06d}.jpg" for number in range(count)]
    there = set(os.listdir(folder))
    missing = [number for number, file in enumerate(files) if file.name not in there]
    parts = [missing[start : start + _WRITTEN_AT_A_TIME] for start in range(0, len(missing), _WRITTEN_AT_A_TIME)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        named = ([files[number] for number in part] for part in parts)
        for done, _ in enumerate(pool.map(_write, named, parts, repeat(width), repeat(height)), 1):
            if done % 10 == 0 or done == len(parts):
                print(f"{width} × {height}: {min(done * _WRITTEN_AT_A_TIME, len(missing)):,} of {len(missing):,} made")
    return files


def _write(files: list[Path], numbers: list[int], width: int, height: int) -> None:
    for file, number in zip(files, numbers, strict=True):
        partial = file.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(_photograph(number, width, height))
        partial.replace(file)


def _photograph(number: int, width: int, height: int) -> bytes:
    random = np.random.default_rng([number, width, height])
    shapes = random.integers(0, 256, (int(random.integers(4, 40)), int(random.integers(4, 40)), 3), dtype=np.uint8)
    picture = Image.fromarray(shapes).resize((width, height), Image.Resampling.BICUBIC)
    left, top = int(random.integers(0, width)), int(random.integers(0, height))
    grain = _grain(width, height).crop((left, top, left + width, top + height))
    picture = ImageChops.add(picture, grain, offset=-128)
    font = ImageFont.load_default(max(8, round(height * _TEXT_SHARE)))
    ImageDraw.Draw(picture).text((width // 20, height // 2), f"Sale {number}", fill=(255, 255, 255), font=font)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


@lru_cache(maxsize=1)
def _grain(width: int, height: int) -> Image.Image:
    """Twice as wide and high, around 128."""
    levels = np.random.default_rng(0).normal(128, _GRAIN, (2 * height, 2 * width))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).convert("RGB")
