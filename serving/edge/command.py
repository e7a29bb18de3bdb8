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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import RUNTIME_VERSION
from .errors import BrokenFrame, BundleRefused, EdgeError

_LAST_SECONDS = 5.0
_LAST_REFUSED = 5


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
        epilog="Exit codes: 0 done (check: all approved); 2 wrong command, file, setting or request; 3 check: a picture"
        " must not be shown; 4 bundle or channel refused; 5 channel out of reach.",
    )
    parser.add_argument("--version", action="version", version=f"adclick-edge {RUNTIME_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="say what pictures show, a JSON object a line")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    _add_bundle(check)
    check.set_defaults(run=_check)

    verify = commands.add_parser("verify", help="say whether a bundle may run here, and does what it should")
    _add_bundle(verify)
    verify.set_defaults(run=_verify)

    update = commands.add_parser("update", help="look at the channel once, and take what it names for this device")
    _add_channel(update, required=True)
    _add_keys(update)
    update.add_argument("--state", type=Path, required=True, help="the folder of the bundles' slots")
    _add_device(update)
    _add_authorities(update)
    update.set_defaults(run=_update)

    slots = commands.add_parser("slots", help="say what stands in the slots, and whether it is whole")
    slots.add_argument("--state", type=Path, required=True, help="the folder of the bundles' slots")
    _add_keys(slots)
    slots.set_defaults(run=_slots)

    score = commands.add_parser(
        "score", help="say how likely ads are clicked: requests as POST /v1/score takes them, an answer a line"
    )
    score.add_argument(
        "requests",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="files of one request each; without any, a request a line on standard input",
    )
    _add_bundle(score)
    score.set_defaults(run=_score)

    watch = commands.add_parser("watch", help="watch a screen until SIGTERM or Ctrl+C")
    _add_bundle(watch, required=False)
    _add_channel(watch, required=False)
    watch.add_argument("--look", type=_seconds, default=300.0, metavar="SECONDS", help="between looks at it (300)")
    watch.add_argument(
        "--trial", type=_seconds, default=600.0, metavar="SECONDS", help="a new bundle must run well for so long (600)"
    )
    watch.add_argument(
        "--source",
        required=True,
        help="a folder of pictures, - for JPEGs on standard input, v4l2:/dev/video0, rtsp://…, video:FILE",
    )
    watch.add_argument("--once", action="store_true", help="end when a folder's pictures have been seen")
    watch.add_argument("--state", type=Path, required=True, help="the folder of what waits to be sent")
    _add_device(watch)
    watch.add_argument("--frames", type=_count, default=5, help="frames in a row that make an alert (5)")
    watch.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="and for at least so long (0)")
    watch.add_argument("--thumbnails", action="store_true", help="alerts hold a small picture of the screen")
    watch.add_argument("--relay", default="", metavar="COMMAND", help="is run for each alert, its JSON on stdin")
    watch.add_argument("--webhook", metavar="URL", help="alerts and proofs of play are posted there")
    watch.add_argument("--webhook-secret-file", type=Path, metavar="FILE", help="signs what is posted")
    watch.add_argument("--gateway", metavar="URL", help="reports, alerts and proofs of play are posted there")
    watch.add_argument("--gateway-key-file", type=Path, metavar="FILE", help="the device's key, see `adclick api-key`")
    watch.add_argument("--reports-folder", type=Path, metavar="FOLDER", help="or they are left there, to be collected")
    watch.add_argument("--report", type=_seconds, default=60.0, metavar="SECONDS", help="between heartbeats (60)")
    watch.add_argument("--mqtt", metavar="URL", help="mqtts://HOST:8883/PREFIX: they are published there")
    watch.add_argument("--mqtt-user", default="", metavar="NAME")
    watch.add_argument("--mqtt-password-file", type=Path, metavar="FILE")
    _add_authorities(watch)
    watch.add_argument("--outbox-bytes", type=_count, default=32 << 20, metavar="N", help="what may wait (32 MiB)")
    watch.add_argument("--threads", type=_count, default=1, help="LiteRT's threads (1)")
    watch.set_defaults(run=_watch)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time")
    return number


