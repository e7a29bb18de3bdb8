"""Which code runs: the package's version and, in a git checkout, the commit."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path


def code_version() -> str:
    """Such as `0.1.0, commit 1f2e3d4c5b6a, with local changes`."""
    version = importlib.metadata.version("adclick")
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return version
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return version
    changed = ", with local changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{version}, commit {commit}{changed}"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
