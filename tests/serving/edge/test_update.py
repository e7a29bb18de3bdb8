"""Updates as processes: fetched, verified, tried, given up; killed and cut off at any moment."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from adclick.pipeline.edge.publish import run_publish
from adclick.serving.edge.channel import read_unverified_channel, write_channel
from adclick.serving.edge.keys import create_keys, read_private_key, read_public_key
from adclick.serving.edge.self_test import make_probe
from adclick.serving.edge.slots import Slots
from benchmarks.edge_faults import small_disk
from tests.serving.edge.conftest import ROOT
from tests.serving.edge.pictures import encoded, picture
from tests.serving.edge.web import Bucket, serving

DEADLINE = 120.0
MakeBundle = Callable[..., bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "origin").mkdir()
    with serving(tmp_path / "origin") as running:
        yield running


@pytest.fixture
def publish(tmp_path: Path, keys: tuple[Path, Path]) -> Callable[..., None]:
    # The publisher trusts one whom the devices do not.
    create_keys(tmp_path / "stranger.pem", tmp_path / "stranger-public.pem")
    also = [tmp_path / "stranger-public.pem"]

    def put(content: bytes, share: float = 100) -> None:
        file, origin = tmp_path / "next.bundle", str(tmp_path / "origin")
        file.write_bytes(content)
        run_publish(file, to=origin, channel="stable", share=share, key=keys[0], public_keys=also)

    return put


@pytest.fixture
def edge(tmp_path: Path, keys: tuple[Path, Path], server: Bucket) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command that has a state folder and, but for `slots`, a channel."""
    running: list[subprocess.Popen[bytes]] = []

    def run(command: str, *arguments: str) -> subprocess.Popen[bytes]:
        channel = [] if command == "slots" else ["--from", server.url, "--device", "screen-1"]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "adclick.serving.edge.command", command, "--state", str(tmp_path / "state")),
                *("--public-key", str(keys[1]), *channel, *arguments),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def log_of(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=DEADLINE)
    return [json.loads(line) for line in output.splitlines()]


