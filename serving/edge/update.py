"""Keeps a device's bundle up to date: looks at the channel, fetches, verifies, tries, and goes back by itself."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import RUNTIME_VERSION
from .bundle import Bundle
from .channel import MAXIMUM_CHANNEL_BYTES, Channel, Release, channel_file_name, read_channel, release_for
from .errors import BundleRefused, ChannelRefused, EdgeError
from .fetch import Fetcher, OutOfReach, address_of, discard
from .keys import name_of_keys, read_public_key
from .slots import Pointer, Refusal, Slots
from .watch import Eye

#: What stays free on the disk for alerts that wait while a bundle is fetched.
_RESERVE_BYTES = 64 << 20
_VERIFY_SECONDS = 120.0
_TICK_SECONDS = 0.5

Tell = Callable[..., None]


@dataclass(frozen=True)
class UpdateOptions:
    """From where a device gets its bundles, and which it takes.

    Attributes:
        origin: The folder or address of channels and bundles.
        channel: The channel's name.
        device: The device's name, whose hash decides of which share it is.
        public_keys: The files of who may sign.
        minimum_version: Older ones are refused.
        seconds: How long from one look at the channel to the next.
        trial_seconds: How long a new bundle must run well.
    """

    origin: str
    channel: str
    device: str
    public_keys: tuple[Path, ...]
    minimum_version: int = 0
    seconds: float = 300.0
    trial_seconds: float = 600.0


class Updater:
    """Looks for bundles, and puts them into the slots.

    Args:
        slots: Where bundles are kept.
        options: From where.
        fetcher: Fetches them.
        tell: Is told what happened: an event's name, and its fields.

    Raises:
        EdgeError: A key, the channel's name or its address is wrong.
    """

    def __init__(self, slots: Slots, options: UpdateOptions, fetcher: Fetcher, tell: Tell) -> None:
        self.slots, self.options = slots, options
        self._fetcher, self._tell = fetcher, tell
        self._keys = [read_public_key(path) for path in options.public_keys]
        self._address = address_of(options.origin, channel_file_name(options.channel))
        self._trusted = name_of_keys(self._keys)
        self._under = f"{RUNTIME_VERSION} {self._trusted} {options.minimum_version}"
        #: What was told last of what is refused anew with each look.
        self._told = self._told_of_channel = ""

    def look(self, running: int) -> str:
        """Looks at the channel once, and installs what it names for this device.

        Args:
            running: The version that runs; -1 if none does.

        Returns:
            `installed`, `refused`, `current` (nothing newer), `on_trial` (what runs must be proven first) or `busy`
            (another process looks).

        Raises:
            OutOfReach: The channel or the bundle cannot be fetched now.
            EdgeError: What is at the channel's address is larger than its file may be.
        """
        with self.slots.looking() as alone:
            if not alone:
                return "busy"
            try:
                channel = self._channel()
            except ChannelRefused as error:
                self._refuse_channel(error)
                return "refused"
            release = release_for(channel.releases, self.options.device)
            pointer = self.slots.read()
            if release is None or (pointer.running is not None and release.sha256 == pointer.running.sha256):
                discard(self.slots.part)
                return "current"
            if pointer.refusal_of(release.sha256, self._under) is not None:
                return "refused"
            outcome = self._install(release, pointer, running)
        if outcome == "installed":
            self._tell("bundle_installed", version=release.version, sha256=release.sha256)
        return outcome

    def _channel(self) -> Channel:
        content = self._fetcher.read(self._address, MAXIMUM_CHANNEL_BYTES)
        channel = read_channel(content, self.options.channel, self._keys)
        try:
            self.slots.follow(channel.name, channel.serial, self._trusted)
        except OSError as error:
            raise OutOfReach(f"{self.slots.part.parent}: {error}", "Is the disk full?") from None
        self._told_of_channel = ""
        return channel

    def _install(self, release: Release, pointer: Pointer, running: int) -> str:
        try:
            least = max(running + 1, pointer.floor, self.options.minimum_version)
            if release.version < least:
                raise BundleRefused(
                    "too_old", f"version {release.version} is older than {least}, the least to be taken"
                )
            if pointer.on_trial and pointer.running is not None and pointer.running.version >= running:
                return "on_trial"
            try:
                self._fetch(release)
            except BundleRefused as error:
                # Not remembered: what is wrong is the file at the address, and may be put right there.
                self._refuse(release, error, remembered=False)
                return "refused"
            self._verify(release, least)
            self.slots.install(self.slots.part, release.version, release.sha256)
            discard(self.slots.part)
        except BundleRefused as error:
            self._refuse(release, error, remembered=True)
            return "refused"
        except OSError as error:
            raise OutOfReach(f"{self.slots.part}: {error}", "Is the disk full?") from None
        return "installed"

    def start(self, factory: Bundle | None, load: Callable[[Bundle], Eye]) -> Eye | None:
        """Loads what is to run: the slots' bundle, what it replaced where that fails, or else the factory's.

        Args:
            factory: A bundle that was put in place by hand; it counts before an older one in the slots.
            load: Loads a bundle, or raises `BundleRefused`.

        Returns:
            What runs; None if there is none.
        """
        while True:
            running = self.slots.read().running
            if running is None or (factory is not None and factory.version > running.version):
                return load(factory) if factory is not None else None
            eye = self.take_up(load)
            if eye is not None:
                return eye

    def take_up(self, load: Callable[[Bundle], Eye]) -> Eye | None:
        """Loads what the pointer names; gives it up, and returns None, where that fails or has crashed before."""
        if not self.slots.begin():
            self.give_up(BundleRefused("crashed", "it was started twice and never ran well for long enough"))
            return None
        try:
            bundle = self.slots.load(self._keys, self.options.minimum_version)
            return load(bundle) if bundle is not None else None
        except BundleRefused as error:
            self.give_up(error)
            return None

    def give_up(self, error: BundleRefused) -> None:
        """Rolls back from what runs, and tells."""
        pointer = self.slots.read()
        if pointer.running is None:
            return
        gone = pointer.running
        # What was verified when it was fetched, and is damaged now, was damaged here: another copy may be whole.
        damaged = error.reason in ("damaged", "altered")
        refusal = None if damaged else Refusal(gone.sha256, gone.version, error.reason, self._under)
        after = self.slots.roll_back(refusal)
        self._tell(
            "bundle_rolled_back",
            version=gone.version,
            sha256=gone.sha256,
            reason=error.reason,
            message=error.message,
            to_version=after.version if after is not None else None,
        )

    def _fetch(self, release: Release) -> None:
        part = self.slots.part
        there = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(part.parent).free
        if free < release.size - there + _RESERVE_BYTES:
            raise OutOfReach(
                f"{part}: {free} bytes are free; a bundle of {release.size} bytes would leave no room for alerts",
                f"Free {_RESERVE_BYTES + release.size} bytes.",
            )
        self._fetcher.fetch(address_of(self.options.origin, release.address), release, part)

    def _verify(self, release: Release, least: int) -> None:
        """Verifies and tests a bundle in a process of its own: a model that crashes it crashes nothing else."""
        root = Path(__file__).absolute().parents[(__package__ or "").count(".") + 1]
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", f"{__package__}.command", "verify", "--bundle", str(self.slots.part)]
        for path in self.options.public_keys:
            command += ["--public-key", str(path)]
        command += ["--minimum-version", str(least)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            done = subprocess.run(command, capture_output=True, env=environment, timeout=_VERIFY_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise BundleRefused("self_test", f"its self-test did not end in {_VERIFY_SECONDS:g} s") from None
        answer = _last_line(done.stdout)
        if done.returncode == BundleRefused.exit_code and "refused" in answer:
            raise BundleRefused(str(answer["refused"]), str(answer["message"]))
        if done.returncode != 0:
            said = done.stderr[-300:].decode(errors="replace").strip()
            raise BundleRefused("self_test", f"its self-test ended with code {done.returncode}: {said}")
        if (answer.get("version"), answer.get("sha256")) != (release.version, release.sha256):
            raise BundleRefused("altered", f"it is version {answer.get('version')}, the channel says {release.version}")

    def _refuse(self, release: Release, error: BundleRefused, *, remembered: bool) -> None:
        discard(self.slots.part)
        if remembered:
            self.slots.refuse(Refusal(release.sha256, release.version, error.reason, self._under))
        elif error.message == self._told:
            return
        self._told = error.message
        self._tell(
            "bundle_refused",
            version=release.version,
            sha256=release.sha256,
            reason=error.reason,
            message=error.message,
        )

    def _refuse_channel(self, error: ChannelRefused) -> None:
        if error.message == self._told_of_channel:
            return
        self._told_of_channel = error.message
        self._tell("channel_refused", channel=self.options.channel, reason=error.reason, message=error.message)


def _last_line(output: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return answer if isinstance(answer, dict) else {}


class Keeper:
    """A thread beside the watcher: looks at the channel, hands over new bundles, proves those that run well.

    Args:
        updater: Looks.
        eye: What runs; None while there is none.
        load: Loads a bundle, or raises `BundleRefused`.
        hand_over: Is given what is to run from the next frame on.
        frames: How many frames were decided about since then.
        tell: Is told what happened.
    """

    def __init__(
        self,
        updater: Updater,
        eye: Eye | None,
        load: Callable[[Bundle], Eye],
        hand_over: Callable[[Eye], None],
        frames: Callable[[], int],
        tell: Tell,
    ) -> None:
        self._updater, self._eye, self._load = updater, eye, load
        self._hand_over, self._frames, self._tell = hand_over, frames, tell
        self._since, self._failures = time.monotonic(), 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ends it; what runs on trial did not crash."""
        self._stopped.set()
        self._thread.join(seconds)
        if self._eye is not None:
            self._updater.slots.end(self._eye.bundle.digest)

    def _run(self) -> None:
        next_look = 0.0
        while not self._stopped.wait(_TICK_SECONDS):
            try:
                self._prove()
                if time.monotonic() >= next_look:
                    # A fleet that was switched on at once does not come at once.
                    next_look = time.monotonic() + self._updater.options.seconds * random.uniform(0.8, 1.2)
                    self._look()
                self._take_up()
            except Exception as error:  # this must outlive whatever one look meets, such as a full disk
                self._tell("slots_failed", reason=f"{type(error).__name__}: {error}")

    def _look(self) -> None:
        try:
            self._updater.look(self._eye.bundle.version if self._eye is not None else -1)
            self._failures = 0
        except EdgeError as error:
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:
                # At each power of two: a week without a network is no flood in the log.
                self._tell("channel_out_of_reach", attempts=self._failures, reason=str(error))

    def _take_up(self) -> None:
        running = self._updater.slots.read().running
        if running is None or (self._eye is not None and running.version <= self._eye.bundle.version):
            return
        eye = self._updater.take_up(self._load)
        if eye is not None:
            self._eye, self._since = eye, time.monotonic()
            self._hand_over(eye)
            self._tell("bundle_running", version=eye.bundle.version, sha256=eye.bundle.digest)

    def _prove(self) -> None:
        """Proves what has run for long enough and decided about frames: without frames nothing is known of it."""
        if self._eye is None or self._frames() == 0:
            return
        if time.monotonic() - self._since < self._updater.options.trial_seconds:
            return
        bundle = self._eye.bundle
        if self._updater.slots.prove(bundle.digest):
            self._tell("bundle_proven", version=bundle.version, sha256=bundle.digest)


