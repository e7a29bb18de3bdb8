"""PictureGen: the creatives of a window as devices see them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adclick.components.artifacts import Pictures
from adclick.components.recognition.pictures import (
    LEAST_CREATIVES,
    PictureCounts,
    read_held_out,
    read_picture_counts,
    read_training,
    write_pictures,
)
from adclick.models.creatives import OK, Creative
from adclick.models.recognition.settings import RecognitionSettings
from adclick.schema.errors import DataRefused

SETTINGS = RecognitionSettings(size=32, evaluation_creatives=10)


def _creative(folder: Path, number: int, picture: Image.Image) -> Creative:
    path = folder / f"{number}.png"
    picture.save(path)
    return Creative(f"{number:032x}", OK, str(path))


def _noise(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


@pytest.fixture
def creatives(tmp_path: Path) -> list[Creative]:
    (tmp_path / "images").mkdir()
    return [_creative(tmp_path / "images", number, _noise(number)) for number in range(40)]


def _written(creatives: list[Creative], folder: Path, settings: RecognitionSettings = SETTINGS) -> Pictures:
    artifact = Pictures()
    artifact.uri = str(folder)
    write_pictures(creatives, settings, artifact.uri)
    return artifact


def test_every_creative_is_learned_from_or_held_out_or_counted(creatives: list[Creative], tmp_path: Path) -> None:
    Path(creatives[0].source).unlink()
    Path(creatives[1].source).write_bytes(Path(creatives[1].source).read_bytes()[:200])
    artifact = _written(creatives, tmp_path / "pictures")
    counts = read_picture_counts(artifact)
    assert counts.unreadable == 2
    assert counts.training + counts.held_out + counts.alike + counts.unreadable == len(creatives)
    assert read_training(artifact).shape == (counts.training, 32, 32, 3)
    assert len(read_held_out(artifact)) == counts.held_out


def test_the_same_creatives_are_held_out_in_another_order(creatives: list[Creative], tmp_path: Path) -> None:
    first = read_held_out(_written(creatives, tmp_path / "first"))
    again = read_held_out(_written(creatives[::-1], tmp_path / "again"))
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in again]


def test_a_creative_that_looks_like_another_judges_nothing(creatives: list[Creative], tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    copies = [_creative(tmp_path / "copies", 1_000 + number, _noise(number, (160, 120))) for number in range(40)]
    counts = read_picture_counts(_written([*creatives, *copies], tmp_path / "pictures"))
    assert counts.training + counts.held_out + counts.alike == 80
    assert counts.held_out <= 40


def test_beyond_the_limit_the_newest_are_taken_and_the_rest_is_counted(
    creatives: list[Creative], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"max_creatives": 30})
    counts = read_picture_counts(_written(creatives, tmp_path / "pictures", settings))
    assert counts.beyond_limit == 10
    assert counts.training + counts.held_out == 30


def test_too_few_creatives_are_refused(creatives: list[Creative], tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=f"needs {LEAST_CREATIVES}"):
        _written(creatives[: LEAST_CREATIVES - 1], tmp_path / "pictures")


def test_what_is_transparent_is_white_and_a_photo_stands_upright(creatives: list[Creative], tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    all_held_out = [dataclasses.replace(creative, source=str(tmp_path / "clear.png")) for creative in creatives]
    with pytest.raises(DataRefused):
        _written(all_held_out, tmp_path / "pictures")
    training = [dataclasses.replace(creatives[0], source=str(tmp_path / "clear.png")), *creatives[1:]]
    pixels = read_training(_written(training, tmp_path / "mixed"))
    held_out = [np.asarray(picture) for picture in read_held_out(_written(training, tmp_path / "mixed"))]
    assert any((picture == 255).all() for picture in (*pixels, *held_out))


def test_counts_are_what_the_file_says(creatives: list[Creative], tmp_path: Path) -> None:
    artifact = _written(creatives, tmp_path / "pictures")
    assert dataclasses.asdict(read_picture_counts(artifact)).keys() == {
        field.name for field in dataclasses.fields(PictureCounts)
    }
