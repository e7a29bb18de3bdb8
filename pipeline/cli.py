"""The command line. Heavy imports stay inside the commands, so that help answers at once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
Exit codes: 0 done; 1 internal failure; 2 wrong command, config or input location; 3 data refused; 4 model refused."""

app = typer.Typer(
    help=f"Monthly ad-click models, from a drop of CSV impressions and images to a served model.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", help="The config file.")]
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
    from pipeline.config import load_config
    from pipeline.console import noise_to, result_console
    from pipeline.run_record import COMPARISON_FILE, LOG_FILE, new_run_id, record_folder

    settings = load_config(config, data_root=data, output=output)
    run_id = new_run_id(settings.output)
    log_file = record_folder(settings.output, run_id) / LOG_FILE
    with noise_to(log_file) as real:
        console = result_console(real)
        if not quiet:
            console.print(f"Run {run_id}. Data: {settings.data.root}. Log: {log_file}", highlight=False, soft_wrap=True)
        with nullcontext() if quiet or not console.is_terminal else console.status("loading TFX"), _no_collection():
            from pipeline.local import run_local
            from pipeline.summary import print_comparison, print_summary
        record = run_local(
            settings,
            month=month,
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
    from schema.errors import ModelRefused

    if record.state != "pushed":
        raise ModelRefused(
            "the model is refused and was not pushed:\n" + "\n".join(f"  {reason}" for reason in record.reasons),
            "The version that was served before stays. Look at the slices above, the data of the newest month and the "
            "thresholds of the config.",
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
def status(
    config: Annotated[Path | None, typer.Option("--config", help="The config file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The output folder, where no config is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, pushed versions and what is served."""
    from pipeline.status_command import run_status

    run_status(config, output, as_json)


def main() -> None:
    """Runs the command line; an error that a person can act on ends without a traceback, in its own exit code."""
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
