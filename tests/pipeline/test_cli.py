"""The command line: quick help, exit codes, and noise kept from a person's eyes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline import cli
from pipeline.console import Steps, watching
from pipeline.init import run_init
from schema.errors import AdclickError, ConfigError, DataRefused, ModelHeld, ModelRefused, SkewFound, SubmissionRefused

COMMANDS = [
    "sample-data",
    "init",
    "run",
    "tune",
    "serve",
    "api-key",
    "predict",
    "compile",
    "submit",
    "schedule",
    "status",
    "report",
    "monitor",
    "batch-predict",
    "rollback",
    "clean",
]


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_needs_no_heavy_import(arguments: list[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pipeline.cli import app; "
        f"result = CliRunner().invoke(app, {arguments!r}); "
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'pandas', 'sklearn', 'numpy'} & set(sys.modules); "
        "print(result.exit_code, sorted(heavy), len(result.output) > 200)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 [] True"


def test_help_lists_commands_and_exit_codes() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert all(command in shown for command in COMMANDS)
    assert "3 data refused" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["run", "--config", "no/such.yaml"], 2, "no/such.yaml"),
        (["run"], 2, "--config"),
        (["run", "--confg", "x"], 2, "--confg"),
        (["status"], 2, "--config"),
        (["init", "no/such.csv", "--output", "x"], 2, "no/such.csv"),
        (["serve", "--model-base-path", "x"], 2, "--development"),
        (["serve", "--development"], 2, "--model-base-path"),
        (["serve", "--gateway-config", "no/such.yaml"], 2, "no/such.yaml"),
        (["serve", "--prot", "1"], 2, "--prot"),
    ],
)
def test_a_wrong_command_ends_with_2_and_names_what(
    arguments: list[str], code: int, named: str, tmp_path: Path
) -> None:
    executable = Path(sys.executable).with_name("adclick")
    done = subprocess.run([str(executable), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code
    assert named in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("month", "schema", "named"),
    [
        ("2020-01", None, "no folder 2020-01"),
        ("2026-10", "no schema", "schema.pbtxt"),
        ("2026-10", "", "the schema does not describe"),
    ],
)
def test_a_wrong_month_or_schema_is_named_before_tensorflow_is_loaded(
    month: str, schema: str | None, named: str, tmp_path: Path
) -> None:
    drop = tmp_path / "drops" / "2026-10"
    drop.mkdir(parents=True)
    (drop / "log.csv").write_text("clicked,ad\n" + "0,a\n1,b\n0,b\n1,a\n" * 50)
    run_init(tmp_path / "drops", tmp_path, force=False)
    if schema is not None:
        (tmp_path / "schema.pbtxt").write_text(schema)
    code = f"""
import sys
from pipeline import cli
sys.argv = ["adclick", "run", "--config", {str(tmp_path / "config.yaml")!r}, "--month", {month!r}]
try:
    cli.main()
except SystemExit as end:
    print(end.code, sorted({{"tensorflow", "tfx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 []"
    assert named in done.stderr


def test_exit_codes_differ() -> None:
    kinds = (AdclickError, ConfigError, DataRefused, ModelRefused, ModelHeld, SkewFound, SubmissionRefused)
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5, 6, 7]


def test_an_internal_failure_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("[bold]boom")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.delenv("ADCLICK_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert "RuntimeError: [bold]boom" in shown and "Traceback (" not in shown


def test_noise_goes_to_the_log_even_from_below_python(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "run.log"
    code = f"""
import os
from pathlib import Path
from pipeline.console import noise_to
try:
    with noise_to(Path({str(log)!r})) as real:
        os.write(2, b"from C\\n")
        print("from Python")
        print("for the person", file=real)
        raise ValueError
except ValueError:
    print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("for the person\nafter\n", "")
    assert sorted(log.read_text().splitlines()) == ["from C", "from Python"]


def test_steps_are_followed_by_what_tfx_logs() -> None:
    absl = logging.getLogger("absl")
    steps = Steps()
    with watching(None, 2, steps):
        absl.info("Component %s is running.", "Transform")
        absl.info("Component %s is finished.", "Transform")
        absl.info("Component %s is running.", "Evaluator")
        absl.info("A cached execution %d is used.", 7)
        absl.info("Component %s is finished.", "Evaluator")
    absl.info("Component %s is running.", "Later")
    absl.info("Component %s is finished.", "Later")
    assert [(step.name, step.reused) for step in steps.finished] == [("Transform", False), ("Evaluator", True)]


def test_progress_is_shown_line_by_line_in_logs(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream, watching(Console(file=stream, width=80), 1, Steps()):
        logging.getLogger("absl").info("Component %s is running.", "Transform")
        logging.getLogger("absl").info("Component %s is finished.", "Transform")
    assert "✓ Transform" in (tmp_path / "out").read_text()


def test_serve_models_only_is_tensorflow_model_server() -> None:
    executable = Path(sys.executable).with_name("adclick")
    done = subprocess.run(
        [str(executable), "serve", "--models-only", "--version"], capture_output=True, text=True, check=True
    )
    assert "TensorFlow ModelServer: " in done.stdout


def test_an_api_key_is_shown_once_and_kept_hashed(tmp_path: Path) -> None:
    executable = Path(sys.executable).with_name("adclick")
    command = [str(executable), "api-key", "agency", "--file", str(tmp_path / "keys")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    key = done.stdout.strip()
    assert key.startswith("adclick_")
    assert key not in (tmp_path / "keys").read_text()
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "there is a key of agency already" in again.stderr
