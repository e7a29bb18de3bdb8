"""Perceptual hashes of pictures, as bits: run in the rivals' environment.

Writes `phash.npy`, `whash.npy` and `pdq.npy`, uint8 [pictures, bits], of the pictures of a folder in the order of their
names; and `photographs`, pictures that scikit-image ships.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pdqhash
import skimage
from PIL import Image

#: Those of scikit-image's pictures that are photographs of things that a person would point a camera at.
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cat", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("ihc", "moon", "motorcycle_left", "retina", "rocket"),
)


def main() -> None:
    """Reads pictures, writes bits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--photographs", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.photographs:
        folder = Path(skimage.__file__).parent / "data"
        for file in sorted(folder.iterdir()):
            if file.stem in PHOTOGRAPHS and file.suffix in (".png", ".jpg", ".jpeg"):
                shutil.copy(file, arguments.output / file.name)
        return
    bits: dict[str, list[Any]] = {"phash": [], "whash": [], "pdq": []}
    for file in sorted(arguments.pictures.iterdir()):
        picture = Image.open(file).convert("RGB")
        bits["phash"].append(imagehash.phash(picture).hash.ravel())
        bits["whash"].append(imagehash.whash(picture).hash.ravel())
        bits["pdq"].append(np.asarray(pdqhash.compute(np.asarray(picture))[0]))
    for name, rows in bits.items():
        np.save(arguments.output / f"{name}.npy", np.stack(rows).astype(np.uint8))


if __name__ == "__main__":
    main()
