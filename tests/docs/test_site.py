"""The documentation's site: whole, and of nobody else's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a browser fetches by itself when it shows a page; where an anchor leads is the reader's to choose.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
_OTHER_HOST = re.compile(r"^(https?:)?//")


class _Loads(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "link" and found.get("rel") in ("canonical", "next", "prev"):
            return
        self.addresses.append(found.get(_LOADED.get(tag, "")) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    # Strict: a link, an anchor or a page that is not there ends it.
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_has_an_entrance_for_each_of_its_readers(site: Path) -> None:
    assert len(list((site / "for").glob("*.html"))) == 5
    page = (site / "index.html").read_text(encoding="utf-8")
    assert all(f'href="for/{entrance.name}"' in page for entrance in (site / "for").glob("*.html"))
    assert (site / "repository" / "serving" / "index.html").exists()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = _Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert not [address for address in loads.addresses if _OTHER_HOST.match(address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url|@import)\s*\(?['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
