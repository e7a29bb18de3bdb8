"""Scaled decoding: close to decoding in full, and the same pixels of the same bytes wherever an image is decoded."""

from __future__ import annotations

import asyncio
import importlib.resources
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image, features

from adclick.components.ad_example_gen.creatives import read_creative
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.images import (
    CorruptImage,
    check_whole,
    decode_and_resize,
    decode_bytes,
    inspect_image,
    scaling_ratio,
)
from adclick.serving.gateway.creatives import CreativeMemory, CreativeStore
from adclick.serving.gateway.fields import Base64
from adclick.serving.gateway.settings import CreativeSettings

Pixels = npt.NDArray[np.uint8]

#: Of 255, on average.
LARGEST_DIFFERENCE = 1.5
PIXELS = 100_000_000
PHOTOGRAPHS = (
    ("sklearn.datasets", "images/china.jpg"),
    ("sklearn.datasets", "images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
SIZE = 32


def photographs() -> list[Image.Image]:
    """What packages ship."""
    opened = []
    for package, name in PHOTOGRAPHS:
        pytest.importorskip(package)
        content = importlib.resources.files(package).joinpath(name).read_bytes()
        opened.append(Image.open(io.BytesIO(content)).convert("RGB"))
    return opened


def encode(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def varied_jpegs(count: int) -> Iterator[bytes]:
    """Cuttings of photographs, at all sizes and aspects, as all kinds of JPEG."""
    random = np.random.default_rng(1)
    sources = photographs()
    for number in range(count):
        source = sources[number % len(sources)]
        width, height = (int(random.integers(side // 3, side + 1)) for side in source.size)
        left, top = (
            int(random.integers(0, side - cut + 1)) for side, cut in zip(source.size, (width, height), strict=True)
        )
        cutting = source.crop((left, top, left + width, top + height))
        larger = float(random.uniform(0.5, 2.5))
        cutting = cutting.resize((round(width * larger), round(height * larger)), Image.Resampling.LANCZOS)
        yield encode(
            cutting.convert(str(random.choice(["RGB", "RGB", "RGB", "L", "CMYK"]))),
            quality=int(random.integers(50, 98)),
            subsampling=int(random.integers(0, 3)),
            progressive=bool(random.integers(2)),
            optimize=bool(random.integers(2)),
        )


def decoded_in_full(encoded: bytes, size: int) -> Pixels:
    whole = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    squeezed = tf.image.resize(whole, [size, size], tf.image.ResizeMethod.AREA)
    return np.asarray(tf.cast(tf.round(squeezed), tf.uint8))


def decoded_at_once(encoded: bytes, size: int) -> Pixels:
    decoded = decode_bytes(encoded, inspect_image(encoded, PIXELS), size)
    return np.frombuffer(decoded.pixels, np.uint8).reshape(size, size, 3)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], Pixels]:
    """The decoder as a served graph: saved, and loaded again."""

    class Decoder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def decode(self, batch: tf.Tensor) -> tf.Tensor:
            spec = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
            return tf.map_fn(lambda each: decode_and_resize(each, SIZE), batch, fn_output_signature=spec)

    folder = str(tmp_path_factory.mktemp("decoder"))
    module = Decoder()
    tf.saved_model.save(module, folder, signatures=module.decode)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    return lambda encoded: np.asarray(next(iter(signature(tf.constant(encoded)).values())))


def test_scaled_is_close_to_full_decoding() -> None:
    differences, biases, ratios = [], [], Counter[int]()
    for number, encoded in enumerate(varied_jpegs(500)):
        size = (16, 32, 64)[number // len(PHOTOGRAPHS) % 3]
        header = inspect_image(encoded, PIXELS)
        ratios[scaling_ratio(header.width, header.height, size)] += 1
        difference = decoded_at_once(encoded, size).astype(np.int64) - decoded_in_full(encoded, size)
        differences.append(np.abs(difference).mean())
        biases.append(difference.mean())
    assert min(ratios[ratio] for ratio in (1, 2, 4, 8)) >= 30
    assert np.mean(differences) < LARGEST_DIFFERENCE
    assert np.max(differences) < 5 * LARGEST_DIFFERENCE
    assert abs(np.mean(biases)) < 0.5


def test_a_side_is_never_scaled_below_twice_the_square() -> None:
    assert [scaling_ratio(side, 5_000, 64) for side in (1, 255, 256, 511, 512, 1_023, 1_024, 9_000)] == [
        1, 1, 2, 2, 4, 4, 8, 8,
    ]  # fmt: skip
    assert scaling_ratio(5_000, 255, 64) == 1


def image_files() -> dict[str, bytes]:
    """Files of every format, from a photograph."""
    photograph = photographs()[0]
    turned = Image.Exif()
    turned[0x0112] = 6
    opacity = Image.linear_gradient("L").resize(photograph.size)
    transparent = photograph.copy()
    transparent.putalpha(opacity)
    files = {
        "png": encode(photograph, "PNG"),
        "transparent png": encode(transparent, "PNG"),
        "grey png": encode(transparent.convert("LA"), "PNG"),
        "palette": encode(photograph.convert("P"), "PNG"),
        "gif": encode(photograph.convert("P"), "GIF"),
        "bmp": encode(photograph, "BMP"),
        "tiff": encode(photograph, "TIFF"),
        "turned tiff": encode(photograph, "TIFF", exif=turned),
        "webp": encode(photograph, "WEBP"),
        "transparent webp": encode(transparent, "WEBP"),
        "turned webp": encode(photograph, "WEBP", exif=turned),
        "turned jpeg": encode(photograph, exif=turned),
        "turned png": encode(photograph, "PNG", exif=turned),
    }
    if features.check("avif"):
        files["avif"] = encode(photograph, "AVIF")
        files["turned avif"] = encode(photograph, "AVIF", exif=turned)
    return files


def test_same_bytes_give_the_same_pixels_in_ingestion_and_behind_the_gateway(
    served: Callable[[list[bytes]], Pixels], tmp_path: Path
) -> None:
    files = list(image_files().values()) + list(varied_jpegs(60))
    settings = IngestionSettings(image_size=SIZE)
    ingested = []
    for number, encoded in enumerate(files):
        file = tmp_path / str(number)
        file.write_bytes(encoded)
        creative = read_creative(str(file), settings)
        assert creative.image is not None, creative.error
        ingested.append(np.frombuffer(creative.image, np.uint8).reshape(SIZE, SIZE, 3))
    gateway = CreativeStore(CreativeSettings(), CreativeMemory())
    resolved = asyncio.run(gateway.resolve([Base64(encoded) for encoded in files]))
    seen = served([image.value for image in resolved])
    assert [int((one != other).sum()) for one, other in zip(ingested, seen, strict=True)] == [0] * len(files)


def test_every_format_shows_the_photograph() -> None:
    files = image_files()
    upright = np.asarray(photographs()[0].resize((SIZE, SIZE), Image.Resampling.BOX)).astype(np.int64)
    for name in ("png", "bmp", "tiff", "webp", *(["avif"] if "avif" in files else [])):
        assert np.abs(decoded_at_once(files[name], SIZE) - upright).mean() < LARGEST_DIFFERENCE, name
    for name in ("turned jpeg", "turned png", "turned webp", *(["turned avif"] if "turned avif" in files else [])):
        shown = decoded_at_once(files[name], SIZE)
        assert np.abs(shown - np.rot90(upright, -1)).mean() < LARGEST_DIFFERENCE, name


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_jpeg_that_is_cut_off_is_refused_though_it_is_scaled(progressive: bool, kept: float) -> None:
    whole = encode(photographs()[0], progressive=progressive)
    cut_off = whole[: int(len(whole) * kept)]
    check_whole(whole)
    with pytest.raises(CorruptImage, match="cut off"):
        check_whole(cut_off)
    with pytest.raises(CorruptImage, match="cut off"):
        decoded_at_once(cut_off, 16)
