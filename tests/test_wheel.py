"""The wheel that pipeline workers install holds the whole project."""

from __future__ import annotations

import ast
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
OWN_FILES = ("__init__.py", "__main__.py", "py.typed")
PACKAGES = ("pipeline", "components", "models", "schema", "serving", "storage", "stream")


@pytest.mark.end_to_end
def test_the_wheel_installs_beside_a_stranger_s_packages_and_imports(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*PACKAGES, "setup.py", "pyproject.toml", "README.md"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    (source / "adclick").mkdir()
    for name in OWN_FILES:
        shutil.copy(ROOT / "adclick" / name, source / "adclick")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*build, "--wheel-dir", str(tmp_path), str(source)])
    (wheel,) = tmp_path.glob("adclick-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {f"adclick/{name}" for name in OWN_FILES} | {
        f"adclick/{file.relative_to(ROOT)}"
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
    for name in PACKAGES:
        (site_packages / name).mkdir()
        (site_packages / name / "__init__.py").write_text("MINE = True\n")
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(inside)
        if name.endswith(".py") and not name.endswith("__main__.py")
    ]
    program = (
        "import importlib, json, sys\n"
        "found = {name: importlib.import_module(name).__file__ for name in json.load(sys.stdin)}\n"
        "print(json.dumps(found))"
    )
    imported = json.loads(run([str(python), "-W", "ignore", "-c", program], json.dumps(modules)).splitlines()[-1])
    assert all(Path(file).is_relative_to(clean) for file in imported.values())
    assert "predict" in run([str(clean / "bin" / "adclick"), "--help"])
    assert "predict" in run([str(python), "-W", "ignore", "-m", "adclick", "--help"])
    theirs = f"import {', '.join(PACKAGES)}, adclick.models; print(all(p.MINE for p in ({', '.join(PACKAGES)})))"
    assert run([str(python), "-W", "ignore", "-c", theirs]) == "True\n"


def test_code_is_imported_by_the_name_that_it_is_installed_by() -> None:
    for file in (file for folder in (*PACKAGES, "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                package = name.partition(".")[0]
                assert package not in PACKAGES, f"{file}:{node.lineno}: import adclick.{name}"


def run(command: list[str], stdin: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("command", ["pipeline.cli.app", "serving.gateway.command", "serving.model_server.command"])
def test_an_environment_of_before_says_that_it_is_one(command: str, tmp_path: Path) -> None:
    """Its scripts import their commands from the checkout, in which alone it finds what it knew by name."""
    package = command.partition(".")[0]
    (tmp_path / package).symlink_to(ROOT / package)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from {command} import script"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == "In a checkout: make setup.", done.stderr
