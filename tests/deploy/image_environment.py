"""The Python environment of an image, made by its Dockerfile's own lines without a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.conftest import DEPLOY, ROOT

#: What a container brings, or what only saves space in it.
_NOT_HERE = ("apt-get ", "pip install --no-cache-dir")
_ENVIRONMENT_IN_IMAGE = "/opt/adclick"


def make_image_environment(folder: Path, image: str = "pipeline") -> Path:
    """Carries out the stage `build`; gives the Python interpreter that the image's commands and steps run by.

    Args:
        folder: An empty folder for sources and environment.
        image: Which image: the name of its file in deploy/docker.

    Raises:
        subprocess.CalledProcessError: A line failed.
    """
    source, environment = folder / "src", folder / "adclick"
    source.mkdir()
    variables = {
        **{name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "UV_PYTHON_DOWNLOADS": "never",
        "VIRTUAL_ENV": str(environment),
    }
    for instruction, arguments in _instructions(DEPLOY / "docker" / f"{image}.Dockerfile", "build"):
        if instruction == "COPY":
            *names, target = arguments.split()
            for name in names:
                inside = target + name.rpartition("/")[2] if target.endswith("/") and target != "./" else target
                _copy(ROOT / name, source / (name if target in (".", "./") else inside))
        elif instruction == "RUN" and not any(part in arguments for part in _NOT_HERE):
            subprocess.run(
                ["bash", "-o", "pipefail", "-c", arguments.replace(_ENVIRONMENT_IN_IMAGE, str(environment))],
                cwd=source,
                env=variables,
                check=True,
                timeout=600,
            )
    return environment / "bin" / "python"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _instructions(dockerfile: Path, stage: str) -> list[tuple[str, str]]:
    """The instructions of one stage, with lines that go on joined."""
    joined = "\n".join(line for line in dockerfile.read_text().splitlines() if not line.startswith("#")).replace(
        "\\\n", " "
    )
    current, instructions = "", []
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            current = arguments.rpartition(" ")[2]
        elif current == stage:
            instructions.append((instruction, arguments.strip()))
    return instructions
