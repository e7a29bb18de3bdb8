"""The deployment's files, and the tools that judge them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.6.0"


def run_tool(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs a tool; a Python one from this environment."""
    name = str(command[0])
    beside = Path(sys.executable).parent / name
    executable = str(beside) if beside.exists() else shutil.which(name)
    if executable is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run(
        [executable, *map(str, command[1:])], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def assert_passes(*command: str | Path, cwd: Path = ROOT) -> None:
    done = run_tool(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.fixture(scope="session")
def kustomize() -> str:
    """The program's path; built by Go where it is not installed."""
    if found := shutil.which("kustomize"):
        return found
    folder = Path.home() / ".cache" / "adclick" / _KUSTOMIZE.rpartition("@")[2]
    program = folder / "kustomize"
    if not program.exists():
        if shutil.which("go") is None:
            pytest.skip("neither kustomize nor Go is installed")
        built = subprocess.run(
            ["go", "install", _KUSTOMIZE], env={**os.environ, "GOBIN": str(folder)}, capture_output=True, text=True
        )
        if built.returncode != 0:
            pytest.skip(f"kustomize cannot be built: {built.stderr[-300:]}")
    return str(program)
