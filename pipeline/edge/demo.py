"""`adclick edge demo`: a screen plays what is booked, is hijacked, and is freed; `adclick-edge` watches it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from rich.console import Console

from adclick.pipeline.console import noise_to_temporary, plain_console
from adclick.pipeline.edge.export import create_key_files, run_export, write_recogniser
from adclick.pipeline.edge.template import TEMPLATE_KNOWN, template_recogniser
from adclick.pipeline.sample_data.images import draw_looks, encode, render
from adclick.schema.errors import AdclickError, ConfigError

_BOOKED = 8
_FRAMES_A_SECOND = 10
_SECONDS_A_CREATIVE = 1.0
#: The screen's part of the time in which it is hijacked.
_HIJACKED = (0.45, 0.8)
_START_SECONDS = 60.0
_END_SECONDS = 30.0


class _Told(ThreadingHTTPServer):
    """The webhook that alerts are posted to; an alert's first and second revision come with their times."""

    def __init__(self) -> None:
        self.alerts: list[tuple[float, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Told

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "revision" in body:
            self.server.alerts.append((time.monotonic(), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the demonstration prints what was told."""


def run_demo(output: Path, *, config: Path | None, seconds: float) -> None:
    """Plays the screen, and prints what the device told.

    Args:
        output: Where screen, creatives, bundle, outbox and log are left; what an earlier demonstration left goes.
        config: The config whose newest recogniser is taken; a template of 16 x 16 colours if None.
        seconds: For how long.

    Raises:
        ConfigError: There is no recogniser, or the folder holds something else.
        AdclickError: The runtime did not raise the alert, or ended.
    """
    with noise_to_temporary("edge-demo") as real:
        _run(output, config, seconds, plain_console(real, soft_wrap=True))


def _run(output: Path, config: Path | None, seconds: float, console: Console) -> None:
    marker = output / ".adclick-edge-demo"
    if output.exists() and any(output.iterdir()) and not marker.exists():
        raise ConfigError(f"{output}: holds other things", "Name a folder of its own with --output.")
    shutil.rmtree(output, ignore_errors=True)
    screen = output / "screen"
    screen.mkdir(parents=True)
    marker.touch()
    pictures = _render(output)
    private, public = create_key_files(output)
    if config is None:
        write_recogniser(output / "recogniser", template_recogniser(), {"known": TEMPLATE_KNOWN})
    made = run_export(
        config,
        creatives=str(output / "creatives.csv"),
        key=private,
        output=str(output / "demo.bundle"),
        recogniser=None if config else str(output / "recogniser"),
    )
    console.print(f"bundle: version {made.version}, {made.creatives} creatives, {made.size} bytes, signed")
    with _Told() as told:
        threading.Thread(target=told.serve_forever, daemon=True).start()
        command = [
            *(sys.executable, "-m", "adclick.serving.edge.command", "watch", "--bundle", str(output / "demo.bundle")),
            *("--public-key", str(public), "--source", str(screen), "--state", str(output / "state")),
            *("--device", "demo-screen", "--thumbnails", "--webhook", f"http://127.0.0.1:{told.server_port}/"),
        ]
        with open(output / "log.jsonl", "wb") as log, subprocess.Popen(command, stdout=log) as process:
            try:
                _wait_for_start(process, output / "log.jsonl")
                _play(screen, pictures, seconds, told, console)
            finally:
                process.terminate()
                try:
                    process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
        told.shutdown()
    states = [alert["state"] for _, alert in told.alerts]
    if states != ["open", "closed"]:
        raise AdclickError(f"the device told {states or 'nothing'}", f"Its log: {output / 'log.jsonl'}")
    console.print(_summary(output / "log.jsonl"))


def _render(output: Path) -> list[Image.Image]:
    """Sample creatives, the last of them not booked: its picture hijacks the screen."""
    random = np.random.default_rng(15)
    looks = draw_looks(_BOOKED + 1, random)
    pictures = [render(looks, number, random) for number in range(_BOOKED + 1)]
    with open(output / "creatives.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("id", "image", "name"))
        for number, image in enumerate(pictures[:_BOOKED]):
            (output / f"creative-{number}.png").write_bytes(encode(image, "PNG"))
            table.writerow((f"c{number}", f"creative-{number}.png", f"Creative {number}"))
    return pictures


def _wait_for_start(process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _START_SECONDS
    while b'"started"' not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > ends:
            raise AdclickError("adclick-edge did not start", log.read_text()[-2000:])
        time.sleep(0.05)


def _play(screen: Path, pictures: list[Image.Image], seconds: float, told: _Told, console: Console) -> None:
    """Shows frame after frame, as a player's screenshots: 1080p, a little blurred, as JPEG."""
    shots = [_screenshot(picture) for picture in pictures]
    begin, shown, printed, hijacked_at = time.monotonic(), 0, 0, 0.0
    while (elapsed := time.monotonic() - begin) < seconds or (len(told.alerts) < 2 and elapsed < seconds + 5):
        hijacked = _HIJACKED[0] <= elapsed / seconds < _HIJACKED[1]
        if hijacked and not hijacked_at:
            hijacked_at = time.monotonic()
            console.print(f"{elapsed:5.1f} s  the screen is hijacked")
        number = _BOOKED if hijacked else int(elapsed / _SECONDS_A_CREATIVE) % _BOOKED
        (screen / ".next").write_bytes(shots[number])
        (screen / ".next").rename(screen / f"{shown:06}.jpg")
        shown += 1
        # A player's screenshots are not kept for ever.
        (screen / f"{shown - 5 * _FRAMES_A_SECOND:06}.jpg").unlink(missing_ok=True)
        time.sleep(1 / _FRAMES_A_SECOND)
        for at, alert in told.alerts[printed:]:
            printed += 1
            after = f", {at - hijacked_at:.1f} s after it began" if alert["state"] == "open" else ""
            text = f"{at - begin:5.1f} s  alert {alert['state']}: {alert['kind']} picture on {alert['device']}"
            console.print(f"{text}, similarity {alert['similarity']:.2f} (known from {alert['threshold']:.2f}){after}")


def _screenshot(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    shot = picture.resize((1920, 1080), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))
    shot.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _summary(log: Path) -> str:
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = [event for event in events if event["event"] == "watching"][-1]
    frames = ", ".join(f"{count} {kind}" for kind, count in sorted(last["frames"].items()))
    return f"frames: {frames}; frame to decision: median {last['p50_ms']} ms, p99 {last['p99_ms']} ms. Log: {log}"
