"""What the model server does, whatever the transport: predict, tell the status, tell the signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import InternalError, InvalidArgumentError, NotFoundError, UnimplementedError
from serving.model_server import json_tensor
from serving.model_server.repository import LoadedVersion, ModelRepository
from serving.model_server.servable import DEFAULT_SIGNATURE, Signature
from serving.model_server.version_status import VersionStatus

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


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


class ModelServer:
    """Answers requests for the models of its repositories.

    Args:
        repositories: The models.
        labels: For a model's name, its labels and the versions that they stand for.
    """

    def __init__(
        self, repositories: Sequence[ModelRepository], labels: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        self._repositories = {repository.name: repository for repository in repositories}
        self._labels = labels or {}

    def predict(self, spec: ModelSpec, body: bytes) -> bytes:
        """Answers a JSON predict request with JSON.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        document = json_tensor.parse_request(body)
        name = json_tensor.signature_name(document)
        with self._acquire(spec) as loaded:
            signature = _signature(loaded, name)
            types = {key: tensor.dtype.name for key, tensor in signature.inputs.items()}
            form, inputs = json_tensor.tensors_from_json(document, types)
            outputs = loaded.servable.run(name or DEFAULT_SIGNATURE, inputs)
        return json_tensor.json_from_tensors(outputs, form)

    def predict_tensors(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        signature_name: str = DEFAULT_SIGNATURE,
        output_names: Sequence[str] | None = None,
    ) -> tuple[int, dict[str, np.ndarray[Any, Any]]]:
        """Runs a signature on arrays; returns the version that answered and an array for each output.

        Raises:
            ServingError: The request, the model or the version is wrong, or the graph failed.
        """
        with self._acquire(spec) as loaded:
            return loaded.version, loaded.servable.run(signature_name, inputs, output_names)

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
        with self._acquire(spec) as loaded:
            return ModelMetadata(spec.name, loaded.version, loaded.servable.signature_defs)

    @contextmanager
    def _acquire(self, spec: ModelSpec) -> Iterator[LoadedVersion]:
        version = self._version(spec)
        repository = self._repositories.get(spec.name)
        if repository is None:
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise NotFoundError(f"Servable not found for request: {wanted}")
        with repository.acquire(version) as loaded:
            yield loaded

    def _version(self, spec: ModelSpec) -> int | None:
        if spec.label is None:
            return spec.version
        version = self._labels.get(spec.name, {}).get(spec.label)
        if version is None:
            raise InvalidArgumentError(f"Unrecognized servable version label: {spec.label}")
        return version


def _signature(loaded: LoadedVersion, name: str) -> Signature:
    """The signature that a JSON request asks for; the refusals are TensorFlow Serving's."""
    wanted = name or DEFAULT_SIGNATURE
    definition = loaded.servable.signature_defs.get(wanted)
    if definition is None:
        raise InvalidArgumentError(f'Serving signature name: "{wanted}" not found in signature def')
    if not definition.inputs:
        raise InvalidArgumentError(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if definition.method_name not in _METHODS:
        raise InternalError(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {definition.method_name}"
        )
    signature = loaded.servable.signatures.get(wanted)
    if signature is None:
        raise UnimplementedError(f"Signature {wanted} has inputs or outputs that are not plain tensors")
    return signature
