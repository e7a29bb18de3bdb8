"""The Evaluator component."""

from __future__ import annotations

from tfx.components.evaluator.component import Evaluator
from tfx.dsl.components.base import executor_spec

from components.click_evaluator.executor import ClickEvaluatorExecutor


class ClickEvaluator(Evaluator):  # type: ignore[misc]
    """TFX's Evaluator, spec and artifacts alike, on an executor that reads batches where TFMA reads examples.

    TFMA's own executor takes half a minute for two hundred examples with slices and intervals; the metrics here are
    the same, but for the thresholds of AUC, which lie evenly on the logit here and on the probability there.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ClickEvaluatorExecutor)
