"""The models that a server serves, their labels, and how one configuration gives way to another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from adclick.serving.errors import (
    Code,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from adclick.serving.model_server.configuration import ModelConfig
from adclick.serving.model_server.repository import LoadedVersion, ModelRepository
from adclick.serving.model_server.version_status import State, VersionStatus

#: How often a caller that waits for a model is asked whether it still does, in seconds.
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True)
class ModelSpec:
    """Which model a request is for.

    Attributes:
        name: The model's name.
        version: A version number; the newest if neither this nor a label is given.
        label: The label of a version.
    """

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class LabelRules:
    """Which versions a label may stand for that cannot be asked yet.

    Attributes:
        for_new_labels: Any, if the label is new.
        for_all_labels: Any, even if the label is in use.
    """

    for_new_labels: bool = False
    for_all_labels: bool = False


class ModelSet:
    """The models by name; every method may be called from any thread.

    Args:
        models: The models.
        repository: Makes the repository of a model.
        labels: Which versions a label may stand for.
        waits_for_base_paths: Whether a base path that is not there is waited for; refused if not.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig],
        repository: Callable[[ModelConfig], ModelRepository],
        labels: LabelRules,
        waits_for_base_paths: bool,
    ) -> None:
        self._repository = repository
        self._label_rules = labels
        self._waits_for_base_paths = waits_for_base_paths
        self._configuring = threading.Lock()
        self._models = tuple(models)
        self._repositories: Mapping[str, ModelRepository] = {config.name: repository(config) for config in models}
        self._labels: Mapping[str, Mapping[str, int]] = {}

    @property
    def names(self) -> frozenset[str]:
        """The models' names."""
        return frozenset(self._repositories)

    def start(self) -> None:
        """Looks once for each model's versions and loads them, then keeps looking in the background.

        Raises:
            NotFoundError: A base path is not a folder, and is not waited for.
            FailedPreconditionError: A label stands for a version that is not available.
        """
        for repository in self._repositories.values():
            if repository.polls:
                repository.poll()
                repository.start(self._waits_for_base_paths)
        self._labels = self._checked_labels(
            self._models, {name: repository.available() for name, repository in self._repositories.items()}
        )

    def stop(self) -> None:
        """Stops looking for versions; each is freed when its last request is answered."""
        for repository in self._repositories.values():
            repository.stop()

    def free(self) -> None:
        """Frees what is not free yet; what runs on it ends with CANCELLED."""
        for repository in self._repositories.values():
            repository.free()

    def wait_until_available(self, timeout_seconds: float) -> None:
        """Waits for a version of each model.

        Raises:
            UnavailableError: A model had none in time; says what is wrong.
        """
        deadline = time.monotonic() + timeout_seconds
        for repository in self._repositories.values():
            repository.wait_until_available(max(0.0, deadline - time.monotonic()))

    def is_ready(self) -> bool:
        """Whether each model has a version that can be asked."""
        return bool(self._repositories) and all(repository.available() for repository in self._repositories.values())

    # Finding a version.

    def acquire(self, spec: ModelSpec) -> LoadedVersion:
        """Holds the version that a request is for; give it back by its `release`.

        Raises:
            InvalidArgumentError: There is no name, or the label is unknown.
            NotFoundError: The model or the version is not available.
            UnavailableError: The server ends.
        """
        if not spec.name:
            raise InvalidArgumentError("ModelSpec has no name specified.")
        while True:
            version = self.version(spec)
            repository = self._repositories.get(spec.name)
            if repository is None:
                wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
                raise NotFoundError(f"Servable not found for request: {wanted}")
            try:
                return repository.acquire(version)
            except (NotFoundError, UnavailableError):
                # Another configuration may have come between the two.
                if self._repositories.get(spec.name) is repository and self.version(spec) == version:
                    raise

    def version(self, spec: ModelSpec) -> int | None:
        """The number of the version that is asked for; None for the newest.

        Raises:
            InvalidArgumentError: The label is unknown.
        """
        if spec.label is None:
            return spec.version
        version = self._labels.get(spec.name, {}).get(spec.label)
        if version is None:
            raise InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        return version

    def statuses(self, name: str) -> tuple[VersionStatus, ...]:
        """The statuses of a model's versions, the newest first; none if there is no such model."""
        repository = self._repositories.get(name)
        return repository.statuses() if repository else ()

    # Taking another configuration.

    def reload(
        self,
        models: Sequence[ModelConfig],
        is_awaited: Callable[[], bool] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Serves these models instead, or, if that cannot be, changes nothing; what is unchanged serves on.

        Args:
            models: The models.
            is_awaited: Whether somebody still waits for the new models to be available; None if nobody does: then it
                returns when each has been looked for once.
            deadline: Until when they are waited for, by `time.monotonic()`; None for as long as somebody does.

        Raises:
            FailedPreconditionError: A label stands for a version that is not available; nothing has changed.
            ServingError: A new model has versions, but none that can be loaded; the configuration is the new one.
            DeadlineExceededError: A new model was not available in time; it will be when it can.
        """
        with self._configuring:
            added = self._replace(models)
        waiting = is_awaited or (lambda: False)
        while not _settled(added):
            if not waiting():
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceededError("Timed out waiting for the new models to become available")
            _wait(added, _PATIENCE_SECONDS, deadline)
        _raise_if_broken(added)

    def _replace(self, models: Sequence[ModelConfig]) -> list[ModelRepository]:
        added = {config.name: self._repository(config) for config in models if config.name not in self._repositories}
        with ExitStack() as undo:
            available: dict[str, frozenset[int]] = {}
            changes = []
            for config in models:
                repository = added.get(config.name)
                if repository is not None:
                    undo.callback(repository.stop)
                    repository.poll()
                    available[config.name] = repository.available()
                    continue
                repository = self._repositories[config.name]
                if (config.base_path, config.policy) == (repository.config.base_path, repository.config.policy):
                    available[config.name] = repository.available()
                    continue
                change = repository.prepare(config)
                undo.callback(change.abandon)
                changes.append(change)
                available[config.name] = change.available
            labels = self._checked_labels(models, available)
            undo.pop_all()
        kept = {config.name: added.get(config.name) or self._repositories[config.name] for config in models}
        removed = [repository for name, repository in self._repositories.items() if name not in kept]
        for change in changes:
            change.put_in_service()
        self._labels, self._repositories = labels, kept
        for change in changes:
            change.retire()
        for repository in added.values():
            repository.start(waits_for_base_path=True)
        for repository in removed:
            repository.stop()
        self._models = tuple(models)
        return list(added.values())

    def _checked_labels(
        self, models: Sequence[ModelConfig], available: Mapping[str, frozenset[int]]
    ) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for config in models:
            for label, version in config.labels.items():
                before = self._labels.get(config.name, {}).get(label)
                is_allowed = self._label_rules.for_all_labels or (
                    self._label_rules.for_new_labels and before in (None, version)
                )
                if version not in available[config.name] and not is_allowed:
                    raise FailedPreconditionError(
                        f"Request to assign label to version {version} of model {config.name}, which is not currently "
                        "available for inference"
                    )
                labels.setdefault(config.name, {})[label] = version
        return labels


def _settled(repositories: Sequence[ModelRepository]) -> bool:
    return all(repository.is_settled() for repository in repositories)


def _wait(repositories: Sequence[ModelRepository], seconds: float, deadline: float | None) -> None:
    """Waits a little for the first that is neither available nor failed."""
    if deadline is not None:
        seconds = max(0.0, min(seconds, deadline - time.monotonic()))
    next(repository for repository in repositories if not repository.is_settled()).wait_until_settled(seconds)


def _raise_if_broken(repositories: Sequence[ModelRepository]) -> None:
    broken = []
    count = 0
    for repository in repositories:
        statuses = repository.statuses()
        if not statuses or any(status.state is State.AVAILABLE for status in statuses):
            continue
        count += 1
        for status in statuses:
            reason = f" due to error: {status.error_code.name}: {status.error_message}" if status.error_message else ""
            broken.append(f"{{{{name: {repository.name} version: {status.version}}}{reason}}}, ")
    if broken:
        raise ServingError(f"{count} model(s) did not become available: {{{''.join(broken)}}}", Code.UNKNOWN)
