"""What the model server does, whatever the transport: run models, tell their status, take another configuration."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from serving.errors import (
    Code,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ServingError,
    UnimplementedError,
)
from serving.model_server import inference, json_examples, json_tensor
from serving.model_server.batching import Runner, SingleRunner, wait_for
from serving.model_server.configuration import ModelConfig
from serving.model_server.metrics import Metrics
from serving.model_server.repository import LoadedVersion, ModelRepository
from serving.model_server.servable import DEFAULT_SIGNATURE, Array, Call, LoadOptions, Servable, Signature
from serving.model_server.version_status import State, VersionStatus
from serving.model_server.warmup import warm_up

logger = logging.getLogger(__name__)

_METHODS = (inference.PREDICT, inference.CLASSIFY, inference.REGRESS)


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
class ModelMetadata:
    """The signatures of a version: the raw `SignatureDef` protos, by name."""

    name: str
    version: int
    signature_defs: Mapping[str, Any]


@dataclass(frozen=True)
class Begun:
    """A run that has begun.

    Attributes:
        version: The version that answers.
        call: What it fetches.
        run: Its result, an array for each of what is fetched, or its `ServingError`.
    """

    version: int
    call: Call
    run: Future[list[Array]]


@dataclass(frozen=True)
class ServerOptions:
    """How a model server behaves.

    Attributes:
        poll_seconds: How often to look for new versions, in seconds; 0 to look once.
        load: How SavedModels are loaded.
        warms_up: Whether a version answers its warm-up requests before it is served.
        warmup_iterations: How often it answers each of them.
        labels_unavailable_versions: Whether a new label may stand for a version that is not loaded yet.
        moves_labels_to_unavailable_versions: Whether a label in use may, too.
        checks_method_name: Whether a signature must be declared for the API that is called.
    """

    poll_seconds: float = 1.0
    load: LoadOptions = field(default_factory=LoadOptions)
    warms_up: bool = True
    warmup_iterations: int = 1
    labels_unavailable_versions: bool = False
    moves_labels_to_unavailable_versions: bool = False
    checks_method_name: bool = False


class ModelServer:
    """Answers requests for models; every method may be called from any thread.

    Args:
        models: The models.
        options: How the server behaves.
        runner: Runs the graphs; each request by itself if None.
        metrics: Where requests are counted.
    """

    def __init__(
        self,
        models: Sequence[ModelConfig] = (),
        *,
        options: ServerOptions | None = None,
        runner: Runner | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._options = options or ServerOptions()
        self._runner = runner or SingleRunner()
        self._configuring = threading.Lock()
        self._models = tuple(models)
        self._repositories = {config.name: self._repository(config) for config in models}
        self._labels: Mapping[str, Mapping[str, int]] = {}

    def start(self) -> None:
        """Looks once for each model's versions and loads them, then keeps looking in the background.

        Raises:
            NotFoundError: A base path is not a folder.
            FailedPreconditionError: A label stands for a version that is not available.
        """
        for repository in self._repositories.values():
            repository.poll()
            repository.start()
        self._labels = self._checked_labels(self._models)

    def stop(self) -> None:
        """Stops looking for versions, runs what waits and frees all models."""
        for repository in self._repositories.values():
            repository.stop()
        self._runner.close()

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
        return bool(self._repositories) and all(
            any(status.state is State.AVAILABLE for status in repository.statuses())
            for repository in self._repositories.values()
        )

    # Running models.

    def submit_json(
        self, spec: ModelSpec, body: bytes, deadline: float | None = None
    ) -> tuple[Future[list[Array]], Callable[[list[Array]], bytes]]:
        """Begins a JSON predict request.

        Returns:
            The run, and what makes its result the JSON answer.

        Raises:
            ServingError: The request, the model or the version is wrong.
        """
        document = json_tensor.parse_request(body)
        name = json_tensor.signature_name(document)
        loaded = self._acquire(spec)
        with _released_on_failure(loaded):
            signature = self._json_signature(loaded, name)
            form, inputs = json_tensor.tensors_from_json(document, signature.input_types)
            call = loaded.servable.prepare(name or DEFAULT_SIGNATURE, inputs)
            future = self._submit(spec, loaded, call, deadline)
        return future, lambda fetched: json_tensor.json_from_tensors(call.named(fetched), form)

    def predict_tensors(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, Array],
        signature_name: str = DEFAULT_SIGNATURE,
        output_names: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> tuple[int, dict[str, Array]]:
        """Runs a signature on arrays; returns the version that answered and an array for each output.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        begun = self.begin(spec, inputs, signature_name, output_names, deadline)
        fetched = wait_for(begun.run, deadline)
        return begun.version, begun.call.named(fetched)

    def begin(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, Array],
        signature_name: str = DEFAULT_SIGNATURE,
        output_names: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> Begun:
        """Begins what `predict_tensors` does, without waiting.

        Raises:
            ServingError: The request, the model or the version is wrong, or too many requests wait.
        """
        loaded = self._acquire(spec)
        with _released_on_failure(loaded):
            if self._options.checks_method_name:
                _check_method(loaded, signature_name)
            call = loaded.servable.prepare(signature_name, inputs, output_names)
            run = self._submit(spec, loaded, call, deadline)
        return Begun(loaded.version, call, run)

    def classify(
        self, spec: ModelSpec, signature_name: str, message: Any, deadline: float | None = None
    ) -> tuple[int, Any]:
        """Classifies the examples of an `Input`; returns the version that answered and a `ClassificationResult`.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        return self._run_examples(
            spec, signature_name, message, inference.CLASSIFY, inference.classification_result, deadline
        )

    def regress(
        self, spec: ModelSpec, signature_name: str, message: Any, deadline: float | None = None
    ) -> tuple[int, Any]:
        """Regresses on the examples of an `Input`; returns the version that answered and a `RegressionResult`.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        return self._run_examples(
            spec, signature_name, message, inference.REGRESS, inference.regression_result, deadline
        )

    def classify_json(self, spec: ModelSpec, body: bytes, deadline: float | None = None) -> bytes:
        """Answers a JSON classify request with JSON; raises as `classify`."""
        document = json_tensor.parse_request(body)
        name = json_tensor.signature_name(document)
        _, result = self.classify(spec, name, json_examples.input_from_json(document), deadline)
        return json_examples.json_from_classification(result)

    def regress_json(self, spec: ModelSpec, body: bytes, deadline: float | None = None) -> bytes:
        """Answers a JSON regress request with JSON; raises as `regress`."""
        document = json_tensor.parse_request(body)
        name = json_tensor.signature_name(document)
        _, result = self.regress(spec, name, json_examples.input_from_json(document), deadline)
        return json_examples.json_from_regression(result)

    def multi_inference(self, request: Any, deadline: float | None = None) -> Any:
        """Answers a `MultiInferenceRequest` by one run of the model; returns a `MultiInferenceResponse`.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        spec = model_spec(request.tasks[0].model_spec) if request.tasks else ModelSpec("")
        loaded = self._acquire(spec)
        with _released_on_failure(loaded):
            tasks = inference.prepare_tasks(loaded.servable, request.tasks, self._options.checks_method_name)
            examples = inference.examples_from_input(request.input)
            call = Call((tasks.call.feed,), tasks.call.fetches, (examples,), tasks.call.fetches)
            future = self._submit(spec, loaded, call, deadline)
        self._count_examples(spec, len(examples))
        fetched = wait_for(future, deadline)
        return tasks.response(spec.name, loaded.version, len(examples), call.named(fetched))

    def _run_examples(
        self,
        spec: ModelSpec,
        signature_name: str,
        message: Any,
        method: str,
        result: Callable[[Any, int, Mapping[str, Array]], Any],
        deadline: float | None,
    ) -> tuple[int, Any]:
        loaded = self._acquire(spec)
        with _released_on_failure(loaded):
            checks_method = self._options.checks_method_name
            definition = inference.signature_of(loaded.servable, signature_name, method, checks_method)
            prepared = inference.prepare(definition, method, checks_method)
            examples = inference.examples_from_input(message)
            call = Call((prepared.feed,), prepared.fetches, (examples,), prepared.fetches)
            future = self._submit(spec, loaded, call, deadline)
        self._count_examples(spec, len(examples))
        fetched = wait_for(future, deadline)
        return loaded.version, result(definition, len(examples), call.named(fetched))

    def _submit(
        self, spec: ModelSpec, loaded: LoadedVersion, call: Call, deadline: float | None
    ) -> Future[list[Array]]:
        started = time.monotonic()
        future = self._runner.submit(loaded.servable, call.feeds, call.fetches, call.values, deadline)

        def done(_: Future[list[Array]]) -> None:
            self.metrics.runtime_latency.record((time.monotonic() - started) * 1e6, spec.name, "Predict", "TF1")
            loaded.release()

        future.add_done_callback(done)
        return future

    def _count_examples(self, spec: ModelSpec, count: int) -> None:
        self.metrics.request_example_counts.record(count, spec.name)
        self.metrics.request_example_count_total.add(spec.name, amount=count)

    def _json_signature(self, loaded: LoadedVersion, name: str) -> Signature:
        """The signature that a JSON request asks for; the refusals are TensorFlow Serving's."""
        wanted = name or DEFAULT_SIGNATURE
        definition = loaded.servable.signature_defs.get(wanted)
        if definition is None:
            raise InvalidArgumentError(f'Serving signature name: "{wanted}" not found in signature def')
        if not definition.inputs:
            raise InvalidArgumentError(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        if self._options.checks_method_name:
            _check_method(loaded, wanted)
        signature = loaded.servable.signatures.get(wanted)
        if signature is None:
            raise UnimplementedError(f"Signature {wanted} has inputs or outputs that are not plain tensors")
        return signature

    # Telling about models.

    def model_status(self, spec: ModelSpec) -> tuple[VersionStatus, ...]:
        """The status of one version, or of all that are known, the newest first.

        Raises:
            NotFoundError: There is none.
            InvalidArgumentError: The label is unknown.
        """
        version = self._version(spec)
        repository = self._repositories.get(spec.name)
        statuses = repository.statuses() if repository else ()
        if version is not None:
            statuses = tuple(status for status in statuses if status.version == version)
            if not statuses:
                raise NotFoundError(f"Could not find version {version} of model {spec.name}")
        if not statuses:
            raise NotFoundError(f"Could not find any versions of model {spec.name}")
        return statuses

    def metadata(self, spec: ModelSpec) -> ModelMetadata:
        """The signatures of a version.

        Raises:
            NotFoundError: The model or the version is not available.
            InvalidArgumentError: The label is unknown.
        """
        loaded = self._acquire(spec)
        try:
            return ModelMetadata(spec.name, loaded.version, loaded.servable.signature_defs)
        finally:
            loaded.release()

    # Taking another configuration.

    def reload(self, models: Sequence[ModelConfig]) -> None:
        """Serves these models instead: adds, removes and changes what differs; what is unchanged serves on.

        Returns when each new model has been looked for once.

        Raises:
            InvalidArgumentError: A base path cannot be read.
            ServingError: A new model has versions, but none that can be loaded.
            FailedPreconditionError: A label stands for a version that is not available; the labels stay as they were.
        """
        with self._configuring:
            new = []
            for config in models:
                repository = self._repositories.get(config.name)
                if repository is None:
                    repository = self._repository(config)
                    new.append(repository)
                    repository.poll()
                    try:
                        repository.start()
                    except NotFoundError as error:
                        raise InvalidArgumentError(error.message) from error
                    self._repositories = {**self._repositories, config.name: repository}
                elif (config.base_path, config.policy) != (repository.config.base_path, repository.config.policy):
                    repository.reconfigure(config, partial(self._relabel, config))
            names = {config.name for config in models}
            removed = [repository for name, repository in self._repositories.items() if name not in names]
            self._repositories = {name: r for name, r in self._repositories.items() if name in names}
            for repository in removed:
                repository.stop()
            _raise_if_broken(new)
            self._labels = self._checked_labels(models)
            self._models = tuple(models)

    def _relabel(self, config: ModelConfig) -> None:
        self._labels = {**self._labels, **self._checked_labels([config])}

    def _checked_labels(self, models: Sequence[ModelConfig]) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for config in models:
            available = {
                status.version
                for status in self._repositories[config.name].statuses()
                if status.state is State.AVAILABLE
            }
            for label, version in config.labels.items():
                before = self._labels.get(config.name, {}).get(label)
                is_allowed = self._options.moves_labels_to_unavailable_versions or (
                    self._options.labels_unavailable_versions and before in (None, version)
                )
                if version not in available and not is_allowed:
                    raise FailedPreconditionError(
                        f"Request to assign label to version {version} of model {config.name}, which is not currently "
                        "available for inference"
                    )
                labels.setdefault(config.name, {})[label] = version
        return labels

    def _repository(self, config: ModelConfig) -> ModelRepository:
        return ModelRepository(config, poll_seconds=self._options.poll_seconds, load=self._load)

    def _load(self, folder: str) -> Servable:
        started = time.monotonic()
        status = "success"
        try:
            servable = Servable.load(folder, self._options.load)
            if self._options.warms_up:
                try:
                    warm_up(servable, folder, self._options.warmup_iterations, self.metrics)
                except ServingError:
                    servable.close()
                    raise
            return servable
        except ServingError:
            status = "fail"
            raise
        finally:
            self.metrics.load_attempt_count.add(folder, status)
            self.metrics.load_latency.add(folder, amount=int((time.monotonic() - started) * 1e6))

    def _acquire(self, spec: ModelSpec) -> LoadedVersion:
        if not spec.name:
            raise InvalidArgumentError("ModelSpec has no name specified.")
        version = self._version(spec)
        repository = self._repositories.get(spec.name)
        if repository is None:
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise NotFoundError(f"Servable not found for request: {wanted}")
        return repository.acquire(version)

    def _version(self, spec: ModelSpec) -> int | None:
        if spec.label is None:
            return spec.version
        version = self._labels.get(spec.name, {}).get(spec.label)
        if version is None:
            raise InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        return version


def model_spec(message: Any) -> ModelSpec:
    """Reads a `ModelSpec` message."""
    choice = message.WhichOneof("version_choice")
    return ModelSpec(
        message.name,
        version=message.version.value if choice == "version" else None,
        label=message.version_label if choice == "version_label" else None,
    )


@contextmanager
def _released_on_failure(loaded: LoadedVersion) -> Iterator[None]:
    try:
        yield
    except BaseException:
        loaded.release()
        raise


def _raise_if_broken(repositories: Sequence[ModelRepository]) -> None:
    broken = [
        f"{{name: {repository.name} version: {status.version}}}, "
        for repository in repositories
        if not any(status.state is State.AVAILABLE for status in repository.statuses())
        for status in repository.statuses()
    ]
    if broken:
        raise ServingError(f"Some models did not become available: {{{''.join(broken)}}}", Code.UNKNOWN)


def _check_method(loaded: LoadedVersion, signature_name: str) -> None:
    definition = loaded.servable.signature_defs.get(signature_name)
    if definition is not None and definition.method_name not in _METHODS:
        raise InternalError(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {definition.method_name}"
        )
