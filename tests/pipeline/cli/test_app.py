"""The command line: quick help, exit codes, and noise kept from a person's eyes."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from adclick.components.ad_example_gen.image_progress import ImageProgress
from adclick.pipeline.cli import app as cli
from adclick.pipeline.console import Steps, name_width, one_line, plain_console, result_console, watching
from adclick.pipeline.onboarding import run_init
from adclick.schema.errors import (
    AdclickError,
    ConfigError,
    DataRefused,
    ModelHeld,
    ModelRefused,
    SkewFound,
    SubmissionRefused,
    refusal_of_import,
)

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
        "import sys; from typer.testing import CliRunner; from adclick.pipeline.cli.app import app; "
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


def test_the_shell_is_told_how_a_word_goes_on() -> None:
    asked = {"_ADCLICK_COMPLETE": "complete_bash", "COMP_WORDS": "adclick stat", "COMP_CWORD": "1"}
    command = [str(Path(sys.executable).with_name("adclick"))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **asked}, timeout=300)
    assert done.stdout.split() == ["status"], done.stderr


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
from adclick.pipeline.cli import app as cli
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
from adclick.pipeline.console import noise_to
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
    seen: list[tuple[int, str | None]] = []
    steps = Steps(on_change=lambda: seen.append((len(steps.finished), steps.running)))
    with watching(None, 2, steps):
        absl.info("Component %s is running.", "Transform")
        absl.info("Component %s is finished.", "Transform")
        absl.info("Component %s is running.", "Evaluator")
        absl.info("A cached execution %d is used.", 7)
        absl.info("Component %s is finished.", "Evaluator")
    absl.info("Component %s is running.", "Later")
    absl.info("Component %s is finished.", "Later")
    assert [(step.name, step.reused) for step in steps.finished] == [("Transform", False), ("Evaluator", True)]
    assert seen == [(0, "Transform"), (1, None), (1, "Evaluator"), (2, None)]


def test_a_log_is_no_terminal_and_nothing_is_cut(tmp_path: Path) -> None:
    table = Table("slice", *(f"column {index}" for index in range(40)))
    cells = [f"a long slice{index}=and its value ±0.123" for index in range(41)]
    table.add_row(*cells)
    with (tmp_path / "out").open("w") as stream:
        console = result_console(stream)
        console.print(table)
        console.print("a sentence " * 50)
    shown = (tmp_path / "out").read_text()
    assert all(cell in shown for cell in cells) and "…" not in shown
    assert "a sentence " * 49 in shown


def test_progress_is_shown_line_by_line_in_logs(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream, watching(Console(file=stream, width=80), 1, Steps()):
        logging.getLogger("absl").info("Component %s is running.", "Transform")
        logging.getLogger("absl").info("Component %s is finished.", "Transform")
    assert "✓ Transform" in (tmp_path / "out").read_text()


def test_a_terminal_shows_how_far_the_images_are(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        console = Console(file=stream, width=120, force_terminal=True)
        with watching(console, 1, Steps()):
            logging.getLogger("absl").info("Component %s is running.", "AdExampleGen-2026-10")
            progress = ImageProgress("2026-10", partitions=1)
            progress.begin(1_000)
            time.sleep(0.6)
            progress.add()
        logging.getLogger("absl").info("Component %s is finished.", "AdExampleGen-2026-10")
    assert "AdExampleGen-2026-10: 1 of about 1,000 images" in (tmp_path / "out").read_text()


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


def test_no_text_is_taken_for_markup(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as stream:
        table = Table("[red]head[/]")
        table.add_row(":smile: [/]")
        console = result_console(stream)
        console.print(table)
        console.print("a column [bold] of the data [/bold]")
        stream.seek(0)
        printed = stream.read()
    assert "[red]head[/]" in printed and ":smile: [/]" in printed and "[bold] of the data [/bold]" in printed


@given(st.text())
def test_a_name_in_a_table_stays_on_one_line(name: str) -> None:
    cell = one_line(name)
    assert cell.isprintable() and len(cell) == len(name)
    assert cell == name or not name.isprintable()


@pytest.mark.parametrize(("width", "is_cut"), [(80, True), (10_000, False)], ids=["terminal", "log"])
def test_a_long_name_leaves_room_for_numbers(width: int, is_cut: bool) -> None:
    console = plain_console(io.StringIO(), width=width)
    table = Table()
    table.add_column("name", no_wrap=True, max_width=name_width(console))
    table.add_column("metric", no_wrap=True)
    table.add_row("x" * 300, "0.123456789")
    console.print(table)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.123456789" in printed and ("x" * 300 not in printed) == is_cut


def test_styles_are_given_without_markup() -> None:
    markup = re.compile(r"\[/?(bold|dim|italic|red|green|yellow|blue)( \w+)*\]")
    for file in Path(cli.__file__).parent.rglob("*.py"):
        assert not markup.search(file.read_text(encoding="utf-8")), f"{file}: use rich.text.Text"


def test_an_environment_that_lacks_a_package_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    lacking = "import sys; sys.modules['adclick.stream'] = None; from adclick.pipeline.cli.app import main; main()"
    command = [sys.executable, "-c", lacking, "run", "--config", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "no package 'adclick.stream'" in done.stderr and "make setup" in done.stderr


def test_a_module_that_an_installed_package_lacks_is_a_bug() -> None:
    assert refusal_of_import(ModuleNotFoundError("no such module", name="adclick.schema.no_such_module")) is None