def wait_for_first(updater: Updater, load: Callable[[Bundle], Eye], stopped: threading.Event, tell: Tell) -> Eye | None:
    """Looks at the channel until there is a bundle to run; None if it was stopped before."""
    failures = 0
    while not stopped.is_set():
        try:
            outcome = updater.look(-1)
            eye = updater.take_up(load) if outcome in ("installed", "on_trial", "current") else None
            if eye is not None:
                return eye
            reason = f"the channel has no bundle for this device: {outcome}"
        except EdgeError as error:
            reason = str(error)
        failures += 1
        if failures & (failures - 1) == 0:
            tell("waiting_for_bundle", attempts=failures, reason=reason)
        stopped.wait(min(updater.options.seconds, 2.0**failures, 60.0) * random.uniform(0.5, 1.0))
    return None


def state_of_slots(slots: Slots, public_keys: Sequence[Path]) -> dict[str, Any]:
    """What stands in the slots, verified anew, for people."""
    pointer = slots.read()
    keys = [read_public_key(path) for path in public_keys]
    fault = ""
    try:
        slots.load(keys)
    except BundleRefused as error:
        fault = error.message
    running = pointer.running
    return {
        "slot": pointer.current or None,
        "version": running.version if running else None,
        "sha256": running.sha256 if running else None,
        "whole": running is not None and not fault,
        "fault": fault or None,
        "proven": pointer.proven,
        "starts": pointer.starts,
        "floor": pointer.floor,
        "refused": [{"version": each.version, "reason": each.reason} for each in pointer.refused],
    }
