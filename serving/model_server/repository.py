"""The versions of one model: which stand in its folder, which are loaded, and when one gives way to another."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from adclick.serving.errors import Code, NotFoundError, ServingError, UnavailableError
from adclick.serving.model_server.configuration import ModelConfig
from adclick.serving.model_server.folders import (
    MODEL_FILES,
    Fingerprint,
    VersionFolder,
    base_path_exists,
    fingerprint,
    list_versions,
)
from adclick.serving.model_server.servable import Servable
from adclick.serving.model_server.version_status import State, VersionStatus

logger = logging.getLogger(__name__)


#: How long the end of the server waits for a version that is being loaded.
_LOADING_SECONDS = 5.0


@dataclass(frozen=True)
class RetryPolicy:
    """When a version that failed is tried again although its files are the same; it is at once when they change.

    Attributes:
        first_pause_seconds: After how long; then after twice as long.
        longest_pause_seconds: After how long at most.
        most: How often; None for without end.
    """

    first_pause_seconds: float = 15.0
    longest_pause_seconds: float = 600.0
    most: int | None = None


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded: from which files, and when it is tried again."""

    files: Fingerprint
    again: float
    pause: float
    tries: int


@dataclass(eq=False)
class LoadedVersion:
    """A version in memory.

    Attributes:
        version: Its number.
        servable: Its model.
        owner: The repository that loaded it.
        path: The folder that it was loaded from.
        requests: How many requests are using it.
        retiring: Whether it is to be freed after the last of them.
    """

    version: int
    servable: Servable
    owner: ModelRepository
    path: str = ""
    requests: int = 0
    retiring: bool = False

    def release(self) -> None:
        """Gives back what `ModelRepository.acquire` held."""
        self.owner._release(self)


class Change:
    """Another base path or policy of a model, whose versions are loaded but not served yet.

    To be put in service and then to retire what it does not want, or to be abandoned: the repository looks for nothing
    else meanwhile.

    Attributes:
        available: The versions that can be asked when it is in service.
    """

    def __init__(
        self, owner: ModelRepository, config: ModelConfig, loaded: dict[int, LoadedVersion], wanted: set[int] | None
    ) -> None:
        self._owner = owner
        self._config = config
        self._loaded = loaded
        self._wanted = wanted
        self.available = owner.available() | loaded.keys() if wanted is None else frozenset(wanted)

    def put_in_service(self) -> None:
        """Has the versions answer, besides those of before."""
        self._owner.config = self._config
        for loaded in self._loaded.values():
            self._owner._put_in_service(loaded)

    def retire(self) -> None:
        """Frees what is no longer wanted, and ends the change."""
        try:
            if self._wanted is not None:
                self._owner._retire(set(self._owner._serving) - self._wanted)
        finally:
            self._owner._polling.release()

    def abandon(self) -> None:
        """Frees what was loaded, and ends the change."""
        try:
            for loaded in self._loaded.values():
                self._owner._discard(loaded)
        finally:
            self._owner._polling.release()


