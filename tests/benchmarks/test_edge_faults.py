"""The device's faults, each a few times: nothing is lost, and no wrong bundle runs (`benchmarks.edge_faults`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.edge_faults import FAULTS, Bundles, day_in_fast_motion


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost_and_nothing_wrong_runs(fault: object, bundles: Bundles, tmp_path: Path) -> None:
    try:
        outcome = fault(bundles, tmp_path, 3)  # type: ignore[operator]
    except PermissionError as error:
        pytest.skip(str(error))
    assert outcome.is_well and outcome.raised > 0, outcome
    for name in ("writes that failed", "refused", "broken"):
        assert outcome.notes.get(name, 1) > 0, outcome


def test_a_day_grows_beyond_no_bound(bundles: Bundles, tmp_path: Path) -> None:
    outcome = day_in_fast_motion(bundles, tmp_path, 10)
    assert outcome.is_well and outcome.notes["frames"] > 0, outcome