def _add_bundle(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    text = "what `adclick edge export` made" + ("" if required else ", to begin with where there is a channel")
    parser.add_argument("--bundle", type=Path, required=required, metavar="FILE", help=text)
    _add_keys(parser)


def _add_channel(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--from",
        dest="origin",
        required=required,
        metavar="FOLDER|URL",
        help="where `adclick edge publish` publishes: a folder, https://… or gs://…",
    )
    parser.add_argument("--channel", default="stable", metavar="NAME", help="which channel there (stable)")
    parser.add_argument(
        "--google-token-file",
        type=Path,
        metavar="FILE",
        help="for gs://: an access token, read anew each time; public objects need none",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=socket.gethostname(), help="the device's name; its host's by default")


def _add_authorities(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust instead of the system's")


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--public-key",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="who may sign bundles and channels; more than once while keys change",
    )
    parser.add_argument("--minimum-version", type=int, default=0, metavar="N", help="refuse older bundles")


def _bundle_of(options: argparse.Namespace) -> Any:
    from .bundle import read_bundle_file
    from .keys import read_public_key

    keys = [read_public_key(path) for path in options.public_key]
    return read_bundle_file(options.bundle, keys, minimum_version=options.minimum_version)


def _verify(options: argparse.Namespace) -> int:
    from .scorer import AdScorer
    from .self_test import run_self_test
    from .watch import Eye

    try:
        bundle = _bundle_of(options)
        recognised = run_self_test(Eye(bundle))
        click_model = AdScorer(bundle.scorer).model_version if bundle.scorer is not None else None
    except BundleRefused as error:
        print(json.dumps({"refused": error.reason, "message": error.message}, ensure_ascii=False), flush=True)
        raise
    print(
        json.dumps(
            {
                "version": bundle.version,
                "created": bundle.created,
                "creatives": len(bundle.catalogue.creatives),
                "threshold": bundle.known,
                "pictures_recognised": recognised,
                "click_model": click_model,
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


def _slots_of(options: argparse.Namespace) -> Any:
    from .slots import Slots

    return Slots(options.state / "slots")


def _updater(options: argparse.Namespace, stopped: threading.Event, tell: Any) -> Any:
    from .fetch import Fetcher
    from .update import UpdateOptions, Updater

    update_options = UpdateOptions(
        options.origin,
        options.channel,
        options.device,
        tuple(options.public_key),
        options.minimum_version,
        getattr(options, "look", UpdateOptions.seconds),
        getattr(options, "trial", UpdateOptions.trial_seconds),
    )
    fetcher = Fetcher(options.ca_file, stopped=stopped.is_set, google_token_file=options.google_token_file)
    return Updater(_slots_of(options), update_options, fetcher, tell)


def _update(options: argparse.Namespace) -> int:
    from .log import Log

    log = Log()
    updater = _updater(options, threading.Event(), log.write)
    running = updater.slots.read().running
    outcome = updater.look(running.version if running is not None else -1)
    running = updater.slots.read().running
    log.write("looked", outcome=outcome, version=running.version if running is not None else None)
    return BundleRefused.exit_code if outcome == "refused" else 0


def _slots(options: argparse.Namespace) -> int:
    from .update import state_of_slots

    state = state_of_slots(_slots_of(options), options.public_key)
    print(json.dumps(state))
    return 0 if state["whole"] else BundleRefused.exit_code


def _score(options: argparse.Namespace) -> int:
    from .ad_request import RequestRefused
    from .scorer import AdScorer

    bundle = _bundle_of(options)
    if bundle.scorer is None:
        raise EdgeError(f"{options.bundle}: scores no ads", "Export it with --config, where a click model was pushed.")
    scorer = AdScorer(bundle.scorer)
    refused = 0
    for body in _requests(options.requests):
        try:
            answer = scorer.answer(body)
        except RequestRefused as error:
            refused += 1
            field = {"field": error.field} if error.field else {}
            answer = {"error": {"code": error.code, "message": error.message, **field}}
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return EdgeError.exit_code if refused else 0


def _requests(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            yield path.read_bytes()
        except OSError as error:
            raise EdgeError(f"{path}: cannot be read: {error.strerror}", "Name a request's file.") from None
    if not files:
        for line in sys.stdin.buffer:
            if line.strip():
                yield line


def _receivers(options: argparse.Namespace) -> list[Any]:
    from .delivery import Broker, DeviceWebhook, Folder, GatewayReceiver, Mqtt, read_secret

    found: list[Any] = []
    if options.webhook:
        secret = read_secret(options.webhook_secret_file) if options.webhook_secret_file else b""
        found.append(DeviceWebhook(options.webhook, secret, options.ca_file))
    if options.gateway:
        key = read_secret(options.gateway_key_file).decode() if options.gateway_key_file else ""
        found.append(GatewayReceiver(options.gateway, key, options.ca_file))
    if options.reports_folder:
        found.append(Folder(options.reports_folder, options.device))
    if options.mqtt:
        password = read_secret(options.mqtt_password_file).decode() if options.mqtt_password_file else ""
        found.append(Mqtt(Broker(options.mqtt, options.mqtt_user, password, options.ca_file), options.device))
    return found


def _first_eye(options: argparse.Namespace, updater: Any, load: Any, stopped: threading.Event, reporter: Any) -> Any:
    """What runs first; None if it was stopped while it waited for a bundle."""
    from .update import wait_for_first

    if updater is None:
        return load(_bundle_of(options))
    factory = None
    if options.bundle is not None:
        try:
            factory = _bundle_of(options)
        except EdgeError as error:
            # The slots may hold a better one, and the channel will.
            reason = error.reason if isinstance(error, BundleRefused) else "unreadable"
            reporter.event("bundle_refused", file=str(options.bundle), reason=reason, message=error.message)
    return updater.start(factory, load) or wait_for_first(updater, load, stopped, reporter.event)


def _watch(options: argparse.Namespace) -> int:
    from .log import Log
    from .outbox import Outbox
    from .reports import Reporter, disk_free_bytes
    from .sources import frames_of
    from .update import Keeper
    from .watch import Eye, Watcher, WatchOptions, outbox_path, start_couriers

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    log = Log()
    if options.bundle is None and options.origin is None:
        raise EdgeError("there is no bundle to run", "Give --bundle FILE, or --from FOLDER|URL for a channel's.")

    def load(bundle: Any) -> Eye:
        return Eye(bundle, options.threads)

    receivers = _receivers(options)
    frames = frames_of(options.source, stopped.is_set, once=options.once)
    file = outbox_path(options.state)
    try:
        names = [each.name for each in receivers]
        reporters = [name for name in names if name in ("gateway", "folder")]
        outbox = Outbox(file, names, options.outbox_bytes, reporters)
    except (OSError, sqlite3.Error) as error:
        raise EdgeError(
            f"{file}: cannot be opened: {error}", "Give this account a folder that it may write, with room on its disk."
        ) from None
    if outbox.moved_aside:
        log.write("outbox_damaged", moved_to=str(outbox.moved_aside))
    couriers = start_couriers(outbox, receivers, log)

    def wake() -> None:
        for courier in couriers:
            courier.wake()

    watcher: Any = None
    updater: Any = None

    def status() -> dict[str, Any]:
        more = {"channel": options.channel if options.origin is not None else None}
        if updater is not None:
            pointer = updater.slots.read()
            more["on_trial"] = pointer.on_trial
            more["refused_bundles"] = [
                {"version": each.version, "reason": each.reason} for each in pointer.refused[-_LAST_REFUSED:]
            ]
        free = disk_free_bytes(options.state)
        return {**more, "disk_free_bytes": free, **(watcher.status() if watcher is not None else {})}

    reporter = Reporter(outbox, options.device, status, options.report, log, wake)
    if reporters:
        reporter.start()
    updater = _updater(options, stopped, reporter.event) if options.origin is not None else None
    eye = _first_eye(options, updater, load, stopped, reporter)
    if eye is None:
        return 0
    log.write(
        "started",
        device=options.device,
        runtime=RUNTIME_VERSION,
        bundle_version=eye.bundle.version,
        sha256=eye.bundle.digest,
        process=os.getpid(),
        waiting=outbox.waiting(),
    )
    watch_options = WatchOptions(options.device, options.frames, options.hold, options.thumbnails, options.relay)
    watcher = Watcher(eye, outbox, watch_options, log, wake)
    keeper = None
    if updater is not None:
        keeper = Keeper(updater, eye, load, watcher.hand_over, lambda: watcher.looked, reporter.event)
    try:
        watcher.run(frames)
        if keeper is not None:
            keeper.stop(_LAST_SECONDS)
        if reporters:
            reporter.stop(_LAST_SECONDS)
    finally:
        for courier in couriers:
            courier.stop(_LAST_SECONDS)
        log.write("stopped", waiting=outbox.waiting())
        outbox.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
