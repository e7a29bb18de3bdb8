"""A real Flink cluster of this machine for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.flink.local_cluster import LocalCluster, local_cluster
from adclick.stream.flink.submission import check_installed


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster that answers; skips the test, with the reason, where Java, Maven or PyFlink are missing."""
    try:
        check_installed()
    except ConfigError as error:
        pytest.skip(str(error))
    with local_cluster(tmp_path_factory.mktemp("flink"), slots=2) as cluster:
        yield cluster
