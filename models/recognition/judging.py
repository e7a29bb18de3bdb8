"""How good a recogniser is: does it know booked creatives, and does it see what is none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from adclick.models.recognition.settings import RecognitionSettings

Embeddings = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recognition:
    """What became of captures.

    Attributes:
        similarity: To the nearest creative of the catalogue, float32 [captures].
        nearest: Its row, int64 [captures].
    """

    similarity: npt.NDArray[np.float32]
    nearest: Rows


class Share(BaseModel):
    """So many of so many, with Wilson's 95 % interval (Wilson 1927)."""

    model_config = ConfigDict(frozen=True)

    count: int
    of: int
    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


def share(hits: npt.NDArray[np.bool_]) -> Share:
    """The share of hits; of none it is anything from 0 to 1."""
    from scipy.stats import binomtest

    count, of = int(hits.sum()), len(hits)
    if of == 0:
        return Share(count=0, of=0, value=0.0, lower=0.0, upper=1.0)
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return Share(count=count, of=of, value=count / of, lower=float(interval.low), upper=float(interval.high))


def recognise(captures: Embeddings, catalogue: Embeddings) -> Recognition:
    """Finds the nearest creative of each capture; both of unit length, [captures, D] and [creatives, D]."""
    similarities = captures @ catalogue.T
    nearest = similarities.argmax(axis=1)
    return Recognition(similarities[np.arange(len(captures)), nearest], nearest)


def threshold_at(booked: Recognition, rows: Rows, false_alarm_rate: float) -> float:
    """The similarity from which on a capture is taken for its nearest creative.

    Args:
        booked: Captures of booked creatives.
        rows: Which creative each shows, int64 [captures].
        false_alarm_rate: The share of them that may be taken for unknown; one that is taken for another creative is
            no better than unknown, and counts.
    """
    similarity = np.where(booked.nearest == rows, booked.similarity, -1.0)
    return float(np.sort(similarity)[int(np.floor(false_alarm_rate * len(rows)))])


@dataclass(frozen=True)
class RecognitionTrial:
    """Pictures by which recognisers are judged, all as a device prepares them, uint8 [pictures, S, S, 3].

    Attributes:
        catalogue: The creatives as they are, the booked ones first.
        booked: Captures of booked creatives.
        rows: Which row of the catalogue each shows, int64 [captures].
        foreign: Captures of creatives that are not in the catalogue.
        by_distortion: Captures that met one distortion alone, with the rows that they show.
    """

    catalogue: Pixels
    booked: Pixels
    rows: Rows
    foreign: Pixels
    by_distortion: Mapping[str, tuple[Pixels, Rows]]


class Judgement(BaseModel):
    """What a trial tells of a recogniser.

    Attributes:
        threshold: Chosen on the captures of every second booked creative; the figures are of the others.
        top_1: Captures of booked creatives whose nearest creative is the right one.
        false_reject: Captures of booked creatives that are taken for unknown or for another.
        false_accept: Captures of foreign creatives that are taken for a booked one.
        top_1_by_distortion: The first again where the captures met one distortion.
        false_reject_by_distortion: The second again.
    """

    threshold: float
    top_1: Share
    false_reject: Share
    false_accept: Share
    top_1_by_distortion: dict[str, Share]
    false_reject_by_distortion: dict[str, Share]


