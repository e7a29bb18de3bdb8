"""What tests of both kinds of buckets share: a server that the process's environment names, and what holds of any."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from PIL import Image

from adclick.components.ad_example_gen.creative_store import CreativeStore
from adclick.components.ad_example_gen.creatives import read_creative, recall_creative
from adclick.components.ad_example_gen.drop_files import DropListing, list_drop
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.creatives import Creative
from adclick.models.images import decoding_rule
from adclick.storage import filesystem


class Store(Protocol):
    """A server of buckets."""

    environment: dict[str, str]

    def make_bucket(self, name: str) -> None: ...


AnyStore = TypeVar("AnyStore", bound=Store)


@contextmanager
def reached(running: AbstractContextManager[AnyStore], made_client: Any, *buckets: str) -> Iterator[AnyStore]:
    """A server that the environment names until the block ends.

    Args:
        running: Runs it.
        made_client: What keeps a client of another server, whose cache is cleared.
        buckets: The buckets to make.
    """
    with running as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        made_client.cache_clear()
        for bucket in buckets:
            store.make_bucket(bucket)
        yield store
    made_client.cache_clear()


def check_reads_as_a_folder(put: Callable[[str, bytes], None], scheme: str) -> None:
    """Puts objects below `drops` of the bucket `ads`, and reads them as files."""
    contents = {
        "2026-09/a.csv": b"x",
        "2026-09/images/1.png": b"12345",
        "2026-10/b.csv.gz": b"\x1f\x8bzip",
        "c.csv": b"",
    }
    root = f"{scheme}://ads/drops"
    for name, content in contents.items():
        put(f"{root}/{name}", content)
    assert filesystem.list_folders(root) == ["2026-09", "2026-10"]
    assert filesystem.list_files(root, ["*.csv", "*.csv.gz"]) == [f"{root}/c.csv"]
    assert filesystem.list_files(f"{root}/2026-09", ["*.csv"]) == [f"{root}/2026-09/a.csv"]
    assert filesystem.isdir(root) and filesystem.isdir(f"{root}/2026-09/") and not filesystem.isdir(f"{root}/2026")
    assert filesystem.exists(f"{root}/c.csv") and not filesystem.exists(f"{root}/d.csv")
    assert not filesystem.exists(f"{scheme}://no-such-bucket/drops")
    assert filesystem.size(f"{root}/2026-09/images/1.png") == 5
    with filesystem.open_read(f"{root}/2026-10/b.csv.gz") as stream:
        assert stream.read() == b"\x1f\x8bzip"
    assert filesystem.read(f"{root}/2026-09/images/1.png", 3) == b"123"
    assert filesystem.read(f"{root}/c.csv", 3) == b""
    assert filesystem.join(f"{root}/2026-09", "../2026-10/./b.csv.gz") == f"{root}/2026-10/b.csv.gz"


def check_known_images_are_not_read(put: Callable[[str, bytes], None], address: str, store_file: Path) -> None:
    """Puts images at an address, and recalls them from a store of creatives."""
    settings = IngestionSettings(image_size=16)

    def recall() -> tuple[Creative, dict[str, int]]:
        with CreativeStore(str(store_file), decoding_rule(settings.image_size)) as store:
            return recall_creative(address, settings, store), dict(store.counts)

    for color, first in (("red", "new"), ("blue", "changed")):
        content = io.BytesIO()
        Image.new("RGB", (20, 20), color).save(content, "PNG")
        put(address, content.getvalue())
        as_read = read_creative(address, settings)
        assert recall() == (as_read, {first: 1})
        assert recall() == (as_read, {"unchanged": 1})


def check_lists_as_a_drop(put: Callable[[str, bytes], None], root: str) -> DropListing:
    """Puts a drop of days, what is no part of it and litter below a root, and lists it as a folder's."""
    for name in ("2026-09/a.csv", "2026-09/15/b.csv", "2026-09/old/c.csv", "2026-09/images/1.png", "2026-09/._a.csv"):
        put(f"{root}/{name}", b"x")
    listing = list_drop(f"{root}/2026-09")
    assert [(file.path.removeprefix(f"{root}/"), file.folder) for file in listing.files] == [
        ("2026-09/a.csv", ""),
        ("2026-09/15/b.csv", "15"),
    ]
    return listing
