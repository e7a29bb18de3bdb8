"""Runs the stock DAG once and prints the seconds of each component as a line of JSON.

python -m benchmarks.stock.run --config CONFIG --rows N --output DIR [--beam ARGUMENT ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

# Keras 3, as for adclick; TensorFlow Transform would choose Keras 2 when it is imported first.
os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    """Runs the DAG; ends with an error unless a model was pushed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="an adclick config without images")
    parser.add_argument("--rows", type=int, required=True, help="rows of the newest month")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--beam", action="append", default=[], help="an argument for Beam, such as --beam=--runner=X")
    arguments = parser.parse_args()

    start = time.perf_counter()
    from tfx import v1 as tfx

    from adclick.pipeline.config.settings import load_config
    from adclick.pipeline.console import Steps, watching
    from benchmarks.stock.dag import create_pipeline, push_base

    seconds = {"import": time.perf_counter() - start}
    config = load_config(arguments.config)
    data = max(path for path in Path(config.data.root).iterdir() if path.is_dir())
    output = str(arguments.output.resolve())
    steps = Steps()
    pipeline = create_pipeline(
        config, data=str(data), rows=arguments.rows, output=output, beam_pipeline_args=arguments.beam
    )
    with watching(None, len(pipeline.components), steps):
        tfx.orchestration.LocalDagRunner().run(pipeline)
    if not list(Path(push_base(output)).glob("*/saved_model.pb")):
        sys.exit("the stock DAG pushed no model")
    print(json.dumps({"seconds": seconds | {step.name: step.seconds for step in steps.finished}}), flush=True)


if __name__ == "__main__":
    main()
