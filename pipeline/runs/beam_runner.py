"""The Beam arguments of a run: which engine, with defaults that suit it, and whatever else Beam takes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import http.client
import io
import shutil
import socket
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING

from adclick.schema.errors import ConfigError
from adclick.storage.bucket import is_google_address

if TYPE_CHECKING:
    from adclick.pipeline.config.settings import Config


class BeamRunner(StrEnum):
    """Where Beam's work is done."""

    DIRECT = "direct"
    FLINK = "flink"
    SPARK = "spark"
    DATAFLOW = "dataflow"
    PORTABLE = "portable"


#: Where a worker pool listens by default: beside each of the engine's workers, as Beam's guides have it.
WORKER_POOL = "localhost:50000"

#: Batches of bytes, not of rows, in TFX's sources.
_ALWAYS: dict[str, str | None] = {"tfxio_use_byte_size_batching": None}
#: TFX would otherwise package itself for workers in every component. Who has a worker pool has installed them.
_NO_PACKAGING: dict[str, str | None] = {"sdk_container_image": "none"}
_WORKER_POOL: dict[str, str | None] = {"environment_type": "EXTERNAL", "environment_config": WORKER_POOL}
_DEFAULTS: Mapping[BeamRunner, dict[str, str | None]] = {
    # Named in full: Beam's own default looks for other runners first.
    BeamRunner.DIRECT: {"runner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner", **_NO_PACKAGING},
    # The pipeline goes to the cluster as one jar: no job server, and no folder to share with one.
    BeamRunner.FLINK: {"runner": "FlinkRunner", "flink_submit_uber_jar": None},
    BeamRunner.SPARK: {"runner": "SparkRunner"},
    BeamRunner.PORTABLE: {"runner": "PortableRunner"},
    BeamRunner.DATAFLOW: {"runner": "DataflowRunner"},
}
_REQUIRED = {
    BeamRunner.FLINK: {"flink_master": "the address of Flink's job manager, such as flink-jobmanager:8081"},
    BeamRunner.SPARK: {"spark_master_url": "the address of Spark's master, such as spark://spark:7077"},
    BeamRunner.PORTABLE: {"job_endpoint": "the address of a Beam job service, such as jobs:8099"},
    BeamRunner.DATAFLOW: {
        "project": "the Google Cloud project",
        "region": "where Dataflow runs, such as europe-west1",
        "temp_location": "a gs:// folder for Dataflow's own files",
    },
}
_FETCH_SECONDS = 60.0
#: How Dataflow's workers get this project.
_INSTALLS = ("sdk_container_image", "extra_package", "extra_packages", "setup_file")
#: Their options are all Beam's own; an engine's job service knows others.
_CLOSED = (BeamRunner.DIRECT, BeamRunner.DATAFLOW)


def _flag(name: str, value: str | None) -> str:
    return f"--{name}" if value is None else f"--{name}={value}"


#: What a run on this machine gives Beam.
LOCAL_BEAM_ARGUMENTS = tuple(_flag(*each) for each in (_ALWAYS | _DEFAULTS[BeamRunner.DIRECT]).items())


def beam_arguments(runner: BeamRunner, options: Sequence[str], config: Config) -> list[str]:
    """The arguments for Beam, checked by Beam's own parser and validator.

    Args:
        runner: Where Beam's work is done.
        options: `NAME=VALUE`, or `NAME` for a switch: any Beam option, with or without `--`; counts before a default.
        config: The config.

    Raises:
        ConfigError: An option is missing, unknown or wrong, or the engine cannot reach the config's folders.
    """
    given = [option if option.startswith("--") else f"--{option}" for option in options]
    names = {option[2:].partition("=")[0] for option in given}
    defaults = {**_ALWAYS, **_DEFAULTS[runner]}
    if runner in (BeamRunner.FLINK, BeamRunner.SPARK, BeamRunner.PORTABLE):
        if not names & {"environment_type", "environment_config", "environment_option", "environment_options"}:
            defaults |= _WORKER_POOL
        elif not names & {"environment_type"}:
            defaults["environment_type"] = "EXTERNAL"
        if not names & {*_INSTALLS, "requirements_file"}:
            defaults |= _NO_PACKAGING
    missing = [
        f"--beam-option {name}=…: {meaning}" for name, meaning in _REQUIRED.get(runner, {}).items() if name not in names
    ]
    if runner is BeamRunner.DATAFLOW and not names & set(_INSTALLS):
        missing.append(
            "--beam-option sdk_container_image=…: an image in which adclick is installed, or extra_package=…: its wheel"
        )
    if missing:
        raise ConfigError(f"--beam-runner {runner} lacks options:\n" + "\n".join(f"  {line}" for line in missing))
    arguments = [_flag(name, value) for name, value in defaults.items() if name not in names] + given
    if runner is BeamRunner.DATAFLOW:
        _check_reachable(config)
        temporary = [flag for flag in arguments if flag.startswith("--temp_location=")][-1].partition("=")[2]
        # Beam would go and make a bucket in its place.
        if not is_google_address(temporary):
            raise ConfigError(f"--beam-option temp_location: {temporary} is no gs:// address")
    _check(runner, arguments)
    return arguments


