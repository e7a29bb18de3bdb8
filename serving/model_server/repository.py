"""The versions of one model: which stand in its folder, which is loaded, and when one gives way to another."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from serving.errors import Code, NotFoundError, ServingError, UnavailableError
from serving.model_server.servable import MODEL_FILES, Servable
from serving.model_server.version_status import State, VersionStatus

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionFolder:
    """A numbered folder of a model's base path.

    Attributes:
        path: The folder.
        whole: Whether it holds the SavedModel's own file, which is copied last.
    """

    path: Path
    whole: bool


def list_versions(base_path: Path) -> dict[int, VersionFolder]:
    """Lists the version folders of a base path; folders that are not named by a number are ignored.

    Raises:
        OSError: The base path cannot be read.
    """
    return {
        int(path.name): VersionFolder(path, whole=any((path / name).is_file() for name in MODEL_FILES))
        for path in sorted(base_path.iterdir())
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    }


@dataclass
class LoadedVersion:
    """A version in memory.

    Attributes:
        version: Its number.
        servable: Its model.
        requests: How many requests are using it.
        retiring: Whether it is to be freed after the last of them.
    """

    version: int
    servable: Servable
    requests: int = 0
    retiring: bool = False


# A folder's files with their sizes and times: a version that failed to load is tried again when these change.
Fingerprint = frozenset[tuple[str, int, int]]


class ModelRepository:
    """Serves the newest version under a base path that can be loaded, and keeps looking for a newer one.

    A new version is loaded while the old one serves, then takes its place; the old one is freed when its last request
    is answered. A version that is incomplete or fails to load changes nothing but its status. When the served version
    is removed from the base path the next newest takes over; when all are, none is served.
    """

    def __init__(self, name: str, base_path: Path, *, poll_seconds: float = 1.0) -> None:
        self.name = name
        self.base_path = base_path
        self._poll_seconds = poll_seconds
        self._changed = threading.Condition()
        self._serving: LoadedVersion | None = None
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._unreadable = ""
        self._polling = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts polling in a thread of its own; the first version is loaded there too.

        Raises:
            NotFoundError: The base path is not a folder.
        """
        if not self.base_path.is_dir():
            raise NotFoundError(f"Could not find base path {self.base_path} for servable {self.name}")
        self._thread = threading.Thread(target=self._poll_until_stopped, name=f"poll-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops polling and frees the served version as soon as its requests are answered."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._put_in_service(None)

    def poll(self) -> None:
        """Looks at the base path once and loads or retires versions accordingly."""
        with self._polling:
            try:
                folders = list_versions(self.base_path)
            except OSError as error:
                # A base path that cannot be read says nothing about which versions are wanted: keep what is served.
                self._log_unreadable(str(error))
                return
            self._log_unreadable("")
            self._forget_removed(folders)
            if not folders:
                self._put_in_service(None)
                return
            served = self._serving.version if self._serving else None
            for version in sorted(folders, reverse=True):
                if version == served:
                    return
                servable = self._try_to_load(version, folders[version])
                if servable is not None:
                    self._put_in_service(LoadedVersion(version, servable))
                    return

    @contextmanager
    def acquire(self, version: int | None = None) -> Iterator[LoadedVersion]:
        """Holds a version for the length of a request, so that it is not freed under it.

        Args:
            version: The version wanted; the newest available if None.

        Raises:
            NotFoundError: It is not available.
        """
        with self._changed:
            loaded = self._serving
            if loaded is None or version not in (None, loaded.version):
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise NotFoundError(f"Servable not found for request: {wanted}")
            loaded.requests += 1
        try:
            yield loaded
        finally:
            with self._changed:
                loaded.requests -= 1
                unused = loaded.retiring and not loaded.requests
            if unused:
                self._free(loaded)

    def statuses(self) -> tuple[VersionStatus, ...]:
        """The status of every version that is or was wanted, the newest first."""
        with self._changed:
            return tuple(self._statuses[version] for version in sorted(self._statuses, reverse=True))

    def wait_until_available(self, timeout_seconds: float) -> int:
        """Waits for a version to be available, and returns its number.

        Raises:
            UnavailableError: None was in time; says what is wrong with those that are there.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self._serving is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise UnavailableError(self._none_available(timeout_seconds))
                self._changed.wait(remaining)
            return self._serving.version

    def _none_available(self, timeout_seconds: float) -> str:
        problems = [
            f"version {status.version} is {status.state.value}"
            + (f" ({status.error_code.name}: {status.error_message})" if status.error_message else "")
            for status in self.statuses()
        ]
        found = "; ".join(problems) or "no numbered folder with a SavedModel is there"
        return (
            f"no version of {self.name} under {self.base_path} became available within {timeout_seconds:g} s: {found}"
        )

    def _poll_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:  # The thread must outlive whatever one poll meets; the next one tries again.
                logger.exception("%s: polling %s failed", self.name, self.base_path)
            self._stopping.wait(self._poll_seconds)

    def _try_to_load(self, version: int, folder: VersionFolder) -> Servable | None:
        if not folder.whole:
            self._set_status(
                VersionStatus(
                    version,
                    State.START,
                    Code.NOT_FOUND,
                    f"{folder.path} is incomplete: it holds no {' or '.join(MODEL_FILES)} yet",
                )
            )
            return None
        fingerprint = _fingerprint(folder.path)
        if self._failed.get(version) == fingerprint:
            return None
        self._set_status(VersionStatus(version, State.LOADING))
        started = time.monotonic()
        try:
            servable = Servable.load(folder.path)
        except ServingError as error:
            self._failed[version] = fingerprint
            self._set_status(VersionStatus(version, State.END, error.code, error.message))
            logger.error("%s: version %d cannot be loaded: %s", self.name, version, error.described())
            return None
        self._failed.pop(version, None)
        logger.info("%s: loaded version %d in %.2f s", self.name, version, time.monotonic() - started)
        return servable

    def _put_in_service(self, loaded: LoadedVersion | None) -> None:
        with self._changed:
            retired = self._serving
            self._serving = loaded
            if loaded is not None:
                self._statuses[loaded.version] = VersionStatus(loaded.version, State.AVAILABLE)
            unused = False
            if retired is not None:
                retired.retiring = True
                self._statuses[retired.version] = VersionStatus(retired.version, State.UNLOADING)
                unused = not retired.requests
            self._changed.notify_all()
        if retired is not None and unused:
            self._free(retired)

    def _free(self, retired: LoadedVersion) -> None:
        retired.servable.close()
        with self._changed:
            status = self._statuses.get(retired.version)
            # The same number may have been put back and loaded anew while the last requests ran.
            if status is not None and status.state is State.UNLOADING:
                self._statuses[retired.version] = replace(status, state=State.END)
        logger.info("%s: unloaded version %d", self.name, retired.version)

    def _forget_removed(self, folders: dict[int, VersionFolder]) -> None:
        """Drops the faults of versions that are gone, so that one put in their place is tried afresh."""
        with self._changed:
            for version in [v for v, status in self._statuses.items() if v not in folders and status.error_message]:
                del self._statuses[version]
        for version in set(self._failed) - set(folders):
            del self._failed[version]

    def _set_status(self, status: VersionStatus) -> None:
        with self._changed:
            self._statuses[status.version] = status
            self._changed.notify_all()

    def _log_unreadable(self, reason: str) -> None:
        if reason and reason != self._unreadable:
            logger.warning("%s: cannot read %s, keeping what is served: %s", self.name, self.base_path, reason)
        self._unreadable = reason


def _fingerprint(folder: Path) -> Fingerprint:
    files = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.add((str(path), status.st_size, status.st_mtime_ns))
    return frozenset(files)
