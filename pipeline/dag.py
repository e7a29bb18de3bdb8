"""The pipeline as a TFX DAG; runners pass it paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tfx import types
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2
from tfx.types.channel_utils import union

import adclick.models.evaluation
from adclick.components.ad_example_gen.component import AdExampleGen
from adclick.components.ad_example_gen.creative_store import STORE_FILE
from adclick.components.ad_example_gen.settings import GATE_LIMITS
from adclick.components.baseline_model.component import BaselineModel
from adclick.components.click_evaluator.component import ClickEvaluator
from adclick.components.click_statistics_gen.component import ClickStatisticsGen
from adclick.components.click_trainer.component import ClickTrainer
from adclick.components.click_transform.component import ClickTransform
from adclick.components.copy_detector.component import CopyDetector
from adclick.components.data_gate.component import DataGate
from adclick.components.drift_detector.component import DriftDetector
from adclick.components.model_gate.component import ModelGate
from adclick.components.model_pusher.component import ModelPusher
from adclick.components.serving_validator.component import ServingValidator
from adclick.components.splits import EVALUATION
from adclick.pipeline.config.settings import Config
from adclick.pipeline.drops import Drop

_Component = TypeVar("_Component", bound=BaseComponent)


def union_of(channels: Sequence[types.BaseChannel]) -> types.BaseChannel:
    """One input of several months' outputs."""
    return channels[0] if len(channels) == 1 else union(channels)


def creative_store(config: Config) -> str | None:
    """Where a run on this machine keeps creatives from month to month; None without images."""
    return os.path.join(config.output, STORE_FILE) if config.has_images else None


def ingestion_of(drop: Drop, config: Config, store: str | None) -> AdExampleGen:
    """The node that reads a month, the same in every pipeline, so that a month is read once for all of them."""
    return AdExampleGen(
        drop_uri=drop.uri,
        span=drop.span,
        version=drop.version,
        fingerprint=drop.fingerprint,
        features=config.features.model_dump_json(),
        csv=config.csv.model_dump_json(),
        ingestion=config.ingestion.model_dump_json(exclude=set(GATE_LIMITS)),
        split=config.split.model_dump_json(),
        creative_store=store,
    ).with_id(f"AdExampleGen-{drop.name}")


