"""Frames: one function to the recogniser's input, and nothing that a hostile picture could break."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adclick.serving.edge import RUNTIME_VERSION
from adclick.serving.edge.errors import BrokenFrame
from adclick.serving.edge.frame import open_frame, prepare
from adclick.serving.edge.sources import frames_of, jpeg_end
from tests.serving.edge.pictures import encoded, picture

ROOT = Path(__file__).resolve().parents[3]


def test_a_jpeg_scaled_while_decoded_is_prepared_like_its_pixels() -> None:
    image = picture(1, 1920, 1080)
    scaled = prepare(open_frame(encoded(image)), 96)
    whole = prepare(image, 96)
    assert scaled.shape == whole.shape == (1, 96, 96, 3) and scaled.dtype == np.float32
    assert np.abs(scaled - whole).mean() < 3
    assert whole.min() >= 0 and whole.max() <= 255


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (30, 20))
    assert prepare(image, 16).shape == (1, 16, 16, 3)


def test_the_transparent_is_white_and_exif_turns() -> None:
    assert prepare(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), 8).min() == 255
    left = Image.new("RGB", (40, 20), "black")
    left.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3
    buffer = io.BytesIO()
    left.save(buffer, "JPEG", exif=exif, quality=95)
    turned = prepare(open_frame(buffer.getvalue()), 8)
    assert turned[0, :, 0].mean() < 50 < 200 < turned[0, :, -1].mean()


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(BrokenFrame, match="pixels"):
        open_frame(encoded(Image.new("1", (8000, 6000)), "PNG"))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
)
def test_a_cut_or_changed_picture_is_prepared_or_broken(form: str, kept: int, changes: list[tuple[int, int]]) -> None:
    content = bytearray(encoded(picture(3, 48, 32), form))[: kept + 1]
    for place, value in changes:
        content[place % len(content)] = value
    try:
        pixels = prepare(open_frame(bytes(content)), 16)
    except BrokenFrame:
        return
    assert pixels.shape == (1, 16, 16, 3) and np.isfinite(pixels).all()


def test_a_jpeg_ends_behind_its_thumbnail_and_not_before_all_of_it_is_there() -> None:
    thumb = encoded(picture(5, 16, 16))
    segment = b"\xff\xe1" + (len(thumb) + 2).to_bytes(2, "big") + thumb
    plain = encoded(picture(4))
    content = plain[:2] + segment + plain[2:]
    assert jpeg_end(content + plain, 0) == len(content)
    assert all(jpeg_end(content[:cut], 0) is None for cut in range(2, len(content)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_the_end_of_noise_is_no_place_outside_it(noise: bytes) -> None:
    content = b"\xff\xd8" + noise
    end = jpeg_end(content, 0)
    assert end is None or end == -1 or 4 <= end <= len(content)


def test_a_folder_gives_each_picture_once_in_order_and_says_what_is_broken(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(Image.new("RGB", (number + 1, 1)), "PNG"))
        os.utime(tmp_path / f"{number}.png", (number, number))
    (tmp_path / "9.png").write_bytes(b"no picture")
    (tmp_path / ".unfinished").write_bytes(b"")
    frames = list(frames_of(str(tmp_path), lambda: False, once=True))
    assert [frame.width for frame in frames[:3]] == [1, 2, 3]
    assert isinstance(frames[3], BrokenFrame) and len(frames) == 4


def test_video_is_decoded_to_its_end(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "screen.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in (1, 1, 2):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number))))
        container.mux(stream.encode())
    frames = list(frames_of(f"video:{tmp_path / 'screen.mp4'}", lambda: False))
    assert len(frames) == 3
    for frame, number in zip(frames, (1, 1, 2), strict=True):
        assert np.abs(prepare(frame, 32) - prepare(picture(number), 32)).mean() < 12


def test_the_runtime_imports_nothing_heavy_and_nothing_else_of_adclick() -> None:
    program = (
        "import sys, pathlib, importlib; root = pathlib.Path('serving/edge'); "
        "names = [path.stem for path in root.glob('*.py') if path.stem != '__init__']; "
        "[importlib.import_module(f'adclick.serving.edge.{name}') for name in names]; "
        "print(sorted({name.split('.')[0] for name in sys.modules} "
        "& {'tensorflow', 'pydantic', 'httpx', 'scipy', 'paho', 'av'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_distribution_bears_the_runtimes_version() -> None:
    assert f'version = "{RUNTIME_VERSION}"' in (ROOT / "deploy/edge/pyproject.toml").read_text()
