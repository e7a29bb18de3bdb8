"""The ModelGate component."""

from __future__ import annotations

import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.models.evaluation import read_refusals, read_undecided
from adclick.schema.errors import ModelRefused


def refusal_reasons(evaluation_uri: str, infra_blessing: types.Artifact) -> list[str]:
    """Says which metric in which slice, or which served answer, forbids to push a candidate; empty if none does."""
    reasons = read_refusals(evaluation_uri)
    if infra_blessing.get_int_custom_property("blessed") != 1:
        reasons += infra_blessing.get_string_custom_property("reasons").splitlines()
    return reasons


class ModelGateSpec(ComponentSpec):
    """Inputs of ModelGate; it has no outputs and no parameters."""

    PARAMETERS: dict[str, ExecutionParameter] = {}
    INPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "infra_blessing": ChannelParameter(type=standard_artifacts.InfraBlessing),
    }
    OUTPUTS: dict[str, ChannelParameter] = {}


class ModelGateExecutor(base_executor.BaseExecutor):
    """Raises `ModelRefused` where the evaluation or the served answers forbid to push the candidate."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        reasons = refusal_reasons(
            artifact_utils.get_single_uri(input_dict["evaluation"]),
            artifact_utils.get_single_instance(input_dict["infra_blessing"]),
        )
        for line in read_undecided(artifact_utils.get_single_uri(input_dict["evaluation"])):
            logging.getLogger("adclick").info("%s", line)
        if reasons:
            raise ModelRefused(
                "the model is refused and will not be pushed:\n" + "\n".join(f"  {reason}" for reason in reasons),
                "The version that was served before stays. Look at these slices, the data of the newest month and the "
                "thresholds of the config.",
            )


class ModelGate(base_component.BaseComponent):
    """Fails the run where the model is refused, so that a platform shows it; on one machine the run's record does."""

    SPEC_CLASS = ModelGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ModelGateExecutor)

    def __init__(self, *, evaluation: types.BaseChannel, infra_blessing: types.BaseChannel) -> None:
        """Declares the component.

        Args:
            evaluation: The Evaluator's.
            infra_blessing: The ServingValidator's.
        """
        super().__init__(spec=ModelGateSpec(evaluation=evaluation, infra_blessing=infra_blessing))
