"""The rivals' own environment, apart from ours: makes it from its lock and runs the rivals' script in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adclick.schema.errors import AdclickError, ConfigError
from benchmarks.measure import ROOT, timed_process

RIVALS = ROOT / "benchmarks" / "rivals"
ENVIRONMENT = ROOT / ".venv-rivals"
MODELS = ("lightgbm", "lightgbm_target_encoding", "catboost", "dcn", "deepfm")

_LOCK = RIVALS / "requirements.lock"
_UV = ROOT / ".venv" / "bin" / "uv"
_STAMP = ENVIRONMENT / ".adclick-setup"
_PYTHONS = ((3, 11), (3, 12), (3, 13))


@dataclass(frozen=True)
class RivalRun:
    """What a rival's training wrote.

    Attributes:
        predictions: Click probability of each test row, in order, float64 of shape (test rows,).
        seconds: From reading the data to the predictions, imports excluded.
        fit_seconds: Of these, the library's own training calls.
        best_iteration_or_epoch: The boosting round or the epoch, from 1, whose model was kept.
        settings: How many settings were tried on the validation rows.
        validation_log_loss: Log loss on the rows that decided when to stop and which setting to keep, in nats.
    """

    predictions: NDArray[np.float64]
    seconds: float
    fit_seconds: float
    best_iteration_or_epoch: int
    settings: int
    validation_log_loss: float


@dataclass(frozen=True)
class Throughput:
    """How fast a rival trained.

    Attributes:
        examples_per_second: Training rows a second, over whole epochs, without warm-up and reading.
        rows: Training rows of an epoch.
        epochs: Epochs that were timed.
        seconds: What they took.
    """

    examples_per_second: float
    rows: int
    epochs: int
    seconds: float


def ensure() -> Path:
    """Makes the rivals' environment from its lock, beside ours and on our Python; costs nothing the second time.

    Returns:
        The environment's interpreter.

    Raises:
        AdclickError: This Python has no lock, uv is not set up, or the packages cannot be installed.
    """
    version = sys.version_info[:2]
    if version not in _PYTHONS:
        known = ", ".join(f"{major}.{minor}" for major, minor in _PYTHONS)
        raise ConfigError(
            f"the rivals need Python {known}, and this is {version[0]}.{version[1]}",
            "set ADCLICK_PYTHON to such an interpreter and run: make setup",
        )
    if not _UV.is_file():
        raise ConfigError(f"no uv at {_UV}, which installs the rivals", "run: make setup")
    interpreter = ENVIRONMENT / "bin" / "python"
    want = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()
    if interpreter.exists() and _STAMP.is_file() and _STAMP.read_text(encoding="utf-8") == want:
        return interpreter
    _uv("venv", "--clear", "--python", sys.executable, str(ENVIRONMENT))
    _uv("pip", "sync", "--require-hashes", "--python", str(interpreter), str(_LOCK))
    _STAMP.write_text(want, encoding="utf-8")
    return interpreter


def run_rival(model: str, data: Path, output: Path, *, seed: int = 1) -> RivalRun:
    """Trains a rival and predicts the test rows, in a process of the rivals' environment.

    Args:
        model: One of `MODELS`.
        data: A folder of train.parquet, validation.parquet, test.parquet and columns.json, as rivals/train.py says.
        output: The folder that predictions.npy and summary.json are written to; made if need be.
        seed: Seeds the model.

    Raises:
        AdclickError: There is no such model, the environment cannot be made, or training failed.
    """
    if model not in MODELS:
        raise ConfigError(f"no rival is called {model!r}", f"choose one of {', '.join(MODELS)}")
    summary = _train(["--model", model, "--seed", str(seed)], data, output)
    return RivalRun(
        predictions=np.load(output / "predictions.npy"),
        seconds=summary["seconds"],
        fit_seconds=summary["fit_seconds"],
        best_iteration_or_epoch=summary["best_iteration_or_epoch"],
        settings=summary["settings"],
        validation_log_loss=summary["validation_log_loss"],
    )


def run_rival_throughput(
    data: Path,
    output: Path,
    *,
    batch_size: int = 1024,
    embedding_dimension: int = 8,
    cross_layers: int = 2,
    cross_projection: int = 32,
    hidden_units: Sequence[int] = (64, 32),
    seconds: float = 20.0,
) -> Throughput:
    """Measures how fast DeepCTR trains its low-rank DCN-V2 beside an MLP, in a process of the rivals' environment.

    Args:
        data: As for `run_rival`; the rows of train.parquet are trained on.
        output: The folder that summary.json is written to; made if need be.
        batch_size: Rows of a step.
        embedding_dimension: Width of each categorical column's embedding.
        cross_layers: Number of cross layers.
        cross_projection: Rank of each cross layer's weights.
        hidden_units: Units of the MLP's layers.
        seconds: Whole epochs are trained until so much time has passed.

    Raises:
        AdclickError: The environment cannot be made, or training failed.
    """
    options = {
        "--batch-size": batch_size,
        "--embedding-dimension": embedding_dimension,
        "--cross-layers": cross_layers,
        "--cross-projection": cross_projection,
        "--seconds": seconds,
    }
    arguments = [text for option, value in options.items() for text in (option, str(value))]
    units = ["--hidden-units", *map(str, hidden_units)]
    return Throughput(**_train(["--throughput", *arguments, *units], data, output))


def _train(arguments: Sequence[str], data: Path, output: Path) -> dict[str, Any]:
    # Isolated from our environment's variables and packages.
    command = [str(ensure()), "-I", str(RIVALS / "train.py"), *arguments]
    command += ["--data", str(data.resolve()), "--output", str(output.resolve())]
    try:
        # Threads that spin while they wait make LightGBM ten times slower where other work shares the cores.
        timed_process(command, {"OMP_WAIT_POLICY": "passive"})
    except RuntimeError as error:
        raise AdclickError(f"a rival could not be trained: {error}") from error
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return summary


def _uv(*arguments: str) -> None:
    done = subprocess.run(
        [str(_UV), "--quiet", *arguments],
        cwd=ROOT,
        env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AdclickError(
            f"the rivals' environment could not be made: uv {' '.join(arguments)} said\n{done.stderr.strip()[-2_000:]}",
            "check the network and the disk, then run the benchmark again",
        )
