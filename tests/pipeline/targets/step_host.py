"""Runs step commands, each in a process forked from this one, which has imported the container's entry point.

Importing TFX takes longer than most steps of a test do. A line of standard input is a command as JSON: `arguments`
(those after `python -m`), `environment` and `log`; a line of standard output is its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback


def _run(arguments: list[str], environment: dict[str, str], log: str) -> int:
    with open(log, "wb", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ.update(environment)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    # The steps' environment holds while their modules are imported, as it does in a container.
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    importlib.import_module("tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor")
    importlib.import_module("adclick.components.worker_errors")
    for line in sys.stdin:
        step = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = _run(**step)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)


if __name__ == "__main__":
    main()
