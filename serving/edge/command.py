"""`adclick-edge`: check pictures, verify bundles, watch a screen. By argparse: a device installs what it needs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import RUNTIME_VERSION
from .errors import BrokenFrame, EdgeError

_LAST_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; an error that a person can act on ends without a traceback, in its own exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except EdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adclick-edge",
        description="Recognises on the device which booked creative a screen shows; raises an alert where it is none.",
        epilog="Exit codes: 0 done (check: all approved); 2 wrong command, file or setting; 3 check: a picture must not"
        " be shown; 4 bundle refused.",
    )
    parser.add_argument("--version", action="version", version=f"adclick-edge {RUNTIME_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="say what pictures show, a JSON object a line")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _add_bundle(check)
    check.set_defaults(run=_check)

    verify = commands.add_parser("verify", help="say whether a bundle may run here")
    _add_bundle(verify)
    verify.set_defaults(run=_verify)

    watch = commands.add_parser("watch", help="watch a screen until SIGTERM or Ctrl+C")
    _add_bundle(watch)
    watch.add_argument(
        "--source",
        required=True,
        help="a folder of pictures, - for JPEGs on standard input, v4l2:/dev/video0, rtsp://…, video:FILE",
    )
    watch.add_argument("--once", action="store_true", help="end when a folder's pictures have been seen")
    watch.add_argument("--state", type=Path, required=True, help="the folder of what waits to be sent")
    watch.add_argument("--device", default=socket.gethostname(), help="the device's name; its host's by default")
    watch.add_argument("--frames", type=_count, default=5, help="frames in a row that make an alert (5)")
    watch.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="and for at least so long (0)")
    watch.add_argument("--thumbnails", action="store_true", help="alerts hold a small picture of the screen")
    watch.add_argument("--relay", default="", metavar="COMMAND", help="is run for each alert, its JSON on stdin")
    watch.add_argument("--webhook", metavar="URL", help="alerts and proofs of play are posted there")
    watch.add_argument("--webhook-secret-file", type=Path, metavar="FILE", help="signs what is posted")
    watch.add_argument("--mqtt", metavar="URL", help="mqtts://HOST:8883/PREFIX: they are published there")
    watch.add_argument("--mqtt-user", default="", metavar="NAME")
    watch.add_argument("--mqtt-password-file", type=Path, metavar="FILE")
    watch.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust instead of the system's")
    watch.add_argument("--outbox-bytes", type=_count, default=32 << 20, metavar="N", help="what may wait (32 MiB)")
    watch.add_argument("--threads", type=_count, default=1, help="LiteRT's threads (1)")
    watch.set_defaults(run=_watch)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True, metavar="FILE", help="what `adclick edge export` made")
    parser.add_argument(
        "--public-key",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="who may sign bundles; more than once while keys change",
    )
    parser.add_argument("--minimum-version", type=int, default=0, metavar="N", help="refuse older bundles")


def _bundle_of(options: argparse.Namespace) -> Any:
    from .bundle import read_bundle_file
    from .keys import read_public_key

    keys = [read_public_key(path) for path in options.public_key]
    return read_bundle_file(options.bundle, keys, minimum_version=options.minimum_version)


def _verify(options: argparse.Namespace) -> int:
    from .watch import Eye

    bundle = _bundle_of(options)
    Eye(bundle)
    print(
        json.dumps(
            {
                "version": bundle.version,
                "created": bundle.created,
                "creatives": len(bundle.catalogue.creatives),
                "threshold": bundle.known,
                "sha256": bundle.digest,
            }
        )
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    from .frame import open_frame
    from .watch import Eye

    eye = Eye(_bundle_of(options))
    worst = 0
    for path in options.files:
        try:
            decision = eye.look(open_frame(path.read_bytes()))
        except OSError as error:
            raise EdgeError(f"{path}: cannot be read: {error.strerror}", "Name a picture's file.") from None
        except BrokenFrame as error:
            print(json.dumps({"file": str(path), "kind": "broken", "reason": str(error)}, ensure_ascii=False))
            worst = 3
            continue
        creative = decision.creative
        row = {
            "file": str(path),
            "kind": decision.kind,
            "creative": creative.id if creative else None,
            "name": creative.name if creative else None,
            "similarity": round(decision.similarity, 4),
        }
        print(json.dumps(row, ensure_ascii=False))
        worst = 3 if decision.is_threat else worst
    return worst


def _receivers(options: argparse.Namespace) -> list[Any]:
    from .delivery import Broker, Mqtt, Webhook, read_secret

    found: list[Any] = []
    if options.webhook:
        secret = read_secret(options.webhook_secret_file) if options.webhook_secret_file else b""
        found.append(Webhook(options.webhook, secret, options.ca_file))
    if options.mqtt:
        password = read_secret(options.mqtt_password_file).decode() if options.mqtt_password_file else ""
        found.append(Mqtt(Broker(options.mqtt, options.mqtt_user, password, options.ca_file), options.device))
    return found


def _watch(options: argparse.Namespace) -> int:
    from .log import Log
    from .outbox import Outbox
    from .sources import frames_of
    from .watch import Eye, Watcher, WatchOptions, outbox_path, start_couriers

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    log = Log()
    eye = Eye(_bundle_of(options), options.threads)
    receivers = _receivers(options)
    frames = frames_of(options.source, stopped.is_set, once=options.once)
    file = outbox_path(options.state)
    try:
        outbox = Outbox(file, [each.name for each in receivers], options.outbox_bytes)
    except (OSError, sqlite3.Error) as error:
        raise EdgeError(f"{file}: cannot be opened: {error}", "Give this account a folder that it may write.") from None
    if outbox.moved_aside:
        log.write("outbox_damaged", moved_to=str(outbox.moved_aside))
    log.write(
        "started",
        device=options.device,
        runtime=RUNTIME_VERSION,
        bundle_version=eye.bundle.version,
        sha256=eye.bundle.digest,
        process=os.getpid(),
        waiting=outbox.waiting(),
    )
    couriers = start_couriers(outbox, receivers, log)
    watch_options = WatchOptions(options.device, options.frames, options.hold, options.thumbnails, options.relay)

    def wake() -> None:
        for courier in couriers:
            courier.wake()

    watcher = Watcher(eye, outbox, watch_options, log, wake)
    try:
        watcher.run(frames)
    finally:
        for courier in couriers:
            courier.stop(_LAST_SECONDS)
        log.write("stopped", waiting=outbox.waiting())
        outbox.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
