"""The reference pages are those of the code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adclick.pipeline.cli.reference import PAGES, with_reference
from adclick.pipeline.config.reference import config_reference, gateway_reference


@pytest.mark.parametrize(("page", "reference"), PAGES.items(), ids=[page.stem for page in PAGES])
def test_the_page_is_up_to_date(page: Path, reference: Callable[[], str]) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_reference(text, reference()) == text, "run: .venv/bin/python -m adclick.pipeline.cli.reference"


@pytest.mark.parametrize(("reference", "most"), [(config_reference, 40), (gateway_reference, 30)])
def test_every_key_says_what_it_means(reference: Callable[[], str], most: int) -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > most
    assert all(line.rstrip("| ").rsplit("|", 1)[1].strip() for line in rows)
