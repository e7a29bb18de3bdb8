"""Two slots for bundles, and which of them runs: whatever happens, and whenever, one that is whole is there.

    slots/a.bundle, slots/b.bundle      the bundles
    slots/pointer.json                  which of them runs, and how it fares

A new bundle is put into the slot that does not run, and is on trial from when the pointer names it: it is proven when
it has run well for a while, and given up when it fails before, for the bundle in the other slot, which is not replaced
until then. The pointer is replaced at once (rename), after what it names is on disk (fsync).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .bundle import Bundle, read_bundle_file
from .errors import BundleRefused, ChannelRefused, EdgeError

#: So often a bundle on trial is started; it is given up when it would be started once more.
TRIAL_STARTS = 2
_MOST_REFUSED = 32


@dataclass(frozen=True)
class Slot:
    """A bundle in a slot.

    Attributes:
        version: Its number.
        sha256: Of its file, hexadecimal.
    """

    version: int
    sha256: str


@dataclass(frozen=True)
class Refusal:
    """A bundle that was refused or given up, so that it is not tried again and again.

    Attributes:
        sha256: Of its file.
        version: Its number.
        reason: As `BundleRefused.reason`, or `crashed`.
        under: The runtime and the keys that refused it; others may not.
    """

    sha256: str
    version: int
    reason: str
    under: str


@dataclass(frozen=True)
class Pointer:
    """What runs.

    Attributes:
        current: The slot that runs, `a` or `b`; empty if none does.
        slots: What is in them.
        proven: Whether what runs has run well for long enough.
        starts: How often what is on trial was started.
        floor: The greatest version that was proven: older ones are refused.
        refused: The last bundles that were refused.
        serials: The greatest serial of each channel's files that were followed, by keys and channel.
    """

    current: str = ""
    slots: dict[str, Slot] = field(default_factory=dict)
    proven: bool = False
    starts: int = 0
    floor: int = 0
    refused: tuple[Refusal, ...] = ()
    serials: dict[str, int] = field(default_factory=dict)

    @property
    def running(self) -> Slot | None:
        """What is in the slot that runs."""
        return self.slots.get(self.current)

    @property
    def other(self) -> str:
        """The slot that does not run."""
        return "b" if self.current == "a" else "a"

    @property
    def on_trial(self) -> bool:
        """Whether what runs has yet to be proven."""
        return self.running is not None and not self.proven

    def refusal_of(self, sha256: str, under: str) -> Refusal | None:
        """Why a bundle was refused under the same conditions; None if it was not."""
        return next((each for each in self.refused if (each.sha256, each.under) == (sha256, under)), None)


class Slots:
    """The slots of a device, used by one process at a time for each change.

    Args:
        folder: Where they are; it is made.

    Raises:
        EdgeError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pointer = folder / "pointer.json"
        self.part = folder / "next.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeError(f"{folder}: {error.strerror}", "Give this account a folder that it may write.") from None

    def file(self, slot: str) -> Path:
        """The file of a slot."""
        return self._folder / f"{slot}.bundle"

    def read(self) -> Pointer:
        """What runs now; where the pointer cannot be read, nothing does.

        It is never half-written; if the disk damages it, a bundle is fetched anew.
        """
        try:
            document = json.loads(self._pointer.read_text(encoding="utf-8"))
            slots = {str(name): Slot(**slot) for name, slot in document.pop("slots").items()}
            refused = tuple(Refusal(**each) for each in document.pop("refused"))
            return Pointer(slots=slots, refused=refused, **document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Pointer()

    def install(self, file: Path, version: int, sha256: str) -> None:
        """Puts a verified bundle into the slot that does not run, and makes it the one that does, on trial.

        Args:
            file: The bundle, in the slots' folder; it is moved.
            version: Its number.
            sha256: Of the file.

        Raises:
            OSError: The disk failed; what ran still does.
        """
        with self._alone():
            pointer = self.read()
            slot = pointer.other
            _sync(file)
            # The pointer may still say what was in this slot; by its hash it is seen not to be there.
            os.replace(file, self.file(slot))
            _sync(self._folder)
            slots = {**pointer.slots, slot: Slot(version, sha256)}
            self._write(replace(pointer, current=slot, slots=slots, proven=False, starts=0))

    def load(self, public_keys: Sequence[Any], minimum_version: int = 0) -> Bundle | None:
        """Reads and verifies what runs; None if nothing does.

        Raises:
            BundleRefused: It is damaged, or no longer allowed.
        """
        pointer = self.read()
        if pointer.running is None:
            return None
        try:
            bundle = read_bundle_file(self.file(pointer.current), public_keys, minimum_version=minimum_version)
        except BundleRefused:
            raise
        except EdgeError as error:
            raise BundleRefused("damaged", error.message) from None
        if bundle.digest != pointer.running.sha256:
            raise BundleRefused("altered", f"{self.file(pointer.current)} is another bundle than was put there")
        return bundle

    def begin(self) -> bool:
        """Counts a start of what is on trial; False if it was started as often as it may be, and has crashed."""
        with self._alone():
            pointer = self.read()
            if not pointer.on_trial:
                return True
            if pointer.starts >= TRIAL_STARTS:
                return False
            self._write(replace(pointer, starts=pointer.starts + 1))
            return True

    def end(self, sha256: str) -> None:
        """Takes a start of a bundle back that ended because it was asked to, which is no crash."""
        with self._alone():
            pointer = self.read()
            if pointer.on_trial and pointer.running is not None and pointer.running.sha256 == sha256:
                self._write(replace(pointer, starts=max(0, pointer.starts - 1)))

    def prove(self, sha256: str) -> bool:
        """Says that a bundle has run well for long enough; gives whether it was on trial."""
        with self._alone():
            pointer = self.read()
            if not pointer.on_trial or pointer.running is None or pointer.running.sha256 != sha256:
                return False
            floor = max(pointer.floor, pointer.running.version)
            self._write(replace(pointer, proven=True, starts=0, floor=floor))
            return True

    def refuse(self, refusal: Refusal) -> None:
        """Remembers a bundle that was refused."""
        with self._alone():
            pointer = self.read()
            self._write(replace(pointer, refused=_with(pointer.refused, refusal)))

    def follow(self, channel: str, serial: int, keys: str) -> None:
        """Remembers the serial of a channel's file, and forgets those that other keys have signed.

        Args:
            channel: The channel's name.
            serial: The file's.
            keys: Which keys are trusted; a number of whoever stole one that is trusted no more counts no more.

        Raises:
            ChannelRefused: A file of a greater serial was followed before.
            OSError: The disk failed.
        """
        with self._alone():
            pointer = self.read()
            before = pointer.serials.get(f"{keys} {channel}", -1)
            if serial < before:
                raise ChannelRefused(
                    "too_old", f"its serial is {serial}, that of a file before it was {before}", "Publish it anew."
                )
            if serial > before:
                kept = {name: number for name, number in pointer.serials.items() if name.startswith(f"{keys} ")}
                self._write(replace(pointer, serials={**kept, f"{keys} {channel}": serial}))

    def roll_back(self, refusal: Refusal | None) -> Slot | None:
        """Gives up what runs for what is in the other slot.

        Args:
            refusal: What to remember, so that it is not fetched again; None where the file was damaged here, and
                another copy may be whole.

        Returns:
            What runs now; None if the other slot is empty.
        """
        with self._alone():
            pointer = self.read()
            gone, slots = pointer.current, dict(pointer.slots)
            slots.pop(gone, None)
            current = pointer.other if gone and pointer.other in slots else ""
            refused = _with(pointer.refused, refusal) if refusal is not None else pointer.refused
            # What stands in the other slot was proven before anything was put beside it.
            after = replace(pointer, current=current, slots=slots, proven=bool(current), starts=0, refused=refused)
            self._write(after)
            if gone:
                with contextlib.suppress(OSError):
                    self.file(gone).unlink()
            return after.running

    @contextmanager
    def looking(self) -> Iterator[bool]:
        """Yields whether no other process looks for a bundle, and keeps others from it for the `with` block."""
        with open(self._folder / "look.lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(self._folder / "pointer.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, pointer: Pointer) -> None:
        content = json.dumps(asdict(pointer), sort_keys=True).encode()
        temporary = self._pointer.with_suffix(".next")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._pointer)
        _sync(self._folder)


def _with(refused: tuple[Refusal, ...], refusal: Refusal) -> tuple[Refusal, ...]:
    others = tuple(each for each in refused if each.sha256 != refusal.sha256)
    return (*others, refusal)[-_MOST_REFUSED:]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
