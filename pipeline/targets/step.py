"""A step's entry point in its container: stands between a platform's launcher and TFX's entry point.

    python -m adclick.pipeline.targets.step --executor CLASS --interface JSON --input {{$}} [--settings FILE]
        [--contents-apart] [BEAM ARGUMENTS]

The executor input, as the launcher writes it, is brought into the form that TFX's entry point takes: inputs get the
types that the compiled pipeline declares, since Kubeflow's driver hands on none of types that are not its own
(tensorflow/tfx#7768); outputs that the step does not declare, such as Kubeflow's `executor-logs`, are left to the
platform; the parameters that the pipeline keeps in a file, its settings, are read. A file beside the outputs says what
the step had read, by which later steps, and people, find what an artifact was made from.

Kubeflow's launcher copies whatever lies below the address of each input into the pod before a step starts, where no
step of ours looks: each reads the bucket itself. With `--contents-apart` an artifact's content therefore lies beside
its address (see `content_address`), and below the address a file that says where.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import posixpath
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adclick.components.month_inputs import join_months, month_key
from adclick.pipeline.runs.step_files import CONTENTS, INPUTS, POINTER, REFUSAL
from adclick.schema.errors import AdclickError, ConfigError, DataRefused, ModelRefused

#: By exit code, the errors that trying again does not mend.
REFUSALS = {error.exit_code: error for error in (ConfigError, DataRefused, ModelRefused)}

_TFX_ENTRY_POINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"


@dataclass(frozen=True)
class Found:
    """An input of many months that the platform does not hand on: another step has read them, or what lies beside them.

    Attributes:
        by: The input that the other step made.
        read_as: The key under which that step read them.
        output: What the output is called that lies beside each.
        title: The title of its type.
        also: An input of one's own beside which the last of them lies; empty if there is none.
    """

    by: str
    read_as: str
    output: str
    title: str
    also: str = ""


@dataclass(frozen=True)
class Interface:
    """What the compiled pipeline declares of a step.

    Attributes:
        inputs: By input artifact, the title of its type, such as tfx.Examples.
        outputs: The same of output artifacts.
        integers: The parameters that are whole numbers, which the platforms hand on as doubles.
        found: By input of many months, where they are found.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    integers: tuple[str, ...] = ()
    found: Mapping[str, Found] = field(default_factory=dict)

    def to_json(self) -> str:
        """A text that `parse` reads."""
        document = {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "integers": list(self.integers)}
        if self.found:
            document["found"] = {key: dataclasses.asdict(found) for key, found in self.found.items()}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def parse(text: str) -> Interface:
        document = json.loads(text)
        found = {key: Found(**parts) for key, parts in document.get("found", {}).items()}
        return Interface(document["inputs"], document["outputs"], tuple(document["integers"]), found)


def content_address(address: str) -> str:
    """Where the content of the artifact at `address` lies if contents are kept apart.

    Never below the address, nor at one that begins like it, as a bucket lists by how names begin.
    """
    folder, name = posixpath.split(address.rstrip("/"))
    return f"{folder}/{CONTENTS}/{name}"


def artifact_address(content: str) -> str:
    """The address of the artifact whose content lies at `content`; others stand for themselves."""
    folder, name = posixpath.split(content.rstrip("/"))
    return f"{folder.removesuffix('/' + CONTENTS)}/{name}" if folder.endswith("/" + CONTENTS) else content


