"""What MkDocs does besides: pages that stand elsewhere in the repository, and links that are right in both places."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
#: Files of the repository that are pages of the site, too, below `repository/`.
PUBLISHED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "deploy/README.md",
    "deploy/runbooks.md",
    "serving/README.md",
    "tests/cluster/README.md",
)
_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|/")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that stand elsewhere."""
    for name in PUBLISHED:
        files.append(File.generated(config, f"repository/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links to files of the repository to their pages; those that have none become plain text."""
    here = page.file.src_uri
    source = ROOT / here.removeprefix("repository/") if here.startswith("repository/") else DOCS / here

    def led(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path, mark, anchor = target.partition("#")
        if _ELSEWHERE.match(target) or not path:
            return match[0]
        file = Path(os.path.normpath(source.parent / path))
        if file.is_dir() and (file / "README.md").is_file():
            file /= "README.md"
        if not file.exists():
            return match[0]  # MkDocs says so
        name = file.relative_to(ROOT).as_posix()
        if name == "README.md":
            uri = "index.md"
        elif name in PUBLISHED:
            uri = f"repository/{name}"
        elif file.is_relative_to(DOCS):
            uri = file.relative_to(DOCS).as_posix()
        else:
            return text if "`" in text else f"`{name}`" if text == name else f"{text} (`{name}`)"
        return f"[{text}]({os.path.relpath(uri, os.path.dirname(here) or '.')}{mark}{anchor})"

    return _LINK.sub(led, markdown)
