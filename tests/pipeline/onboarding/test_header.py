"""Whether the first row of a log is its header: all columns decide together."""

from __future__ import annotations

import numpy as np
import pytest

from adclick.pipeline.onboarding.header import decide_header

RANDOM = np.random.default_rng(1)
ROWS = 150
NUMBER = [f"{value:.3f}" for value in RANDOM.normal(size=ROWS)]
LABEL = [str(int(value < 0.1)) for value in RANDOM.random(ROWS)]
DEVICE = ["mobile" if value < 0.6 else "desktop" for value in RANDOM.random(ROWS)]
HASH = [f"{value:08x}" for value in RANDOM.integers(0, 2**32, ROWS)]
WORDS = [f"word-{value}" for value in RANDOM.integers(0, 10**9, ROWS)]
TIME = [f"2026-01-{value:02} 10:00:00" for value in RANDOM.integers(1, 28, ROWS)]
EVENT = ["clicked" if value < 0.1 else "not clicked" for value in RANDOM.random(ROWS)]


@pytest.mark.parametrize(
    ("first", "columns", "is_header", "told"),
    [
        (["price", "clicked"], [NUMBER, LABEL], True, ()),
        (["device", "page", "event"], [DEVICE, WORDS, LABEL], True, ()),
        (["", "price", "clicked"], [LABEL, NUMBER, LABEL], True, ()),
        (["12e3", "device", "clicked"], [NUMBER, DEVICE, LABEL], True, ("12e3",)),
        (["2024", "2025", "2026", "clicked"], [NUMBER, NUMBER, NUMBER, LABEL], True, ("2024", "2025", "2026")),
        (["device", "clicked"], [DEVICE, EVENT], True, ("clicked",)),
        (["1.5", "0"], [NUMBER, LABEL], False, ()),
        (["mobile", "0"], [DEVICE, LABEL], False, ()),
        (["mobile", "not clicked"], [DEVICE, EVENT], False, ()),
        (["word-7", "mobile", "0"], [WORDS, DEVICE, LABEL], False, ()),
        (["tablet", "1.5", "2.5", "0", "0"], [DEVICE, NUMBER, NUMBER, LABEL, LABEL], False, ("tablet",)),
        (["1.5", "null", "0.3", "0"], [NUMBER, NUMBER, NUMBER, LABEL], False, ()),
        (["feedcafe", "0012beef", "0"], [HASH, HASH, LABEL], False, ()),
        (["2026-01-03 10:00:00", "mobile", "", "0"], [TIME, DEVICE, NUMBER, LABEL], False, ()),
        (["<b>now</b>", "mobile", "0"], [WORDS, DEVICE, LABEL], False, ()),
    ],
)
def test_all_columns_decide(first: list[str], columns: list[list[str]], is_header: bool, told: tuple[str, ...]) -> None:
    decision = decide_header([first, *map(list, zip(*columns, strict=True))])
    assert (decision.is_header, decision.dissent) == (is_header, told)
    assert bool(decision.warning) == bool(told)


def test_a_header_alone_is_one() -> None:
    assert decide_header([["device", "clicked"]]).is_header
    assert decide_header([["device", "clicked"]] * 2).is_header