def adapted(
    executor_input: Mapping[str, Any],
    interface: Interface,
    *,
    contents_apart: bool,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The executor input in the form that TFX's entry point takes.

    Args:
        executor_input: The launcher's, as JSON values.
        interface: What the pipeline declares of the step.
        contents_apart: Whether artifacts' contents lie beside their addresses.
        settings: Parameters that the pipeline keeps in a file.

    Raises:
        KeyError: A declared output has no place in the executor input.
    """

    def artifact(given: Mapping[str, Any], title: str) -> dict[str, Any]:
        address = content_address(given["uri"]) if contents_apart else given["uri"]
        return {**given, "uri": address, "type": {"instanceSchema": f"title: {title}"}}

    inputs, outputs = executor_input.get("inputs", {}), executor_input["outputs"]
    result = {
        "inputs": {
            **inputs,
            "artifacts": {
                key: {"artifacts": [artifact(each, title) for each in inputs["artifacts"][key]["artifacts"]]}
                for key, title in interface.inputs.items()
                # An optional input may be missing.
                if key in inputs.get("artifacts", {})
            },
        },
        "outputs": {
            **outputs,
            "artifacts": {
                key: {"artifacts": [artifact(each, title) for each in outputs["artifacts"][key]["artifacts"]]}
                for key, title in interface.outputs.items()
            },
        },
    }
    _find(result["inputs"]["artifacts"], interface)
    result["inputs"]["parameterValues"] = {**inputs.get("parameterValues", {}), **(settings or {})}
    return result


def _find(inputs: dict[str, Any], interface: Interface) -> None:
    """Puts the inputs that are found in the place of those by which they are."""
    for key, found in interface.found.items():
        read = inputs_of(inputs[found.by]["artifacts"][0]["uri"])
        months = join_months({name: each["artifacts"] for name, each in read.items()})[found.read_as]
        months = [*months, *(inputs[found.also]["artifacts"] if found.also else [])]
        for number, month in enumerate(months):
            beside = f"{posixpath.dirname(month['uri'])}/{found.output}"
            artifact = {**month, "uri": beside, "type": {"instanceSchema": f"title: {found.title}"}}
            inputs[month_key(key, number)] = {"artifacts": [artifact]}
    for by in {found.by for found in interface.found.values()}:
        del inputs[by]


def inputs_of(address: str) -> dict[str, Any]:
    """What the step had read that made the artifact whose content lies at `address`."""
    from adclick.storage import filesystem

    with filesystem.open_read(filesystem.join(posixpath.dirname(address), INPUTS)) as stream:
        inputs: dict[str, Any] = json.loads(stream.read())
    return inputs


def _read_settings(address: str | None) -> dict[str, str]:
    from adclick.storage import filesystem

    if address is None:
        return {}
    with filesystem.open_read(address) as stream:
        found: dict[str, str] = json.loads(stream.read())
    return found


def undeclared_outputs(executor_input: Mapping[str, Any], interface: Interface) -> list[str]:
    """The outputs that the platform added, sorted."""
    return sorted(set(executor_input["outputs"].get("artifacts", {})) - set(interface.outputs))


def run(arguments: Sequence[str]) -> None:
    """Runs a step.

    Raises:
        AdclickError: The step refuses what it was given, or cannot do its work.
    """
    options, beam_arguments = _parser().parse_known_args(arguments)
    interface = Interface.parse(options.interface)
    given = json.loads(options.input)
    added = undeclared_outputs(given, interface)
    executor_input = adapted(
        given, interface, contents_apart=options.contents_apart, settings=_read_settings(options.settings)
    )
    outputs = [each for key in interface.outputs for each in executor_input["outputs"]["artifacts"][key]["artifacts"]]
    folder = _folder(given, [each["uri"] for each in outputs], added)
    _refuse_again(folder)
    started = time.monotonic()
    try:
        _execute_staged(options.executor, executor_input, interface, beam_arguments)
    except AdclickError as error:
        _keep_refusal(folder, error)
        raise
    finally:
        _delete_markers([each["uri"] for each in outputs])
    if outputs and folder is not None:
        _keep_inputs(folder, executor_input["inputs"]["artifacts"])
    if options.contents_apart:
        _point_to_contents(given["outputs"]["outputFile"], outputs)
    logging.getLogger("adclick").info(
        "step %s: %.1f s; wrote %s%s",
        options.executor.rpartition(".")[2],
        time.monotonic() - started,
        ", ".join(each["uri"] for each in outputs) or "nothing",
        f"; left to the platform: {', '.join(added)}" if added else "",
    )


def _parser() -> argparse.ArgumentParser:
    program = "python -m adclick.pipeline.targets.step"
    parser = argparse.ArgumentParser(prog=program, description=__doc__, allow_abbrev=False)
    parser.add_argument("--executor", required=True, metavar="CLASS", help="the executor's class")
    parser.add_argument("--interface", required=True, metavar="JSON", help="what the pipeline declares of the step")
    parser.add_argument("--input", required=True, metavar="JSON", help="the executor input of the platform")
    parser.add_argument("--settings", metavar="FILE", help="parameters that the pipeline keeps in a file, as JSON")
    parser.add_argument("--contents-apart", action="store_true", help="contents lie beside the artifacts' addresses")
    return parser


def _execute_staged(
    executor: str, executor_input: Mapping[str, Any], interface: Interface, beam_arguments: Sequence[str]
) -> None:
    """Runs the executor; of what lies in S3, which TensorFlow cannot open, on copies.

    A step that has no outputs reads but reports, by itself.
    """
    from adclick.storage import filesystem
    from adclick.storage.local_copy import Staging

    with Staging() as staging:
        given = json.loads(json.dumps(executor_input))
        for artifacts in given["outputs"]["artifacts"].values():
            for artifact in artifacts["artifacts"]:
                artifact["uri"] = staging.output(artifact["uri"])
        for artifacts in given["inputs"]["artifacts"].values() if interface.outputs else ():
            for artifact in artifacts["artifacts"]:
                artifact["uri"] = staging.input(artifact["uri"])
        try:
            _execute(executor, given, interface, beam_arguments)
        except AdclickError as error:
            # What was set aside is for people to look at.
            staging.upload()
            raise type(error)(staging.addressed(error.message), staging.addressed(error.remedy)) from error
        staging.upload()
        if given == executor_input:
            return
        output_file = given["outputs"]["outputFile"]
        with filesystem.open_read(output_file) as stream:
            document = staging.addressed(stream.read().decode())
        with filesystem.open_write_atomic(output_file) as stream:
            stream.write(document.encode())


def _execute(
    executor: str, executor_input: Mapping[str, Any], interface: Interface, beam_arguments: Sequence[str]
) -> None:
    """Runs the executor by TFX's entry point, in this process."""
    import importlib

    from absl import flags

    from adclick.components.s3_files import open_s3_to_tfx
    from adclick.components.worker_errors import readable_worker_errors

    open_s3_to_tfx()
    entry_point = importlib.import_module(_TFX_ENTRY_POINT)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["step"])
    declared = {name: {"parameterType": "NUMBER_INTEGER"} for name in interface.integers}
    options = argparse.Namespace(
        executor_class_path=executor,
        json_serialized_invocation_args=json.dumps(executor_input),
        json_serialized_inputs_spec_args=json.dumps({"parameters": declared}),
    )
    with readable_worker_errors():
        entry_point.main((options, list(beam_arguments)))


