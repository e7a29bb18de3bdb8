"""Folders and files that the system refuses: the path and a remedy, never an internal failure."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adclick.components.ad_example_gen.chunks import open_drop_file
from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources.source import DataFile
from adclick.components.worker_errors import readable_worker_errors
from adclick.pipeline.config.settings import check_local_output, load_config
from adclick.pipeline.drops import find_drops
from adclick.pipeline.onboarding import inference, run_init, writer
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import parse_feature_table

NOBODY = 65_534
#: Imported here: as another user Python may not find its own files.
_LOADED = (inference, writer)
HEADER = "clicked,ad\n"


@contextmanager
def unprivileged() -> Iterator[None]:
    """Acts as a user whom permissions bind: root's do not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everyone may enter, as those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="adclick-test-"))
    path.chmod(0o755)
    for month in ("2026-01", "2026-02"):
        (path / "drops" / month).mkdir(parents=True)
        (path / "drops" / month / "log.csv").write_text(HEADER + "0,a\n1,b\n0,b\n1,a\n" * 50)
    yield path
    for each in path.rglob("*"):
        each.chmod(0o755)
    shutil.rmtree(path)


@pytest.mark.parametrize("refused", ["drops", "drops/2026-02"])
def test_an_unreadable_month_or_root(folder: Path, refused: str) -> None:
    (folder / refused).chmod(0)
    with unprivileged(), pytest.raises(ConfigError, match=f"{refused}: .*(Permission|cannot be read)") as error:
        find_drops(str(folder / "drops"), window=2)
    assert error.value.remedy
    with unprivileged(), pytest.raises(ConfigError, match=refused):
        run_init(folder / "drops", folder / "project", force=False)


def test_an_unreadable_file(folder: Path) -> None:
    file = folder / "drops" / "2026-02" / "log.csv"
    file.chmod(0)
    table = parse_feature_table({"ad": {"role": "categorical"}, "clicked": {"role": "label"}})
    with unprivileged(), pytest.raises(ConfigError, match=r"log\.csv: cannot be read"):
        open_drop_file(DataFile(str(file)), 0, CsvSettings(), table)
    with unprivileged(), pytest.raises(ConfigError, match=r"log\.csv"):
        run_init(folder / "drops", folder / "project", force=False)


def _denied(path: Path) -> None:
    path.open()


def _in_a_worker(path: Path) -> None:
    raise RuntimeError(f"PermissionError: [Errno 13] Permission denied: '{path}' [while running 'Write']")


def _in_tensorflow(path: Path) -> None:
    raise RuntimeError(f"{path}; No space left on device [while running 'Write']")


@pytest.mark.parametrize("fail", [_denied, _in_a_worker, _in_tensorflow])
def test_what_is_refused_in_a_step_names_the_path(folder: Path, fail: Callable[[Path], None]) -> None:
    file = folder / "drops" / "2026-02" / "log.csv"
    file.chmod(0)
    with unprivileged(), pytest.raises(ConfigError, match=str(file)), readable_worker_errors():
        fail(file)


def test_other_failures_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="odd"), readable_worker_errors():
        raise OSError(errno.EIO, "odd", "x")


@pytest.mark.parametrize(
    ("key", "value"), [("output", "file/output"), ("pipeline_root", "file/root"), ("push", "file/models")]
)
def test_a_place_below_a_file_ends_with_2_before_anything_runs(folder: Path, key: str, value: str) -> None:
    result = run_init(folder / "drops", folder / "project", force=False)
    (folder / "project" / "file").write_text("")
    text = result.config_path.read_text()
    if key == "output":
        text = text.replace("output: output", f"output: {value}")
    else:
        text += f"serving: {{push_directory: {value}}}\n" if key == "push" else f"{key}: {value}\n"
    result.config_path.write_text(text)
    executable = Path(sys.executable).with_name("adclick")
    command = [str(executable), "run", "--config", str(result.config_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 2
    assert "project/file is no folder" in done.stderr
    assert "internal failure" not in done.stderr and "log" not in done.stderr


def test_a_folder_that_may_not_be_written_to(folder: Path) -> None:
    result = run_init(folder / "drops", folder / "project", force=False)
    config = load_config(result.config_path)
    (folder / "project").chmod(0o555)
    with unprivileged(), pytest.raises(ConfigError, match=r"output: .*project cannot be written to"):
        check_local_output(config)


@pytest.mark.parametrize("refused", ["drops/2026-02", "project/output", "models"])
def test_a_whole_run_of_a_user_who_may_not_ends_with_2_and_the_path(folder: Path, refused: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as another user")
    run_init(folder / "drops", folder / "project", force=False)
    config = folder / "project" / "config.yaml"
    config.write_text(f"{config.read_text()}serving: {{push_directory: {folder / 'models'}}}\n")
    for each in (folder / "project", folder / "models", folder / "project" / "output"):
        each.mkdir(exist_ok=True)
        os.chown(each, NOBODY, NOBODY)
    os.chown(folder / refused, 0, 0)
    (folder / refused).chmod(0o700)
    as_nobody: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    environment = {**os.environ, "HOME": str(folder / "models"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        subprocess.run([sys.executable, "-c", ""], **as_nobody, check=True, timeout=120)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip(f"another user may not run {sys.executable}")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("adclick")), "run", "--config", str(config), "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment,
        **as_nobody,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert str(folder / refused) in done.stderr and "internal failure" not in done.stderr
