"""What happens to a device: each fault so many times, to the real runtime as a process, and what was lost.

`python -m benchmarks.edge_faults [--rounds 20] [--day-seconds 120]` prints a table; exit code 1 where an alert was lost
or a wrong bundle ran. Lost is an alert of which the device's log says that it was raised, and which no receiver got in
the end. A full disk is a file system of 3 MB in memory, for which the benchmark needs to be root.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
_DEADLINE = 300.0
_FRAMES = 2
#: What the day in fast motion may hold on disk: the outbox's bound, and what SQLite needs besides.
_OUTBOX_BYTES, _DISK_BYTES = 1 << 20, 6 << 20
_GROWTH_BYTES = 12 << 20


def picture(seed: int) -> bytes:
    """A JPEG of large random blocks, unlike that of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((320, 180), Image.Resampling.NEAREST).save(file, "JPEG", quality=90)
    return file.getvalue()


BOOKED, FOREIGN = picture(0), picture(99)


class Bundles:
    """Makes signed bundles of one booked creative."""

    def __init__(self, folder: Path) -> None:
        from adclick.pipeline.edge.template import template_recogniser
        from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
        from adclick.serving.edge.frame import open_frame, prepare
        from adclick.serving.edge.keys import create_keys
        from adclick.serving.edge.recogniser import Recogniser

        self.folder = folder
        create_keys(folder / "private.pem", folder / "public.pem")
        self._model = template_recogniser(48)
        eye = Recogniser(self._model)
        embedding = eye.embed(prepare(open_frame(BOOKED), eye.size))
        self._catalogue = Catalogue((ApprovedCreative("booked", "Booked"),), *quantise(embedding[None]))

    def make(self, version: int) -> bytes:
        """A bundle of that version."""
        from adclick.serving.edge.bundle import Probe, write_bundle
        from adclick.serving.edge.keys import read_private_key

        file = io.BytesIO()
        write_bundle(
            file,
            read_private_key(self.folder / "private.pem"),
            model=self._model,
            catalogue=self._catalogue,
            thresholds={"known": 0.9},
            version=version,
            created=1,
            probes=[Probe("booked", BOOKED)],
        )
        return file.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, keys: dict[str, int]) -> None:
        self.keys = keys
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.keys[body["key"]] = self.server.keys.get(body["key"], 0) + 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: what was received is counted."""


class Network:
    """A webhook that is there or not; `keys` says how often each message came."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self._server: _Server | None = None
        for port in random.sample(range(20_000, 32_000), 200):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                self.port = port
                break

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/"

    def up(self) -> None:
        """Brings it up."""
        if self._server is None:
            self._server = _Server(self.port, self.keys)
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self) -> None:
        """Takes it down."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Device:
    """The runtime as a process that sees the frames it is shown, and its log over all its lives."""

    def __init__(self, bundles: Bundles, folder: Path, network: Network, *arguments: str, speed: float = 1.0) -> None:
        self.folder, self.clock = folder, folder / "clock"
        folder.mkdir(parents=True, exist_ok=True)
        self.log: list[dict[str, Any]] = []
        self._command = [
            *(sys.executable, "-m", "benchmarks.edge_clock", str(self.clock), str(speed), "watch", "--source", "-"),
            *("--public-key", str(bundles.folder / "public.pem"), "--state", str(folder / "state")),
            *("--frames", str(_FRAMES), "--webhook", network.url, "--device", "screen-1", *arguments),
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Starts it, and waits until it watches."""
        started = self.count("started")
        process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process = process

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                # A line that was cut off by a kill is none.
                with contextlib.suppress(ValueError):
                    self.log.append(json.loads(line))

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        until(lambda: self.count("started") > started, self.process)

    def show(self, *frames: bytes) -> bool:
        """Shows it frames; gives whether it was there to see them."""
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"".join(frames))
            self.process.stdin.flush()
            return True
        return False

    def kill(self) -> None:
        """Cuts its power."""
        assert self.process is not None and self._reader is not None
        self.process.send_signal(signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """Ends it, as a person does."""
        assert self.process is not None
        self.process.terminate()
        self._end()

    def _end(self) -> None:
        assert self.process is not None and self._reader is not None and self.process.stdin is not None
        self.process.wait(_DEADLINE)
        self._reader.join(_DEADLINE)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def count(self, event: str) -> int:
        """How often the log has an event."""
        return sum(entry["event"] == event for entry in self.log)

    def raised(self) -> set[str]:
        """The keys of the alerts that were written before they were told."""
        return {entry["key"] for entry in self.log if entry["event"] == "alert" and entry["kept"]}

    def toggle(self) -> None:
        """Opens an alert, or closes the open one, and waits until it is raised."""
        before = self.count("alert")
        opened = [entry["state"] for entry in self.log if entry["event"] == "alert"][-1:] == ["open"]
        frame = BOOKED if opened else FOREIGN
        self.show(*[frame] * _FRAMES)
        until(partial(self._has_told, before, frame), self.process)

    def _has_told(self, before: int, frame: bytes) -> bool:
        if self.count("alert") > before:
            return True
        # A frame that was cut off may have taken some with it; a screen goes on.
        self.show(frame)
        return False


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> None:
    """Waits until something holds.

    Raises:
        RuntimeError: It does not in time, or the process has ended.
    """
    ends = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > ends or (process is not None and process.poll() is not None):
            raise RuntimeError("the device ended, or nothing came in time")
        time.sleep(0.01)


@dataclass
class Outcome:
    """What came of a fault.

    Attributes:
        name: The fault.
        rounds: How often it was done.
        raised: Alerts that the device raised.
        lost: Those of them that nobody got.
        twice: Messages that came more than once, with the same key.
        wrong_bundles: Bundles that ran and must not.
        notes: What else was counted.
    """

    name: str
    rounds: int
    raised: int = 0
    lost: int = 0
    twice: int = 0
    wrong_bundles: int = 0
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost and nothing wrong ran."""
        return self.lost == 0 and self.wrong_bundles == 0 and not self.notes.get("beyond bounds", 0)


def _settle(name: str, rounds: int, device: Device, network: Network, **notes: float) -> Outcome:
    """Brings the network up, waits for what is on the way, and counts."""
    network.up()
    raised = device.raised()
    with contextlib.suppress(RuntimeError):
        until(lambda: raised <= network.keys.keys(), device.process)
    device.stop()
    network.down()
    twice = sum(count > 1 for count in network.keys.values())
    return Outcome(name, rounds, len(raised), len(raised - network.keys.keys()), twice, notes=dict(notes))


def network_cuts(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """The receiver goes away and comes back at any moment."""
    network = Network()
    device = Device(bundles, folder, network, "--bundle", str(_first(bundles)))
    device.start()
    for number in range(rounds):
        (network.up if number % 2 else network.down)()
        device.toggle()
        time.sleep(random.uniform(0, 0.1))
        network.down()
        device.toggle()
    return _settle("network cut", rounds, device, network)


def power_cuts(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """The process is killed at any moment, with alerts on the way and in the outbox."""
    network = Network()
    network.up()
    device = Device(bundles, folder, network, "--bundle", str(_first(bundles)))
    for _ in range(rounds):
        device.start()
        enough = device.count("alert") + random.randrange(3)
        device.show(*[FOREIGN] * _FRAMES, *[BOOKED] * _FRAMES, *[FOREIGN] * _FRAMES)
        until(partial(_has_raised, device, enough), device.process)
        time.sleep(random.uniform(0.0, 0.02))
        device.kill()
    device.start()
    return _settle("power cut (-9)", rounds, device, network)


def _has_raised(device: Device, enough: int) -> bool:
    return device.count("alert") >= enough


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 3 MB.

    Raises:
        PermissionError: Only root may make one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        raise PermissionError(f"{folder}: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def full_disks(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """The disk is full while the device starts anew and alerts open and close, and free again later."""
    network = Network()
    with small_disk(folder / "disk") as disk:
        device = Device(
            bundles, folder / "device", network, "--bundle", str(_first(bundles)), "--state", str(disk / "state")
        )
        device.start()
        for number in range(rounds):
            with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass
            (device.kill if number % 2 else device.stop)()
            device.start()
            device.toggle()
            device.toggle()
            (disk / "filler").unlink()
            device.toggle()
            device.toggle()
        told = [entry["key"] for entry in device.log if entry["event"] == "alert"]
        refused = device.count("not_written")
        network.up()
        with contextlib.suppress(RuntimeError):
            # What waits in memory for room is written with the next frame.
            until(lambda: device.show(BOOKED) and set(told) <= network.keys.keys(), device.process)
        device.stop()
        network.down()
    lost, twice = len(set(told) - network.keys.keys()), sum(count > 1 for count in network.keys.values())
    return Outcome("full disk", rounds, len(told), lost, twice, notes={"writes that failed": refused})


def clock_jumps(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """The time of day jumps by up to thirty years, to and fro, while alerts open and close."""
    network = Network()
    network.up()
    device = Device(bundles, folder, network, "--bundle", str(_first(bundles)))
    device.start()
    for _ in range(rounds):
        device.clock.write_text(str(random.choice((-1, 1)) * 10 ** random.uniform(0, 9)))
        device.toggle()
        device.clock.write_text("0")
        device.toggle()
    return _settle("clock jump", rounds, device, network)


def broken_frames(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """Noise, cut-off and flipped pictures come between the frames."""
    network = Network()
    network.up()
    device = Device(bundles, folder, network, "--bundle", str(_first(bundles)))
    device.start()
    for _ in range(rounds):
        for _ in range(10):
            flipped = bytearray(FOREIGN)
            for place in random.sample(range(200, len(flipped)), 20):
                flipped[place] = random.randrange(256)
            cut = FOREIGN[: random.randrange(3, len(FOREIGN))]
            device.show(random.choice((bytes(flipped), cut, random.randbytes(2000))))
        # A whole frame's end closes what a broken one left open.
        device.show(BOOKED)
        device.toggle()
    outcome = _settle("broken frames", rounds, device, network)
    frames = [entry["frames"].get("broken", 0) for entry in device.log if entry["event"] == "watching"]
    outcome.notes["broken"] = max(frames, default=0)
    return outcome


def cut_off_bundles(bundles: Bundles, folder: Path, rounds: int) -> Outcome:
    """Each new bundle is cut off, altered or signed by somebody else at first, and then whole."""
    from adclick.pipeline.edge.publish import run_publish

    network = Network()
    network.up()
    origin, file = folder / "origin", folder / "next.bundle"
    origin.mkdir(parents=True)
    device = Device(
        bundles, folder / "device", network, "--bundle", str(_first(bundles)), "--from", str(origin),
        "--look", "0.2", "--trial", "0.2",
    )  # fmt: skip
    device.start()
    good = {1}
    for version in range(2, rounds + 2):
        content = bundles.make(version)
        file.write_bytes(content)
        run_publish(file, to=str(origin), channel="stable", share=100, key=bundles.folder / "private.pem")
        (published,) = (origin / "bundles").glob(f"{version}-*")
        bad = bytearray(content)
        bad[random.randrange(len(bad))] ^= 255
        published.write_bytes(random.choice((content[: random.randrange(len(content))], bytes(bad), content + b"x")))
        # The device may have taken the whole one before it was damaged here.
        until(partial(_refused_or_ran, device, device.count("bundle_refused"), version), device.process)
        device.toggle()
        published.write_bytes(content)
        good.add(version)
        until(partial(_ran, device, version), device.process)
        until(partial(_proven, device, version), device.process)
    outcome = _settle("cut-off bundle", rounds, device, network)
    outcome.wrong_bundles = len(_run(device) - good)
    outcome.notes["refused"] = device.count("bundle_refused")
    return outcome


def _refused_or_ran(device: Device, refused: int, version: int) -> bool:
    return device.count("bundle_refused") > refused or _ran(device, version)


def _ran(device: Device, version: int) -> bool:
    return version in _run(device)


def _proven(device: Device, version: int) -> bool:
    # Proven it is when it has decided about a frame.
    device.show(BOOKED)
    return version in _versions(device, "bundle_proven")


def _versions(device: Device, event: str) -> set[int]:
    return {entry["version"] for entry in device.log if entry["event"] == event}


def _run(device: Device) -> set[int]:
    first = {entry["bundle_version"] for entry in device.log if entry["event"] == "started"}
    return first | _versions(device, "bundle_running")


def day_in_fast_motion(bundles: Bundles, folder: Path, seconds: float) -> Outcome:
    """A day of frames without a network: memory and disk, after its first eighth and at its end."""
    network = Network()
    device = Device(
        bundles, folder, network, "--bundle", str(_first(bundles)), "--outbox-bytes", str(_OUTBOX_BYTES),
        "--thumbnails", speed=86_400 / seconds,
    )  # fmt: skip
    device.start()
    assert device.process is not None
    pid, begin = device.process.pid, time.monotonic()
    memory, disk, frames = list[int](), list[int](), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        for _ in range(10):
            # A hijack every forty frames: alerts fill the outbox, and drop proofs of play.
            device.show(*[BOOKED] * 20, *[FOREIGN] * 20, b"noise")
            frames += 40
        if elapsed > seconds / 8:
            memory.append(_resident(pid))
            disk.append(sum(path.stat().st_size for path in (folder / "state").iterdir()))
    device.stop()
    network.down()
    growth = max(memory) - memory[0]
    beyond = int(growth > _GROWTH_BYTES) + int(max(disk) > _DISK_BYTES)
    told = [entry for entry in device.log if entry["event"] == "watching"][-1]
    return Outcome(
        "24 h in fast motion",
        1,
        notes={
            "frames": frames,
            "memory MB": round(max(memory) / 1e6, 1),
            "its growth MB": round(growth / 1e6, 1),
            "disk MB": round(max(disk) / 1e6, 2),
            "dropped alerts": told["dropped_alert"],
            "dropped plays": told["dropped_play"],
            "beyond bounds": beyond,
        },
    )


def _resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS:"))


def _first(bundles: Bundles) -> Path:
    file = bundles.folder / "first.bundle"
    if not file.exists():
        file.write_bytes(bundles.make(1))
    return file


FAULTS: tuple[Callable[[Bundles, Path, int], Outcome], ...] = (
    network_cuts,
    power_cuts,
    full_disks,
    clock_jumps,
    cut_off_bundles,
    broken_frames,
)


def main() -> int:
    """Does them all, and prints what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each fault")
    parser.add_argument("--day-seconds", type=float, default=120.0, help="how long the day takes")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edge-faults-"))
    console = Console(markup=False, soft_wrap=True)
    outcomes = []
    try:
        bundles = Bundles(folder)
        for number, fault in enumerate(FAULTS):
            try:
                outcomes.append(fault(bundles, folder / str(number), options.rounds))
            except PermissionError as error:
                console.print(f"skipped: {error}")
                continue
            console.print(outcomes[-1])
        outcomes.append(day_in_fast_motion(bundles, folder / "day", options.day_seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table(box=None)
    for title in ("fault", "times", "alerts", "lost", "came twice", "wrong bundles", "besides"):
        table.add_column(title)
    for each in outcomes:
        besides = ", ".join(f"{name} {value:g}" for name, value in each.notes.items())
        counts = (each.rounds, each.raised, each.lost, each.twice, each.wrong_bundles)
        table.add_row(each.name, *map(str, counts), besides)
    console.print(table)
    return 0 if all(each.is_well for each in outcomes) else 1


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
