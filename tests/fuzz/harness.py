"""Takes projects through `init` and `run` in this process, so that imports are paid for once.

`make fuzz` tries thousands of projects that were never tried before; the tests try the same each time.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from adclick.pipeline.cli import app as cli
from tests.fuzz.projects import Project

#: Of a run that ends well, that refuses its config or its input, its data, or its model.
_DOCUMENTED = {0, 2, 3, 4}
_IS_FUZZING = "ADCLICK_FUZZ_PROJECTS" in os.environ
_PROJECTS = int(os.environ.get("ADCLICK_FUZZ_PROJECTS", "500"))
#: After this many seconds no further project is begun, unless those that must be tried have not been.
_SECONDS = float(os.environ.get("ADCLICK_FUZZ_SECONDS", "165"))
#: On a busy machine the least number of projects is waited for so long.
_PATIENCE_SECONDS = 750.0
#: So many projects are between two collections of all there is, which cost more than a project that is refused.
_PROJECTS_PER_COLLECTION = 25
#: One pushed model of so many is served.
_SERVED = 8


@dataclass(frozen=True)
class Done:
    """A command that ended in this process."""

    code: int
    text: str


def adclick(*arguments: str | Path) -> Done:
    """Runs the command line as its entry point does, and reads what it prints."""
    failure = ""
    with tempfile.TemporaryFile() as output:
        saved, before = [os.dup(1), os.dup(2)], (sys.argv, sys.stdout, sys.stderr)
        for target in (1, 2):
            os.dup2(output.fileno(), target)
        sys.argv = ["adclick", *map(str, arguments)]
        sys.stdout, sys.stderr = (os.fdopen(target, "w", encoding="utf-8", closefd=False) for target in (1, 2))
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:
            code, failure = 1, traceback.format_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.close()
            sys.argv, sys.stdout, sys.stderr = before
            for target, kept in zip((1, 2), saved, strict=True):
                os.dup2(kept, target)
                os.close(kept)
        output.seek(0)
        return Done(code, output.read().decode("utf-8", "replace") + failure)


@dataclass
class Tally:
    """What has come of the projects so far.

    Attributes:
        least: How many must be tried, however long it takes.
        started: When, by `time.monotonic()`.
        ends: How many ended how.
        pushed: How many pushed a model.
        served: Of how many of these the pushed model was served.
    """

    least: int
    started: float = field(default_factory=time.monotonic)
    ends: Counter[str] = field(default_factory=Counter)
    pushed: int = 0
    served: int = 0

    @property
    def projects(self) -> int:
        return self.ends.total()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def is_over(self) -> bool:
        return self.seconds > (_PATIENCE_SECONDS if self.projects < self.least else _SECONDS)

    def describe(self) -> str:
        """How many projects ended how."""
        ends = ", ".join(f"{end}: {count}" for end, count in sorted(self.ends.items()))
        return (
            f"{self.projects} projects in {self.seconds:.0f} s, {time.process_time():.0f} s of CPU ({ends}); "
            f"of {self.pushed} pushed {self.served} served"
        )


def try_projects(
    name: str, strategy: st.SearchStrategy[Project], least: int, tell: Callable[[str, object], None]
) -> None:
    """Tries as many projects as the time allows, and says how they ended.

    Args:
        name: What to call them.
        strategy: What makes them.
        least: How many must be tried, on however busy a machine.
        tell: Takes the name and how they ended, whichever way the test ends: pytest's `record_property`.

    Raises:
        AssertionError: One ended in an undocumented way, lost a row, or serves other probabilities than were evaluated;
            or fewer than `least` were tried.
    """
    tally = Tally(least)

    @settings(
        max_examples=_PROJECTS,
        deadline=None,
        derandomize=not _IS_FUZZING,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(project=strategy)
    def attempt(project: Project) -> None:
        if tally.is_over:
            return
        folder = Path(tempfile.mkdtemp(prefix="adclick-fuzz-"))
        try:
            tally.ends[_end_of(project, folder, tally)] += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _forget(everything=tally.projects % _PROJECTS_PER_COLLECTION == 0)

    # An internal failure is raised, not printed.
    os.environ["ADCLICK_TRACEBACK"] = "1"
    try:
        attempt()
    finally:
        del os.environ["ADCLICK_TRACEBACK"]
        tell(name, tally.describe())
    assert tally.projects >= least, f"fewer than {least} {name} were tried: {tally.describe()}"


def _end_of(project: Project, folder: Path, tally: Tally) -> str:
    """Writes the project, asks for a config and runs it; gives how it ended."""
    project.write(folder)
    started = adclick("init", folder / project.data, "--output", folder / "project")
    note(started.text)
    assert started.code in _DOCUMENTED, started.text
    if started.code:
        return f"init {started.code}"
    config = folder / "project" / "config.yaml"
    project.edit_config(config)
    done = adclick("run", "--config", config)
    log = _log(folder)
    note(done.text)
    assert done.code in _DOCUMENTED, f"{done.text}\n{log[-6_000:]}"
    assert "Traceback" not in done.text, done.text
    assert "could not be written" not in done.text, f"{done.text}\n{log[-6_000:]}"
    _check_rows(folder / "project" / "output")
    if done.code == 0:
        tally.pushed += 1
        if tally.pushed % _SERVED == 1:
            tally.served += 1
            _check_served(config)
    return f"run {done.code}"


def _log(folder: Path) -> str:
    return "\n".join(path.read_text("utf-8", "replace") for path in folder.glob("project/output/runs/*/run.log"))


def _check_rows(output: Path) -> None:
    """Every row of every month is an example of one split, quarantined, or a duplicate."""
    from adclick.pipeline.runs.record import read_records

    for record in read_records(str(output)):
        for drop in record.drops:
            assert drop.rows_in == drop.rows_examples + drop.rows_quarantined + drop.rows_duplicate, drop
            assert drop.rows_examples == drop.rows_train + drop.rows_validation + drop.rows_eval, drop


def _check_served(config: Path) -> None:
    """The pushed version answers over REST with the probabilities that the trained model was evaluated with."""
    from tfx.utils import path_utils

    from adclick.components.serving_validator.agreement import disagreements
    from adclick.models.training_data import record_datasets
    from adclick.pipeline.config.settings import load_config
    from adclick.pipeline.runs.data import held_out_files
    from adclick.pipeline.runs.record import read_records

    settings = load_config(config)
    (record,) = read_records(settings.output)
    (model,) = record.artifacts["ClickTrainer.model"]
    examples = [
        example
        for dataset in record_datasets(held_out_files(record))
        for example in dataset.take(32).as_numpy_iterator()
    ]
    trained = path_utils.serving_model_path(model)
    assert disagreements(Path(settings.push_base), trained, examples, {}, settings.features) == []


def _forget(*, everything: bool) -> None:
    """Lets go of what a run leaves behind in a process that is meant to end with it.

    A run freezes what is there when it starts, libraries above all, so that to collect the rest costs little.
    """
    if "adclick.models.loading" in sys.modules:
        sys.modules["adclick.models.loading"].forget_models()
    if not everything:
        gc.collect()
        return
    gc.unfreeze()
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    gc.collect()
    gc.freeze()
