"""Runs `adclick`, each time in a process forked from this one, which has loaded the libraries that commands load.

Loading TensorFlow and TFX takes longer than most commands of a test do. A message of the socket whose descriptor is the
argument is a command as JSON, `arguments` and `folder`, with the descriptors of its standard input, output and error;
the answer is its exit status.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys

#: What `run`, `predict`, `explain`, `batch-predict` and `report` load; first what sets the libraries' environment.
_LOADED = (
    "adclick.pipeline.cli.app",
    "adclick.pipeline.runs.local",
    "adclick.pipeline.runs.summary",
    "adclick.pipeline.report.write",
    "adclick.pipeline.prediction.single",
    "adclick.pipeline.prediction.explanation",
    "adclick.pipeline.prediction.batch",
)
_LONGEST_COMMAND = 1 << 20


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()
    for name in _LOADED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    while True:
        message, streams, *_ = socket.recv_fds(channel, _LONGEST_COMMAND, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            channel.close()
            _become(streams, **json.loads(message))
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(child, 0)
        channel.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(streams: list[int], arguments: list[str], folder: str) -> None:
    """Goes on as the console script; does not return."""
    try:
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        os.chdir(folder)
        sys.argv = ["adclick", *arguments]
        importlib.import_module("adclick.pipeline.cli.app").script()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
