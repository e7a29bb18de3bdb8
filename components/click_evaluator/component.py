"""The Evaluator component."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator.component import Evaluator
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts, standard_component_specs
from tfx.types.component_spec import ExecutionParameter

from adclick.components.click_evaluator.executor import ClickEvaluatorExecutor
from adclick.models.gates import UNDECIDED


class ClickEvaluatorSpec(standard_component_specs.EvaluatorSpec):  # type: ignore[misc]
    """TFX's own, and what becomes of a model of which too few clicks tell."""

    PARAMETERS = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        UNDECIDED: ExecutionParameter(type=str, optional=True),
    }


class ClickEvaluator(Evaluator):  # type: ignore[misc]
    """TFX's Evaluator, inputs and artifacts alike, on an executor that reads batches where TFMA reads examples.

    TFMA's own executor takes half a minute for two hundred examples with slices and intervals; the metrics here are
    the same, but for the thresholds of AUC, which lie evenly on the logit here and on the probability there.
    """

    SPEC_CLASS = ClickEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(ClickEvaluatorExecutor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        example_splits: Sequence[str],
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None,
        eval_config: config_pb2.EvalConfig,
        undecided: str,
    ) -> None:
        """Declares the component.

        Args:
            examples: The newest month.
            example_splits: The splits to judge by.
            model: The candidate.
            baseline_model: The last blessed model; None on the first run.
            eval_config: Metrics, slices and thresholds.
            undecided: `bless` or `refuse`; see `models.gates`.
        """
        # Not Evaluator's constructor, which makes a spec of TFX's own class.
        super(Evaluator, self).__init__(
            spec=ClickEvaluatorSpec(
                examples=examples,
                example_splits=json.dumps(list(example_splits)),
                model=model,
                baseline_model=baseline_model,
                eval_config=eval_config,
                fairness_indicator_thresholds="null",
                undecided=undecided,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
