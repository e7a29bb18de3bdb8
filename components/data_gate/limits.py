"""What the counts of a month's ingestion forbid: each limit that is passed, with the figures and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adclick.components.ad_example_gen.missing_images import CAUSES
from adclick.components.ad_example_gen.reasons import INVALID_UTF8, UNDECODABLE
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.models.creatives import NONE, OK

_SHOWN_CAUSES = 3


@dataclass(frozen=True)
class IngestionCounts:
    """What a month's ingestion counted, as far as limits concern it.

    Attributes:
        rows_in: Rows read.
        rows_duplicate: Rows of whose identifier another is kept.
        rows_conflicting: Of these, the ones that contradict it.
        rows_clicked_later: Examples that are clicked because another row of their identifier is.
        rows_of_clicks: Of the duplicates, the ones that give a later time, that of a click.
        rows_dated_in: Rows dated outside the month, by the month that they are dated in.
        copied_files: Files that were not read, by the name of the one that they equal.
        conflicts_by_column: Of the conflicts looked at, how many differ in a column.
        quarantined_by_reason: Rows.
        infinite_by_column: Numbers that are infinite, or beyond float32.
        impressions_by_image_status: Impressions, `none` those that name no image.
        unusable_images_by_cause: Image addresses, by the likely cause or the status.
        examples: Some of each kind of trouble, such as `unusable_images/<cause>`.
    """

    rows_in: int
    rows_duplicate: int = 0
    rows_conflicting: int = 0
    rows_clicked_later: int = 0
    rows_of_clicks: int = 0
    conflicts_by_column: Mapping[str, int] = field(default_factory=dict)
    rows_dated_in: Mapping[str, int] = field(default_factory=dict)
    copied_files: Mapping[str, str] = field(default_factory=dict)
    quarantined_by_reason: Mapping[str, int] = field(default_factory=dict)
    infinite_by_column: Mapping[str, int] = field(default_factory=dict)
    impressions_by_image_status: Mapping[str, int] = field(default_factory=dict)
    unusable_images_by_cause: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, list[str]] = field(default_factory=dict)


def _exceeds(part: int, whole: int, allowed_share: float) -> bool:
    """Whether a part is more than the allowed share of the whole; of nothing, no part is."""
    return bool(whole) and part > allowed_share * whole


def _refusal_of_rows(told: str, rows: int, rows_in: int, limit: str, allowed_share: float, question: str) -> str | None:
    """Says that rows of which something is told are too many, and what may have led to it; None if they are not."""
    if not _exceeds(rows, rows_in, allowed_share):
        return None
    share = rows / rows_in
    return f"{told} These are {share:.2%} of the rows, more than ingestion.{limit}, {allowed_share:.2%}: {question}"


def quarantine_refusal(counts: Mapping[str, int], rows_in: int, allowed_share: float) -> str | None:
    """Says why too many rows are quarantined, or None.

    Args:
        counts: Quarantined rows by reason.
        rows_in: Rows read.
        allowed_share: The share of `rows_in` that may be quarantined.
    """
    quarantined = sum(counts.values())
    if not _exceeds(quarantined, rows_in, allowed_share):
        return None
    by_reason = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return (
        f"{quarantined:,} of {rows_in:,} rows ({quarantined / rows_in:.2%}) are quarantined, "
        f"more than the allowed {allowed_share:.2%}: {by_reason}"
        + ("; csv.encoding says what the files are encoded in" if {INVALID_UTF8, UNDECODABLE} & set(counts) else "")
    )


def missing_image_refusal(counts: IngestionCounts, limits: IngestionSettings) -> str | None:
    """Says why too many impressions cannot have their images, with the likely causes, or None."""
    allowed = limits.max_missing_image_share
    by_status = {name: count for name, count in counts.impressions_by_image_status.items() if name != NONE}
    naming = sum(by_status.values())
    unusable = {name: count for name, count in by_status.items() if name != OK}
    without = sum(unusable.values())
    if not _exceeds(without, naming, allowed):
        return None
    statuses = ", ".join(f"{status} {count:,}" for status, count in sorted(unusable.items(), key=lambda item: -item[1]))
    return (
        f"{without:,} of the {naming:,} impressions that name an image ({without / naming:.2%}) cannot have it, more "
        f"than ingestion.max_missing_image_share, {allowed:.2%}: {statuses}. {'; '.join(describe_causes(counts))}"
    )


def describe_causes(counts: IngestionCounts) -> list[str]:
    """The most frequent likely causes of unusable images, each with its number of addresses and examples."""
    causes = sorted(counts.unusable_images_by_cause.items(), key=lambda item: (-item[1], item[0]))
    lines = []
    for cause, addresses in causes[:_SHOWN_CAUSES]:
        shown = ", ".join(counts.examples.get(f"unusable_images/{cause}", []))
        lines.append(f"{addresses:,} × {CAUSES.get(cause, cause)}" + (f", such as {shown}" if shown else ""))
    return lines


def conflict_refusal(counts: IngestionCounts, limits: IngestionSettings) -> str | None:
    """Says why too many rows contradict the first of their identifier, or None."""
    return _refusal_of_rows(
        _describe_conflicts(counts),
        counts.rows_conflicting,
        counts.rows_in,
        "max_conflict_share",
        limits.max_conflict_share,
        "is the identifier one of impressions?",
    )


def _describe_conflicts(counts: IngestionCounts) -> str:
    columns = sorted(counts.conflicts_by_column.items(), key=lambda item: (-item[1], item[0]))
    differing = ", ".join(name for name, _ in columns[:_SHOWN_CAUSES])
    shown = "; ".join(counts.examples.get("conflicting_rows", []))
    return (
        f"{counts.rows_conflicting:,} of {counts.rows_duplicate:,} repeated rows differ from the earliest of their "
        f"identifier in more than the label, in {differing}, such as {shown}."
    )


def outside_month_refusal(counts: IngestionCounts, limits: IngestionSettings) -> str | None:
    """Says why too many rows are dated outside their month, or None."""
    return _refusal_of_rows(
        _describe_outside(counts),
        sum(counts.rows_dated_in.values()),
        counts.rows_in,
        "max_outside_month_share",
        limits.max_outside_month_share,
        "is it another month's delivery?",
    )


def _describe_outside(counts: IngestionCounts) -> str:
    by_month = ", ".join(f"{month} {rows:,}" for month, rows in sorted(counts.rows_dated_in.items()))
    return f"{sum(counts.rows_dated_in.values()):,} rows are dated outside their month: in {by_month}."


def notes(counts: IngestionCounts) -> list[str]:
    """What a person should know of a month's ingestion, whether a limit forbids it or not."""
    lines = [f"images: {line}" for line in describe_causes(counts)]
    lines += [f"store of creatives: {trouble}" for trouble in counts.examples.get("creative_store", [])]
    for name, numbers in counts.infinite_by_column.items():
        lines.append(
            f"{numbers:,} numbers of {name} are infinite or beyond float32; the model reads them, like every number "
            "beyond what training held, as the nearest that it held."
        )
    if counts.rows_clicked_later:
        lines.append(f"{counts.rows_clicked_later:,} impressions are clicked as another row of their identifier says.")
    if counts.rows_of_clicks:
        lines.append(
            f"{counts.rows_of_clicks:,} repeated rows give the time of a click: the impression's earlier one is kept."
        )
    if counts.rows_conflicting:
        lines.append(_describe_conflicts(counts))
    if counts.rows_dated_in:
        lines.append(_describe_outside(counts))
    lines += [
        f"{copy} is {original} once more: it was not read, so that its rows count once."
        for copy, original in counts.copied_files.items()
    ]
    return lines


def refusals(counts: IngestionCounts, limits: IngestionSettings) -> list[str]:
    """Every limit that a month's ingestion passes, in words."""
    checks: list[Callable[[], str | None]] = [
        lambda: quarantine_refusal(counts.quarantined_by_reason, counts.rows_in, limits.max_quarantine_share),
        lambda: missing_image_refusal(counts, limits),
        lambda: conflict_refusal(counts, limits),
        lambda: outside_month_refusal(counts, limits),
    ]
    return [reason for check in checks if (reason := check()) is not None]
