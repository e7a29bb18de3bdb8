"""Reading many images: memory is bounded, and who looks on is told how far it is."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from adclick.components.ad_example_gen.image_progress import ImageProgress, describe_progress, image_progress_to
from adclick.components.ad_example_gen.pipeline import read_images
from adclick.components.ad_example_gen.pixel_budget import PixelBudget
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.images import decoded_pixels, inspect_image


def test_no_more_pixels_are_taken_than_there_are_and_larger_images_come_alone() -> None:
    budget = PixelBudget(100)
    changing = threading.Lock()
    taken: list[int] = []
    most = [0]

    def take(pixels: int) -> None:
        with budget.taking(pixels):
            with changing:
                taken.append(pixels)
                assert sum(taken) <= 100 or taken == [1_000]
                most[0] = max(most[0], len(taken))
            time.sleep(0.002)
            with changing:
                taken.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(take, [40, 1_000, 10, 10, 60, 100] * 20))) == 120
    assert most[0] > 1


def test_who_waits_for_many_pixels_is_not_overtaken() -> None:
    budget = PixelBudget(100)
    order: list[int] = []

    def take(pixels: int) -> None:
        with budget.taking(pixels):
            order.append(pixels)

    def wait_for(waiting: int) -> None:
        deadline = time.monotonic() + 60
        while budget.waiting < waiting:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    with ThreadPoolExecutor(2) as pool:
        with budget.taking(50):
            large = pool.submit(take, 100)
            wait_for(1)
            small = pool.submit(take, 10)
            wait_for(2)
        for taking in (large, small):
            taking.result(60)
    assert order == [100, 10]


def test_a_failure_gives_its_pixels_back() -> None:
    budget = PixelBudget(10)
    with pytest.raises(ValueError), budget.taking(10):
        raise ValueError
    with budget.taking(10):
        pass


def test_a_scaled_jpeg_counts_by_what_is_decoded_of_it(tmp_path: Path) -> None:
    for form, pixels in (("jpeg", 40 * 80), ("png", 320 * 640)):
        Image.new("RGB", (320, 640)).save(tmp_path / form, form)
        header = inspect_image((tmp_path / form).read_bytes(), 10**9)
        assert decoded_pixels(header, 16) == pixels


@pytest.mark.parametrize("size", [16, 1_024])
def test_squares_of_any_size_come_in_order_and_each_is_counted(tmp_path: Path, size: int) -> None:
    references = [f"{number:03d}.png".encode() for number in range(40)]
    for number, reference in enumerate(references):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / reference.decode())
    counted: list[int] = []
    settings = IngestionSettings(image_size=size)
    parts = read_images([*references, *references], str(tmp_path), settings, on_read=lambda: counted.append(1))
    creatives = [found for some in parts for found in some]
    assert [reference for reference, _ in creatives] == references
    assert [(creative.image or b"")[:3] for _, creative in creatives] == [bytes([n, 0, 0]) for n in range(40)]
    assert len(counted) == 40


def test_progress_in_words() -> None:
    assert describe_progress(0, 10, 0) == "0 of about 10 images"
    assert describe_progress(500, 2_500, 10) == "500 of about 2,500 images, 50/s, 40 s left"
    assert describe_progress(1_000, 100_000, 10) == "1,000 of about 100,000 images, 100/s, 16 min left"
    assert describe_progress(100, 100_000, 10) == "100 of about 100,000 images, 10/s, 2.8 h left"
    assert describe_progress(30, 20, 10) == "30 of about 30 images, 3/s, 0 s left"


def test_who_looks_on_is_told_twice_a_second_and_the_log_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = ImageProgress("drops/2026-10", partitions=4)
    told: list[str] = []
    with caplog.at_level(logging.INFO, "adclick"), image_progress_to(told.append):
        progress.begin(1_000)
        for _ in range(1_000):
            now[0] += 0.13
            progress.add()
    assert 1_000 * 0.13 / 0.65 <= len(told) <= 1_000 * 0.13 / 0.5
    assert told[-1].startswith("1,000 of about 4,000 images, 8/s, 6 min left")
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "drops/2026-10: 462 of about 4",
        "drops/2026-10: 924 of about 4",
    ]
    progress.begin(3_000)
    now[0] += 1
    progress.add()
    assert told[-1].startswith("1,000 "), "nobody looks on any more"
