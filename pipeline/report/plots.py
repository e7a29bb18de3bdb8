"""The geometry of the report's plots: from numbers to what the templates draw as SVG or CSS. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from adclick.pipeline.report.facts import CalibrationPoint, HistogramFacts
from adclick.pipeline.runs.record import MetricRecord

#: Of every chart's view box; text is 11 units high, so that it is legible at the width of a phone.
WIDTH, HEIGHT = 360.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 38.0
_HISTOGRAM_HEIGHT = 64.0
#: Ticks that a chart aims for.
_TICKS = 5
#: More ticks than this on a logarithmic axis are thinned out to the powers of ten.
_LOG_TICKS = 8
#: A logarithmic axis goes down to at most so small a part of its upper end.
_DECADES = 10_000
#: A strip leaves so much room beside the outermost interval.
_MARGIN = 0.06


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the view box's units."""

    at: float
    label: str


@dataclass(frozen=True)
class PlotLine:
    """A line through points; `style` names its class in the style sheet."""

    style: str
    path: str


@dataclass(frozen=True)
class Dot:
    """A marked point, with the ends of its vertical interval if it has one."""

    style: str
    x: float
    y: float
    title: str
    upper: float | None = None
    lower: float | None = None


@dataclass(frozen=True)
class Chart:
    """What is drawn into a frame of `WIDTH` by `HEIGHT`.

    Attributes:
        x_label: What the horizontal axis counts.
        y_label: What the vertical axis counts.
        x_ticks: From left to right.
        y_ticks: From the bottom up.
        lines: Drawn first.
        dots: Drawn above them.
    """

    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[PlotLine, ...] = ()
    dots: tuple[Dot, ...] = ()
    width: float = WIDTH
    height: float = HEIGHT
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def nice_ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Round numbers from `low` to `high`, as near to `count` of them as round numbers allow."""
    if not high > low:
        return [low]
    power = 10 ** math.floor(math.log10((high - low) / count))
    choices = [_multiples(low, high, factor * power) for factor in (1, 2, 2.5, 5, 10)]
    return min(choices, key=lambda ticks: abs(len(ticks) - count))


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def label_of(value: float, step: float) -> str:
    """A tick's label with as many digits as its neighbours need to differ."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    # 0.025 has a digit more than its power of ten says.
    if step > 0 and abs(round(step, digits) - step) > 1e-9 * step:
        digits += 1
    return f"{value:,.{digits}f}"


