"""The monthly pipeline: one step that resolves the window when it runs, compiles the run and submits it.

A compiled run names its months, their fingerprints and the model to beat; that is what makes its steps reusable. A
schedule must therefore start from something that looks anew each time: this pipeline, whose runtime parameters are the
month and the number of months.
"""

from __future__ import annotations

import logging
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from adclick.pipeline.config.schema_file import publish_schema
from adclick.pipeline.config.settings import Config
from adclick.pipeline.config.target import Target
from adclick.pipeline.targets.platforms import platform_of
from adclick.pipeline.targets.window import LATEST


class MonthlySubmissionSpec(ComponentSpec):  # type: ignore[misc]
    """Parameters of MonthlySubmission; it has no inputs and no outputs."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "target": ExecutionParameter(type=str),
        "month": ExecutionParameter(type=str),
        "window": ExecutionParameter(type=int),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS: dict[str, ChannelParameter] = {}


class MonthlySubmissionExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Submits a run of the months that there are now."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        from adclick.pipeline.targets.submission import submit_run

        submitted = submit_run(
            Config.model_validate_json(exec_properties["config"]),
            exec_properties["target"],
            month=exec_properties["month"],
            months=exec_properties["window"],
        )
        for line in submitted.passed_over.describe():
            logging.getLogger("adclick").warning("%s", line)
        logging.getLogger("adclick").info("submitted %s: %s", submitted.months, submitted.address)


class MonthlySubmission(base_component.BaseComponent):  # type: ignore[misc]
    """Resolves the window, compiles the run and submits it to the platform that this step runs on."""

    SPEC_CLASS = MonthlySubmissionSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(MonthlySubmissionExecutor)

    def __init__(self, *, config: str, target: str, month: RuntimeParameter, window: RuntimeParameter) -> None:
        """Declares the component.

        Args:
            config: The config as JSON; its addresses must be such as the step can read.
            target: The platform.
            month: The newest month of the run, or `latest`.
            window: How many months; the config's `data.window` if 0.
        """
        super().__init__(spec=MonthlySubmissionSpec(config=config, target=target, month=month, window=window))


def create_monthly_pipeline(config: Config, target: Target, *, month: str = LATEST, months: int = 0) -> Pipeline:
    """Builds the monthly pipeline.

    Args:
        config: The config; its schema is copied to where the step can read it.
        target: The platform.
        month: Default of the runtime parameter `month`.
        months: Default of the runtime parameter `window`; 0 is the config's `data.window`.
    """
    platform = platform_of(target).inside(config.platform)
    fixed = config.model_copy(update={"schema_file": publish_schema(config), "platform": platform})
    step = MonthlySubmission(
        config=fixed.model_dump_json(),
        target=target,
        month=RuntimeParameter("month", ptype=str, default=month),
        window=RuntimeParameter("window", ptype=int, default=months),
    )
    return Pipeline(
        pipeline_name=f"{config.serving.model_name}-monthly",
        pipeline_root=config.artifacts,
        components=[step],
        # The data may have changed where the parameters have not.
        enable_cache=False,
    )
