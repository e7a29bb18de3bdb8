"""`adclick compile`: the file that Vertex AI Pipelines or Kubeflow Pipelines runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from pipeline.config import load_config
from pipeline.platform.compiler import as_json, as_yaml
from pipeline.platform.settings import Target
from pipeline.platform.submission import compile_monthly, compile_run
from pipeline.platform.window import resolve_window
from schema.errors import ConfigError

#: By target, how the file is written and how its name must end.
_FORMS = {"vertex": (as_json, (".json",)), "kubeflow": (as_yaml, (".yaml", ".yml"))}


def run_compile(
    config: Path, target: Target, output: Path, *, monthly: bool, month: str, months: int, console: Console | None
) -> None:
    """Compiles a run, or the monthly pipeline, to a file.

    Args:
        config: The config file.
        target: The platform.
        output: The file; .json for Vertex AI, .yaml for Kubeflow.
        monthly: Whether to compile the monthly pipeline instead of one run.
        month: The newest month, or `latest`.
        months: How many months; `data.window` if 0.
        console: Where to say what was written; nowhere if None.

    Raises:
        ConfigError: The config, the data root, the month or the file's name is wrong.
    """
    as_text, endings = _FORMS[target]
    if output.suffix not in endings:
        raise ConfigError(f"{output}: a file for {target} ends in {endings[0]}")
    settings = load_config(config)
    if monthly:
        job = compile_monthly(settings, target, month=month, months=months)
        what = "the monthly pipeline, runtime parameters month and window"
    else:
        window = resolve_window(settings, month, months)
        job = compile_run(settings, target, window)
        what = f"a run of {window.months}, " + (f"baseline {window.baseline}" if window.baseline else "no baseline yet")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.partial")
    partial.write_text(as_text(job), encoding="utf-8")
    partial.replace(output)
    if console is not None:
        console.print(
            f"Wrote {output}: {what}, {len(job['pipelineSpec']['root']['dag']['tasks'])} steps.", highlight=False
        )
