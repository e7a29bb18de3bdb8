"""The device's runtime as it is installed: a wheel of its own, without the rest of adclick; and its systemd unit."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from adclick.serving.edge.errors import EdgeError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.end_to_end
def test_its_wheel_holds_the_runtime_alone_and_works_without_adclick(tmp_path: Path) -> None:
    # Built from a copy: a build writes into the folder of its pyproject.toml.
    for folder in ("deploy/edge", "serving/edge"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "build"))
    build = [*(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"), "--wheel-dir"]
    subprocess.run([*build, str(tmp_path), str(tmp_path / "deploy/edge")], check=True, timeout=300)
    (wheel,) = tmp_path.glob("adclick_edge-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {f"adclick_edge/{file.name}" for file in (ROOT / "serving/edge").glob("*.py")}
    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clean)], check=True)
    install = [*(sys.executable, "-m", "pip", "--python", str(clean / "bin/python"), "install"), "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-index", str(wheel)], check=True)
    # Its dependencies are those of the environment that runs this test; where adclick is linked in as a folder of
    # source, a .pth file does so, and .pth files of such a folder count not.
    (site_packages,) = clean.glob("lib/*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = "import sys, importlib.util as find; sys.exit(find.find_spec('adclick') is not None)"
    assert subprocess.run([str(clean / "bin/python"), "-c", program], cwd="/", check=False).returncode == 0
    (tmp_path / "none").write_bytes(b"none")
    done = subprocess.run(
        [
            *(str(clean / "bin/adclick-edge"), "verify", "--bundle", str(tmp_path / "none")),
            *("--public-key", str(tmp_path / "none")),
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "no key in PEM" in done.stderr) == (EdgeError.exit_code, True), done.stderr


def test_the_unit_is_one_that_systemd_reads() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    unit = ROOT / "deploy/edge/adclick-edge.service"
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    # The command that it starts is not installed here.
    wrong = [line for line in done.stderr.splitlines() if unit.name in line and "is not executable" not in line]
    assert not wrong
