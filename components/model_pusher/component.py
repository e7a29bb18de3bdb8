"""The ModelPusher component."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tfx import types
from tfx.components.pusher.component import Pusher
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from adclick.components.serving_validator.component import WARMUP_REQUESTS
from adclick.models.description import THRESHOLDS_FILE, read_description, write_description
from adclick.models.held_out import HELD_OUT_FILE
from adclick.schema.signatures import EXTRA_FOLDER
from adclick.serving.model_server.warmup import WARMUP_FILE
from adclick.storage import bucket, filesystem
from adclick.storage.model_versions import ModelVersions
from adclick.storage.push_directory import MODEL_FILE, whole_versions

_INCOMING = ".incoming-"
#: A claim or a partial copy that is older was left by a push that was killed.
_ABANDONED_SECONDS = 86_400


@dataclass(frozen=True)
class _Additions:
    """What a version gets besides what was exported.

    Attributes:
        files: Where files lie, by the name that they get in the version.
        fraud_thresholds: See `push`.
    """

    files: Mapping[str, str]
    fraud_thresholds: Mapping[str, float]


def push(
    model_folder: str,
    push_directory: str,
    warmup_requests: str | None = None,
    fraud_thresholds: Mapping[str, float] = MappingProxyType({}),
    held_out: str | None = None,
) -> tuple[str, str]:
    """Copies a SavedModel to the next version, in the push directory or, while a roll-back holds, beside it.

    On a file system with renames the version appears whole at once; elsewhere its `saved_model.pb`, without which no
    server takes it for whole, is copied last. What a push that was killed left behind is removed. Others may push to
    the same directory at the same time: each gets a number of its own, on a local disk by waiting for the other to end,
    in a bucket by claiming the number first.

    Args:
        model_folder: The SavedModel.
        push_directory: The folder that servers watch.
        warmup_requests: A file of requests that a server runs before it serves the version.
        fraud_thresholds: By false-positive rate, what the version's description says of its thresholds.
        held_out: A file of what the version keeps of the rows that it was judged by, as `models.held_out` has it.

    Returns:
        The version's folder and its number.
    """
    beside = {WARMUP_FILE: warmup_requests, filesystem.join(EXTRA_FOLDER, HELD_OUT_FILE): held_out}
    additions = _Additions({name: file for name, file in beside.items() if file is not None}, fraud_thresholds)
    versions = ModelVersions(push_directory)
    filesystem.make_folder(push_directory)
    with versions.changing() as is_alone:
        base = versions.push_folder
        filesystem.make_folder(base)
        if "://" in base:
            return _push_to_bucket(model_folder, base, versions, additions)
        _clear(base, is_alone)
        incoming = os.path.join(base, f"{_INCOMING}{uuid.uuid4().hex}")
        _copy(model_folder, incoming, additions)
        number = _next(versions)
        while True:
            destination = os.path.join(base, str(number))
            try:
                # Not onto a folder that has something in it: a version that another pushed meanwhile stays.
                os.rename(incoming, destination)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                number += 1
            else:
                return destination, str(number)


def _next(versions: ModelVersions) -> int:
    return max(int(time.time()), versions.newest + 1)


def _clear(base: str, is_alone: bool) -> None:
    for entry in os.scandir(base):
        # Where folders cannot be locked another push may be at work.
        if entry.name.startswith(_INCOMING) and (is_alone or time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS):
            filesystem.delete(entry.path)


def _push_to_bucket(model_folder: str, base: str, versions: ModelVersions, additions: _Additions) -> tuple[str, str]:
    # In this order: a folder that another push fills has a claim from before it was begun until after it was whole.
    folders = filesystem.list_folders(base)
    claims = _claims(base)
    whole = whole_versions(base)
    for name in folders:
        if name.isdecimal() and int(name) not in whole and int(name) not in claims:
            filesystem.delete(os.path.join(base, name))
    number = max([_next(versions), *(claim + 1 for claim in claims)])
    while not _claim(base, number):
        number += 1
    destination = os.path.join(base, str(number))
    _copy(model_folder, destination, additions)
    bucket.delete(_claim_address(base, number))
    return destination, str(number)


def _claim_address(base: str, number: int) -> str:
    return f"{base.rstrip('/')}/{_INCOMING}{number}"


def _claim(base: str, number: int) -> bool:
    """Whether the number is ours."""
    holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()})
    return bucket.write_new(_claim_address(base, number), holder.encode())


def _claims(base: str) -> set[int]:
    """The numbers that other pushes are copying to; what was left by one that was killed is deleted."""
    claims = set()
    for name in (name for name in bucket.list_folder(base)[0] if name.startswith(_INCOMING)):
        address = f"{base.rstrip('/')}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if _is_abandoned(bucket.read(address)):
                bucket.delete(address)
            else:
                claims.add(int(name.removeprefix(_INCOMING)))
    return claims


def _is_abandoned(content: bytes) -> bool:
    holder = json.loads(content)
    if holder["host"] == socket.gethostname() and not Path(f"/proc/{holder['pid']}").exists():
        return True
    return bool(time.time() - holder["time"] > _ABANDONED_SECONDS)


def _copy(source: str, destination: str, additions: _Additions) -> None:
    filesystem.copy_folder(source, destination, leave_out=[MODEL_FILE])
    for name, file in additions.files.items():
        filesystem.copy_file(file, filesystem.join(destination, name))
    if additions.fraud_thresholds:
        thresholds = dict(additions.fraud_thresholds)
        described = read_description(destination).model_copy(update={"fraud_thresholds": thresholds})
        write_description(destination, described)
    filesystem.copy_file(filesystem.join(source, MODEL_FILE), filesystem.join(destination, MODEL_FILE))


def _fraud_thresholds(blessing: str) -> dict[str, float]:
    """What the Evaluator found; empty where its blessing is of before it wrote thresholds."""
    path = os.path.join(blessing, THRESHOLDS_FILE)
    return dict(json.loads(io_utils.read_string_file(path))) if fileio.exists(path) else {}


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
        blessing = artifact_utils.get_single_uri(input_dict[standard_component_specs.MODEL_BLESSING_KEY])
        held_out = os.path.join(blessing, HELD_OUT_FILE)
        folder, version = push(
            model_folder,
            base,
            requests if fileio.exists(requests) else None,
            _fraud_thresholds(blessing),
            # A blessing of before it was written has none.
            held_out if fileio.exists(held_out) else None,
        )
        hold = ModelVersions(base).hold
        logging.getLogger("adclick").info(
            "version %s is pushed to %s%s",
            version,
            folder,
            f" and held back by the roll-back to version {hold.served} ({hold.reason}): it is not served until "
            "`adclick rollback --release`"
            if hold is not None
            else "",
        )
        self._MarkPushed(pushed, pushed_destination=folder, pushed_version=version)


class ModelPusher(Pusher):
    """TFX's Pusher with an atomic push, which keeps to a roll-back."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ModelPusherExecutor)
