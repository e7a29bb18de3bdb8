"""The versions of one model: which stand in its folder, which are loaded, and when one gives way to another."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from serving.errors import Code, InvalidArgumentError, NotFoundError, ServingError, UnavailableError
from serving.model_server.configuration import ModelConfig
from serving.model_server.folders import (
    MODEL_FILES,
    Fingerprint,
    VersionFolder,
    base_path_exists,
    fingerprint,
    list_versions,
)
from serving.model_server.servable import Servable
from serving.model_server.version_status import State, VersionStatus

logger = logging.getLogger(__name__)


@dataclass
class LoadedVersion:
    """A version in memory.

    Attributes:
        version: Its number.
        servable: Its model.
        owner: The repository that loaded it.
        requests: How many requests are using it.
        retiring: Whether it is to be freed after the last of them.
    """

    version: int
    servable: Servable
    owner: ModelRepository
    requests: int = 0
    retiring: bool = False

    def release(self) -> None:
        """Gives back what `ModelRepository.acquire` held."""
        self.owner._release(self)


class ModelRepository:
    """Serves the versions under a base path that a policy wants and that can be loaded, and keeps looking for others.

    A new version is loaded while the old one serves, then takes its place; the old one is freed when its last request
    is answered. A version that is incomplete or fails to load changes nothing but its status: the next older one is
    served until it can be loaded. When a served version is removed from the base path the next newest takes over; when
    all are, none is served.

    Args:
        config: The model.
        poll_seconds: How often to look for new versions, in seconds; 0 to look once.
        load: Loads the version in a folder.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        poll_seconds: float = 1.0,
        load: Callable[[str], Servable] = Servable.load,
    ) -> None:
        self.config = config
        self._poll_seconds = poll_seconds
        self._load = load
        self._changed = threading.Condition()
        self._serving: dict[int, LoadedVersion] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._unreadable = ""
        self._polling = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    def start(self) -> None:
        """Starts polling in a thread of its own; the first version is loaded there too.

        Raises:
            NotFoundError: The base path is not a folder.
        """
        if not base_path_exists(self.config.base_path):
            raise NotFoundError(f"Could not find base path {self.config.base_path} for servable {self.name}")
        self._thread = threading.Thread(target=self._poll_until_stopped, name=f"poll-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops polling and frees what is served as soon as its requests are answered."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._retire(set(self._serving))

    def reconfigure(self, config: ModelConfig, before_retiring: Callable[[], None]) -> None:
        """Takes another base path or policy, and loads and retires versions accordingly.

        Args:
            config: The model.
            before_retiring: Called when what is new is loaded and what is old is still served.

        Raises:
            InvalidArgumentError: The base path cannot be read; what is served stays.
            ServingError: What `before_retiring` raises; the configuration stays as it was.
        """
        if not base_path_exists(config.base_path):
            raise InvalidArgumentError(f"Could not find base path {config.base_path} for servable {self.name}")
        before = self.config
        moved: set[int] = set()
        with self._polling:
            if config.base_path != before.base_path:
                # The numbers of another folder are other models.
                self._failed.clear()
                moved = set(self._serving)
            self.config = config
        try:
            self.poll(replacing=moved, before_retiring=before_retiring)
        except ServingError:
            self.config = before
            raise

    def poll(self, replacing: set[int] | None = None, before_retiring: Callable[[], None] | None = None) -> None:
        """Looks at the base path once and loads or retires versions accordingly.

        Args:
            replacing: Versions to load anew although one of their number is served.
            before_retiring: Called when what is new is loaded and what is old is still served.
        """
        with self._polling:
            try:
                folders = list_versions(self.config.base_path)
            except OSError as error:
                # A base path that cannot be read says nothing about which versions are wanted: keep what is served.
                self._log_unreadable(str(error))
                return
            self._log_unreadable("")
            self._forget_removed(folders)
            policy = self.config.policy
            wanted: set[int] = set()
            for version in policy.candidates(list(folders)):
                if not policy.wants(version, len(wanted)):
                    continue
                if version in self._serving and version not in (replacing or set()):
                    wanted.add(version)
                elif (servable := self._try_to_load(version, folders[version])) is not None:
                    self._put_in_service(LoadedVersion(version, servable, self))
                    wanted.add(version)
            if before_retiring is not None:
                before_retiring()
            if wanted or not policy.candidates(list(folders)):
                self._retire(set(self._serving) - wanted)

    def acquire(self, version: int | None = None) -> LoadedVersion:
        """Holds a version for a request, so that it is not freed under it; give it back by its `release`.

        Args:
            version: The version wanted; the newest available if None.

        Raises:
            NotFoundError: It is not available.
        """
        with self._changed:
            newest = max(self._serving, default=None)
            loaded = self._serving.get(newest if version is None else version) if newest is not None else None
            if loaded is None:
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise NotFoundError(f"Servable not found for request: {wanted}")
            loaded.requests += 1
            return loaded

    def _release(self, loaded: LoadedVersion) -> None:
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
            UnavailableError: None was in time, or all have failed; says what is wrong with those that are there.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not self._serving:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._all_failed():
                    raise UnavailableError(self._none_available())
                self._changed.wait(remaining)
            return max(self._serving)

    def _all_failed(self) -> bool:
        """Whether there are versions and none is still to be tried: one that failed is not, until its files change."""
        statuses = self.statuses()
        return bool(statuses) and all(status.state is State.END and status.error_message for status in statuses)

    def _none_available(self) -> str:
        problems = [
            f"version {status.version} is {status.state.value}"
            + (f" ({status.error_code.name}: {status.error_message})" if status.error_message else "")
            for status in self.statuses()
        ]
        found = "; ".join(problems) or "no numbered folder with a SavedModel is there"
        return f"no version of {self.name} under {self.config.base_path} became available: {found}"

    def _poll_until_stopped(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:  # The thread must outlive whatever one poll meets; the next one tries again.
                logger.exception("%s: polling %s failed", self.name, self.config.base_path)
            if self._poll_seconds <= 0:
                return
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
        files = fingerprint(folder.path)
        if self._failed.get(version) == files:
            return None
        self._set_status(VersionStatus(version, State.LOADING))
        started = time.monotonic()
        try:
            servable = self._load(folder.path)
        except ServingError as error:
            self._failed[version] = files
            self._set_status(VersionStatus(version, State.END, error.code, error.message))
            logger.error("%s: version %d cannot be loaded: %s", self.name, version, error.described())
            return None
        self._failed.pop(version, None)
        logger.info("%s: loaded version %d in %.2f s", self.name, version, time.monotonic() - started)
        return servable

    def _put_in_service(self, loaded: LoadedVersion) -> None:
        with self._changed:
            replaced = self._serving.get(loaded.version)
            self._serving[loaded.version] = loaded
            self._statuses[loaded.version] = VersionStatus(loaded.version, State.AVAILABLE)
            unused = replaced is not None and not replaced.requests
            if replaced is not None:
                replaced.retiring = True
            self._changed.notify_all()
        if replaced is not None and unused:
            self._free(replaced)

    def _retire(self, versions: set[int]) -> None:
        with self._changed:
            retired = [self._serving.pop(version) for version in sorted(versions)]
            for loaded in retired:
                loaded.retiring = True
                self._statuses[loaded.version] = VersionStatus(loaded.version, State.UNLOADING)
            unused = [loaded for loaded in retired if not loaded.requests]
            self._changed.notify_all()
        for loaded in unused:
            self._free(loaded)

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
            served = status.version in self._serving
            if not served or status.state is State.AVAILABLE:
                self._statuses[status.version] = status
            self._changed.notify_all()

    def _log_unreadable(self, reason: str) -> None:
        if reason and reason != self._unreadable:
            logger.warning(
                "%s: cannot read %s, keeping what is served: %s",
                self.name,
                os.fspath(self.config.base_path),
                reason,
            )
        self._unreadable = reason
