"""The page that is sent is what its sources make, where Node and npm are."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

CONSOLE = Path(__file__).resolve().parents[3] / "serving" / "console"
SECONDS = 300


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder by path; what is compressed, as it was before."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {name: gzip.decompress(content) if name.endswith(".gz") else content for name, content in files.items()}


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed: the page is not built anew")
def test_the_page_is_built_from_its_sources(tmp_path: Path) -> None:
    web = tmp_path / "web"
    shutil.copytree(CONSOLE / "web", web, ignore=shutil.ignore_patterns("node_modules"))
    fetched = subprocess.run(["npm", "ci", "--silent"], cwd=web, capture_output=True, text=True, timeout=SECONDS)
    if fetched.returncode:
        pytest.skip(f"npm cannot fetch what the page is built with: {fetched.stderr[-300:]}")
    for command in (["npm", "run", "check", "--silent"], ["node", "build.mjs", str(tmp_path / "built")]):
        done = subprocess.run(command, cwd=web, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "built") == contents(CONSOLE / "static")
