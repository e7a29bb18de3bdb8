"""Why a run on a platform was refused: what the step that refused left in the bucket, see `pipeline.targets.step`."""

from __future__ import annotations

import json

from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.record import RunRecord
from adclick.pipeline.runs.step_files import CONTENTS, REFUSAL
from adclick.schema.errors import DataRefused, ModelRefused
from adclick.storage import filesystem


def with_refusal(record: RunRecord) -> RunRecord:
    """The record, or, of a run on a platform that had not ended, with the state and reasons of a step that refused."""
    if not record.platform or record.state != "running":
        return record
    artifacts = Config.model_validate(record.config).artifacts
    for address in _refusals(artifacts, record.platform.rpartition("/")[2]):
        with filesystem.open_read(address) as stream:
            refusal = json.loads(stream.read())
        state = {DataRefused.exit_code: "data_refused", ModelRefused.exit_code: "model_refused"}
        return record.model_copy(
            update={
                "state": state.get(refusal["exit_code"], "failed"),
                "reasons": refusal["message"].splitlines(),
            }
        )
    return record


def _refusals(artifacts: str, run: str) -> list[str]:
    """Addresses of what steps of a run refused with.

    Kubeflow's steps write below `PIPELINE/RUN/STEP/NUMBER`, Vertex AI's below `PROJECT/RUN/STEP`.
    """
    if not filesystem.isdir(artifacts):
        return []
    found = []
    for name in filesystem.list_folders(artifacts):
        of_run = filesystem.join(artifacts, name, run)
        if not filesystem.isdir(of_run):
            continue
        for step in filesystem.list_folders(of_run):
            folder = filesystem.join(of_run, step)
            attempts = [filesystem.join(folder, attempt) for attempt in filesystem.list_folders(folder)]
            places = [folder, *attempts, *(filesystem.join(place, CONTENTS) for place in (folder, *attempts))]
            found += [file for place in places if filesystem.isfile(file := filesystem.join(place, REFUSAL))]
    return found
