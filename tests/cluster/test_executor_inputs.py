"""What `make cluster` keeps of a run's executor inputs, for `tests/pipeline/targets/test_recorded_inputs.py`."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.on_kubeflow import Run, executor_inputs

RUN = "11111111-2222-3333-4444-555555555555"
ROOT = f"gs://adclick/project/output/pipeline_root/adclick/{RUN}"


def artifact(step: str, attempt: int, key: str, **metadata: Any) -> dict[str, Any]:
    uri = f"{ROOT}/{step}/aaaaaaaa-0000-0000-0000-{attempt:012}/{key}"
    return {"artifacts": [{"uri": uri, "metadata": {"display_name": key, **metadata}}]}


def told(interface: dict[str, Any], **artifacts: dict[str, Any]) -> dict[str, Any]:
    return {
        "input": {
            "inputs": {"artifacts": artifacts},
            "outputs": {"outputFile": f"/gcs/adclick/project/output/{RUN}/output_metadata.json"},
        },
        "interface": {"inputs": dict.fromkeys(artifacts, "tfx.Examples"), "outputs": {}, "integers": [], **interface},
    }


def test_the_record_has_a_step_of_each_kind_and_what_it_finds_its_inputs_by() -> None:
    copies = artifact("CopyDetector", 1, "copies", span=202609, rows_by_kind="much")
    earlier = artifact("AdExampleGen-2026-08", 2, "examples", span=202608, rows_by_kind="much")
    found = {"by": "copies", "read_as": "earlier_examples", "output": "examples", "title": "tfx.Examples", "also": ""}
    run = Run(
        RUN,
        told={
            "AdExampleGen-2026-09": told({}),
            "AdExampleGen-2026-08": told({}),
            "ClickTrainer": told({"found": {"earlier_examples": found}}, copies=copies),
        },
    )
    read: list[str] = []

    def read_file(address: str) -> bytes:
        read.append(address)
        return json.dumps({"earlier_examples__0": earlier}).encode()

    text = executor_inputs(run, read_file)

    kept = json.loads(text)
    assert sorted(kept) == ["AdExampleGen-2026-09", "ClickTrainer"]
    # Contents lie beside the address, and with them what they were made from.
    assert read == [f"{ROOT}/CopyDetector/aaaaaaaa-0000-0000-0000-000000000001/.contents/inputs.json"]
    trainer = kept["ClickTrainer"]
    (copies_kept,) = trainer["input"]["inputs"]["artifacts"]["copies"]["artifacts"]
    assert copies_kept["metadata"] == {"display_name": "copies", "span": 202609}
    ((address, file),) = trainer["files"].items()
    (earlier_kept,) = file["earlier_examples__0"]["artifacts"]
    assert earlier_kept["metadata"] == {"display_name": "examples", "span": 202608}
    # Neither the run's ids nor its bucket are kept; equal ids have equal names.
    attempt = copies_kept["uri"].split("/")[-2]
    assert copies_kept["uri"] == f"@BUCKET@/output/pipeline_root/adclick/run/CopyDetector/{attempt}/copies"
    assert address == f"@BUCKET@/output/pipeline_root/adclick/run/CopyDetector/{attempt}/.contents/inputs.json"
    assert attempt != earlier_kept["uri"].split("/")[-2]
    assert trainer["input"]["outputs"]["outputFile"] == "@LOCAL@/output/run/output_metadata.json"
    assert "gs://" not in text and RUN not in text
