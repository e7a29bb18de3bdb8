"""Errors of Beam workers reach the command as what they were, whichever module they come from."""

from __future__ import annotations

import traceback

import pytest

from adclick.components.worker_errors import readable_worker_errors
from adclick.schema.errors import AdclickError, DataRefused
from adclick.storage.bucket import BucketDenied, BucketUnavailable


@pytest.mark.parametrize("kind", [DataRefused, BucketDenied, BucketUnavailable])
def test_what_a_worker_raised_is_raised(kind: type[AdclickError]) -> None:
    try:
        raise kind("gs://drops/a.csv: something is wrong", "Do this.")
    except AdclickError:
        text = traceback.format_exc()
    with (
        pytest.raises(kind, match=r"^gs://drops/a\.csv: something is wrong\nDo this\.") as raised,
        readable_worker_errors(),
    ):
        raise RuntimeError(f"{text} [while running 'Read']")
    assert raised.value.exit_code == kind("", "").exit_code
