"""The ModelPusher component."""

from __future__ import annotations

import os
import time
from typing import Any

from tfx import types
from tfx.components.pusher.component import Pusher
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, proto_utils

from components.model_pusher.versions import ModelVersions
from components.serving_validator.component import WARMUP_REQUESTS
from serving.model_server.warmup import WARMUP_FILE
from serving.versions import MODEL_FILE, whole_versions

_INCOMING = ".incoming-"


def push(model_folder: str, push_directory: str, warmup_requests: str | None = None) -> tuple[str, str]:
    """Copies a SavedModel to the next version, in the push directory or, while a roll-back holds, beside it.

    On a file system with renames the version appears whole at once; elsewhere its `saved_model.pb`, without which no
    server takes it for whole, is copied last. What a push that was killed left behind is removed.

    Args:
        model_folder: The SavedModel.
        push_directory: The folder that servers watch.
        warmup_requests: A file of requests that a server runs before it serves the version.

    Returns:
        The version's folder and its number.
    """
    versions = ModelVersions(push_directory)
    base = versions.push_folder
    fileio.makedirs(base)
    whole = whole_versions(base)
    is_remote = "://" in base
    for name in (name.rstrip("/") for name in fileio.listdir(base)):
        if name.startswith(_INCOMING) or (is_remote and name.isdecimal() and int(name) not in whole):
            fileio.rmtree(os.path.join(base, name))
    version = str(max(int(time.time()), versions.newest + 1))
    destination = os.path.join(base, version)
    if is_remote:
        _copy(model_folder, destination, warmup_requests)
    else:
        incoming = os.path.join(base, f"{_INCOMING}{version}")
        _copy(model_folder, incoming, warmup_requests)
        fileio.rename(incoming, destination)
    return destination, version


def _copy(source: str, destination: str, warmup_requests: str | None) -> None:
    io_utils.copy_dir(source, destination, deny_regex_patterns=[r"saved_model\.pb$"])
    if warmup_requests is not None:
        io_utils.copy_file(warmup_requests, os.path.join(destination, WARMUP_FILE), overwrite=True)
    io_utils.copy_file(os.path.join(source, MODEL_FILE), os.path.join(destination, MODEL_FILE))


class ModelPusherExecutor(PusherExecutor):
    """Pushes a blessed model; a refused one leaves the push directory as it is."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        model_folder = self.GetModelPath(input_dict)
        io_utils.copy_dir(model_folder, pushed.uri)
        requests = os.path.join(artifact_utils.get_single_uri(input_dict["infra_blessing"]), WARMUP_REQUESTS)
        base = destination.filesystem.base_directory
        folder, version = push(model_folder, base, requests if fileio.exists(requests) else None)
        self._MarkPushed(pushed, pushed_destination=folder, pushed_version=version)


class ModelPusher(Pusher):
    """TFX's Pusher with an atomic push, which keeps to a roll-back."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ModelPusherExecutor)
