"""Writes the address of a pushed image into a project's config, as `platform.image`: set_image.py CONFIG IMAGE."""

import sys
from pathlib import Path

from adclick.pipeline.config.edit import edit_yaml

config, image = Path(sys.argv[1]), sys.argv[2]
config.write_text(edit_yaml(config.read_text(encoding="utf-8"), {("platform", "image"): image}), encoding="utf-8")
