"""The config: one YAML file that says what the columns are, what to train and what to accept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adclick.components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from adclick.models.recognition.settings import RecognitionSettings
from adclick.models.settings import EvaluationSettings, NetworkSettings, TrainingSettings
from adclick.pipeline.config.monitoring import MonitoringSettings
from adclick.pipeline.config.platform import PlatformSettings
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable, Image, Timestamp
from adclick.schema.model_name import DEFAULT_MODEL_NAME
from adclick.storage.bucket import is_s3_address
from adclick.stream.settings import StreamSettings


class DataSettings(BaseModel):
    """Where the drops are and how many months train one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(
        description="The folder that holds a folder per month (YYYY-MM), a folder of CSV or Parquet files, or one file."
    )
    window: int = Field(3, ge=1, description="How many months, the newest included, train one model.")


class ServingSettings(BaseModel):
    """Where the blessed model goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    push_directory: str | None = Field(
        None,
        description="Where blessed models go, a folder per version, local, gs:// or s3://; "
        "`serving_model/<model_name>` below `output` by default.",
    )
    model_name: str = Field(
        DEFAULT_MODEL_NAME, pattern=r"^[A-Za-z0-9_-]+$", description="The model's name in serving addresses."
    )
    validation_requests: int = Field(
        64, ge=1, description="Held-out impressions that ServingValidator sends through each signature."
    )


class Config(BaseModel):
    """Everything that a run needs to know. Relative paths are relative to the config file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataSettings
    output: str = Field(
        "output", description="The local folder of metadata and run records; by default also of artifacts and models."
    )
    pipeline_root: str | None = Field(
        None,
        description="Where artifacts go, local, gs:// or, on Kubeflow, s3://; `output`/pipeline_root by default.",
    )
    schema_file: str = Field("schema.pbtxt", description="The curated schema, reviewed by a person.")
    csv: CsvSettings = Field(default_factory=CsvSettings)
    ingestion: IngestionSettings = Field(default_factory=IngestionSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    features: FeatureTable
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    platform: PlatformSettings = Field(default_factory=PlatformSettings)
    recognition: RecognitionSettings = Field(default_factory=RecognitionSettings)
    stream: StreamSettings | None = Field(
        None, description="Events as they come, for fraud in real time; without it there is none."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_stream_features(cls, document: Any) -> Any:
        """Each feature of the stream is a column of the model, a quantity unless the config declares it otherwise."""
        if not isinstance(document, dict):
            return document
        stream, columns = document.get("stream"), document.get("features")
        named = stream.get("features") if isinstance(stream, dict) else None
        if not isinstance(named, dict) or not isinstance(columns, dict):
            return document
        added = {name: {"role": "numeric", "scaling": "log"} for name in named if name not in columns}
        return {**document, "features": {**columns, **added}}

    @model_validator(mode="after")
    def _stream_fits(self) -> Config:
        if self.stream is None:
            return self
        for name in sorted(self.stream.number_columns | self.stream.text_columns):
            column = self.features.root.get(name)
            if column is not None and column.is_quantity and name in self.stream.text_columns:
                raise ValueError(f"stream.features reads {name!r} as text, which features declares a quantity")
        for name, column in self.features.of(Timestamp).items():
            if column.format != "iso8601":
                raise ValueError(
                    f"features.{name} is read from what the stream writes, as iso8601; the format of the events is "
                    "stream.events.clicks.time_format"
                )
        for name in self.stream.features:
            if self.features.source_of(name) != name:
                raise ValueError(f"features.{name} is a feature of the stream and has no other `source`")
        return self

    @model_validator(mode="after")
    def _columns_exist(self) -> Config:
        names = self.features.used
        if self.split.by == "time" and not self.features.of(Timestamp):
            raise ValueError("split.by is time, but no column has the role timestamp: declare one or use `by: hash`")
        if self.split.column is not None and self.split.column not in names:
            raise ValueError(f"split.column {self.split.column!r} is not a column that is read")
        sliceable = {
            *names,
            self.features.image_status_name,
            *(self.features.known_name(name) for name in self.evaluation.new_value_slices),
        }
        for columns in (*self.evaluation.slices, *(threshold.slice for threshold in self.evaluation.thresholds)):
            unknown = sorted(set(columns) - sliceable)
            if unknown:
                raise ValueError(f"evaluation slices by {unknown[0]!r}, which is not a column that is read")
        for name in self.evaluation.new_value_slices:
            column = self.features.root.get(name)
            if column is None or column.vocabulary is None:
                raise ValueError(f"evaluation.new_value_slices names {name!r}, which is not a vocabulary column")
        if not self.csv.header:
            missing = [n for n in names if self.features.source_of(n) not in self.csv.columns]
            if missing:
                raise ValueError(f"the feature {missing[0]!r} is not among csv.columns")
        return self

    @property
    def artifacts(self) -> str:
        """Where artifacts go."""
        return self.pipeline_root or os.path.join(self.output, "pipeline_root")

    @property
    def push_base(self) -> str:
        """The folder that model servers watch."""
        return self.serving.push_directory or os.path.join(self.output, "serving_model", self.serving.model_name)

    @property
    def has_images(self) -> bool:
        return bool(self.features.of(Image))


def check_local_output(config: Config) -> None:
    """Refuses what a run on this machine cannot write to, a bucket as `output` or a local folder.

    Of a folder that is not there yet, the one that it would be made in counts; none is made.

    Raises:
        ConfigError: There is such a folder.
    """
    if "://" in config.output:
        raise ConfigError(
            f"output: {config.output}: holds a database and must be a local folder",
            "pipeline_root may be gs://, serving.push_directory gs:// or s3://. A run on Vertex AI or Kubeflow, which "
            "keeps its metadata itself, is started by `adclick submit`.",
        )
    if is_s3_address(config.artifacts):
        raise ConfigError(
            f"pipeline_root: {config.artifacts}: a run on this machine keeps artifacts on disk or in gs://",
            "Leave pipeline_root out. data.root and serving.push_directory may be s3://, and all of a run on Kubeflow.",
        )
    for key, folder in (
        ("output", config.output),
        ("pipeline_root", config.artifacts),
        ("serving.push_directory", config.push_base),
    ):
        if "://" not in folder:
            there = next(path for path in (Path(folder), *Path(folder).parents) if os.path.lexists(path))
            if not there.is_dir():
                raise ConfigError(f"{key}: {folder}: {there} is no folder", "Correct the config.")
            if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
                raise ConfigError(
                    f"{key}: {folder}: {there} cannot be written to",
                    "Give the account that runs this the right to, or choose another folder.",
                )


def _plain(error: ValidationError, path: Path) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "config"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "unknown key"
        lines.append(f"{path}: {where}: {what}")
    return "\n".join(lines)


def _local(value: str, folder: Path) -> str:
    return value if "://" in value or Path(value).is_absolute() else str((folder / value).resolve())


def _local_if_given(value: str | None, folder: Path) -> str | None:
    return None if value is None else _local(value, folder)


def _with_local_paths(stream: StreamSettings, folder: Path) -> StreamSettings:
    history, flink = stream.history, stream.flink
    files = {name: _local_if_given(getattr(history, name), folder) for name in ("clicks", "impressions", "verdicts")}
    checkpoints = {"checkpoints": _local_if_given(flink.checkpoints, folder)}
    return stream.model_copy(
        update={"history": history.model_copy(update=files), "flink": flink.model_copy(update=checkpoints)}
    )


def load_config(path: Path, *, data_root: str | None = None, output: str | None = None) -> Config:
    """Reads and checks a config file.

    Args:
        path: The YAML file.
        data_root: Replaces `data.root`; relative to the working directory.
        output: Replaces `output`; relative to the working directory.

    Returns:
        The config, with every path absolute.

    Raises:
        ConfigError: The file is missing, is not YAML, or a key, type or value is wrong; names each.
    """
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "Write one with `adclick init DATA --output DIR`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping of keys", "Write one with `adclick init DATA --output DIR`.")
    document = dict(document)
    if data_root is not None:
        data = document.get("data")
        document["data"] = {**(data if isinstance(data, dict) else {}), "root": _local(data_root, Path.cwd())}
    if output is not None:
        document["output"] = _local(output, Path.cwd())
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_plain(error, path), "docs/reference/config.md lists every key.") from None
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"root": _local(config.data.root, folder)}),
            "output": _local(config.output, folder),
            "schema_file": _local(config.schema_file, folder),
            "pipeline_root": _local_if_given(config.pipeline_root, folder),
            "recognition": config.recognition.model_copy(
                update={"embedder": _local_if_given(config.recognition.embedder, folder)}
            ),
            "stream": None if config.stream is None else _with_local_paths(config.stream, folder),
            "serving": config.serving.model_copy(
                update={"push_directory": _local_if_given(config.serving.push_directory, folder)}
            ),
        }
    )
