"""Paths for TensorFlow, which takes those of the weights that it restores for patterns."""

from __future__ import annotations

import hashlib
import os

from adclick.storage.local_copy import PATTERN_CHARACTERS, local_copy, process_folder


def literal_path(folder: str) -> str:
    """A path of the same folder that means nothing but itself: a link to it, where its own holds such as `[` or `*`.

    The link lives as long as the process: a model that was loaded through it knows its assets by it. Of a folder in a
    bucket it is the path of a copy, where `local_copy` makes one; other addresses with a scheme are given back as they
    are.
    """
    folder = local_copy(folder)
    if "://" in folder or not PATTERN_CHARACTERS & set(folder):
        return folder
    link = os.path.join(process_folder("links"), hashlib.sha256(os.fsencode(folder)).hexdigest()[:16])
    if not os.path.lexists(link):
        temporary = f"{link}.{os.urandom(4).hex()}"
        os.symlink(os.path.abspath(folder), temporary)
        os.replace(temporary, link)
    return link
