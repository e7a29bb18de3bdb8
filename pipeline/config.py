"""The config: one YAML file that says what the columns are, what to train and what to accept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from models.settings import EvaluationSettings, NetworkSettings, TrainingSettings
from pipeline.monitor.settings import MonitoringSettings
from pipeline.platform.settings import PlatformSettings
from schema.errors import ConfigError
from schema.feature_table import Categorical, FeatureTable, Image, Timestamp


class DataSettings(BaseModel):
    """Where the drops are and how many months train one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(
        description="The folder that holds a folder per month (YYYY-MM), a folder of CSV files, or one CSV file."
    )
    window: int = Field(3, ge=1, description="How many months, the newest included, train one model.")


class ServingSettings(BaseModel):
    """Where the blessed model goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    push_directory: str | None = Field(
        None,
        description="Where blessed models go, a folder per version, local or gs://; `serving_model/<model_name>` below "
        "`output` by default.",
    )
    model_name: str = Field(
        "adclick", pattern=r"^[A-Za-z0-9_-]+$", description="The model's name in serving addresses."
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
        None, description="Where artifacts go, local or gs://; `pipeline_root` below `output` by default."
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
            *(f"{name}_known" for name in self.evaluation.new_value_slices),
        }
        for columns in (*self.evaluation.slices, *(threshold.slice for threshold in self.evaluation.thresholds)):
            unknown = sorted(set(columns) - sliceable)
            if unknown:
                raise ValueError(f"evaluation slices by {unknown[0]!r}, which is not a column that is read")
        for name in self.evaluation.new_value_slices:
            column = self.features.root.get(name)
            if not isinstance(column, Categorical) or column.encoding != "vocabulary":
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
    """Refuses a bucket as the `output` of a run on this machine; raises `ConfigError`."""
    if "://" in config.output:
        raise ConfigError(
            f"output: {config.output}: holds a database and must be a local folder",
            "pipeline_root and serving.push_directory may be gs://. A run on Vertex AI or Kubeflow, which keeps its "
            "metadata itself, is started by `adclick submit`.",
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
        raise ConfigError(_plain(error, path), "The README's config reference lists every key.") from None
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"root": _local(config.data.root, folder)}),
            "output": _local(config.output, folder),
            "schema_file": _local(config.schema_file, folder),
            "pipeline_root": _local_if_given(config.pipeline_root, folder),
            "serving": config.serving.model_copy(
                update={"push_directory": _local_if_given(config.serving.push_directory, folder)}
            ),
        }
    )
