"""Projects nearly all of which can be trained on: each ends in a documented way, and no row is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.harness import try_projects
from tests.fuzz.projects import projects

pytestmark = pytest.mark.end_to_end


def test_each_project_ends_in_a_documented_way(record_property: Callable[[str, object], None]) -> None:
    try_projects("sound projects", projects(is_plain=True), least=20, tell=record_property)
