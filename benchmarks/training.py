"""Training throughput: against DeepCTR, against plain Keras, and what images cost as they are shown more often.

The same network on all sides: embeddings of 8, two low-rank crosses of rank 32 beside an MLP of 64 and 32 units, Adam,
batches of 1,024. DeepCTR's cross layer of one expert has a rank by rank matrix and a gate more than ours; ours has the
additive effects more. Ours counts whole epochs after the first, its look at validation rows included.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import typer

from adclick.models.creatives import OK, Creative, write_record
from adclick.models.features import InputLayout
from adclick.models.fitting import fit
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.training_data import Columns, TrainingCreatives
from adclick.pipeline.config.settings import load_config
from adclick.schema.errors import ConfigError
from adclick.schema.roles.inputs import CategoryField
from benchmarks.click_log import write_project
from benchmarks.measure import Result, more, python_module, report, share, timed_process
from benchmarks.prepared import categorical_and_numeric, ingest, random_split, transform, write_for_rivals
from benchmarks.rival_environment import run_rival_throughput

NETWORK = NetworkSettings()
_IMAGE_SIZE = 64


def examples_per_second(
    train: Columns,
    validation: Columns,
    store: TrainingCreatives | None,
    layout: InputLayout,
    *,
    epochs: int,
    device: str = "/CPU:0",
    mixed_precision: bool = False,
) -> tuple[float, float]:
    """How fast ours trains over the epochs after the first, and the training log loss of the last."""
    ends: list[float] = []
    training = TrainingSettings(max_epochs=epochs, patience=epochs, mixed_precision=mixed_precision)
    with tf.device(device):
        result = fit(
            train,
            validation,
            store,
            layout,
            NETWORK,
            training,
            _IMAGE_SIZE,
            on_epoch=lambda epoch, metrics: ends.append(time.perf_counter()),
        )
    return len(train) * (epochs - 1) / (ends[-1] - ends[0]), result.history["log_loss"][-1]


def against_others(rows: int, seconds: float, epochs: int, folder: Path) -> list[Result]:
    """Ours, DeepCTR and plain Keras on the same click log."""
    project = write_project(folder / "log", rows)
    impressions = ingest(load_config(project.config), folder / "ingested")
    split = random_split(len(impressions.frame), seed=1, shares=(0.98, 0.01))
    data, _ = transform(impressions, split, folder / "ours")
    ours, _ = examples_per_second(data.train, data.validation, None, data.layout, epochs=epochs)
    write_for_rivals(impressions, split, impressions.clicked, folder / "rivals")
    deep_ctr = run_rival_throughput(
        folder / "rivals",
        folder / "deepctr",
        batch_size=TrainingSettings().batch_size,
        embedding_dimension=NETWORK.embedding_dimension,
        cross_layers=NETWORK.cross_layers,
        cross_projection=NETWORK.cross_projection,
        hidden_units=NETWORK.hidden_units,
        seconds=seconds,
    ).examples_per_second
    features = impressions.config.features
    categorical, numeric = categorical_and_numeric(features)
    columns = {"label": features.label_name, "categorical": categorical, "numeric": numeric}
    (log,) = project.drop.glob("*.csv")
    plain = timed_process(
        python_module(
            "benchmarks.plain_keras", "--csv", str(log), "--columns", json.dumps(columns), "--seconds", str(seconds)
        )
    )
    keras_fit = json.loads(plain.output.splitlines()[-1])["examples_per_second"]
    better = max(deep_ctr, keras_fit)
    name = f"training on {rows:,} rows"
    return [
        more(f"{name}, against DeepCTR", ours, deep_ctr, "examples/s", ""),
        more(f"{name}, against Keras fit over a tf.data CSV reader", ours, keras_fit, "examples/s", ""),
        more(f"{name}, against the better of both", ours, better, "examples/s", ">= 1.5"),
    ]


def image_cost(rows: int, epochs: int, folder: Path) -> list[Result]:
    """What images add to an epoch at ten impressions a creative, against one."""

    def seconds(creatives: int) -> float:
        columns, store, layout = _with_images(rows, creatives, folder / str(creatives))
        rate, _ = examples_per_second(columns, columns.last(256), store, layout, epochs=epochs)
        return rows / rate

    without = seconds(0)
    once, often = seconds(rows) - without, seconds(rows // 10) - without
    name = f"image tower, {rows:,} rows: seconds an epoch at 10 impressions a creative against 1"
    return [share(name, often, once, "s", "<= 0.2")]


def _with_images(rows: int, creatives: int, folder: Path) -> tuple[Columns, TrainingCreatives | None, InputLayout]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    fields = tuple(CategoryField(f"field{number}", 1, 1_001, 1_000) for number in range(8))
    columns = Columns(
        categories=random.integers(0, 1_000, (rows, len(fields))).astype(np.int32),
        multiples=np.zeros((rows, 0), np.int32),
        numbers=np.zeros((rows, 0), np.float32),
        creative=(random.permutation(rows) % creatives if creatives else np.full(rows, -1)).astype(np.int32),
        clicked=(random.random(rows) < 0.05).astype(np.float32),
    )
    store = None
    if creatives:
        with tf.io.TFRecordWriter(str(folder / "creatives-0")) as writer:
            for number in range(creatives):
                pixels = random.integers(0, 256, _IMAGE_SIZE**2 * 3, dtype=np.uint8).tobytes()
                writer.write(write_record(Creative(f"{number:09d}", OK, "", "", pixels, _IMAGE_SIZE, _IMAGE_SIZE)))
        store = TrainingCreatives([str(folder / "creatives-0")], _IMAGE_SIZE, folder)
    return columns, store, InputLayout(fields, (), store is not None)


def on_gpu(rows: int, epochs: int, folder: Path) -> list[Result]:
    """The GPU in mixed precision against the CPU, both with images.

    Raises:
        ConfigError: This machine has no GPU that TensorFlow can use.
    """
    if not tf.config.list_physical_devices("GPU"):
        raise ConfigError(
            "TensorFlow finds no GPU on this machine",
            "Run the same command where there is one, with tensorflow[and-cuda] in the environment.",
        )
    columns, store, layout = _with_images(rows, rows // 10, folder / "gpu")
    validation = columns.last(4_096)
    gpu, gpu_loss = examples_per_second(
        columns, validation, store, layout, epochs=epochs, device="/GPU:0", mixed_precision=True
    )
    cpu, cpu_loss = examples_per_second(columns, validation, store, layout, epochs=epochs)
    name = f"training with images on {rows:,} rows, GPU in mixed precision against CPU"
    return [
        more(name, gpu, cpu, "examples/s", ""),
        share(f"{name}: log loss", gpu_loss, cpu_loss, "nats", "<= 1.005"),
    ]


def main(
    rows: Annotated[int, typer.Option(help="Impressions of the click log.")] = 500_000,
    image_rows: Annotated[int, typer.Option(help="Impressions with images.")] = 20_000,
    seconds: Annotated[float, typer.Option(help="How long each rival trains.")] = 20.0,
    epochs: Annotated[int, typer.Option(min=2, help="Ours: passes over the rows, the first not timed.")] = 5,
    device: Annotated[Literal["cpu", "gpu"], typer.Option(help="gpu: compare the GPU with the CPU.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
) -> None:
    """Measure training throughput."""
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as work:
        folder = Path(work)
        if device == "gpu":
            try:
                results = on_gpu(image_rows, epochs, folder)
            except ConfigError as error:
                typer.echo(f"{error.message}. {error.remedy}", err=True)
                raise typer.Exit(error.exit_code) from None
        else:
            results = against_others(rows, seconds, epochs, folder) + image_cost(image_rows, 3, folder)
    report("Training", results, json_file)


if __name__ == "__main__":
    typer.run(main)
