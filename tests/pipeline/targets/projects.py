"""Configs and windows, most of which need no data: compiling reads none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

import adclick.pipeline.sample_data
from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.drops import Drop
from adclick.pipeline.targets.window import Window

IMAGE = "registry.example/adclick@sha256:0123"


def sample_config(platform: dict[str, Any] | None = None, **changes: Any) -> Config:
    """The sample data's config, in a bucket, with a `platform` section."""
    document = yaml.safe_load((Path(adclick.pipeline.sample_data.__file__).parent / "config.yaml").read_text())
    document["data"]["root"] = "gs://bucket/drops"
    document["output"] = "gs://bucket/output"
    return Config.model_validate({**document, **changes, "platform": {"image": IMAGE, **(platform or {})}})


def project_with_drops(folder: Path, *months: str) -> Config:
    """A project on this machine, with the sample's config and schema, and a row a month."""
    for month in months:
        drop = folder / "drops" / month
        drop.mkdir(parents=True)
        (drop / "impressions.csv").write_text("impression_id,clicked\n1,0\n")
    for name in ("config.yaml", "schema.pbtxt"):
        shutil.copy(Path(adclick.pipeline.sample_data.__file__).with_name(name), folder)
    return load_config(folder / "config.yaml")


def window_of(*months: str, baseline: str | None = None) -> Window:
    return Window(
        drops=[Drop(name, int(name.replace("-", "")), f"gs://bucket/drops/{name}", f"hash{name}") for name in months],
        schema_file="gs://bucket/output/schema/0/schema.pbtxt",
        baseline=baseline,
        push_base="gs://bucket/output/serving_model/adclick",
        pipeline_root="gs://bucket/output/pipeline_root",
        key="key",
        run_id="20261102T060000Z",
    )
