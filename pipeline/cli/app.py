"""The command line. Heavy imports stay inside the commands, so that help answers at once."""

from __future__ import annotations

import os

# Keras 3 everywhere: TensorFlow Transform would otherwise choose Keras 2 when it is imported first.
os.environ["TF_USE_LEGACY_KERAS"] = "0"
# At 2 its import still says that it registers CUDA's libraries twice; what fails raises an error of Python's anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import typer

from adclick.pipeline.cli.api_key import api_key
from adclick.pipeline.cli.batch_predict import batch_predict
from adclick.pipeline.cli.clean import clean
from adclick.pipeline.cli.compile import compile_
from adclick.pipeline.cli.edge import app as edge_app
from adclick.pipeline.cli.explain import explain
from adclick.pipeline.cli.init import init
from adclick.pipeline.cli.monitor import monitor
from adclick.pipeline.cli.predict import predict
from adclick.pipeline.cli.report import report
from adclick.pipeline.cli.rollback import rollback
from adclick.pipeline.cli.run import run
from adclick.pipeline.cli.sample_data import sample_data
from adclick.pipeline.cli.schedule import schedule
from adclick.pipeline.cli.status import status
from adclick.pipeline.cli.stream import app as stream_app
from adclick.pipeline.cli.submit import submit
from adclick.pipeline.cli.tune import tune
from adclick.pipeline.console import plain_console
from adclick.serving.command_line import run_command_line
from adclick.serving.gateway.command import SERVE_CONTEXT, serve
from adclick.serving.script import run_script

if TYPE_CHECKING:
    from adclick.serving.gateway.pipeline_runs import PipelineRuns

#: In the order in which help lists them.
COMMANDS: tuple[Callable[..., None], ...] = (
    sample_data,
    init,
    run,
    rollback,
    clean,
    tune,
    serve,
    api_key,
    predict,
    explain,
    batch_predict,
    monitor,
    status,
    report,
    compile_,
    submit,
    schedule,
)

EXIT_CODES = """\
Exit codes: 0 done; 1 internal failure; 2 wrong command, config or input location; 3 data refused; 4 model refused; \
5 model blessed, but held back by a roll-back; 6 traffic too far from training (monitor), or from a replay (stream); \
7 Vertex AI or Kubeflow refused a submission or could not be reached."""

app = typer.Typer(
    help=f"Monthly ad-click models, from a drop of CSV impressions and images to a served model.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def find_runs(push_directory: str) -> PipelineRuns | None:
    """The runs that pushed to a push directory, where they are at hand, for `serve` to show."""
    from adclick.pipeline.prediction.runs_at_hand import runs_beside

    return runs_beside(push_directory)


for command in COMMANDS:
    context = {**SERVE_CONTEXT, "obj": find_runs} if command is serve else None
    app.command(command.__name__.rstrip("_").replace("_", "-"), context_settings=context)(command)
app.add_typer(stream_app, name="stream")
app.add_typer(edge_app, name="edge")


def main() -> None:
    """Runs the command line; an error that a person can act on ends without a traceback, in its own exit code."""
    run_command_line(app, plain_console(stderr=True, soft_wrap=True))


def script() -> NoReturn:
    """The console script `adclick`."""
    run_script(main)


if __name__ == "__main__":
    script()
