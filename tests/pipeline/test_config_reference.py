"""The README's config reference is the config's."""

from __future__ import annotations

from pathlib import Path

from pipeline.config_reference import config_reference, with_reference

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_is_up_to_date() -> None:
    readme = README.read_text(encoding="utf-8")
    assert with_reference(readme) == readme, "run: .venv/bin/python -m pipeline.config_reference"


def test_every_key_says_what_it_means() -> None:
    rows = [line for line in config_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert all(line.rstrip("| ").rsplit("|", 1)[1].strip() for line in rows)