def create_pipeline(
    *,
    config: Config,
    drops: Sequence[Drop],
    schema_file: str,
    pipeline_root: str,
    push_base: str,
    baseline: str | None,
    beam_pipeline_args: Sequence[str],
    metadata_connection_config: tfx_metadata.ConnectionConfigType | None = None,
    enable_cache: bool = True,
    gate_model: bool = False,
    make_recorder: Callable[[Mapping[str, BaseComponent]], BaseComponent] | None = None,
    store: str | None = None,
) -> Pipeline:
    """Builds the DAG of one run.

    Ingestion, statistics, validation and the data gate have a node per month, so that a month is read once however many
    runs its window takes part in. The newest month is measured against the others, and looked for in them, before its
    gate.

    Args:
        config: The config.
        drops: The months of the window, the oldest first; of the newest, parts are for validation and evaluation.
        schema_file: The curated schema; its address must change with its content, as the cache goes by it.
        pipeline_root: Where artifacts go.
        push_base: Where blessed models go, a folder per version.
        baseline: The pushed version of the last blessed model; None on the first run.
        beam_pipeline_args: Arguments for Beam's runner.
        metadata_connection_config: The metadata store of a local run.
        enable_cache: Whether components whose inputs are unchanged are reused.
        gate_model: Whether a refused model fails the run, at a step of its own; a platform shows nothing else of it.
        make_recorder: Makes the node that keeps what came of a platform's run from all others by id; it runs before a
            refused model fails the run.
        store: From `creative_store`, for a run on this machine; steps of a platform share no local file.
    """
    features = config.features.model_dump_json()
    nodes: list[BaseComponent] = []

    def add(node: _Component) -> _Component:
        nodes.append(node)
        return node

    schema = add(ImportSchemaGen(schema_file=schema_file))
    ingested: list[AdExampleGen] = []
    described: list[ClickStatisticsGen] = []
    gates: list[DataGate] = []
    for drop in drops:
        examples = add(ingestion_of(drop, config, store))
        statistics = add(
            ClickStatisticsGen(
                examples=examples.outputs["examples"], schema=schema.outputs["schema"], features=features
            ).with_id(f"StatisticsGen-{drop.name}")
        )
        validator = add(
            ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]).with_id(
                f"ExampleValidator-{drop.name}"
            )
        )
        drift = None
        if described and drop is drops[-1]:
            drift = add(
                DriftDetector(
                    statistics=statistics.outputs["statistics"],
                    earlier_statistics=union_of([node.outputs["statistics"] for node in described]),
                    schema=schema.outputs["schema"],
                    features=features,
                    month=drop.name,
                    compared_with=[earlier.name for earlier in drops[:-1]],
                )
            )
        copies = None
        if drop is drops[-1]:
            copies = add(
                CopyDetector(
                    examples=examples.outputs["examples"],
                    earlier_examples=union_of([node.outputs["examples"] for node in ingested]) if ingested else None,
                    month=drop.name,
                    compared_with=[earlier.name for earlier in drops[:-1]],
                )
            )
        gates.append(
            add(
                DataGate(
                    examples=examples.outputs["examples"],
                    anomalies=validator.outputs["anomalies"],
                    drift=drift.outputs["drift"] if drift else None,
                    copies=copies.outputs["copies"] if copies else None,
                    month=drop.name,
                    limits=config.ingestion.model_dump_json(include=set(GATE_LIMITS)),
                ).with_id(f"DataGate-{drop.name}")
            )
        )
        ingested.append(examples)
        described.append(statistics)
    newest = ingested[-1]
    analyses = [node.outputs["analysis"] for node in described]
    transform = add(
        ClickTransform(
            analysis=analyses[-1],
            earlier_analysis=union_of(analyses[:-1]) if analyses[1:] else None,
            schema=schema.outputs["schema"],
            features=features,
        ).with_id("Transform")
    )
    transform.add_upstream_nodes(gates)
    trainer = add(
        ClickTrainer(
            examples=newest.outputs["examples"],
            earlier_examples=union_of([node.outputs["examples"] for node in ingested[:-1]]) if ingested[1:] else None,
            creatives=union_of([node.outputs["creatives"] for node in ingested]),
            transform_graph=transform.outputs["transform_graph"],
            features=features,
            network=config.network.model_dump_json(),
            training=config.training.model_dump_json(),
            image_size=config.ingestion.image_size,
            warm_start_from=baseline if config.training.warm_start else None,
        )
    )
    baseline_model = None
    if baseline is not None:
        baseline_model = add(BaselineModel(creatives=newest.outputs["creatives"], pushed_version=baseline))
    evaluator = add(
        ClickEvaluator(
            examples=newest.outputs["examples"],
            example_splits=[EVALUATION],
            model=trainer.outputs["model"],
            baseline_model=baseline_model.outputs["model"] if baseline_model else None,
            eval_config=adclick.models.evaluation.build_eval_config(
                config.features, config.evaluation, has_baseline=baseline is not None
            ),
            undecided=config.evaluation.undecided,
        ).with_id("Evaluator")
    )
    serving_validator = add(
        ServingValidator(
            model=trainer.outputs["model"],
            examples=newest.outputs["examples"],
            creatives=newest.outputs["creatives"],
            features=features,
            requests=config.serving.validation_requests,
        )
    )
    pusher = add(
        ModelPusher(
            model=trainer.outputs["model"],
            model_blessing=evaluator.outputs["blessing"],
            infra_blessing=serving_validator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=push_base)
            ),
        ).with_id("ModelPusher")
    )
    last: BaseComponent = pusher
    if make_recorder is not None:
        last = add(make_recorder({node.id: node for node in nodes}))
    if gate_model:
        gate = add(
            ModelGate(evaluation=evaluator.outputs["evaluation"], infra_blessing=serving_validator.outputs["blessing"])
        )
        gate.add_upstream_node(last)
    return Pipeline(
        pipeline_name=config.serving.model_name,
        pipeline_root=pipeline_root,
        components=nodes,
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args),
    )
