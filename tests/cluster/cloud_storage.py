"""The tests' Google Cloud Storage at an address that pods reach, until a signal.

python -m tests.cluster.cloud_storage FOLDER HOST
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.gcs import running_storage

EMULATOR_PORT, PROXY_PORT = 4443, 4444


def main() -> None:
    with running_storage(Path(sys.argv[1]), sys.argv[2], EMULATOR_PORT, PROXY_PORT):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before any thread is made, which would take the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
