"""`adclick tune`: searches hyperparameters better than the config's and writes them into a config for `adclick run`."""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from adclick.models.settings import ModelSettings
from adclick.pipeline.config.edit import edit_yaml
from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.console import noise_to, result_console
from adclick.pipeline.runs.record import RunRecord, read_records
from adclick.schema.errors import ConfigError, DataRefused, ModelRefused
from adclick.storage import filesystem
from adclick.storage.folder_lock import SEARCH_LOCK, FolderLock

if TYPE_CHECKING:
    from adclick.models.tuning import HeldOutTest, Trial

#: A run of a config that agrees in these has the data that this config's run would train on.
_DATA_SECTIONS = ("data", "csv", "ingestion", "split", "features")
_RESULT_FILE = "tuning.json"
_LOG_FILE = "tune.log"


def run_tune(
    config_path: Path,
    *,
    trials: int,
    max_rows: int,
    month: str | None = None,
    output: Path | None = None,
    force: bool = False,
    quiet: bool = False,
    waits: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Searches on a finished run's training and validation impressions and writes the config with the best values.

    Args:
        config_path: The config; its values are the first trial.
        trials: Sets of values to try.
        max_rows: The search uses at most this many, the newest, of these impressions.
        month: The newest month of the run to search on; that of the newest run if None.
        output: The config to write; `tuned.yaml` beside the config if None.
        force: Whether to overwrite it.
        quiet: Whether to print the result only.
        waits: Whether to wait for another search in the same output folder, instead of raising.
        tell: Is told who is waited for.

    Returns:
        The config that was written.

    Raises:
        ConfigError: The config is wrong, no finished run fits it, the output exists, or another search is at work.
        DataRefused: The impressions do not suffice to tune on.
        ModelRefused: No values did better than the config's on held-out impressions; nothing is written.
    """
    config = load_config(config_path)
    target = config_path.with_name("tuned.yaml") if output is None else output
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists already", "Give --output another name, or --force to overwrite it.")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent}: no such folder", "Make it, or give --output another place.")
    if not Path(config.output).is_dir():
        raise _no_run(config, month)
    with FolderLock(config.output, name=SEARCH_LOCK, command="tune", waits=waits, tell=tell):
        return _tune_and_write(config_path, config, target, month, trials, max_rows, quiet)


def _tune_and_write(
    config_path: Path, config: Config, target: Path, month: str | None, trials: int, max_rows: int, quiet: bool
) -> Path:
    record = _finished_run(config, month)
    folder = _folder(config, record, max_rows)
    with noise_to(folder / _LOG_FILE) as real:
        console = result_console(real)
        values = _tune(config, record, folder, trials, max_rows, console, quiet)
        _write(config_path, config, values, target)
        console.print(f"Wrote {target}. Train with it:", highlight=False, soft_wrap=True)
        command = shlex.join(["adclick", "run", "--config", str(target)])
        console.print(f"  {command}", highlight=False, soft_wrap=True)
    return target


def _finished_run(config: Config, month: str | None) -> RunRecord:
    wanted = config.model_dump(mode="json", include=set(_DATA_SECTIONS))
    for record in reversed(read_records(config.output)):
        if record.state not in ("pushed", "model_refused") or month not in (None, record.drops[-1].name):
            continue
        if {name: record.config.get(name) for name in _DATA_SECTIONS} == wanted and _artifacts_exist(record):
            return record
    raise _no_run(config, month)


def _no_run(config: Config, month: str | None) -> ConfigError:
    which = "" if month is None else f" with {month} as its newest month"
    return ConfigError(
        f"{config.output}: there is no finished run of this config's data{which} to tune on",
        "Run `adclick run` with this config first" + ("." if month is None else f", with --month {month}."),
    )


def _artifacts_exist(record: RunRecord) -> bool:
    needed = ["Transform.transform_graph"]
    needed += [f"AdExampleGen-{drop.name}.{key}" for drop in record.drops for key in ("examples", "creatives")]
    return all(
        record.artifacts.get(key) and all(filesystem.exists(uri) for uri in record.artifacts[key]) for key in needed
    )


def _folder(config: Config, record: RunRecord, max_rows: int) -> Path:
    """Where the search is kept; the same search finds what an earlier, interrupted one has done."""
    parts = [config.network.model_dump_json(), config.training.model_dump_json(), str(max_rows)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return Path(config.output) / "tuning" / f"{record.run_id}-{key}"


def _tune(
    config: Config, record: RunRecord, folder: Path, trials: int, max_rows: int, console: Console, quiet: bool
) -> dict[str, Any]:
    """Searches, tests and shows; gives the better values by config key."""
    shown = nullcontext() if quiet or not console.is_terminal else console.status("loading data")
    with tempfile.TemporaryDirectory(prefix="adclick-tuning-") as work:
        with shown:
            from adclick.models.tuning import (
                TuningSettings,
                choose,
                held_out_test,
                search,
                settings_with,
                split_for_tuning,
            )
            from adclick.pipeline.runs.data import held_out_truth, load_run_data

            settings = TuningSettings(trials=trials, max_rows=max_rows)
            loaded = load_run_data(config, record, Path(work))
            training = loaded.training
            known = held_out_truth(config, record)
            truth = None if known is None else known["probability"].to_numpy()
            try:
                data = split_for_tuning(
                    config.features,
                    training.layout,
                    training.train,
                    training.validation,
                    loaded.evaluation,
                    training.store,
                    config.ingestion.image_size,
                    settings,
                    Path(work),
                )
            except ValueError as error:
                raise DataRefused(str(error)) from None
        current = ModelSettings(network=config.network, training=config.training)
        if not quiet:
            _print(
                console,
                f"Tuning on run {record.run_id}: chosen by {sum(len(fold.scored) for fold in data.folds):,} "
                f"impressions of training and validation in {len(data.folds)} folds, tested on "
                f"{len(data.final.scored):,} held-out ones. Kept in {folder}",
            )
        with _progress(console, quiet) as progress:
            steps = progress.add_task("searching", total=trials)
            best_loss: float | None = None

            def show(trial: Trial) -> None:
                nonlocal best_loss
                progress.update(steps, completed=trial.number + 1)
                if not quiet:
                    changed = changed_values(current, settings_with(current, trial.values))
                    _print(progress.console, _trial_line(trial, best_loss, changed))
                if trial.log_loss is not None:
                    best_loss = min(trial.log_loss, trial.log_loss if best_loss is None else best_loss)

            tried = search(data, current, settings, folder, show)
            fits = (settings.repeats - 1) * (1 + settings.finalists)
            progress.update(steps, description="choosing among the best", total=fits, completed=0)
            best = choose(data, current, tried, settings, lambda: progress.advance(steps))
            if best.number == 0:
                raise _refusal(f"none of {len(tried)} sets of values has a lower log loss than the config's")
            progress.update(steps, description="testing on held-out", total=2 * settings.repeats, completed=0)
            tuned = settings_with(current, best.values)
            test = held_out_test(data, current, tuned, settings, truth, lambda: progress.advance(steps))
    changed = changed_values(current, tuned)
    _write_result(folder / _RESULT_FILE, tried, changed, test)
    _print_test(console, test, changed, "clicks" if truth is None else "true click probability")
    if not test.difference < 0:
        raise _refusal(
            "the values that did best in the search are not better than the config's on held-out impressions"
        )
    return changed


def _refusal(reason: str) -> ModelRefused:
    return ModelRefused(
        f"no better values were found, and nothing was written: {reason}",
        "The config's values stand. A search of more --trials, or on more --max-rows, may find more.",
    )


def changed_values(current: ModelSettings, tuned: ModelSettings) -> dict[str, Any]:
    """The settings of `tuned` that differ, by config key, such as `training.learning_rate`."""
    before, after = current.model_dump(mode="json"), tuned.model_dump(mode="json")
    return {
        f"{section}.{name}": value
        for section in after
        for name, value in after[section].items()
        if value != before[section][name]
    }


def _write(config_path: Path, config: Config, values: Mapping[str, Any], target: Path) -> None:
    """Writes the config with these values so that it works from where it is written."""
    edits: dict[tuple[str, ...], Any] = {tuple(key.split(".")): value for key, value in values.items()}
    if target.resolve().parent != config_path.resolve().parent:
        edits |= {
            ("data", "root"): config.data.root,
            ("output",): config.output,
            ("schema_file",): config.schema_file,
        }
    text = edit_yaml(config_path.read_text(encoding="utf-8"), edits)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    load_config(partial)
    partial.replace(target)


def _write_result(path: Path, trials: list[Trial], changed: Mapping[str, Any], test: HeldOutTest) -> None:
    """Writes every trial and the final test as JSON, for tools."""
    result = {
        "trials": [{"number": t.number, "log_loss": t.log_loss, "values": dict(t.values)} for t in trials],
        "tuned": dict(changed),
        "held_out": {
            "rows": test.rows,
            "log_loss": test.current,
            "tuned_log_loss": test.tuned,
            "difference": test.difference,
            "confidence_interval": test.interval,
        },
    }
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _progress(console: Console, quiet: bool) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=quiet)


def _trial_line(trial: Trial, best: float | None, changed: Mapping[str, Any]) -> Text:
    if trial.log_loss is None:
        return Text.assemble("  ", ("✗", "red"), f" trial {trial.number:>3}  failed    {_values_text(changed)}")
    mark = ("✓", "green") if best is None or trial.log_loss < best else " "
    result = f" trial {trial.number:>3}  {trial.log_loss:.5f}  "
    return Text.assemble("  ", mark, result, (_values_text(changed), "dim"))


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.partition('.')[2]} {value}" for key, value in values.items()) or "the config's values"


def _print_test(console: Console, test: HeldOutTest, changed: Mapping[str, Any], against: str) -> None:
    low, high = test.interval
    _print(console, f"Best values: {_values_text(changed)}")
    _print(
        console,
        Text.assemble(
            f"Log loss on {test.rows:,} held-out impressions, which the search never saw, against the {against}: "
            f"{test.current:.5f} with the config's values, ",
            (f"{test.tuned:.5f}", "bold"),
            f" with the best: {test.difference:+.5f} (95 % confidence interval {low:+.5f} to {high:+.5f}).",
        ),
    )


def _print(console: Console, text: str | Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)
