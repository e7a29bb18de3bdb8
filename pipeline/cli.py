"""The command line. Heavy imports stay inside the commands, so that help answers at once."""

from __future__ import annotations

import atexit
import enum
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from pipeline.beam_runner import BeamRunner
from schema.errors import AdclickError

if TYPE_CHECKING:
    from pipeline.run_record import RunRecord

# Keras 3 everywhere: TensorFlow Transform would otherwise choose Keras 2 when it is imported first.
os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

EXIT_CODES = """\
Exit codes: 0 done; 1 internal failure; 2 wrong command, config or input location; 3 data refused; 4 model refused; \
5 model blessed, but held back by a roll-back; 6 traffic too far from training (monitor); \
7 Vertex AI or Kubeflow refused a submission or could not be reached."""

app = typer.Typer(
    help=f"Monthly ad-click models, from a drop of CSV impressions and images to a served model.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", help="The config file.")]


class PredictionForm(enum.Enum):
    """What batch predictions are written as."""

    parquet = "parquet"
    csv = "csv"


QuietOption = Annotated[bool, typer.Option("--quiet", help="Print results and errors only, for logs.")]


@app.command("sample-data")
def sample_data(
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    rows: Annotated[int, typer.Option(min=100, help="Impressions over all months.")] = 60_000,
    creatives: Annotated[int, typer.Option(min=10, help="Distinct ad images.")] = 800,
    months: Annotated[int, typer.Option(min=1, max=36, help="Months, each a drop.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 1,
    image_effect: Annotated[bool, typer.Option(help="Whether images move the click rate.")] = True,
    quiet: QuietOption = False,
) -> None:
    """Write months of synthetic drops whose true click probability is known, and the truth beside them."""
    from rich.progress import Progress

    from pipeline.sample_data.generator import write_sample_data

    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("sample data", total=1.0)

        def show(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        summary = write_sample_data(
            output, rows=rows, creatives=creatives, months=months, seed=seed, image_effect=image_effect, progress=show
        )
    if not quiet:
        Console(soft_wrap=True).print(summary.describe(), highlight=False)


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A CSV file, a folder of CSV files, or a folder of month folders.")],
    output: Annotated[Path, typer.Option(help="The folder for config.yaml and schema.pbtxt.")],
    force: Annotated[bool, typer.Option(help="Overwrite an existing config and schema.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Read a sample of any ad-click CSV and write a config and a schema for review."""
    from pipeline.init import run_init

    result = run_init(data, output, force=force)
    console = Console(soft_wrap=True)
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False)
    if not quiet:
        console.print(f"Wrote {result.config_path} and {result.schema_path}. Review them, then:")
        console.print(f"  adclick run --config {result.config_path}", highlight=False)


@app.command()
def run(
    config: ConfigOption,
    data: Annotated[str | None, typer.Option(help="Replaces data.root.")] = None,
    output: Annotated[str | None, typer.Option(help="Replaces output.")] = None,
    month: Annotated[str | None, typer.Option(help="The newest month (YYYY-MM) to train on.")] = None,
    cache: Annotated[bool, typer.Option(help="Reuse the components whose inputs are unchanged.")] = True,
    compare: Annotated[
        bool,
        typer.Option(help="Also train what the model should beat, and set it beside the known best of sample data."),
    ] = False,
    beam_runner: Annotated[
        BeamRunner, typer.Option(help="Where Beam's work is done; all but direct need --beam-option.")
    ] = BeamRunner.DIRECT,
    beam_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Any option of Beam or the engine; repeatable.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Run the pipeline: ingest, validate, transform, train, evaluate, and push a blessed model."""
    from pipeline.config import check_local_output, load_config
    from pipeline.console import noise_to, result_console
    from pipeline.report.write import report_at_end
    from pipeline.run_record import COMPARISON_FILE, LOG_FILE, new_run_id, record_folder

    settings = load_config(config, data_root=data, output=output)
    check_local_output(settings)
    run_id = new_run_id(settings.output)
    log_file = record_folder(settings.output, run_id) / LOG_FILE
    with noise_to(log_file) as real:
        console = result_console(real)
        if not quiet:
            console.print(f"Run {run_id}. Data: {settings.data.root}. Log: {log_file}", highlight=False, soft_wrap=True)
        with nullcontext() if quiet or not console.is_terminal else console.status("loading TFX"):
            with _no_collection():
                from pipeline.drops import find_drops
                from pipeline.schema_file import read_schema
            # What is wrong with the input is said before TensorFlow and TFX are loaded.
            read_schema(settings)
            drops = find_drops(settings.data.root, settings.data.window, month)
            with _no_collection():
                from pipeline.local import run_local
                from pipeline.summary import print_comparison, print_summary
        with report_at_end(settings.output, run_id, console):
            record = run_local(
                settings,
                drops,
                use_cache=cache,
                beam_runner=beam_runner,
                beam_options=beam_option or (),
                console=None if quiet else console,
                run_id=run_id,
            )
            print_summary(console, record)
            if compare:
                with nullcontext() if quiet or not console.is_terminal else console.status("training what to beat"):
                    from pipeline.comparison import compare as compare_run
                    from pipeline.comparison import write_comparison

                    comparison = compare_run(settings, record)
                    write_comparison(comparison, log_file.with_name(COMPARISON_FILE))
                print_comparison(console, comparison)
    _exit_by(record)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector from walking TFX's modules over and over while they are imported, a sixth of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _exit_by(record: RunRecord) -> None:
    from schema.errors import ModelHeld, ModelRefused

    if record.state == "held":
        raise ModelHeld(
            "the model is blessed and not served:\n" + "\n".join(f"  {reason}" for reason in record.reasons),
            "`adclick rollback --release` serves the newest version that is held and lets later ones through.",
        )
    if record.state != "pushed":
        raise ModelRefused(
            "the model is refused and was not pushed:\n" + "\n".join(f"  {reason}" for reason in record.reasons),
            "The version that was served before stays. Look at the slices above, the data of the newest month and the "
            "thresholds of the config.",
        )


@app.command()
def rollback(
    config: ConfigOption,
    version: Annotated[
        int | None, typer.Argument(help="The version to serve; the one before the served one by default.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    release: Annotated[
        bool, typer.Option("--release", help="End a roll-back: serve what was held, and let pushes through.")
    ] = False,
) -> None:
    """Serve an earlier version at once; what later runs bless is held back until the roll-back is released."""
    from pipeline.rollback_command import run_rollback

    print(run_rollback(config, version, reason, release))


@app.command()
def clean(
    config: ConfigOption,
    keep_versions: Annotated[int, typer.Option(min=1, help="Pushed versions to keep, the served one included.")] = 5,
    keep_runs: Annotated[int, typer.Option(min=1, help="Runs whose artifacts stay, for reuse and for looking.")] = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete old versions and artifacts, never what is served, a baseline, or what a kept version was made from."""
    import tempfile

    from pipeline.config import load_config
    from pipeline.console import noise_to, result_console

    settings = load_config(config)
    with noise_to(Path(tempfile.gettempdir()) / "adclick-clean.log") as real:
        from pipeline import clean_command

        cleaning = clean_command.plan_cleaning(settings, keep_versions, keep_runs)
        if not dry_run:
            clean_command.clean(settings, cleaning)
        result_console(real).print(
            f"{'Would delete' if dry_run else 'Deleted'} {len(cleaning.versions)} versions and "
            f"{len(cleaning.artifacts)} artifacts, {cleaning.size / 2**20:,.1f} MiB.",
            *((cleaning.versions + cleaning.artifacts) if dry_run else ()),
            sep="\n  ",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def tune(
    config: ConfigOption,
    trials: Annotated[int, typer.Option(min=2, help="Sets of values to try, the config's own included.")] = 20,
    max_rows: Annotated[
        int, typer.Option(min=100, help="Search on at most this many, the newest, training impressions.")
    ] = 500_000,
    month: Annotated[str | None, typer.Option(help="The newest month (YYYY-MM) of the run to tune on.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The config to write; tuned.yaml beside the config by default.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Search hyperparameters on a finished run's data and write a config with the best; `run` trains with it."""
    from pipeline.tune_command import run_tune

    run_tune(config, trials=trials, max_rows=max_rows, month=month, output=output, force=force, quiet=quiet)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model_base_path: Annotated[
        str | None, typer.Option(help="The push directory of one model: a folder per version.")
    ] = None,
    gateway_config: Annotated[Path | None, typer.Option(help="The gateway's settings; see the README.")] = None,
    development: Annotated[
        bool, typer.Option("--development", help="Let anyone on this machine ask, without an API key.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the ad API listens.")] = 8080,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="Where TensorFlow Serving's REST API is.")] = 8501,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Where TensorFlow Serving's gRPC API is.")] = 8500,
    host: Annotated[str, typer.Option(help="The address that the ad API listens at.")] = "127.0.0.1",
    model_name: Annotated[str | None, typer.Option(help="The model's name; `adclick` by default.")] = None,
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="How often to look for a new version.")] = 1.0,
    models_only: Annotated[
        bool, typer.Option("--models-only", help="Be tensorflow_model_server: what follows are its flags.")
    ] = False,
) -> None:
    """Answer "will this user click this ad?" from a push directory, loading each new version as it appears."""
    if models_only:
        from serving.model_server.command import main as model_server_main

        raise typer.Exit(model_server_main(context.args))
    if context.args:
        raise typer.BadParameter(f"no such option: {context.args[0]}")
    from pipeline.serve_command import run_serve

    run_serve(
        model_base_path=model_base_path,
        gateway_config=gateway_config,
        development=development,
        host=host,
        ports=(port, rest_port, grpc_port),
        model_name=model_name,
        poll_seconds=poll_seconds,
    )


@app.command()
def api_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for logs: letters, digits, _, . and -.")],
    file: Annotated[Path, typer.Option(help="The keys file of the gateway; the key's hash is added to it.")],
) -> None:
    """Make an API key for the gateway; it is shown once, and only its hash is kept."""
    from pipeline.api_key_command import run_api_key

    print(run_api_key(name, file))


@app.command()
def predict(
    config: Annotated[
        Path | None, typer.Option("--config", help="Takes the push directory, the CSV dialect and the columns from it.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server, such as http://localhost:8501; without it one is started.")
    ] = None,
    model_base_path: Annotated[str | None, typer.Option(help="The push directory, where no config is given.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model's name; `adclick` by default.")] = None,
    request: Annotated[str | None, typer.Option("--json", help="One JSON object of columns; `-` reads it.")] = None,
    csv: Annotated[
        str | None, typer.Option(help="A CSV file in the dialect of the config; its first row is sent.")
    ] = None,
    row: Annotated[int, typer.Option(min=1, help="Which row of the CSV file to send.")] = 1,
    image: Annotated[str | None, typer.Option(help="An image file to send with it.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Send one impression over HTTP and print the probability of a click."""
    import tempfile

    from pipeline.console import noise_to, result_console

    with noise_to(Path(tempfile.gettempdir()) / "adclick-predict.log") as real:
        from pipeline.predict_command import run_predict

        run_predict(
            config=config,
            url=url,
            model_base_path=model_base_path,
            model_name=model_name,
            request=request,
            csv=csv,
            row=row,
            image=image,
            quiet=quiet,
            console=result_console(real),
        )


@app.command()
def explain(
    config: Annotated[
        Path | None, typer.Option("--config", help="Takes the push directory, the CSV dialect and the columns from it.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running gateway, such as http://localhost:8080; without it one is started.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="ADCLICK_API_KEY", help="The gateway's API key.")] = None,
    model_base_path: Annotated[str | None, typer.Option(help="The push directory, where no config is given.")] = None,
    request: Annotated[str | None, typer.Option("--request", help="One JSON object of columns; `-` reads it.")] = None,
    csv: Annotated[
        str | None, typer.Option(help="A CSV file in the dialect of the config; its first row is explained.")
    ] = None,
    row: Annotated[int, typer.Option(min=1, help="Which row of the CSV file to explain.")] = 1,
    image: Annotated[str | None, typer.Option(help="An image file to explain with it.")] = None,
    heat_map: Annotated[
        Path | None, typer.Option(help="Where to write the image with what each part of it adds, as PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what each column, and each part of the image, adds to the click probability of one impression."""
    import tempfile

    from pipeline.console import noise_to, result_console

    with noise_to(Path(tempfile.gettempdir()) / "adclick-explain.log") as real:
        from pipeline.explain_command import run_explain

        run_explain(
            config=config,
            url=url,
            api_key=api_key,
            model_base_path=model_base_path,
            request=request,
            csv=csv,
            row=row,
            image=image,
            heat_map=heat_map,
            as_json=as_json,
            console=result_console(real),
        )


@app.command()
def batch_predict(
    config: ConfigOption,
    output: Annotated[str, typer.Option(help="A folder of shards, or one file ending in .parquet, .csv or .csv.gz.")],
    month: Annotated[str | None, typer.Option(help="The month (YYYY-MM) to score; the newest if not given.")] = None,
    data: Annotated[str | None, typer.Option(help="Replaces data.root.")] = None,
    form: Annotated[PredictionForm | None, typer.Option("--format", help="Parquet by default.")] = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="Compress with gzip.")] = False,
    version: Annotated[
        int | None, typer.Option(help="The pushed version to score with; by default the newest.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an output that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Score a month's impressions, clicked or not yet, with the served model: id, click probability, version."""
    import tempfile

    from pipeline.console import noise_to, result_console

    with noise_to(Path(tempfile.gettempdir()) / "adclick-batch-predict.log") as real:
        from pipeline.batch_predict_command import run_batch_predict

        result = run_batch_predict(
            config,
            output=output,
            data=data,
            month=month,
            version=version,
            form=form.value if form is not None else None,
            gzip=gzip,
            force=force,
        )
        if as_json:
            print(result.to_json(), file=real)
        elif not quiet:
            result_console(real).print(result.describe(), highlight=False, soft_wrap=True)


@app.command()
def monitor(
    config: ConfigOption,
    predictions: Annotated[str, typer.Option(help="The gateway's prediction log: a file, a folder or a quoted glob.")],
    clicks: Annotated[
        str | None,
        typer.Option(help="CSV files of clicks: impression_id, or request_id and ad_index; and click_time."),
    ] = None,
    shown: Annotated[
        str | None, typer.Option(help="CSV files that name the ads that were shown, where more were scored.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only predictions of this date or time or later; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Only predictions before this date or time; UTC.")] = None,
    version: Annotated[int | None, typer.Option(help="Only predictions of this version.")] = None,
    click_window: Annotated[
        str | None, typer.Option(help="How long after its prediction a click may come, such as 7d; from the config.")
    ] = None,
    clicks_until: Annotated[
        str | None, typer.Option(help="The clicks are complete until then; until the newest of them by default.")
    ] = None,
    json_file: Annotated[str | None, typer.Option("--json", help="Write the report as JSON; `-` prints it.")] = None,
    prometheus: Annotated[
        Path | None, typer.Option(help="Write metrics for a node exporter's textfile collector.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--output", help="Write the tables as a page of HTML.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Compare the prediction log with what the served model was trained on, and with the clicks that came."""
    import tempfile

    from pipeline.console import noise_to, result_console

    with noise_to(Path(tempfile.gettempdir()) / "adclick-monitor.log") as real:
        from pipeline.monitor_command import run_monitor

        run_monitor(
            config,
            predictions=predictions,
            clicks=clicks,
            shown=shown,
            since=since,
            until=until,
            version=version,
            click_window=click_window,
            clicks_until=clicks_until,
            json_file=json_file,
            prometheus=prometheus,
            html=html,
            quiet=quiet,
            console=result_console(real),
        )


@app.command()
def status(
    version: Annotated[
        int | None, typer.Argument(help="A pushed version: the files, config, code, metrics and blessing behind it.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The config file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The output folder, where no config is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, pushed versions and what is served; or tell where one version comes from."""
    from pipeline.status_command import run_status

    run_status(config, output, version, as_json)


@app.command()
def report(
    run: Annotated[
        str | None, typer.Argument(help="The run, as `adclick status` names it; the newest if left out.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The config file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The output folder, where no config is given.")] = None,
) -> None:
    """Write a run's report anew, one HTML page, and print its path."""
    import tempfile

    from pipeline.console import noise_to

    with noise_to(Path(tempfile.gettempdir()) / "adclick-report.log") as real:
        from pipeline.report_command import run_report

        print(run_report(run, config, output), file=real)


TargetOption = Annotated[Literal["vertex", "kubeflow"], typer.Option(help="The platform.")]
MonthOption = Annotated[
    str, typer.Option(help="The newest month (YYYY-MM) to train on; `latest` is the newest there is.")
]
WindowOption = Annotated[int, typer.Option(min=0, help="How many months train the model; data.window if 0.")]


@app.command("compile")
def compile_(
    config: ConfigOption,
    target: TargetOption,
    output: Annotated[Path, typer.Option(help="The file to write: .json for Vertex AI, .yaml for Kubeflow.")],
    monthly: Annotated[
        bool, typer.Option("--monthly", help="Compile what `schedule` schedules: a step that submits the run.")
    ] = False,
    month: MonthOption = "latest",
    window: WindowOption = 0,
    quiet: QuietOption = False,
) -> None:
    """Compile a run of the months that there are now for Vertex AI Pipelines or Kubeflow Pipelines."""
    with _on_platform() as console:
        from pipeline.compile_command import run_compile

        run_compile(
            config, target, output, monthly=monthly, month=month, months=window, console=None if quiet else console
        )


@app.command()
def submit(config: ConfigOption, target: TargetOption, month: MonthOption = "latest", window: WindowOption = 0) -> None:
    """Compile a run of the months that there are now and start it on Vertex AI Pipelines or Kubeflow Pipelines."""
    with _on_platform() as console:
        from pipeline.submit_command import run_submit

        run_submit(config, target, month=month, months=window, console=console)


@app.command()
def schedule(
    config: ConfigOption,
    target: TargetOption,
    cron: Annotated[str, typer.Option(help='Minute, hour, day of month, month, day of week, such as "0 6 2 * *".')],
    time_zone: Annotated[str, typer.Option(help="An IANA name, such as Europe/Berlin; Vertex AI only.")] = "",
    name: Annotated[str | None, typer.Option(help="The schedule's name; by default the model's and -monthly.")] = None,
    window: WindowOption = 0,
) -> None:
    """Let the platform submit a run of the newest months again and again."""
    with _on_platform() as console:
        from pipeline.submit_command import run_schedule

        run_schedule(config, target, cron=cron, time_zone=time_zone, name=name, months=window, console=console)


@contextmanager
def _on_platform() -> Iterator[Console]:
    """Keeps what the platforms' libraries print while they load and work out of sight."""
    import tempfile
    from importlib.util import find_spec

    from pipeline.console import noise_to, result_console
    from schema.errors import ConfigError

    if find_spec("kfp") is None:
        raise ConfigError("kfp is not installed", "Install adclick with its extra `platforms`.")

    with noise_to(Path(tempfile.gettempdir()) / "adclick-platform.log") as real:
        yield result_console(real)


def main() -> None:
    """Runs the command line; an error that a person can act on ends without a traceback, in its own exit code."""
    # The last to run: what TensorFlow's destructors print while the interpreter ends helps nobody.
    atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)
    console = Console(stderr=True, soft_wrap=True)
    try:
        app()
    except AdclickError as error:
        console.print(f"[bold red]error:[/bold red] {_escaped(error.message)}", highlight=False)
        if error.remedy:
            console.print(_escaped(error.remedy), highlight=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("ADCLICK_TRACEBACK"):
            raise
        console.print(
            f"[bold red]internal failure:[/bold red] {type(error).__name__}: {_escaped(str(error)[:2000])}\n"
            "The log of the run has the details; ADCLICK_TRACEBACK=1 prints the traceback here.",
            highlight=False,
        )
        sys.exit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
