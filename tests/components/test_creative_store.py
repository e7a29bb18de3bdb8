"""The store of creatives: what is known is neither read nor decoded, whatever happens to the store or to a file."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adclick.components.ad_example_gen.creative_store import CreativeStore
from adclick.components.ad_example_gen.creatives import read_creative, recall_creative
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.creatives import Creative
from adclick.models.images import decoding_rule
from adclick.storage import filesystem

SIZE = 16
SETTINGS = IngestionSettings(image_size=SIZE)
LONG_AGO = time.time() - 3_600


@pytest.fixture
def store_file(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    return tmp_path / "output" / "creatives.sqlite"


def encoded(seed: int) -> bytes:
    """A small PNG of its own, as many bytes as those of other seeds nearly always are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_image(path: Path, seed: int, modified: float = LONG_AGO) -> str:
    path.write_bytes(encoded(seed))
    os.utime(path, (modified, modified))
    return str(path)


def write_images(folder: Path, count: int) -> list[str]:
    return [write_image(folder / f"{number}.png", number) for number in range(count)]


def recall(
    store_file: Path, addresses: Sequence[str], settings: IngestionSettings = SETTINGS
) -> tuple[list[Creative], dict[str, int], list[str]]:
    """The creatives, how they were had, and what was wrong with the store, of a run of its own."""
    with CreativeStore(str(store_file), decoding_rule(settings.image_size)) as store:
        creatives = [recall_creative(address, settings, store) for address in addresses]
    assert sum(store.counts.values()) == len(addresses)
    return creatives, dict(store.counts), store.troubles


