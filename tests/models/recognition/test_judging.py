"""How recognisers are judged, chosen and refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from adclick.models.recognition.judging import (
    Candidate,
    Judgement,
    Recognition,
    RecognitionTrial,
    Share,
    apply_gate,
    choose,
    judge,
    recognise,
    share,
    threshold_at,
)
from adclick.models.recognition.settings import RecognitionSettings

SETTINGS = RecognitionSettings()


def _share(count: int, of: int = 1_000) -> Share:
    return share(np.arange(of) < count)


def _candidate(
    form: str = "float32", *, size: int = 1_000, milliseconds: float = 1.0, right: int = 990, accepted: int = 50
) -> Candidate:
    judgement = Judgement(
        threshold=0.9,
        top_1=_share(right),
        false_reject=_share(10),
        false_accept=_share(accepted),
        top_1_by_distortion={},
        false_reject_by_distortion={},
    )
    return Candidate(form=form, size=size, milliseconds=milliseconds, judgement=judgement)


def _mean_colour(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pictures of one colour are told apart by its direction."""
    colours = pixels.reshape(len(pixels), -1, 3).mean(axis=1) + 1e-6
    return (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)


def _plain(*colours: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    return np.stack([np.full((4, 4, 3), colour, np.uint8) for colour in colours])


RED, GREEN, BLUE, YELLOW = (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)


def test_a_recogniser_that_knows_all_is_told_from_one_that_accepts_the_foreign() -> None:
    booked = _plain(RED, GREEN, RED, GREEN)
    trial = RecognitionTrial(
        catalogue=_plain(RED, GREEN),
        booked=booked,
        rows=np.array([0, 1, 0, 1]),
        foreign=_plain(BLUE, BLUE, RED, YELLOW),
        by_distortion={"night": (booked // 10, np.array([0, 1, 0, 1]))},
    )
    judgement = judge(_mean_colour, trial, 0.01)
    assert (judgement.top_1.count, judgement.top_1.of) == (2, 2)
    assert judgement.false_reject.count == 0
    assert judgement.false_accept.count == 1
    assert judgement.top_1_by_distortion["night"].value == 1


def test_similarity_that_is_no_number_is_never_known() -> None:
    def broken(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.full((len(pixels), 3), np.nan, np.float32)

    trial = RecognitionTrial(_plain(RED, GREEN), _plain(RED, GREEN), np.array([0, 1]), _plain(BLUE), {})
    judgement = judge(broken, trial, 0.01)
    assert judgement.false_reject.value == 1
    assert judgement.false_accept.value == 0


@given(
    arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32)),
    st.floats(0.001, 0.4),
    st.data(),
)
def test_no_more_than_the_tolerated_share_is_below_the_threshold(
    similarity: npt.NDArray[np.float32], rate: float, data: st.DataObject
) -> None:
    rows = np.arange(len(similarity))
    is_right = data.draw(arrays.arrays(np.bool_, len(similarity)))
    booked = Recognition(similarity, np.where(is_right, rows, rows + 1))
    threshold = threshold_at(booked, rows, rate)
    rejected = ~(is_right & (similarity >= threshold))
    wrong = (~is_right).mean()
    assert rejected.mean() <= max(rate, wrong) + 1e-9


@given(st.integers(0, 50), st.integers(0, 50))
def test_an_interval_holds_its_share(count: int, others: int) -> None:
    measured = share(np.arange(count + others) < count)
    assert 0 <= measured.lower <= measured.value <= measured.upper <= 1 or measured.of == 0


def test_the_nearest_creative_is_that_of_the_greatest_cosine() -> None:
    catalogue = np.eye(3, dtype=np.float32)
    recognition = recognise(np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], np.float32), catalogue)
    assert recognition.nearest.tolist() == [1, 2]
    assert recognition.similarity.tolist() == pytest.approx([0.8, 1.0])


def test_the_smallest_form_that_is_as_good_is_chosen() -> None:
    forms = [_candidate("float32", size=3_000), _candidate("int8", size=1_000, accepted=53)]
    assert choose(forms, SETTINGS).form == "int8"
    forms[1] = _candidate("int8", size=1_000, accepted=70)
    assert choose(forms, SETTINGS).form == "float32"


def test_a_form_beyond_the_limits_is_not_chosen_however_good() -> None:
    small = SETTINGS.model_copy(update={"max_bytes": 2_000})
    forms = [_candidate("float32", size=3_000), _candidate("int8", size=1_000, accepted=500)]
    assert choose(forms, small).form == "int8"
    fast = SETTINGS.model_copy(update={"max_milliseconds": 2.0})
    forms = [_candidate("float32", milliseconds=3.0), _candidate("int8", milliseconds=1.0, accepted=500)]
    assert choose(forms, fast).form == "int8"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (_candidate(right=900), r"top-1 0\.900"),
        (_candidate(accepted=600), r"false accept 0\.600"),
        (_candidate(size=4_000_000), "4,000,000 bytes"),
        (_candidate(milliseconds=20.0), r"20\.0 ms"),
        (_candidate(milliseconds=float("nan")), "nan ms"),
    ],
)
def test_a_recogniser_that_misses_a_limit_is_refused_with_the_figure(candidate: Candidate, reason: str) -> None:
    (refusal,) = apply_gate(candidate, SETTINGS).refusals
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(refusal)


def test_what_chance_may_explain_is_left_to_the_policy() -> None:
    candidate = _candidate(right=948)
    verdict = apply_gate(candidate, SETTINGS)
    assert not verdict.refusals
    assert "too few to decide" in verdict.undecided[0]
    strict = apply_gate(candidate, SETTINGS.model_copy(update={"undecided": "refuse"}))
    assert "too few to decide" in strict.refusals[0]
    assert not strict.undecided
