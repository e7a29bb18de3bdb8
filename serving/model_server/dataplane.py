"""What the model server does, whatever the transport: run models, tell their status, take another configuration."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tensorflow as tf

from adclick.serving.errors import InternalError, InvalidArgumentError, NotFoundError, ServingError, UnimplementedError
from adclick.serving.model_server import inference, json_answer, json_document, json_examples, json_tensor
from adclick.serving.model_server.batching import Runner, SingleRunner, wait_for
from adclick.serving.model_server.configuration import BatchingOptions, ModelConfig, parse_batching_options
from adclick.serving.model_server.folders import MODEL_FILES
from adclick.serving.model_server.lite import LITE_FILE, LiteServable
from adclick.serving.model_server.metrics import Metrics
from adclick.serving.model_server.model_set import LabelRules, ModelSet, ModelSpec
from adclick.serving.model_server.repository import LoadedVersion, ModelRepository, RetryPolicy
from adclick.serving.model_server.servable import DEFAULT_SIGNATURE, Array, Call, LoadOptions, Servable, Signature
from adclick.serving.model_server.version_status import VersionStatus
from adclick.serving.model_server.warmup import warm_up
from adclick.storage.local_copy import temporary_copy

logger = logging.getLogger(__name__)

#: Where a model's own batching parameters stand.
_BATCHING_FILE = "batching_params.pbtxt"
#: Where a model's key in ML Metadata stands.
_METADATA_KEY_FILE = os.path.join("assets.extra", "mlmd_uuid")
_METHODS = (inference.PREDICT, inference.CLASSIFY, inference.REGRESS)


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
        poll_seconds: How often to look for new versions, in seconds; 0 to look once, below 0 never.
        retries: How a version that cannot be loaded is tried again.
        load: How SavedModels are loaded.
        warms_up: Whether a version answers its warm-up requests before it is served.
        warmup_iterations: How often it answers each of them.
        labels_unavailable_versions: Whether a new label may stand for a version that is not loaded yet.
        moves_labels_to_unavailable_versions: Whether a label in use may, too.
        waits_for_base_paths: Whether a base path that is not there at the start is waited for; refused if not.
        checks_method_name: Whether a signature must be declared for the API that is called.
        reads_batching_parameters: Whether a version's own batching parameters are read.
    """

    poll_seconds: float = 1.0
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    load: LoadOptions = field(default_factory=LoadOptions)
    warms_up: bool = True
    warmup_iterations: int = 1
    labels_unavailable_versions: bool = False
    moves_labels_to_unavailable_versions: bool = False
    waits_for_base_paths: bool = False
    checks_method_name: bool = False
    reads_batching_parameters: bool = False


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
        labels = LabelRules(
            self._options.labels_unavailable_versions, self._options.moves_labels_to_unavailable_versions
        )
        self._models = ModelSet(models, self._repository, labels, self._options.waits_for_base_paths)

    @property
    def model_names(self) -> frozenset[str]:
        """The names of the models that are served."""
        return self._models.names

    def start(self) -> None:
        """As `ModelSet.start`."""
        self._models.start()

    def stop(self, within_seconds: float = 30.0) -> None:
        """Stops looking for versions, runs what waits and frees all models; ends what runs on after so many seconds."""
        self._models.stop()
        self._runner.close(within_seconds)
        self._models.free()

    def wait_until_available(self, timeout_seconds: float) -> None:
        """As `ModelSet.wait_until_available`."""
        self._models.wait_until_available(timeout_seconds)

    def is_ready(self) -> bool:
        """Whether each model has a version that can be asked."""
        return self._models.is_ready()

    def reload(
        self,
        models: Sequence[ModelConfig],
        is_awaited: Callable[[], bool] | None = None,
        deadline: float | None = None,
    ) -> None:
        """As `ModelSet.reload`."""
        self._models.reload(models, is_awaited, deadline)

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
        document = json_document.parse_request(body)
        name = json_tensor.signature_name(document)
        loaded = self._models.acquire(spec)
        with _released_on_failure(loaded):
            signature = self._json_signature(loaded, name)
            form, inputs = json_tensor.tensors_from_json(document, signature.input_types)
            call = loaded.servable.prepare(name or DEFAULT_SIGNATURE, inputs)
            future = self._submit(spec, loaded, call, deadline, "Predict")
        return future, lambda fetched: json_answer.json_from_tensors(call.named(fetched), form)

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
        loaded = self._models.acquire(spec)
        with _released_on_failure(loaded):
            if self._options.checks_method_name:
                _check_method(loaded, signature_name)
            call = loaded.servable.prepare(signature_name, inputs, output_names)
            run = self._submit(spec, loaded, call, deadline, "Predict")
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
        document = json_document.parse_request(body)
        name = json_tensor.signature_name(document)
        _, result = self.classify(spec, name, json_examples.input_from_json(document), deadline)
        return json_answer.json_from_classification(result)

    def regress_json(self, spec: ModelSpec, body: bytes, deadline: float | None = None) -> bytes:
        """Answers a JSON regress request with JSON; raises as `regress`."""
        document = json_document.parse_request(body)
        name = json_tensor.signature_name(document)
        _, result = self.regress(spec, name, json_examples.input_from_json(document), deadline)
        return json_answer.json_from_regression(result)

    def multi_inference(self, request: Any, deadline: float | None = None) -> Any:
        """Answers a `MultiInferenceRequest` by one run of the model; returns a `MultiInferenceResponse`.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        spec = model_spec(request.tasks[0].model_spec) if request.tasks else ModelSpec("")
        loaded = self._models.acquire(spec)
        with _released_on_failure(loaded):
            tasks = inference.prepare_tasks(loaded.servable, request.tasks, self._options.checks_method_name)
            examples = inference.examples_from_input(request.input)
            feeds = tasks.call.feeds
            call = Call(feeds, tasks.call.fetches, (examples,) * len(feeds), tasks.call.fetches)
            future = self._submit(spec, loaded, call, deadline)
        fetched = wait_for(future, deadline)
        self.metrics.request_example_counts.record(len(examples), spec.name)
        self.metrics.request_example_count_total.add(spec.name, amount=len(examples))
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
        loaded = self._models.acquire(spec)
        with _released_on_failure(loaded):
            checks_method = self._options.checks_method_name
            definition = inference.signature_of(loaded.servable, signature_name, method, checks_method)
            prepared = inference.prepare(definition, method, checks_method)
            examples = inference.examples_from_input(message)
            call = Call(prepared.feeds, prepared.fetches, (examples,), prepared.fetches)
            future = self._submit(spec, loaded, call, deadline, method.rpartition("/")[2].capitalize())
        fetched = wait_for(future, deadline)
        return loaded.version, result(definition, len(examples), call.named(fetched))

    def _submit(
        self, spec: ModelSpec, loaded: LoadedVersion, call: Call, deadline: float | None, api: str = ""
    ) -> Future[list[Array]]:
        started = time.monotonic()
        future = self._runner.submit(loaded.servable, call.feeds, call.fetches, call.values, deadline)

        def done(run: Future[list[Array]]) -> None:
            if api and not run.cancelled() and run.exception() is None:
                self.metrics.runtime_latency.record((time.monotonic() - started) * 1e6, spec.name, api, "TF1")
            loaded.release()

        future.add_done_callback(done)
        return future

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
        """The status of one version, or of all that are known, the newest first; of all for a label, too.

        Raises:
            NotFoundError: There is none.
        """
        version = spec.version
        statuses = self._models.statuses(spec.name)
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
        loaded = self._models.acquire(spec)
        try:
            return ModelMetadata(spec.name, loaded.version, loaded.servable.signature_defs)
        finally:
            loaded.release()

    def _repository(self, config: ModelConfig) -> ModelRepository:
        return ModelRepository(
            config,
            poll_seconds=self._options.poll_seconds,
            retries=self._options.retries,
            model_files=MODEL_FILES + ((LITE_FILE,) if self._options.load.prefers_lite else ()),
            load=partial(self._load, config.name),
        )

    def _loaded(self, folder: str) -> Servable:
        options = self._options.load
        if options.prefers_lite and tf.io.gfile.exists(os.path.join(folder, LITE_FILE)):
            return LiteServable.load_lite(folder, options.lite_interpreters)
        return Servable.load(folder, options)

    def _load(self, name: str, folder: str) -> Servable:
        # Once its tables are filled a model reads no file any more.
        with temporary_copy(folder) as local:
            return self._load_local(name, folder, local)

    def _load_local(self, name: str, folder: str, local: str) -> Servable:
        started = time.monotonic()
        status = "fail"
        try:
            servable = self._loaded(local)
            status = "success"
        finally:
            seconds = time.monotonic() - started
            self.metrics.load_attempt_count.add(folder, status)
            self.metrics.load_latency.add(folder, amount=int(seconds * 1e6))
        for stage, stage_seconds in servable.load_seconds.items():
            self.metrics.load_latency_by_stage.record(stage_seconds * 1e6, folder, stage)
        self.metrics.session_created.set(1)
        servable.record_run = self.metrics.record_run
        if self._options.reads_batching_parameters:
            servable.batching = _batching_options(local)
        if self._options.warms_up:
            try:
                warm_up(servable, local, self._options.warmup_iterations, self.metrics)
            except ServingError:
                servable.close()
                raise
        if tf.io.gfile.exists(os.path.join(local, _METADATA_KEY_FILE)):
            self.metrics.mlmd_map.set(0, name, str(int(os.path.basename(folder))))
        return servable


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


def _batching_options(folder: str) -> BatchingOptions | None:
    path = os.path.join(folder, _BATCHING_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return parse_batching_options(file.read(), path)


def _check_method(loaded: LoadedVersion, signature_name: str) -> None:
    definition = loaded.servable.signature_defs.get(signature_name)
    if definition is not None and definition.method_name not in _METHODS:
        raise InternalError(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {definition.method_name}"
        )