def _check_reachable(config: Config) -> None:
    folders = {"data.root": config.data.root, "pipeline_root": config.artifacts}
    local = [f"{key} is {folder}" for key, folder in folders.items() if not is_google_address(folder)]
    if local:
        raise ConfigError(
            f"Dataflow's workers reach Google's buckets only, but {' and '.join(local)}",
            "Give gs:// addresses in the config.",
        )


def _check(runner: BeamRunner, arguments: Sequence[str]) -> None:
    """Lets Beam parse and validate; its parser would end the process."""
    from apache_beam.options.pipeline_options import PipelineOptions, TestOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners import create_runner

    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, conflict_handler="resolve")
    for kind in PipelineOptions.__subclasses__():
        with contextlib.suppress(AttributeError):
            kind._add_argparse_args(parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, unknown = parser.parse_known_args(list(arguments))
    except (argparse.ArgumentError, SystemExit) as error:
        reason = str(error) if isinstance(error, argparse.ArgumentError) else said.getvalue().strip()
        raise ConfigError(f"--beam-option: {reason}") from None
    # TFX's own, which it looks for among Beam's.
    unknown = [flag for flag in unknown if flag[2:] not in _ALWAYS]
    if unknown and runner in _CLOSED:
        known = [name for action in parser._actions for name in action.option_strings]
        name = unknown[0].partition("=")[0]
        close = difflib.get_close_matches(name, known, 1)
        raise ConfigError(
            f"--beam-option: Beam knows no option {name.removeprefix('--')}",
            f"Did you mean {close[0].removeprefix('--')}?" if close else "",
        )
    options = PipelineOptions(list(arguments))
    # Beam would ask the buckets of what it validates whether they keep what is deleted, for minutes where none answers.
    options.view_as(TestOptions).dry_run = True
    errors = PipelineOptionsValidator(options, create_runner(_class_name(runner))).validate()
    if errors:
        raise ConfigError("\n".join(f"--beam-option: {error}" for error in errors))


def fetch_job_server(runner: BeamRunner, arguments: Sequence[str]) -> None:
    """Has Beam fetch the jar that it runs an engine's jobs by, before anything runs; Beam keeps it for the next time.

    Raises:
        ConfigError: It cannot be had, or there is no Java to run it with; says what to give instead.
    """
    if runner not in (BeamRunner.FLINK, BeamRunner.SPARK):
        return
    import requests
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners import create_runner
    from apache_beam.runners.portability.job_server import JavaJarJobServer, StopOnExitJobServer

    options = PipelineOptions(list(arguments))
    remedy = (
        f"Give --beam-option {runner}_job_server_jar=FILE: the job server that Beam {metadata.version('apache-beam')} "
        f"has for your {runner.capitalize()}, org.apache.beam:beam-runners-{runner}-…-job-server of Maven Central."
    )
    before = socket.getdefaulttimeout()
    # Beam's own reads of the network never end.
    socket.setdefaulttimeout(_FETCH_SECONDS)
    try:
        server = create_runner(_class_name(runner)).default_job_server(options)
        if isinstance(server, StopOnExitJobServer):
            JavaJarJobServer.local_jar(server._job_server.path_to_jar())
            if shutil.which("java") is None:
                raise ConfigError(
                    f"--beam-runner {runner}: there is no java to run Beam's job server with",
                    f"Install a Java runtime, or let the cluster do it: --beam-option {runner}_submit_uber_jar.",
                )
        else:
            server.executable_jar()
    except requests.RequestException as error:
        raise ConfigError(
            f"--beam-runner {runner}: the cluster cannot be asked: {error}",
            f"Is the address right, and the cluster's REST API up? {remedy}",
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException) as error:
        raise ConfigError(f"--beam-runner {runner}: Beam's job server cannot be had: {error}", remedy) from None
    finally:
        socket.setdefaulttimeout(before)


def _class_name(runner: BeamRunner) -> str:
    return str(_DEFAULTS[runner]["runner"])
