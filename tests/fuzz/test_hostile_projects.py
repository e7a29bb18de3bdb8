"""Projects nearly none of which is in order: each ends in a documented way, and no row is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.harness import try_projects
from tests.fuzz.projects import projects

pytestmark = pytest.mark.end_to_end


def test_each_project_ends_in_a_documented_way(record_property: Callable[[str, object], None]) -> None:
    try_projects("hostile projects", projects(is_plain=False), least=40, tell=record_property)
