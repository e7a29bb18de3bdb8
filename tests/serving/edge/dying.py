"""A device's slots in a process that dies at one line after another: `python -m tests.serving.edge.dying FOLDER KEY`.

A program of its own, so that the processes that it forks are small. FOLDER holds 7.bundle, 8.bundle and 9.bundle;
printed is, as JSON, which version was whole and running after each death, and at last after a life without one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from adclick.serving.edge import slots as slots_module
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.slots import Refusal, Slots


def main() -> None:
    folder, public = Path(sys.argv[1]), [read_public_key(Path(sys.argv[2]))]
    bundles = {version: (folder / f"{version}.bundle").read_bytes() for version in (7, 8, 9)}
    digests = {version: read_bundle(bundle, public).digest for version, bundle in bundles.items()}
    # A process that dies takes nothing with it that was written; what fsync is for, a power cut, is not tried here.
    os.fsync = lambda _: None

    def install(slots: Slots, version: int) -> None:
        slots.part.write_bytes(bundles[version])
        slots.install(slots.part, version, digests[version])

    def life(slots: Slots) -> None:
        install(slots, 9)
        slots.follow("stable", 5, "keys")
        slots.begin()
        slots.end(digests[9])
        slots.begin()
        slots.refuse(Refusal("0" * 64, 10, "unsigned", "here"))
        slots.roll_back(Refusal(digests[9], 9, "crashed", "here"))

    before = Slots(folder / "before")
    for version in (7, 8):
        install(before, version)
        before.prove(digests[version])
    seen: list[int | None] = []
    alive = False
    while not alive:
        shutil.rmtree(folder / "work", ignore_errors=True)
        shutil.copytree(folder / "before", folder / "work")
        alive = not dies_at(len(seen) + 1, folder / "work", life)
        bundle = Slots(folder / "work").load(public)
        seen.append(bundle.version if bundle is not None else None)
    print(json.dumps(seen))


def dies_at(line: int, folder: Path, life: Any) -> bool:
    """Lives in a process that kills itself (-9) at that line of the module; gives whether it came so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename != slots_module.__file__:
                return None
            if event == "line":
                count += 1
                if count == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            life(Slots(folder))
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the life failed")
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    main()