def test_what_was_seen_before_is_not_opened_and_comes_out_the_same(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 5)
    read = [read_creative(address, SETTINGS) for address in addresses]
    assert recall(store_file, addresses) == (read, {"new": 5}, [])
    for address in addresses:
        state = os.stat(address)
        Path(address).write_bytes(bytes(state.st_size))  # Who opened it would find no image.
        os.utime(address, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert recall(store_file, addresses) == (read, {"unchanged": 5}, [])


def test_a_changed_file_is_read_anew_and_a_content_at_another_address_not_decoded(
    tmp_path: Path, store_file: Path
) -> None:
    addresses = write_images(tmp_path, 3)
    recall(store_file, addresses)
    write_image(tmp_path / "1.png", 11, LONG_AGO + 1)
    write_image(tmp_path / "2.png", 2, LONG_AGO + 1)
    copy = write_image(tmp_path / "copy.png", 0)
    again = [*addresses, copy]
    creatives, counts, _ = recall(store_file, again)
    assert counts == {"unchanged": 1, "changed": 1, "same_content": 2}
    assert creatives == [read_creative(address, SETTINGS) for address in again]
    assert creatives[3].source == copy
    assert recall(store_file, again)[1] == {"unchanged": 4}


def test_a_file_that_was_just_written_is_not_trusted_by_its_time(tmp_path: Path, store_file: Path) -> None:
    for modified in (time.time(), time.time() + 3_600):
        address = write_image(tmp_path / "new.png", 1, modified)
        recall(store_file, [address])
        assert recall(store_file, [address])[1] == {"same_content": 1}


def test_a_file_that_changes_while_it_is_read_is_not_known_by_either_state(
    tmp_path: Path, store_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = write_image(tmp_path / "a.png", 1)
    read = filesystem.read

    def read_and_replace(path: str, limit: int, generation: str = "") -> bytes:
        content = read(path, limit, generation)
        write_image(tmp_path / "a.png", 2, LONG_AGO + 1)
        return content

    monkeypatch.setattr(filesystem, "read", read_and_replace)
    recall(store_file, [address])
    monkeypatch.undo()
    creatives, counts, _ = recall(store_file, [address])
    assert counts == {"changed": 1}
    assert creatives == [read_creative(address, SETTINGS)]


def test_only_what_is_good_is_kept(tmp_path: Path, store_file: Path) -> None:
    (tmp_path / "cut.png").write_bytes(encoded(1)[:-40])
    os.utime(tmp_path / "cut.png", (LONG_AGO, LONG_AGO))
    addresses = [str(tmp_path / "cut.png"), str(tmp_path / "none.png"), "\0"]
    for _ in range(2):
        creatives, counts, troubles = recall(store_file, addresses)
        assert ([creative.status for creative in creatives], counts) == (
            ["corrupt", "missing", "missing"],
            {"unusable": 3},
        )
        assert not troubles
    write_image(tmp_path / "none.png", 1)
    assert recall(store_file, addresses)[1] == {"unusable": 2, "new": 1}


def test_limits_hold_for_what_is_known(tmp_path: Path, store_file: Path) -> None:
    (address,) = write_images(tmp_path, 1)
    recall(store_file, [address])
    for limit in ({"max_image_pixels": 256}, {"max_image_bytes": 1_024}):
        strict = IngestionSettings(image_size=SIZE, **limit)
        assert [creative.status for creative in recall(store_file, [address], strict)[0]] == ["oversized"]
    assert recall(store_file, [address])[1] == {"unchanged": 1}


def test_another_size_is_another_creative_beside_the_first(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 2)
    recall(store_file, addresses)
    larger = IngestionSettings(image_size=2 * SIZE)
    creatives, counts, _ = recall(store_file, addresses, larger)
    assert counts == {"new": 2}
    assert creatives == [read_creative(address, larger) for address in addresses]
    assert recall(store_file, addresses)[1] == recall(store_file, addresses, larger)[1] == {"unchanged": 2}


def _overwrite(file: Path) -> None:
    file.write_bytes(b"no database" * 1_000)


def _of_another_version(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("harm", [_overwrite, _of_another_version, _cut])
def test_a_store_that_cannot_be_read_is_told_and_begun_anew(
    tmp_path: Path, store_file: Path, harm: Callable[[Path], None]
) -> None:
    addresses = write_images(tmp_path, 20)
    read, _, _ = recall(store_file, addresses)
    harm(store_file)
    creatives, counts, troubles = recall(store_file, addresses)
    assert creatives == read
    assert counts.keys() <= {"unchanged", "new"}
    assert len(troubles) == 1
    assert str(store_file) in troubles[0]
    assert "begun anew" in troubles[0]
    assert recall(store_file, addresses[-5:]) == (read[-5:], {"unchanged": 5}, [])


def test_a_creative_that_is_not_as_it_was_written_is_decoded_anew(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 3)
    read, _, _ = recall(store_file, addresses)
    with closing(sqlite3.connect(store_file)) as connection:
        connection.execute("UPDATE creatives SET image = zeroblob(length(image)) WHERE key = ?", (read[1].key,))
        connection.commit()
    creatives, counts, troubles = recall(store_file, addresses)
    assert creatives == read
    assert counts == {"unchanged": 2, "changed": 1}
    assert len(troubles) == 1
    assert "damaged" in troubles[0]
    assert recall(store_file, addresses) == (read, {"unchanged": 3}, [])


def test_a_store_that_was_deleted_is_made_again(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 2)
    recall(store_file, addresses)
    store_file.unlink()
    assert recall(store_file, addresses)[1:] == ({"new": 2}, [])


def test_a_folder_that_cannot_be_written_is_told_and_all_decoded(tmp_path: Path) -> None:
    addresses = write_images(tmp_path, 2)
    creatives, counts, troubles = recall(tmp_path / "none" / "creatives.sqlite", addresses)
    assert creatives == [read_creative(address, SETTINGS) for address in addresses]
    assert counts == {"new": 2}
    assert len(troubles) == 1
    assert "not used" in troubles[0]


def at_once(number: int, run: Callable[[], None]) -> None:
    """Runs something in so many threads, to their ends."""
    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)


def test_two_runs_at_once_share_it(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 200)
    results: list[list[Creative]] = []
    troubles: list[str] = []

    def run() -> None:
        creatives, _, told = recall(store_file, addresses)
        results.append(creatives)
        troubles.extend(told)

    at_once(3, run)
    assert not troubles
    assert results == [results[0]] * 3
    assert recall(store_file, addresses)[1] == {"unchanged": 200}


def test_a_store_that_several_make_at_once_is_one(tmp_path: Path) -> None:
    for number in range(20):
        file = tmp_path / f"{number}.sqlite"
        together = threading.Barrier(4)
        troubles: list[str] = []

        def begin(file: Path = file, together: threading.Barrier = together, told: list[str] = troubles) -> None:
            store = CreativeStore(str(file), "rule")
            together.wait(60)
            with store:
                pass
            told.extend(store.troubles)

        at_once(4, begin)
        assert not troubles


@pytest.fixture
def _killed_run(tmp_path: Path, store_file: Path) -> Iterator[Sequence[str]]:
    """The images of a process that is killed at work, after it has told of 300 of them."""
    addresses = write_images(tmp_path, 400)
    script = (
        "import sys, time\n"
        "from adclick.components.ad_example_gen.creative_store import CreativeStore\n"
        "from adclick.components.ad_example_gen.creatives import recall_creative\n"
        "from adclick.components.ad_example_gen.settings import IngestionSettings\n"
        "from adclick.models.images import decoding_rule\n"
        f"settings = IngestionSettings(image_size={SIZE})\n"
        "with CreativeStore(sys.argv[1], decoding_rule(settings.image_size)) as store:\n"
        "    for address in sys.argv[2:302]:\n"
        "        recall_creative(address, settings, store)\n"
        "    print('read', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(store_file), *addresses]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "read\n"
        finally:
            process.send_signal(signal.SIGKILL)
    yield addresses


def test_a_killed_run_has_kept_all_but_its_last_images(store_file: Path, _killed_run: Sequence[str]) -> None:
    creatives, counts, troubles = recall(store_file, _killed_run)
    assert counts["unchanged"] >= 256
    assert counts["unchanged"] + counts["new"] == 400
    assert not troubles
    assert creatives[::40] == [read_creative(address, SETTINGS) for address in _killed_run[::40]]


def test_what_no_run_has_met_for_long_goes(tmp_path: Path, store_file: Path) -> None:
    addresses = write_images(tmp_path, 40)
    recall(store_file, addresses)
    with closing(sqlite3.connect(store_file)) as connection:
        connection.execute("UPDATE addresses SET used = used - 100 * 86400")
        connection.commit()
    recall(store_file, addresses[:10])
    size = store_file.stat().st_size
    rule = decoding_rule(SIZE)
    with CreativeStore(str(store_file), rule) as store:
        assert store.forget_unused(101) == 0
        assert store.forget_unused(99, dry_run=True) == 30
        assert store.forget_unused(99) == 30
    assert store_file.stat().st_size < size
    assert recall(store_file, addresses)[1] == {"unchanged": 10, "new": 30}


def test_a_stored_creative_is_the_read_one_at_its_own_address(tmp_path: Path, store_file: Path) -> None:
    first, second = write_image(tmp_path / "a.png", 1), write_image(tmp_path / "b.png", 1)
    creatives, counts, _ = recall(store_file, [first, second])
    assert counts == {"new": 1, "same_content": 1}
    assert creatives[1] == dataclasses.replace(creatives[0], source=second)
