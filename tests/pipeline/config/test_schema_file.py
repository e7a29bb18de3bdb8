"""The schema is read wherever it lies, and imported by its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from adclick.pipeline.config.schema_file import publish_schema, read_schema
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.onboarding import run_init
from adclick.schema.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text("clicked,ad\n" + "0,a\n1,b\n0,b\n1,a\n" * 50)
    run_init(tmp_path / "log.csv", tmp_path / "project", force=False)
    return tmp_path / "project"


def test_its_address_changes_with_its_content_alone(project: Path) -> None:
    config = load_config(project / "config.yaml")
    first = publish_schema(config)
    assert publish_schema(config) == first
    assert Path(first).read_bytes() == (project / "schema.pbtxt").read_bytes()
    with (project / "schema.pbtxt").open("a") as stream:
        stream.write("# reviewed\n")
    assert publish_schema(config) != first


def test_what_is_published_is_the_schema(project: Path) -> None:
    config = load_config(project / "config.yaml")
    published = config.model_copy(update={"schema_file": publish_schema(config)})
    assert read_schema(published) == read_schema(config)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"feature {", "line 1"), (b"\xff", "cannot be read")]
)
def test_bad_schemas_are_named(project: Path, content: bytes | None, message: str) -> None:
    path = project / "schema.pbtxt"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as raised:
        read_schema(load_config(project / "config.yaml"))
    assert str(path) in str(raised.value)