def _delete_markers(addresses: Sequence[str]) -> None:
    """Deletes the empty objects by which TensorFlow marks folders: Kubeflow's launcher takes them for files."""
    from adclick.storage import bucket

    for address in addresses:
        if bucket.is_google_address(address):
            bucket.delete_markers(address)


def _point_to_contents(output_file: str, outputs: Sequence[Mapping[str, Any]]) -> None:
    """Gives the artifacts of the executor output their own addresses again, and says there where the contents are."""
    from adclick.storage import filesystem

    with filesystem.open_read(output_file) as stream:
        document = json.loads(stream.read())
    for artifacts in document.get("artifacts", {}).values():
        for artifact in artifacts["artifacts"]:
            artifact["uri"] = artifact_address(artifact["uri"])
    with filesystem.open_write_atomic(output_file) as stream:
        stream.write(json.dumps(document).encode())
    for output in outputs:
        pointer = filesystem.join(artifact_address(output["uri"]), POINTER)
        filesystem.make_folder(pointer.rpartition("/")[0])
        with filesystem.open_write_atomic(pointer) as stream:
            stream.write(f"{output['uri']}\n".encode())


def _folder(given: Mapping[str, Any], outputs: Sequence[str], added: Sequence[str]) -> str | None:
    """A folder in the bucket, or where else artifacts go, that is this run's and this step's; None if none is known.

    A gate, which has no outputs, has a folder where the platform gives it one: for its logs, or for its answer.
    """
    answer = given["outputs"]["outputFile"]
    logs = [each["uri"] for key in added for each in given["outputs"]["artifacts"][key]["artifacts"]]
    places = [*outputs, *([answer] if "://" in answer else []), *logs]
    return posixpath.dirname(places[0]) if places else None


def _keep_inputs(folder: str, artifacts: Mapping[str, Any]) -> None:
    from adclick.storage import filesystem

    with filesystem.open_write_atomic(filesystem.join(folder, INPUTS)) as stream:
        stream.write(json.dumps(artifacts, indent=1).encode())


def _keep_refusal(folder: str | None, error: AdclickError) -> None:
    from adclick.storage import filesystem

    if folder is not None and error.exit_code in REFUSALS:
        filesystem.make_folder(folder)
        with filesystem.open_write_atomic(filesystem.join(folder, REFUSAL)) as stream:
            record = {"exit_code": error.exit_code, "message": error.message, "remedy": error.remedy}
            stream.write(json.dumps(record).encode())


def _refuse_again(folder: str | None) -> None:
    """Raises what an earlier attempt of this step refused with, as a platform tries again whatever failed.

    A run that is submitted anew has folders of its own.
    """
    from adclick.storage import filesystem

    if folder is None:
        return
    path = filesystem.join(folder, REFUSAL)
    if not filesystem.exists(path):
        return
    with filesystem.open_read(path) as stream:
        record = json.loads(stream.read())
    raise REFUSALS[record["exit_code"]](record["message"], record["remedy"])


def main() -> int:
    """Runs the step that the command line names; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        run(sys.argv[1:])
    except AdclickError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
