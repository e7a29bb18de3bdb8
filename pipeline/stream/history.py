"""`adclick stream backfill`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from adclick.pipeline.config.settings import check_local_output
from adclick.pipeline.console import plain_console
from adclick.pipeline.stream.command import stream_config
from adclick.schema.curated import build_schema, write_schema
from adclick.schema.errors import ConfigError
from adclick.stream.history.backfill import run_backfill


def backfill(
    path: Path,
    *,
    clicks: str | None,
    impressions: str | None,
    verdicts: str | None,
    state: Path | None,
    replace: bool,
    quiet: bool,
) -> None:
    """Writes the drops of a config's `data.root` from past events, and a schema where there is none.

    Args:
        path: The config file.
        clicks: Files of clicks, in place of the config's.
        impressions: Files of impressions, in place of the config's.
        verdicts: Files of verdicts, in place of the config's.
        state: Where the state is left for the stream to go on from.
        replace: Whether drops that are there are replaced.
        quiet: Whether nothing but the result is told.
    """
    from rich.progress import Progress, TextColumn

    config, settings = stream_config(path)
    if not settings.features:
        raise ConfigError(f"{path}: stream.features: is empty", "Declare the features of clicks.")
    if "://" in config.data.root:
        raise ConfigError(
            f"{path}: data.root: {config.data.root}: a backfill writes to a local folder",
            "Name one, and copy the drops to the bucket.",
        )
    check_local_output(config)
    named: dict[str, Any] = {"clicks": clicks, "impressions": impressions, "verdicts": verdicts}
    given = {name: os.path.abspath(where) for name, where in named.items() if where is not None}
    settings = settings.model_copy(update={"history": settings.history.model_copy(update=given)})
    console = plain_console(soft_wrap=True)
    with Progress(
        TextColumn("{task.description}"), console=plain_console(stderr=True), transient=True, disable=quiet
    ) as progress:
        task = progress.add_task("reading events")

        def show(number: int) -> None:
            progress.update(task, description=f"{number:,} events")

        report = run_backfill(
            settings,
            config.features,
            root=Path(config.data.root),
            work=Path(config.output) / "backfill",
            missing=config.csv.missing_values,
            max_rejected_share=config.ingestion.max_quarantine_share,
            state=state,
            replace=replace,
            progress=show,
        )
    console.print(report.describe(), highlight=False)
    schema = Path(config.schema_file)
    if "://" not in config.schema_file and not schema.exists():
        schema.parent.mkdir(parents=True, exist_ok=True)
        write_schema(build_schema(config.features), str(schema))
        console.print(f"A schema of these columns, for review: {schema}", highlight=False)


def explain(path: Path, *, flink: bool = False) -> str:
    """The plan of a config's features in words, on Flink or in one process."""
    from adclick.stream.features.plan import plan
    from adclick.stream.flink.plan import tasks

    _, settings = stream_config(path)
    return f"{plan(settings)}\n\n{tasks(settings)}" if flink else plan(settings)
