"""Two slots: a process that dies at any line leaves one that is whole, and a bundle that fails is given up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.errors import BundleRefused, ChannelRefused
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.slots import Refusal, Slots
from tests.serving.edge.conftest import ROOT


@pytest.fixture(scope="module")
def bundles(make_bundle: Callable[..., bytes]) -> dict[int, bytes]:
    return {version: make_bundle(version=version) for version in (7, 8, 9)}


@pytest.fixture
def public(keys: tuple[Path, Path]) -> list[Any]:
    return [read_public_key(keys[1])]


def install(slots: Slots, bundle: bytes, public: list[Any]) -> None:
    slots.part.write_bytes(bundle)
    read = read_bundle(bundle, public)
    slots.install(slots.part, read.version, read.digest)


def running(slots: Slots, public: list[Any]) -> int:
    bundle = slots.load(public)
    assert bundle is not None
    return bundle.version


def refusal(slots: Slots, reason: str = "crashed") -> Refusal:
    current = slots.read().running
    assert current is not None
    return Refusal(current.sha256, current.version, reason, "here")


def test_a_process_that_dies_at_any_line_leaves_a_bundle_that_is_whole(
    tmp_path: Path, bundles: dict[int, bytes], keys: tuple[Path, Path]
) -> None:
    for version, bundle in bundles.items():
        (tmp_path / f"{version}.bundle").write_bytes(bundle)
    program = [sys.executable, "-m", "tests.serving.edge.dying", str(tmp_path), str(keys[1])]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr.decode()
    *seen, undisturbed = json.loads(done.stdout)
    assert undisturbed == 8, "the life that nobody ended ends with what it began with"
    assert len(seen) > 100 and set(seen) == {8, 9}
    first, last = seen.index(9), len(seen) - seen[::-1].index(9)
    assert set(seen[first:last]) == {9}, "it changes once to the new one, and once back"


def test_what_is_on_trial_is_started_twice_then_given_up_for_what_was_proven(
    tmp_path: Path, bundles: dict[int, bytes], public: list[Any]
) -> None:
    slots = Slots(tmp_path)
    install(slots, bundles[7], public)
    assert slots.begin() and slots.prove(refusal(slots).sha256) and not slots.prove(refusal(slots).sha256)
    assert (slots.read().floor, slots.read().on_trial) == (7, False)
    install(slots, bundles[8], public)
    assert slots.begin()
    slots.end(refusal(slots).sha256)
    assert slots.begin() and slots.begin() and not slots.begin(), "a start that ended as asked does not count"
    crashed = refusal(slots)
    after = slots.roll_back(crashed)
    assert after is not None and after.version == 7 and running(slots, public) == 7
    assert not slots.read().on_trial and slots.begin()
    assert slots.read().refusal_of(crashed.sha256, "here") == crashed
    assert slots.read().refusal_of(crashed.sha256, "under another key") is None


def test_a_slot_that_was_damaged_or_exchanged_on_the_disk_is_found_out(
    tmp_path: Path, bundles: dict[int, bytes], public: list[Any]
) -> None:
    slots = Slots(tmp_path)
    assert slots.load(public) is None and slots.roll_back(None) is None
    install(slots, bundles[8], public)
    for content, reason in ((bundles[7], "altered"), (bundles[8][:-1], "damaged")):
        slots.file("a").write_bytes(content)
        with pytest.raises(BundleRefused) as caught:
            slots.load(public)
        assert caught.value.reason == reason
    slots.file("a").unlink()
    with pytest.raises(BundleRefused, match="cannot be read"):
        slots.load(public)
    assert slots.roll_back(None) is None and slots.load(public) is None


def test_a_damaged_pointer_counts_as_none(tmp_path: Path, bundles: dict[int, bytes], public: list[Any]) -> None:
    slots = Slots(tmp_path)
    install(slots, bundles[8], public)
    for damage in (b"", b"{", b"[]", b"null", b'{"slots": {"a": 1}, "refused": []}'):
        (tmp_path / "pointer.json").write_bytes(damage)
        assert slots.load(public) is None
    install(slots, bundles[8], public)
    assert running(slots, public) == 8


def test_refusals_are_bounded(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    for number in range(40):
        slots.refuse(Refusal(f"{number:064x}", number, "unsigned", "here"))
    assert [each.version for each in slots.read().refused] == list(range(8, 40))


def test_a_channel_s_serial_only_grows_for_as_long_as_the_keys_are_the_same(
    tmp_path: Path, bundles: dict[int, bytes], public: list[Any]
) -> None:
    slots = Slots(tmp_path)
    install(slots, bundles[8], public)
    for serial in (5, 5, 9):
        slots.follow("stable", serial, "keys")
    slots.follow("beta", 2, "keys")
    for channel, serial in (("stable", 8), ("beta", 1)):
        with pytest.raises(ChannelRefused, match="its serial is"):
            slots.follow(channel, serial, "keys")
    slots.roll_back(refusal(slots))
    with pytest.raises(ChannelRefused):
        slots.follow("stable", 8, "keys")
    slots.follow("stable", 1, "other keys")
    assert slots.read().serials == {"other keys stable": 1}
