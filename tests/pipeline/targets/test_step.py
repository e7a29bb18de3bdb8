"""A step's entry point: what launchers write is taken as it is, and given back as they want it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from adclick.components.month_inputs import join_months
from adclick.pipeline.runs.step_files import CONTENTS, INPUTS, POINTER, REFUSAL
from adclick.pipeline.targets import step
from adclick.pipeline.targets.step import Found, Interface, adapted, artifact_address, content_address
from adclick.schema.errors import DataRefused

INTERFACE = Interface({"examples": "tfx.Examples"}, {"model": "tfx.Model"}, ("rows",))


class CopyingExecutor(base_executor.BaseExecutor):
    """Writes what it reads, and what it was told, into its output."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        read = io_utils.read_string_file(f"{artifact_utils.get_single_uri(input_dict['examples'])}/data")
        model = artifact_utils.get_single_instance(output_dict["model"])
        told = json.dumps(exec_properties, sort_keys=True)
        io_utils.write_string_file(f"{model.uri}/copy", f"{read} {told}")
        model.set_int_custom_property("rows", exec_properties["rows"])


class RefusingExecutor(base_executor.BaseExecutor):
    """Refuses, and counts how often it was asked."""

    asked = 0

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        type(self).asked += 1
        raise DataRefused("2026-10: too many rows are quarantined", "Correct the drop.")


def executor_input(folder: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """As the driver of Kubeflow Pipelines 2.17.0 writes it where runs publish their logs."""
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {
                "examples": {
                    "artifacts": [
                        {
                            "name": "3",
                            "type": {"instanceSchema": ""},
                            "uri": str(folder / "in" / "examples"),
                            "metadata": {"span": 7, "store_session_info": "{}"},
                        }
                    ]
                }
            },
        },
        "outputs": {
            "artifacts": {
                "model": {
                    "artifacts": [
                        {
                            "name": "model",
                            "type": {"instanceSchema": "title: tfx.Model\ntype: object\n"},
                            "uri": str(folder / "out" / "model"),
                        }
                    ]
                },
                "executor-logs": {
                    "artifacts": [
                        {
                            "name": "executor-logs",
                            "type": {"schemaTitle": "system.Artifact"},
                            "uri": str(folder / "out" / "executor-logs"),
                        }
                    ]
                },
            },
            "outputFile": str(folder / "out" / "output_metadata.json"),
        },
    }


def run(executor: type, folder: Path, *options: str, **parameters: Any) -> None:
    step.run(
        [
            *("--executor", f"{executor.__module__}.{executor.__name__}"),
            *("--interface", INTERFACE.to_json()),
            *("--input", json.dumps(executor_input(folder, {"rows": 3.0, **parameters}))),
            *options,
        ]
    )


@pytest.mark.parametrize("contents_apart", [False, True])
def test_a_step_takes_what_kubeflow_writes(tmp_path: Path, contents_apart: bool) -> None:
    read, written = (tmp_path / side / (CONTENTS if contents_apart else "") for side in ("in", "out"))
    (read / "examples").mkdir(parents=True)
    (read / "examples" / "data").write_text("rows")

    run(CopyingExecutor, tmp_path, *(["--contents-apart"] if contents_apart else []))

    assert (written / "model" / "copy").read_text() == 'rows {"rows": 3}'
    output = json.loads((tmp_path / "out" / "output_metadata.json").read_text())
    assert set(output["artifacts"]) == {"model"}
    (model,) = output["artifacts"]["model"]["artifacts"]
    assert model["uri"] == str(tmp_path / "out" / "model")
    assert model["metadata"]["rows"] == 3
    if contents_apart:
        # All that the launcher of a later step finds to copy.
        assert [file.name for file in (tmp_path / "out" / "model").iterdir()] == [POINTER]
        assert (tmp_path / "out" / "model" / POINTER).read_text().strip() == str(written / "model")


def test_settings_are_read_from_their_file_and_what_was_read_is_kept(tmp_path: Path) -> None:
    (tmp_path / "in" / "examples").mkdir(parents=True)
    (tmp_path / "in" / "examples" / "data").write_text("")
    (tmp_path / "settings.json").write_text(json.dumps({"features": "ä" * 500}))
    run(CopyingExecutor, tmp_path, "--settings", str(tmp_path / "settings.json"))
    assert json.loads((tmp_path / "out" / "model" / "copy").read_text())["features"] == "ä" * 500
    kept = json.loads((tmp_path / "out" / INPUTS).read_text())
    (examples,) = kept["examples"]["artifacts"]
    assert (examples["uri"], examples["metadata"]["span"]) == (str(tmp_path / "in" / "examples"), 7.0)


def test_months_are_found_by_the_step_that_read_them(tmp_path: Path) -> None:
    def artifact(step: str, output: str) -> dict[str, Any]:
        return {"artifacts": [{"uri": f"{tmp_path}/{step}/.contents/{output}", "metadata": {"span": int(step[-2:])}}]}

    read = {f"earlier_examples__{number}": artifact(f"Gen-{number:02}", "examples") for number in range(12)}
    (tmp_path / "Copy" / CONTENTS).mkdir(parents=True)
    (tmp_path / "Copy" / CONTENTS / INPUTS).write_text(json.dumps(read))
    found = {
        "earlier_examples": Found("copies", "earlier_examples", "examples", "tfx.Examples"),
        "creatives": Found("copies", "earlier_examples", "creatives", "adclick.Creatives", also="examples"),
    }
    interface = Interface({"examples": "tfx.Examples", "copies": "adclick.Copies"}, {}, (), found)
    given = {
        "examples": {"artifacts": [{"uri": f"{tmp_path}/Gen-12/examples", "metadata": {"span": 12}}]},
        "copies": {"artifacts": [{"uri": f"{tmp_path}/Copy/copies"}]},
    }

    inputs = adapted(
        {"inputs": {"artifacts": given}, "outputs": {}},
        Interface.parse(interface.to_json()),
        contents_apart=True,
    )["inputs"]["artifacts"]

    assert "copies" not in inputs
    joined = join_months({key: each["artifacts"] for key, each in inputs.items()})
    assert [each["metadata"]["span"] for each in joined["earlier_examples"]] == list(range(12))
    assert [each["uri"] for each in joined["creatives"]] == [
        f"{tmp_path}/Gen-{number:02}/.contents/creatives" for number in range(13)
    ]
    assert {each["type"]["instanceSchema"] for each in joined["creatives"]} == {"title: adclick.Creatives"}


def test_a_step_that_refused_refuses_again_without_doing_its_work(tmp_path: Path) -> None:
    before = RefusingExecutor.asked
    for _ in range(2):
        with pytest.raises(DataRefused, match="too many rows are quarantined") as refused:
            run(RefusingExecutor, tmp_path)
        assert refused.value.remedy == "Correct the drop."
    assert RefusingExecutor.asked == before + 1
    assert (tmp_path / "out" / REFUSAL).exists()


@given(
    st.lists(st.text("ab._-é", min_size=1, max_size=8), min_size=1, max_size=3),
    st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
)
def test_contents_never_lie_below_the_address_nor_begin_like_it(folders: list[str], key: str) -> None:
    address = "/".join(["gs://bucket", *folders, key])
    content = content_address(address)
    assert not content.startswith(address)
    assert artifact_address(content) == address
