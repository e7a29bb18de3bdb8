"""`adclick-edge` under a clock that jumps and runs fast: `python -m benchmarks.edge_clock FILE SPEED ARGUMENTS`.

FILE holds the seconds by which the time of day is wrong now; SPEED is how many seconds of both clocks pass in one.
Nothing of adclick is replaced, only the clocks that Python gives it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_real_time, _real_monotonic = time.time, time.monotonic


def main() -> int:
    """Runs the command."""
    file, speed = Path(sys.argv[1]), float(sys.argv[2])
    begin, began = _real_time(), _real_monotonic()

    def passed() -> float:
        return (_real_monotonic() - began) * speed

    def wrong_time() -> float:
        try:
            jump = float(file.read_text() or 0)
        except (OSError, ValueError):
            jump = 0.0
        return begin + passed() + jump

    time.time = wrong_time
    time.monotonic = lambda: began + passed()
    from adclick.serving.edge.command import main as run

    return run(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
