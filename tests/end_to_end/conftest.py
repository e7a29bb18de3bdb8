"""Projects that the end-to-end tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.harness import Project, small_project

#: They take minutes: begun last, one of them would run while other workers have nothing left to do.
_LONGEST = ("test_six_months.py", "test_beam_engines.py", "test_platform.py", "test_google_cloud_storage.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.fixture(scope="session")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first run has pushed a version; not to be changed."""
    project = small_project(tmp_path_factory.mktemp("pushed") / "project")
    # As a person starts it: what it loads, and when, is tried here.
    done = project.run(fresh=True)
    assert done.code == 0, done.text
    assert len(project.versions) == 1
    return project


@pytest.fixture
def served(pushed: Project, tmp_path: Path) -> Project:
    """A copy to change, with the pushed version but without the artifacts and records that address it by path."""
    folder = tmp_path / "project"
    shutil.copytree(pushed.folder, folder, ignore=shutil.ignore_patterns("pipeline_root", "metadata.sqlite", "runs"))
    return Project(folder)
