"""The curves of training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adclick.pipeline.report import plots
from adclick.pipeline.report.facts import RunReport


def training_facts(report: RunReport) -> Mapping[str, Any]:
    """The charts, and the epoch that was kept."""
    return {"loss_chart": loss_chart(report), "auc_chart": auc_chart(report), "best_epoch": best_epoch(report)}


def best_epoch(report: RunReport) -> int | None:
    """The epoch, from 0, whose log loss of validation is the lowest."""
    losses = report.history.get("val_log_loss", ())
    return min(range(len(losses)), key=lambda epoch: losses[epoch]) if losses else None


def loss_chart(report: RunReport) -> plots.Chart | None:
    """Log loss by epoch."""
    history = report.history
    if not history.get("log_loss") or not history.get("val_log_loss"):
        return None
    lines = {"training": history["log_loss"], "candidate": history["val_log_loss"]}
    return plots.curves(lines, "log loss", best_epoch(report))


def auc_chart(report: RunReport) -> plots.Chart | None:
    """Held-out AUC by epoch."""
    values = [value for value in report.history.get("val_auc", ()) if math.isfinite(value)]
    return plots.curves({"candidate": values}, "AUC", best_epoch(report)) if values else None
