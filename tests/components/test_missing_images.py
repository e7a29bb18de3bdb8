"""Missing images: what an address and its neighbours say of the cause; and what corrupt ones are called."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adclick.components.ad_example_gen.missing_images import CAUSES, MissingImages
from adclick.models.images import why_corrupt


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("http://cdn.example/a.jpg", "web_address"),
        ("ftp://ads.example/a.jpg", "web_address"),
        ("C:\\ads\\a.jpg", "windows_path"),
        ("\\\\server\\ads\\a.jpg", "windows_path"),
        ("images\\a.jpg", "backslash"),
        ("images/my%20ad.jpg", "percent_encoding"),
        (" images/a.jpg", "blanks"),
        ("/no-such-volume/ads/a.jpg", "other_system"),
        ("images/A.JPG", "other_case"),
        ("images/a.png", "other_extension"),
        ("pictures/a.jpg", "no_folder"),
        ("images/b.jpg", "no_file"),
        ("images/100% off.jpg", "no_file"),
    ],
)
def test_the_likely_cause_is_told(address: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    assert MissingImages(str(tmp_path)).cause(address) == cause
    assert CAUSES[cause]


def test_an_address_that_no_file_can_have_has_a_cause_too(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    found = MissingImages(str(tmp_path))
    assert found.cause("images/a\0b.jpg") == "no_file" and found.cause("a\0b/c.jpg") == "no_folder"


def encoded(form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("form", "name"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("GIF", "GIF"), ("WEBP", "WebP"), ("BMP", "BMP")]
)
def test_a_file_cut_off_is_said_to_be(form: str, name: str) -> None:
    whole = encoded(form)
    half = whole[: len(whole) // 2]
    words = why_corrupt(half)
    assert words.startswith(f"a {name} cut off after {len(half):,}")
    if form not in ("JPEG", "GIF"):
        assert words.endswith(f"of {len(whole):,} bytes")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "a text, no image: it begins '<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1", "a text"),
        (b"\x00\x80\x90" * 30, "no image in a known format"),
    ],
)
def test_what_is_no_image_is_described(content: bytes, words: str) -> None:
    assert words in why_corrupt(content)


def test_a_damaged_file_that_is_whole_is_called_damaged() -> None:
    whole = bytearray(encoded("PNG"))
    whole[60:200] = bytes(140)
    assert why_corrupt(bytes(whole)) == f"a damaged PNG of {len(whole):,} bytes"
