"""The sections of the report: a section is a template, here a line, and a module where it has facts of its own."""

from __future__ import annotations

from adclick.pipeline.report.sections.anomalies import anomaly_facts
from adclick.pipeline.report.sections.calibration import calibration_facts
from adclick.pipeline.report.sections.evaluation import evaluation_facts
from adclick.pipeline.report.sections.lineage import lineage_facts
from adclick.pipeline.report.sections.outcome import outcome_facts
from adclick.pipeline.report.sections.section import Section
from adclick.pipeline.report.sections.steps import step_facts
from adclick.pipeline.report.sections.training import training_facts

#: In the order in which they stand on the page.
SECTIONS = (
    Section("outcome", "Outcome", outcome_facts),
    Section("data", "Data"),
    Section("anomalies", "Anomalies", anomaly_facts),
    Section("drift", "Drift"),
    Section("columns", "Columns"),
    Section("training", "Training", training_facts),
    Section("evaluation", "Evaluation", evaluation_facts),
    Section("calibration", "Calibration", calibration_facts),
    Section("importance", "What counts"),
    Section("images", "Images"),
    Section("steps", "Steps", step_facts),
    Section("lineage", "Lineage", lineage_facts),
)
