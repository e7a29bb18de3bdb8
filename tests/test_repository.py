"""The repository's own files: the version has its changes, forms can be filled in, licences of others are named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT, assert_passes

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_version_stands_in_the_changelog_with_what_changed() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")
    (own,) = (part for part in changes if part.startswith(f"[{version}] - "))
    assert re.match(r"\[[\d.]+\] - \d{4}-\d\d-\d\d\n\n### (Added|Changed|Fixed|Removed)\n\n- ", own)


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.stem)
def test_a_form_can_be_filled_in(form: Path) -> None:
    assert_passes("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", form)


def test_code_of_others_comes_with_its_licence() -> None:
    text = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for notice in (ROOT / "serving").glob("**/static/**/NOTICE.txt"):
        assert str(notice.relative_to(ROOT)) in text
        assert "icen" in notice.read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
