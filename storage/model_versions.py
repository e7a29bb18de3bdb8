"""The versions of a model: what servers see, what a roll-back withdrew, what is held; and the log of roll-backs.

Servers take the highest number in the push directory. A roll-back moves the higher ones out of it, into a folder of its
own, and holds later pushes back in another until it is released.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from adclick.schema.errors import ConfigError
from adclick.storage import bucket
from adclick.storage.folder_lock import alone_in, user_name
from adclick.storage.push_directory import MODEL_FILE, whole_versions

_LOG = "rollbacks.json"


class RollBack(BaseModel):
    """One roll-back.

    Attributes:
        time: When.
        model: The model's name.
        served: The version that it made the served one.
        replaced: The version that was served before.
        withdrawn: The versions that it took out of the push directory.
        reason: Why, in the words of who did it.
        by: Who did it, by the name of their account.
        released: When later pushes were let through again; None while they are held.
    """

    model_config = ConfigDict(extra="forbid")

    time: datetime
    model: str
    served: int
    replaced: int
    withdrawn: list[int]
    reason: str
    by: str
    released: datetime | None = None


class _Log(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rollbacks: list[RollBack] = []


class ModelVersions:
    """The versions of one model.

    Args:
        push_directory: The folder that servers watch, `OUTPUT/serving_model/MODEL`; what is held and withdrawn, and the
            log of roll-backs, lie below the same `OUTPUT`.
    """

    def __init__(self, push_directory: str) -> None:
        parent, _, self.model = push_directory.rstrip("/").rpartition("/")
        above, _, name = parent.rpartition("/")
        # A bucket has nothing above it.
        output = parent if above.endswith("/") or not name else above
        self.served_folder = push_directory
        self.held_folder = f"{output}/held_model/{self.model}"
        self.withdrawn_folder = f"{output}/withdrawn_model/{self.model}"
        self._log = f"{output}/{_LOG}"

    @property
    def served(self) -> list[int]:
        """The versions in the push directory, ascending; the last is served."""
        return whole_versions(self.served_folder)

    @property
    def held(self) -> list[int]:
        """Blessed versions that a roll-back holds back, ascending."""
        return whole_versions(self.held_folder)

    @property
    def withdrawn(self) -> list[int]:
        """Versions that roll-backs took out of the push directory, ascending."""
        return whole_versions(self.withdrawn_folder)

    @property
    def rollbacks(self) -> list[RollBack]:
        """All roll-backs of the model, the oldest first."""
        return [found for found in self._read().rollbacks if found.model == self.model]

    @property
    def hold(self) -> RollBack | None:
        """The roll-back that holds pushes back; None if none does."""
        found = self.rollbacks
        return found[-1] if found and found[-1].released is None else None

    @property
    def push_folder(self) -> str:
        """Where the next blessed model goes."""
        return self.served_folder if self.hold is None else self.held_folder

    @property
    def newest(self) -> int:
        """The highest number there is, anywhere; 0 if there is none."""
        return max([0, *self.served, *self.held, *self.withdrawn])

    @contextmanager
    def changing(self) -> Iterator[bool]:
        """Keeps others from changing a local push directory for the length of a `with` block, waiting for them to end.

        Yields whether it could: not in a bucket, nor where there is no push directory yet.
        """
        if "://" in self.served_folder or not Path(self.served_folder).is_dir():
            yield False
            return
        with alone_in(self.served_folder) as is_alone:
            yield is_alone

    def roll_back(self, version: int | None, reason: str) -> RollBack:
        """Makes an earlier version the served one, and holds later pushes back.

        Args:
            version: The version; the one before the served one if None.
            reason: Why.

        Raises:
            ConfigError: There is no such version, or it is served already.
        """
        with self.changing():
            return self._roll_back(version, reason)

    def _roll_back(self, version: int | None, reason: str) -> RollBack:
        served = self.served
        if not served:
            raise ConfigError(f"{self.served_folder}: no version is served", "Push one with `adclick run`.")
        if version is None:
            if len(served) < 2:
                raise ConfigError(
                    f"{self.model}: version {served[-1]} is the only one in the push directory",
                    f"Name one of {_listed(self.withdrawn)}." if self.withdrawn else "There is none to go back to.",
                )
            version = served[-2]
        if version == served[-1]:
            raise ConfigError(f"{self.model}: version {version} is served already")
        if version not in served and version not in self.withdrawn:
            raise ConfigError(
                f"{self.model}: there is no version {version} to go back to",
                f"There are {_listed(sorted({*served[:-1], *self.withdrawn}))}.",
            )
        higher = [number for number in served if number > version]
        done = RollBack(
            time=datetime.now(UTC),
            model=self.model,
            served=version,
            replaced=served[-1],
            withdrawn=higher,
            reason=reason,
            by=user_name(),
        )
        log = self._read()
        log.rollbacks.append(done)
        self._write(log)
        if version not in served:
            _move(self.withdrawn_folder, self.served_folder, version)
        # The highest goes last: no server takes one between for the newest.
        for number in higher:
            _move(self.served_folder, self.withdrawn_folder, number)
        return done

    def release(self) -> int | None:
        """Lets pushes through again and serves the newest version that was held; gives its number, None if none was.

        Raises:
            ConfigError: No roll-back holds pushes back.
        """
        with self.changing():
            return self._release()

    def _release(self) -> int | None:
        log = self._read()
        found = [rollback for rollback in log.rollbacks if rollback.model == self.model]
        if not found or found[-1].released is not None:
            raise ConfigError(f"{self.model}: no roll-back holds pushes back")
        found[-1].released = datetime.now(UTC)
        self._write(log)
        held = self.held
        if not held:
            return None
        _move(self.held_folder, self.served_folder, held[-1])
        return held[-1]

    def _read(self) -> _Log:
        if "://" not in self._log:
            file = Path(self._log)
            return _Log.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else _Log()
        try:
            return _Log.model_validate_json(bucket.read(self._log))
        except FileNotFoundError:
            return _Log()

    def _write(self, log: _Log) -> None:
        content = log.model_dump_json(indent=1)
        if "://" not in self._log:
            partial = Path(f"{self._log}.partial")
            partial.write_text(content, encoding="utf-8")
            partial.replace(self._log)
            return
        bucket.write(self._log, content.encode())


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _move(source: str, destination: str, version: int) -> None:
    """Moves a version's folder; it is whole in one place before it goes from the other."""
    old, new = os.path.join(source, str(version)), os.path.join(destination, str(version))
    if "://" not in source:
        Path(destination).mkdir(parents=True, exist_ok=True)
        Path(old).rename(new)
        return
    # Buckets rename no folders. The import takes a moment, and those who only read need it not.
    from adclick.storage import filesystem

    filesystem.copy_folder(old, new, leave_out=[MODEL_FILE])
    filesystem.copy_file(f"{old}/{MODEL_FILE}", f"{new}/{MODEL_FILE}")
    filesystem.delete(old)
