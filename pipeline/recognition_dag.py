"""The pipeline that trains the recogniser of devices, as a TFX DAG."""

from __future__ import annotations

from collections.abc import Sequence

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration import metadata as tfx_metadata
from tfx.orchestration.pipeline import Pipeline

from adclick.components.ad_example_gen.settings import GATE_LIMITS
from adclick.components.recognition.evaluator import RecogniserEvaluator
from adclick.components.recognition.pictures import PictureGen
from adclick.components.recognition.pusher import RecogniserPusher
from adclick.components.recognition.trainer import RecogniserTrainer
from adclick.models.recognition.settings import JUDGING_SETTINGS
from adclick.pipeline.config.settings import Config
from adclick.pipeline.dag import creative_store, ingestion_of, union_of
from adclick.pipeline.drops import Drop
from adclick.storage.recogniser_versions import recogniser_folder


def create_recognition_pipeline(
    *,
    config: Config,
    drops: Sequence[Drop],
    beam_pipeline_args: Sequence[str],
    metadata_connection_config: tfx_metadata.ConnectionConfigType | None = None,
    enable_cache: bool = True,
) -> Pipeline:
    """Builds the DAG of one run.

    The months are ingested by the click model's own nodes: what that pipeline has read is not read again.

    Args:
        config: The config.
        drops: The months of the window, the oldest first.
        beam_pipeline_args: Arguments for Beam's runner.
        metadata_connection_config: The metadata store of a local run.
        enable_cache: Whether components whose inputs are unchanged are reused.
    """
    ingested = [ingestion_of(drop, config, creative_store(config)) for drop in drops]
    pictures = PictureGen(
        examples=union_of([node.outputs["examples"] for node in ingested]),
        creatives=union_of([node.outputs["creatives"] for node in ingested]),
        recognition=config.recognition.model_dump_json(
            include={"size", "seed", "max_creatives", "evaluation_creatives"}
        ),
        limits=config.ingestion.model_dump_json(include=set(GATE_LIMITS)),
    )
    trainer = RecogniserTrainer(
        pictures=pictures.outputs["pictures"],
        # Another limit of the gate is no reason to train anew.
        recognition=config.recognition.model_dump_json(exclude=set(JUDGING_SETTINGS)),
    )
    evaluator = RecogniserEvaluator(
        pictures=pictures.outputs["pictures"],
        model=trainer.outputs["model"],
        recognition=config.recognition.model_dump_json(),
    )
    pusher = RecogniserPusher(
        model=trainer.outputs["model"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        folder=recogniser_folder(config.push_base),
    )
    nodes: list[BaseComponent] = [*ingested, pictures, trainer, evaluator, pusher]
    return Pipeline(
        pipeline_name=config.serving.model_name,
        pipeline_root=config.artifacts,
        components=nodes,
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=list(beam_pipeline_args),
    )