def judge(embed: Callable[[Pixels], Embeddings], trial: RecognitionTrial, false_alarm_rate: float) -> Judgement:
    """Judges a recogniser.

    Args:
        embed: Gives embeddings [pictures, D] of unit length.
        trial: The pictures.
        false_alarm_rate: The share of booked creatives' captures that may be taken for unknown.
    """
    catalogue = embed(trial.catalogue)
    booked = recognise(embed(trial.booked), catalogue)
    is_tuning = trial.rows % 2 == 0
    tuning = Recognition(booked.similarity[is_tuning], booked.nearest[is_tuning])
    threshold = threshold_at(tuning, trial.rows[is_tuning], false_alarm_rate)

    def outcome(recognition: Recognition, rows: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        right = recognition.nearest == rows
        # Written so that NaN is never known.
        return right, ~(right & (recognition.similarity >= threshold))

    right, rejected = outcome(booked, trial.rows)
    alone = {
        name: outcome(recognise(embed(pixels), catalogue), rows) for name, (pixels, rows) in trial.by_distortion.items()
    }
    return Judgement(
        threshold=threshold,
        top_1=share(right[~is_tuning]),
        false_reject=share(rejected[~is_tuning]),
        false_accept=share(recognise(embed(trial.foreign), catalogue).similarity >= threshold),
        top_1_by_distortion={name: share(right) for name, (right, _) in alone.items()},
        false_reject_by_distortion={name: share(rejected) for name, (_, rejected) in alone.items()},
    )


class Candidate(BaseModel):
    """One form of the converted recogniser.

    Attributes:
        form: How its numbers are held.
        size: Bytes of its file.
        milliseconds: The median time of one embedding on one thread.
        judgement: What a trial tells of it.
    """

    form: str
    size: int
    milliseconds: float
    judgement: Judgement

    @property
    def errors(self) -> float:
        """What it gets wrong of booked and of foreign creatives, either weighing the same."""
        return self.judgement.false_reject.value + self.judgement.false_accept.value

    def fits(self, settings: RecognitionSettings) -> bool:
        """Whether it is within the limits of size and time."""
        return self.size <= settings.max_bytes and self.milliseconds <= settings.max_milliseconds


#: Forms whose errors differ by no more are as good as each other; then the smaller one is taken.
_SAME_ERRORS = 0.005


def choose(candidates: Sequence[Candidate], settings: RecognitionSettings) -> Candidate:
    """The best form within the limits; of forms that are as good the smallest. The smallest of all where none fits."""
    within = [candidate for candidate in candidates if candidate.fits(settings)]
    if not within:
        return min(candidates, key=lambda candidate: candidate.size)
    least = min(candidate.errors for candidate in within)
    return min(
        (candidate for candidate in within if candidate.errors <= least + _SAME_ERRORS),
        key=lambda candidate: candidate.size,
    )


@dataclass(frozen=True)
class RecogniserVerdict:
    """What the gate says.

    Attributes:
        refusals: Why the recogniser must not be pushed; empty if it may.
        undecided: What its captures were too few to decide, and was blessed by the config's policy.
    """

    refusals: tuple[str, ...]
    undecided: tuple[str, ...]


def apply_gate(candidate: Candidate, settings: RecognitionSettings) -> RecogniserVerdict:
    """Holds the chosen form to the config's limits."""
    refusals, undecided = [], []
    if candidate.size > settings.max_bytes:
        refusals.append(f"its smallest form has {candidate.size:,} bytes, more than {settings.max_bytes:,}")
    if not candidate.milliseconds <= settings.max_milliseconds:
        refusals.append(
            f"{candidate.form}: {candidate.milliseconds:.1f} ms for an embedding, more than "
            f"{settings.max_milliseconds:g}"
        )
    judgement = candidate.judgement
    for name, measured, is_met, is_missed, limit in (
        (
            "top-1",
            judgement.top_1,
            judgement.top_1.lower >= settings.min_top_1,
            judgement.top_1.upper < settings.min_top_1,
            f"at least {settings.min_top_1:g} wanted",
        ),
        (
            "false accept",
            judgement.false_accept,
            judgement.false_accept.upper <= settings.max_false_accept,
            judgement.false_accept.lower > settings.max_false_accept,
            f"at most {settings.max_false_accept:g} wanted",
        ),
    ):
        line = f"{name} {measured} of {measured.of} captures, {limit}"
        if is_missed:
            refusals.append(line)
        elif not is_met and settings.undecided == "refuse":
            refusals.append(f"{line}: too few to decide, and the policy is to refuse")
        elif not is_met:
            undecided.append(f"{line}: too few to decide, and the policy is to bless")
    return RecogniserVerdict(tuple(refusals), tuple(undecided))