class ModelRepository:
    """Serves the versions under a base path that a policy wants and that can be loaded, and keeps looking for others.

    A new version is loaded while the old one serves, then takes its place; the old one is freed when its last request
    is answered. A version that is incomplete, unreadable or fails to load changes nothing but its status, nor keeps
    others, older or newer, from being loaded; it is looked at again. When a served version is removed from the base
    path the next newest takes over; when all are, none is served.

    Args:
        config: The model.
        poll_seconds: How often to look for new versions, in seconds; 0 to look once, below 0 never.
        retries: How a version that failed is tried again.
        model_files: The files of which a whole version holds one.
        load: Loads the version in a folder.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        poll_seconds: float = 1.0,
        retries: RetryPolicy | None = None,
        model_files: tuple[str, ...] = MODEL_FILES,
        load: Callable[[str], Servable] = Servable.load,
    ) -> None:
        self.config = config
        self._poll_seconds = poll_seconds
        self._model_files = model_files
        self._retries = retries or RetryPolicy()
        self._load = load
        self._changed = threading.Condition()
        self._serving: dict[int, LoadedVersion] = {}
        self._unfreed: list[LoadedVersion] = []
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, _Failure] = {}
        self._unreadable = ""
        self._polling = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    def start(self, waits_for_base_path: bool = False) -> None:
        """Starts polling in a thread of its own; the first version is loaded there too.

        Args:
            waits_for_base_path: Whether a base path that is not there is waited for.

        Raises:
            NotFoundError: The base path is not a folder, and is not waited for.
        """
        if not waits_for_base_path and not base_path_exists(self.config.base_path):
            raise NotFoundError(f"Could not find base path {self.config.base_path} for servable {self.name}")
        self._thread = threading.Thread(target=self._poll_until_stopped, name=f"poll-{self.name}", daemon=True)
        self._thread.start()

    @property
    def polls(self) -> bool:
        """Whether it looks for versions at all."""
        return self._poll_seconds >= 0

    def stop(self) -> None:
        """Stops polling and frees what is served as soon as its requests are answered.

        A version that is being loaded is waited for a while.
        """
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_LOADING_SECONDS)
            self._thread = None
        self._retire(set(self._serving))

    def free(self) -> None:
        """Frees what is not free yet; what runs on it ends with CANCELLED. Nothing may be asked any more."""
        with self._changed:
            left = list(self._unfreed)
        for loaded in left:
            self._free(loaded)

    def prepare(self, config: ModelConfig) -> Change:
        """Loads what another base path or policy wants; nothing that is served changes before the change is made."""
        self._polling.acquire()
        try:
            staged: dict[int, LoadedVersion] = {}
            wanted = self._load_wanted(config, lambda loaded: staged.setdefault(loaded.version, loaded))
            return Change(self, config, staged, wanted)
        except BaseException:
            self._polling.release()
            raise

    def poll(self) -> None:
        """Looks at the base path once and loads or retires versions accordingly."""
        with self._polling:
            wanted = self._load_wanted(self.config, self._put_in_service)
            if wanted is not None:
                self._retire(set(self._serving) - wanted)

    def _load_wanted(self, config: ModelConfig, put: Callable[[LoadedVersion], object]) -> set[int] | None:
        """Loads what is wanted and not served; returns what of it there is, or None if all that is served stays."""
        try:
            folders = list_versions(config.base_path, self._model_files)
        except OSError as error:
            # A base path that cannot be read says nothing about which versions are wanted: keep what is served.
            self._log_unreadable(config.base_path, str(error))
            return None
        self._log_unreadable(config.base_path, "")
        self._forget_removed(folders)
        policy = config.policy
        wanted: set[int] = set()
        candidates = policy.candidates(list(folders))
        for version in candidates:
            if not policy.wants(version, len(wanted)):
                continue
            path = folders[version].path
            served = self._serving.get(version)
            if served is not None and served.path == path:
                wanted.add(version)
            elif (servable := self._try_to_load(version, folders[version])) is not None:
                put(LoadedVersion(version, servable, self, path))
                wanted.add(version)
        return wanted if wanted or not candidates else None

    def available(self) -> frozenset[int]:
        """The versions that can be asked."""
        with self._changed:
            return frozenset(self._serving)

    def is_settled(self) -> bool:
        """Whether a version can be asked, or none ever will as things are."""
        return bool(self._serving) or self._stopping.is_set() or self._all_failed()

    def wait_until_settled(self, timeout_seconds: float) -> None:
        """Waits until it is settled, or the time is over."""
        with self._changed:
            self._changed.wait_for(self.is_settled, timeout_seconds)

    def acquire(self, version: int | None = None) -> LoadedVersion:
        """Holds a version for a request, so that it is not freed under it; give it back by its `release`.

        Args:
            version: The version wanted; the newest available if None.

        Raises:
            NotFoundError: It is not available.
            UnavailableError: The server ends; another can be asked the same.
        """
        with self._changed:
            if self._stopping.is_set():
                raise UnavailableError("The server is ending; ask again")
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
        """Whether there are versions and none is still to be tried soon: one that failed is not."""
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
                # An empty profile is none to TensorBoard: so that a server whom nobody asks has something in it.
                with tf.profiler.experimental.Trace("poll"):
                    self.poll()
            except Exception:  # The thread must outlive whatever one poll meets; the next one tries again.
                logger.exception("%s: polling %s failed", self.name, self.config.base_path)
            if self._poll_seconds <= 0:
                return
            self._stopping.wait(self._poll_seconds)

    def _try_to_load(self, version: int, folder: VersionFolder) -> Servable | None:
        if folder.fault:
            self._note_unreadable(version, folder.path, folder.fault)
            return None
        if not folder.whole:
            self._set_status(
                VersionStatus(
                    version,
                    State.START,
                    Code.NOT_FOUND,
                    f"{folder.path} is incomplete: it holds no {' or '.join(self._model_files)} yet",
                )
            )
            return None
        try:
            files = fingerprint(folder.path)
        except OSError as error:
            self._note_unreadable(version, folder.path, str(error))
            return None
        before = self._failed.get(version)
        if before is not None and before.files == files and time.monotonic() < before.again:
            return None
        self._note_loading(version, is_retry=before is not None and before.files == files)
        started = time.monotonic()
        try:
            servable = self._load(folder.path)
        except Exception as error:  # Whatever one version meets must not keep the others from being looked at.
            failure = error if isinstance(error, ServingError) else ServingError(f"{type(error).__name__}: {error}")
            retries = self._retries
            pause, tries = retries.first_pause_seconds, 1
            if before is not None and before.files == files:
                pause = min(2 * before.pause, retries.longest_pause_seconds)
                tries = before.tries + 1
            is_last = retries.most is not None and tries > retries.most
            again = math.inf if is_last else time.monotonic() + pause
            self._failed[version] = _Failure(files, again, pause, tries)
            self._set_status(VersionStatus(version, State.END, failure.code, failure.message))
            logger.error("%s: version %d cannot be loaded: %s", self.name, version, failure.described())
            return None
        self._failed.pop(version, None)
        logger.info("%s: loaded version %d in %.2f s", self.name, version, time.monotonic() - started)
        return servable

    def _note_loading(self, version: int, *, is_retry: bool) -> None:
        """What is tried again although nothing has changed keeps the reason for which it failed."""
        with self._changed:
            before = self._statuses.get(version)
        status = VersionStatus(version, State.LOADING)
        self._set_status(replace(before, state=State.LOADING) if is_retry and before is not None else status)

    def _note_unreadable(self, version: int, path: str, reason: str) -> None:
        status = VersionStatus(version, State.START, Code.UNAVAILABLE, f"{path} cannot be read: {reason}")
        with self._changed:
            is_new = self._statuses.get(version) != status
        if is_new:
            logger.warning("%s: version %d: %s", self.name, version, status.error_message)
        self._set_status(status)

    def _put_in_service(self, loaded: LoadedVersion) -> None:
        with self._changed:
            replaced = self._serving.get(loaded.version)
            self._serving[loaded.version] = loaded
            self._unfreed.append(loaded)
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
        with self._changed:
            if retired not in self._unfreed:
                return
            self._unfreed.remove(retired)
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

    def _discard(self, loaded: LoadedVersion) -> None:
        """Frees a version that was never served."""
        with self._changed:
            if loaded.version not in self._serving:
                self._statuses.pop(loaded.version, None)
        loaded.servable.close()

    def _log_unreadable(self, base_path: str, reason: str) -> None:
        if reason and reason != self._unreadable:
            logger.warning("%s: cannot read %s, keeping what is served: %s", self.name, base_path, reason)
        self._unreadable = reason
