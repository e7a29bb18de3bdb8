"""The shell blocks of the tutorial and of the how-to guides do what their pages say."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n\*Not run by the tests: ([^*\n]+)\*)?", re.MULTILINE | re.DOTALL)
_SECONDS = 600.0


def pages() -> list[str]:
    """The tutorial and the how-to guides, in the order of the site's navigation."""
    # The file also names classes of Python, which are none of ours.
    document = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)
    (guides,) = (entry["How to"] for entry in document["nav"] if "How to" in entry)
    return ["tutorial.md", *guides]


def blocks() -> list[tuple[str, str, str]]:
    """Each block's page, commands, and why it is not run; empty of one that is."""
    return [
        (page, commands, reason)
        for page in pages()
        for commands, reason in _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    ]


def test_every_guide_is_tried_or_says_why_not() -> None:
    found = blocks()
    assert sum(not reason for _, _, reason in found) >= 10
    for page in pages():
        text = (DOCS / page).read_text(encoding="utf-8")
        assert text.count("```sh\n") == sum(name == page for name, _, _ in found), page
        assert text.count("*Not run by the tests:") == sum(name == page and bool(why) for name, _, why in found), page


@pytest.mark.end_to_end
@pytest.mark.timeout(2 * _SECONDS)
def test_the_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl, by which the tutorial asks the gateway")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    for page, commands, reason in blocks():
        if reason:
            continue
        with (tmp_path / "said").open("w+") as said:
            # A session of its own: what a block leaves behind in the background ends with it.
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=tmp_path,
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith(("ADCLICK_", "PYTHON"))},
            )
            try:
                code = shell.wait(_SECONDS)
            finally:
                _end(shell)
            said.seek(0)
            assert code == 0, f"docs/{page}:\n{commands}\n{said.read()[-5000:]}"


def _end(shell: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait(60)