class Following:
    """The log of a process that runs, read as it is written."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.entries: list[dict[str, Any]] = []
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._rest = b""

    def until(self, event: str) -> dict[str, Any]:
        ends = time.monotonic() + DEADLINE
        while True:
            for entry in self.entries:
                if entry["event"] == event:
                    return entry
            assert time.monotonic() < ends, f"no {event} in {self.entries}"
            assert self.process.stdout is not None
            *lines, self._rest = (self._rest + (self.process.stdout.read() or b"")).split(b"\n")
            self.entries += [json.loads(line) for line in lines]
            time.sleep(0.05)


def whole_version(state: Path, keys: tuple[Path, Path]) -> int | None:
    bundle = Slots(state / "slots").load([read_public_key(keys[1])])
    return bundle.version if bundle is not None else None


def resigned(bundle: bytes, private_key: Path) -> bytes:
    """The bundle with a signature of somebody else's."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["manifest.sig"] = read_private_key(private_key).sign(parts["manifest.json"])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_what_must_not_run_is_refused_with_its_reason_and_the_old_one_goes_on(
    edge: Any, publish: Any, make_bundle: MakeBundle, server: Bucket, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    publish(make_bundle(version=7, probes=[make_probe("a", picture(0), 48)]))
    first = log_of(edge("update"))
    assert [entry["event"] for entry in first] == ["bundle_installed", "looked"] and first[-1]["version"] == 7
    bad = {
        8: (resigned(make_bundle(version=8), tmp_path / "stranger.pem"), "unsigned"),
        9: (make_bundle(version=9, minimum_runtime="99.0"), "wrong_runtime"),
        10: (make_bundle(version=10, model=b"none"), "unfit"),
        11: (make_bundle(version=11, probes=[make_probe("a", picture(1), 48)]), "self_test"),
    }
    slots = Slots(tmp_path / "state/slots")
    slots.prove(slots.read().slots["a"].sha256)
    for version, (content, reason) in bad.items():
        publish(content)
        process = edge("update")
        told = log_of(process)
        assert [(entry["event"], entry.get("reason")) for entry in told[:-1]] == [("bundle_refused", reason)], told
        assert (told[0]["version"], told[-1]["version"], process.returncode) == (version, 7, 4)
    # What was refused is not fetched again.
    sent = server.sent
    assert [entry["event"] for entry in log_of(edge("update"))] == ["looked"] and server.sent == sent
    # Cut off at its address: refused as long as it is, and taken once it is whole.
    publish(make_bundle(version=12))
    (file,) = (tmp_path / "origin/bundles").glob("12-*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert [entry.get("reason") for entry in log_of(edge("update"))] == ["altered", None]
    file.write_bytes(whole)
    assert log_of(edge("update"))[-1]["version"] == 12 == whole_version(tmp_path / "state", keys)


def test_a_channel_s_file_that_is_unsigned_or_an_old_one_is_refused_and_the_bundle_goes_on(
    edge: Any, publish: Any, make_bundle: MakeBundle, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    file = tmp_path / "origin/stable.json"

    def looked() -> tuple[list[tuple[str, Any]], int]:
        process = edge("update")
        *told, last = log_of(process)
        assert last["version"] == whole_version(tmp_path / "state", keys)
        return [(entry["event"], entry.get("reason")) for entry in told], process.returncode

    publish(make_bundle(version=7))
    old = file.read_bytes()
    assert looked() == ([("bundle_installed", None)], 0)
    slots = Slots(tmp_path / "state/slots")
    slots.prove(slots.read().slots["a"].sha256)
    publish(make_bundle(version=8), share=0)
    held_back = file.read_bytes()
    assert looked() == ([], 0)
    # What named the newest one once is played back, or said anew by somebody else; and the bundle there is whole.
    publish(make_bundle(version=8))
    newest = file.read_bytes()
    unsigned = json.dumps({"format": 1, "releases": json.loads(json.loads(newest)["signed"])["releases"]}).encode()
    channel = read_unverified_channel(newest)
    stolen = write_channel("stable", channel.serial + 9, channel.releases, read_private_key(tmp_path / "stranger.pem"))
    elsewhere = write_channel("beta", channel.serial + 9, channel.releases, read_private_key(keys[0]))
    bad = [(old, "too_old"), (unsigned, "unsigned"), (stolen, "unsigned"), (elsewhere, "unsigned")]
    for content, reason in bad:
        file.write_bytes(content)
        assert looked() == ([("channel_refused", reason)], 4)
    file.write_bytes(held_back)
    assert looked() == ([], 0), "what is held back is not seen"
    file.write_bytes(newest)
    assert looked() == ([("bundle_installed", None)], 0)
    file.write_bytes(held_back)
    assert looked() == ([("channel_refused", "too_old")], 4)
    assert whole_version(tmp_path / "state", keys) == 8


def test_a_watch_tells_of_a_channel_that_it_refuses_once_and_goes_on(
    edge: Any, publish: Any, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    (tmp_path / "screen").mkdir()
    publish(make_bundle(version=7))
    process = edge("watch", "--source", str(tmp_path / "screen"), "--look", "0.2")
    following = Following(process)
    following.until("started")
    (tmp_path / "origin/stable.json").write_bytes(b"{}")
    following.until("channel_refused")
    time.sleep(1.5)
    process.terminate()
    log = [*following.entries, *log_of(process)]
    assert process.returncode == 0
    (refused,) = (entry for entry in log if entry["event"] == "channel_refused")
    assert (refused["reason"], refused["channel"]) == ("damaged", "stable")


def test_what_is_on_trial_is_watched_by_though_the_disk_is_full(
    edge: Any, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    screen, state, bundle = tmp_path / "screen", tmp_path / "disk/state", make_bundle(version=7)
    screen.mkdir()
    (screen / "0.jpg").write_bytes(encoded(picture(0)))
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))
        slots = Slots(state / "slots")
        slots.part.write_bytes(bundle)
        slots.install(slots.part, 7, hashlib.sha256(bundle).hexdigest())
        for _ in range(2):
            process = edge("watch", "--source", str(screen), "--once", "--state", str(state))
            log = log_of(process)
            assert process.returncode == 0, log
            assert [entry["frames"] for entry in log if entry["event"] == "watching"] == [{"approved": 1}]
            with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
                while filler.write(bytes(4096)):
                    pass


def test_killed_or_cut_off_at_any_moment_the_slot_is_whole_and_the_update_goes_on(
    edge: Any, publish: Any, make_bundle: MakeBundle, server: Bucket, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    publish(make_bundle(version=7))
    assert log_of(edge("update"))[-1]["version"] == 7
    slots, chance = Slots(tmp_path / "state/slots"), random.Random(15)
    slots.prove(slots.read().slots["a"].sha256)
    publish(make_bundle(version=8, probes=[make_probe("a", picture(0), 48)]))
    size = next((tmp_path / "origin/bundles").glob("8-*")).stat().st_size
    server.bytes_a_second, server.cut_after = size / 0.5, size // 4
    for _ in range(8):
        process = edge("update")
        time.sleep(chance.uniform(0.1, 1.6))
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
        assert whole_version(tmp_path / "state", keys) in (7, 8)
    for _ in range(8):
        entries = log_of(edge("update"))
        if entries and entries[-1].get("version") == 8:
            break
    assert whole_version(tmp_path / "state", keys) == 8


def test_a_watch_takes_up_proves_and_gives_up_bundles_while_it_watches(
    edge: Any, publish: Any, make_bundle: MakeBundle, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    screen = tmp_path / "screen"
    screen.mkdir()
    arguments = ("watch", "--source", str(screen), "--look", "1", "--trial", "1", "--frames", "2")

    def show(seed: int) -> None:
        (screen / ".next").write_bytes(encoded(picture(seed)))
        (screen / ".next").rename(screen / f"{len(list(screen.iterdir())):04}.jpg")

    process = edge(*arguments)
    following = Following(process)
    following.until("waiting_for_bundle")
    publish(make_bundle(version=7))
    assert following.until("started")["bundle_version"] == 7
    show(0)
    following.until("bundle_proven")
    publish(make_bundle(version=8))
    assert following.until("bundle_running")["version"] == 8
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE)
    # Twice it crashes before a frame comes; then what was proven runs again.
    for version, name in ((8, "started"), (7, "bundle_rolled_back")):
        process = edge(*arguments)
        following = Following(process)
        following.until(name)
        assert following.until("started")["bundle_version"] == version
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
    assert following.until("bundle_rolled_back")["reason"] == "crashed"
    assert whole_version(tmp_path / "state", keys) == 7
    # And what crashed is not taken again, but a later one is, and ends well where it is asked to.
    publish(make_bundle(version=9))
    process = edge(*arguments)
    following = Following(process)
    assert following.until("bundle_running")["version"] == 9
    process.terminate()
    assert process.wait(DEADLINE) == 0
    state = log_of(edge("slots"))[0]
    assert (state["version"], state["whole"], state["starts"], state["proven"]) == (9, True, 0, False)
    assert [each["reason"] for each in state["refused"]] == ["crashed"]
