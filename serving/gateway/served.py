"""The versions that the gateway asks: which there are, what they take, and what an unknown creative is to them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adclick.schema.feature_table import FeatureTable, Text, parse_feature_table
from adclick.schema.signatures import (
    CREATIVE_EMBEDDING,
    DESCRIPTION_FILE,
    EMBED_CREATIVE,
    EXPLAIN,
    EXTRA_FOLDER,
    SCORE,
    SERVING_DEFAULT,
)
from adclick.serving.errors import ServingError
from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.errors import no_model
from adclick.serving.gateway.fields import RequestForm, fields_of
from adclick.serving.gateway.routing import Target
from adclick.serving.gateway.settings import LimitSettings
from adclick.storage import bucket
from adclick.storage.bucket import is_bucket_address

logger = logging.getLogger(__name__)

_UNKNOWN_SECONDS = 10.0

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ServedModel:
    """A version that can be asked.

    Attributes:
        version: Its number.
        form: The form of requests for it.
        image: The name of its image input; None if it takes none.
        embedding: The name of the input that takes the image's embedding; None if it takes no image.
        unknown: The embedding of the unknown creative, float32 [width]; None if it takes no image.
        explains: Whether it can explain its scores.
        texts: Its columns of text, whose words it can name.
        fault: Why its description could not be read, so that its fields have types but no meaning; empty if it could.
    """

    version: int
    form: RequestForm
    image: str | None
    embedding: str | None
    unknown: Array | None
    explains: bool = False
    fault: str = ""
    texts: tuple[str, ...] = ()


class ServedModels:
    """Keeps what is known of the versions that targets stand for up to date.

    Args:
        backend: Where they run.
        limits: The limits of a request.
        model_base_path: The push directory, for what the fields mean; nowhere if empty.
    """

    def __init__(self, backend: Backend, limits: LimitSettings, model_base_path: str) -> None:
        self._backend = backend
        self._limits = limits
        self._base_path = model_base_path
        self._targets: dict[Target, ServedModel] = {}
        self._versions: dict[int, ServedModel] = {}
        self._faults: dict[Target, str] = {}
        self._not_served: Mapping[int, str] = {}

    def under(self, limits: LimitSettings) -> ServedModels:
        """The same knowledge under other limits, which needs no answer of a version."""
        models = ServedModels(self._backend, limits, self._base_path)
        forms = {id(model.form): RequestForm(model.form.fields, limits) for model in self._versions.values()}
        models._versions = {
            version: replace(model, form=forms[id(model.form)]) for version, model in self._versions.items()
        }
        models._targets = {target: models._versions[model.version] for target, model in self._targets.items()}
        models._faults = dict(self._faults)
        models._not_served = self._not_served
        return models

    def current(self, target: Target) -> ServedModel | None:
        """The version that a target stood for when last looked at."""
        return self._targets.get(target)

    @property
    def faults(self) -> Mapping[Target, str]:
        """Why targets have no version now."""
        return self._faults

    @property
    def problems(self) -> dict[str, str]:
        """By version, why it is not served, or what it is served without."""
        problems = dict(self._not_served) | {
            model.version: f"served without its description: {model.fault}"
            for model in self._targets.values()
            if model.fault
        }
        return {str(version): problems[version] for version in sorted(problems, reverse=True)}

    async def get(self, target: Target) -> ServedModel:
        """The version that a target stands for.

        Raises:
            GatewayError: There is none.
        """
        return self._targets.get(target) or await self.refresh(target)

    async def refresh(self, target: Target) -> ServedModel:
        """Looks anew which version a target stands for.

        Raises:
            GatewayError: There is none; the version known before stays.
        """
        try:
            metadata = await self._backend.metadata(target)
            served = self._versions.get(metadata.version)
            # What could not be read a moment ago is read again.
            if served is None or served.fault:
                served = await self._describe(metadata.version, metadata.signatures)
                self._versions[metadata.version] = served
        except ServingError as error:
            self._faults[target] = error.message
            raise no_model(f"no model can be asked ({target.name}): {error.message}") from error
        self._faults.pop(target, None)
        self._targets[target] = served
        used = {model.version for model in self._targets.values()}
        self._versions = {version: model for version, model in self._versions.items() if version in used}
        return served

    async def refresh_all(self, targets: Iterable[Target]) -> None:
        """Looks anew for all targets, and forgets others; faults are kept in `faults`."""
        wanted = tuple(targets)
        for known in [target for target in self._targets if target not in wanted]:
            del self._targets[known]
        for target in wanted:
            try:
                await self.refresh(target)
            except Exception as error:  # The next look tries again.
                logger.debug("looking for %s failed: %s", target.name, error)
        try:
            self._not_served = await self._backend.not_served()
        except ServingError as error:
            logger.debug("looking for what is not served failed: %s", error.message)

    async def _describe(self, version: int, signatures: Mapping[str, Mapping[str, tuple[str, int]]]) -> ServedModel:
        if SERVING_DEFAULT not in signatures:
            raise ServingError(f"version {version} has no signature {SERVING_DEFAULT}")
        inputs = signatures[SERVING_DEFAULT]
        image, embedding, unknown = None, None, None
        if EMBED_CREATIVE in signatures and SCORE in signatures:
            (image,) = signatures[EMBED_CREATIVE]
            # Its name is not to be one of a column's.
            (embedding,) = signatures[SCORE].keys() - inputs.keys()
            nothing = np.array([b""], object)
            deadline = time.monotonic() + _UNKNOWN_SECONDS
            embeddings = await self._backend.run(
                version, EMBED_CREATIVE, {image: nothing}, CREATIVE_EMBEDDING, deadline
            )
            unknown = embeddings[0].copy()
        features, fault = None, ""
        if self._base_path:
            features, fault = await asyncio.to_thread(_features, self._base_path, version)
            if fault:
                logger.warning("version %d is served without its description: %s", version, fault)
        form = RequestForm(fields_of(inputs, features, image), self._limits)
        # One form for versions that take the same fields: a request need not be read twice.
        form = next((model.form for model in self._versions.values() if model.form.fields == form.fields), form)
        texts = () if features is None else tuple(features.of(Text))
        return ServedModel(version, form, image, embedding, unknown, EXPLAIN in signatures, fault, texts)


def _features(base_path: str, version: int) -> tuple[FeatureTable | None, str]:
    """The feature table of a pushed version, None if it has no description of ours; and why that cannot be read."""
    path = description_path(base_path, version)
    try:
        text = text_of(path)
        return (parse_feature_table(json.loads(text)["features"]) if text is not None else None), ""
    except Exception as error:  # Whatever it is: the version is served, and says what it is served without.
        return None, f"{path}: {type(error).__name__}: {error}"


def description_path(base_path: str, version: int) -> str:
    """Where a pushed version describes itself."""
    return extra_path(base_path, version, DESCRIPTION_FILE)


def extra_path(base_path: str, version: int, name: str) -> str:
    """Where a pushed version keeps a file that model servers ignore."""
    return os.path.join(base_path, str(version), EXTRA_FOLDER, name)


def text_of(path: str) -> str | None:
    """A file's text; None if there is no such file: a model of another origin."""
    content = content_of(path)
    return None if content is None else content.decode()


def content_of(path: str) -> bytes | None:
    """A file's content; None if there is no such file."""
    try:
        if "://" not in path:
            with open(path, "rb") as stream:
                return stream.read()
        if is_bucket_address(path):
            return bucket.read(path)
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(path, "rb") as stream:
                return bytes(stream.read())
        except tf.errors.NotFoundError:
            return None
    except FileNotFoundError:
        return None
