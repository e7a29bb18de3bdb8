"""Runs one ingestion component alone, through LocalDagRunner, and prints its seconds and rows as JSON.

    python -m benchmarks.stock.ingest COMPONENT --config CONFIG --output DIR [--creative-store FILE]

The seconds are of the component's execution, drivers and metadata included, imports excluded. All components get the
Beam arguments of adclick's local runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if TYPE_CHECKING:
    from adclick.pipeline.config.settings import Config
    from adclick.pipeline.drops import Drop

COMPONENTS = ("AdExampleGen", "CsvExampleGen", "CsvAndImagesExampleGen")


def main() -> None:
    """Runs the component on the newest month of a config."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("component", choices=COMPONENTS)
    parser.add_argument("--config", type=Path, required=True, help="an adclick config")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--creative-store", help="AdExampleGen's store of decoded creatives; none by default")
    arguments = parser.parse_args()

    from tfx.orchestration import metadata
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.pipeline import Pipeline

    from adclick.pipeline.config.settings import load_config
    from adclick.pipeline.drops import find_drops
    from adclick.pipeline.runs.beam_runner import LOCAL_BEAM_ARGUMENTS

    config = load_config(arguments.config)
    drop = find_drops(config.data.root, window=1)[0]
    output = arguments.output.resolve()
    pipeline = Pipeline(
        pipeline_name="ingestion",
        pipeline_root=str(output / "pipeline_root"),
        components=[_component(arguments.component, config, drop, arguments.creative_store)],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(output / "metadata.sqlite")),
        beam_pipeline_args=list(LOCAL_BEAM_ARGUMENTS),
    )
    start, processor = time.perf_counter(), time.process_time()
    LocalDagRunner().run(pipeline)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor
    result = {"seconds": seconds, "processor_seconds": processor_seconds, "rows": _written(output)}
    print(json.dumps(result), flush=True)


def _component(name: str, config: Config, drop: Drop, creative_store: str | None) -> Any:
    if name == "AdExampleGen":
        from adclick.components.ad_example_gen.component import AdExampleGen

        return AdExampleGen(
            drop_uri=drop.uri,
            span=drop.span,
            version=drop.version,
            fingerprint=drop.fingerprint,
            features=config.features.model_dump_json(),
            csv=config.csv.model_dump_json(),
            ingestion=config.ingestion.model_dump_json(),
            split=config.split.model_dump_json(),
            creative_store=creative_store,
        )
    from tfx.components.example_gen.component import FileBasedExampleGen
    from tfx.components.example_gen.csv_example_gen.executor import Executor
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

    from benchmarks.stock.images import CsvAndImagesExecutor
    from benchmarks.stock.splits import input_config, output_config

    # CsvExampleGen is just this with its executor.
    executor = Executor if name == "CsvExampleGen" else CsvAndImagesExecutor
    return FileBasedExampleGen(
        input_base=drop.uri,
        input_config=input_config(),
        output_config=output_config(),
        custom_executor_spec=BeamExecutorSpec(executor),
    ).with_id(name)


def _written(output: Path) -> int:
    """The number of examples that were written."""
    import tensorflow as tf

    files = [str(path) for path in output.glob("pipeline_root/*/examples/*/Split-*/*")]
    if not files:
        sys.exit(f"no examples were written under {output}")
    compression = "GZIP" if files[0].endswith(".gz") else ""
    records = tf.data.TFRecordDataset(files, compression, num_parallel_reads=2)
    return int(records.reduce(0, lambda count, _: count + 1).numpy())


if __name__ == "__main__":
    main()
