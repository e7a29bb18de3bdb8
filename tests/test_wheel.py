"""The wheel that pipeline workers install holds the whole project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "components", "models", "schema", "serving", "storage", "stream")

pytestmark = pytest.mark.end_to_end


def test_the_wheel_installs_in_a_clean_environment_and_imports(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*PACKAGES, "setup.py", "pyproject.toml", "README.md"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*build, "--wheel-dir", str(tmp_path), str(source)])
    (wheel,) = tmp_path.glob("adclick-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and file.suffix != ".md"
        # What the console's page was built from; the built page is inside.
        and not file.is_relative_to(ROOT / "serving" / "console" / "web")
    }
    assert inside == ours

    clean = tmp_path / "clean"
    run([sys.executable, "-m", "venv", "--without-pip", str(clean)])
    python = clean / "bin" / "python"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(wheel),
        ]
    )
    # Its dependencies, which would take minutes to install again, are those of the environment that runs this test.
    (site_packages,) = clean.glob("lib/*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(inside)
        if name.endswith(".py")
    ]
    program = (
        "import importlib, json, sys\n"
        "found = {name: importlib.import_module(name).__file__ for name in json.load(sys.stdin)}\n"
        "print(json.dumps(found))"
    )
    imported = json.loads(run([str(python), "-W", "ignore", "-c", program], json.dumps(modules)).splitlines()[-1])
    assert all(Path(file).is_relative_to(clean) for file in imported.values())
    assert "predict" in run([str(clean / "bin" / "adclick"), "--help"])


def run(command: list[str], stdin: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
