"""Fetching: whole, going on, and never another file for the one that was meant."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adclick.serving.edge.channel import Release
from adclick.serving.edge.errors import BundleRefused, EdgeError
from adclick.serving.edge.fetch import Fetcher, OutOfReach, address_of
from tests.serving.edge.web import Bucket, serving

CONTENT = os.urandom(300_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin/x.bundle").write_bytes(CONTENT)
    with serving(tmp_path / "origin") as running:
        yield running


def release(content: bytes = CONTENT) -> Release:
    return Release(1, "x.bundle", hashlib.sha256(content).hexdigest(), len(content), 100)


def test_it_goes_on_where_it_was_cut_off(server: Bucket, tmp_path: Path) -> None:
    part, address = tmp_path / "part", f"{server.url}/x.bundle"
    server.cut_after = 70_000
    for number in range(4):
        with pytest.raises(OutOfReach, match="cut off"):
            Fetcher().fetch(address, release(), part)
        assert part.stat().st_size == (number + 1) * 70_000
    Fetcher().fetch(address, release(), part)
    assert part.read_bytes() == CONTENT and server.sent == len(CONTENT), "no byte came twice"
    assert [asked for _, asked in server.requests] == ["", *(f"bytes={n * 70_000}-" for n in range(1, 5))]
    # What is whole is not asked for again.
    Fetcher().fetch(address, release(), part)
    assert len(server.requests) == 5


def test_a_file_that_was_replaced_meanwhile_begins_anew(server: Bucket, tmp_path: Path) -> None:
    part, address = tmp_path / "part", f"{server.url}/x.bundle"
    server.cut_after = 70_000
    with pytest.raises(OutOfReach):
        Fetcher().fetch(address, release(), part)
    other = os.urandom(300_000)
    (tmp_path / "origin/x.bundle").write_bytes(other)
    server.cut_after = None
    # The channel still names the first: what comes is whole, another, and gone.
    with pytest.raises(BundleRefused, match="is not the file that the channel names: SHA-256"):
        Fetcher().fetch(address, release(), part)
    assert not part.exists() and server.sent == 370_000
    Fetcher().fetch(address, release(other), part)
    assert part.read_bytes() == other


def test_a_part_of_another_release_is_not_gone_on_from(server: Bucket, tmp_path: Path) -> None:
    part = tmp_path / "part"
    server.cut_after = 70_000
    with pytest.raises(OutOfReach):
        Fetcher().fetch(f"{server.url}/x.bundle", release(), part)
    server.cut_after = None
    other = os.urandom(200_000)
    (tmp_path / "origin/y.bundle").write_bytes(other)
    Fetcher().fetch(f"{server.url}/y.bundle", release(other), part)
    assert part.read_bytes() == other and server.requests[-1] == ("/y.bundle", "")


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT + b"x", b"", CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])])
def test_a_file_that_is_cut_off_longer_or_altered_at_its_address_is_refused(
    server: Bucket, tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "origin/x.bundle").write_bytes(damage)
    for place in (f"{server.url}/x.bundle", str(tmp_path / "origin/x.bundle")):
        with pytest.raises(BundleRefused) as caught:
            Fetcher().fetch(place, release(), tmp_path / "part")
        assert caught.value.reason == "altered" and not (tmp_path / "part").exists()


def test_a_damaged_part_is_found_out_at_the_end(server: Bucket, tmp_path: Path) -> None:
    part = tmp_path / "part"
    server.cut_after = 70_000
    with pytest.raises(OutOfReach):
        Fetcher().fetch(f"{server.url}/x.bundle", release(), part)
    server.cut_after = None
    with open(part, "r+b") as file:
        file.write(bytes(9))
    with pytest.raises(BundleRefused, match="SHA-256"):
        Fetcher().fetch(f"{server.url}/x.bundle", release(), part)
    Fetcher().fetch(f"{server.url}/x.bundle", release(), part)
    assert part.read_bytes() == CONTENT


def test_a_folder_and_a_server_that_is_away(server: Bucket, tmp_path: Path) -> None:
    Fetcher().fetch(str(tmp_path / "origin/x.bundle"), release(), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    for address in (f"{server.url}/none", str(tmp_path / "none"), "http://127.0.0.1:9/x"):
        with pytest.raises(OutOfReach):
            Fetcher(timeout_seconds=5).read(address, 100)
    with pytest.raises(EdgeError, match="more than 100 bytes"):
        Fetcher().read(f"{server.url}/x.bundle", 100)


def test_addresses_lead_to_folders_or_over_http() -> None:
    assert address_of("/mnt/usb", "bundles/7") == "/mnt/usb/bundles/7"
    assert address_of("https://x.example/edge", "bundles/7") == "https://x.example/edge/bundles/7"
    assert address_of("https://x.example/edge", "https://y.example/7?sig=1") == "https://y.example/7?sig=1"
    assert address_of("gs://bucket/edge/", "bundles/7") == "gs://bucket/edge/bundles/7"
    assert address_of("gs://bucket/edge", "https://y.example/7?sig=1") == "https://y.example/7?sig=1"
    for origin, name in (
        ("s3://bucket/edge", "x"),
        ("https://x.example/", "file:///etc/passwd"),
        ("/mnt", "ftp://x/y"),
    ):
        with pytest.raises(EdgeError, match="no folder and no address of http, https or gs"):
            address_of(origin, name)