def curves(lines: Mapping[str, Sequence[float]], y_label: str, best: int | None) -> Chart:
    """Draws values by epoch.

    Args:
        lines: By the style of the line, its value after each epoch.
        y_label: What the values are.
        best: The epoch, from 0, to mark on the last line; None for none.
    """
    values = [value for line in lines.values() for value in line]
    low, high = _padded(min(values), max(values))
    epochs = max(len(line) for line in lines.values())

    def x(epoch: float) -> float:
        return _LEFT + (WIDTH - _RIGHT - _LEFT) * (epoch / max(epochs - 1, 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * (value - low) / (high - low)

    dots = []
    for style, line in lines.items():
        for epoch, value in enumerate(line):
            is_best = epoch == best and style == list(lines)[-1]
            what = f"epoch {epoch + 1}: {value:.5f}" + (", the best, whose weights are kept" if is_best else "")
            dots.append(Dot(f"{style} best" if is_best else style, x(epoch), y(value), what))
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    every = max(1, -(-epochs // 8))
    return Chart(
        "epoch",
        y_label,
        tuple(Tick(x(epoch), str(epoch + 1)) for epoch in range(0, epochs, every)),
        tuple(Tick(y(tick), label_of(tick, step)) for tick in ticks),
        tuple(PlotLine(style, _path(x, y, _points(line))) for style, line in lines.items()),
        tuple(dots),
    )


def _points(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(place), value) for place, value in enumerate(values)]


def _path(x: Callable[[float], float], y: Callable[[float], float], points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x(across):.1f} {y(up):.1f}" for across, up in points) if points else ""


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def calibration(candidate: Sequence[CalibrationPoint], baseline: Sequence[CalibrationPoint]) -> Chart:
    """Draws the share clicked over the predicted probability on logarithmic axes, and the line where they agree."""
    shown = (*candidate, *baseline)
    values = [value for one in shown for value in (one.predicted, one.clicked.value, one.truth) if value]
    high = min(1.0, max(values) * 1.5)
    low = max(min(values) * 0.8, high / _DECADES)
    span = math.log(high / low)

    def x(value: float) -> float:
        return _LEFT + (WIDTH - _RIGHT - _LEFT) * _unit(math.log(max(value, low) / low) / span)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * _unit(math.log(max(value, low) / low) / span)

    ticks = [
        factor * 10.0**power
        for power in range(math.floor(math.log10(low)), 1)
        for factor in (1, 2, 5)
        if low <= factor * 10.0**power <= high
    ]
    if len(ticks) > _LOG_TICKS:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    lines = [PlotLine("agreement", _path(x, y, [(low, low), (high, high)]))]
    truth = [(one.predicted, one.truth) for one in candidate if one.truth is not None]
    lines += [PlotLine("truth", _path(x, y, truth))] if truth else []
    if baseline:
        lines.append(PlotLine("baseline", _path(x, y, [(one.predicted, one.clicked.value or 0.0) for one in baseline])))
    dots = tuple(
        Dot(
            "candidate",
            x(one.predicted),
            y(one.clicked.value or 0.0),
            f"predicted {one.predicted:.2%}, clicked {one.clicked.value:.2%} of {one.rows:,} impressions",
            upper=y(one.clicked.upper or 0.0),
            lower=y(one.clicked.lower or 0.0),
        )
        for one in candidate
    )
    return Chart(
        "predicted click probability",
        "share clicked",
        tuple(Tick(x(tick), _percent(tick)) for tick in ticks),
        tuple(Tick(y(tick), _percent(tick)) for tick in ticks),
        tuple(lines),
        dots,
    )


def _percent(share: float) -> str:
    return f"{share * 100:g}\u00a0%"


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


@dataclass(frozen=True)
class Bars:
    """A histogram: bars as x, y, width and height, and the earlier months' outline."""

    bars: tuple[tuple[float, float, float, float], ...]
    before: str
    width: float = WIDTH
    height: float = _HISTOGRAM_HEIGHT


def histogram(found: HistogramFacts) -> Bars:
    """Draws a quantity's distribution over the earlier months' outline."""
    highest = max([*found.shares, *(found.before or ()), 1e-12])
    width = WIDTH / len(found.shares)

    def top(share: float) -> float:
        return _HISTOGRAM_HEIGHT * (1 - 0.96 * share / highest)

    bars = tuple(
        (number * width + 0.5, top(share), width - 1, _HISTOGRAM_HEIGHT - top(share))
        for number, share in enumerate(found.shares)
    )
    outline = ""
    if found.before:
        steps = [
            f"L{edge:.1f} {top(share):.1f}"
            for number, share in enumerate(found.before)
            for edge in (number * width, (number + 1) * width)
        ]
        outline = f"M0 {_HISTOGRAM_HEIGHT} {' '.join(steps)} L{WIDTH} {_HISTOGRAM_HEIGHT}"
    return Bars(bars, outline)


@dataclass(frozen=True)
class Strip:
    """A metric's value and interval on a common scale, all in percent of the strip's width.

    Attributes:
        at: The candidate's value; None where it is not defined.
        left: The interval's lower end; None without one.
        width: The interval's width.
        baseline: The baseline's value; None without one.
        reference: Where the scale's reference lies.
    """

    at: float | None
    left: float | None = None
    width: float = 0.0
    baseline: float | None = None
    reference: float | None = None


@dataclass(frozen=True)
class Scale:
    """Maps a metric to percent of a strip's width."""

    low: float
    high: float
    reference: float | None = field(default=None)

    def __call__(self, value: float) -> float:
        return 100 * _unit((value - self.low) / (self.high - self.low))

    def strip(self, metric: MetricRecord | None, baseline: MetricRecord | None) -> Strip:
        """Places a candidate's metric and the baseline's."""
        reference = None if self.reference is None else self(self.reference)
        beside = None if baseline is None or baseline.value is None else self(baseline.value)
        if metric is None or metric.value is None:
            return Strip(None, baseline=beside, reference=reference)
        if metric.lower is None or metric.upper is None:
            return Strip(self(metric.value), baseline=beside, reference=reference)
        left, right = self(metric.lower), self(metric.upper)
        return Strip(self(metric.value), left, right - left, beside, reference)


def scale_of(metrics: Sequence[MetricRecord], reference: float | None) -> Scale:
    """A scale that shows every interval whole; values of slices too small for one may lie at its ends."""
    known = [metric for metric in metrics if metric.value is not None]
    sure = [metric for metric in known if metric.lower is not None] or known
    ends = [end for metric in sure for end in (metric.value, metric.lower, metric.upper) if end is not None]
    ends += [] if reference is None else [reference]
    if not ends:
        return Scale(0.0, 1.0, reference)
    low, high = min(ends), max(ends)
    room = (high - low) * _MARGIN or abs(high) * 0.05 or 1.0
    return Scale(low - room, high + room, reference)
