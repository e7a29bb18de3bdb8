"""How a process runs in the foreground: until a signal, with what it has loaded out of the garbage collector's way."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def settle() -> None:
    """Leaves what is there out of all later garbage collections; to be called when the process is ready.

    What the imports and the models left is garbage now or never: without this each full collection walks all of it,
    and every request waits for 0.2 s.
    """
    gc.collect()
    gc.freeze()


class Stopping:
    """Whether a signal to end has come."""

    def __init__(self, woken: socket.socket) -> None:
        self._woken = woken
        self._came: list[int] = []

    def is_set(self) -> bool:
        """Whether it has."""
        return bool(self._came)

    def wait(self) -> None:
        """Waits for it; returns at once if it came before."""
        while not self._came:
            self._woken.recv(1)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal; the second Ctrl-C interrupts."""
        if self._came and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._came.append(number)


@contextmanager
def stopping_on_signals() -> Iterator[Stopping]:
    """Takes SIGTERM and SIGINT for the length of a `with` block; must be entered in the main thread.

    A second Ctrl-C interrupts as usual.
    """
    # The interpreter may be told of a signal in another thread, or just before this one begins to wait on a lock, which
    # then nothing would wake: the byte that it writes here wakes whoever waits for it.
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    with woken, waking:
        stopping = Stopping(woken)
        descriptor = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, stopping.take) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield stopping
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(descriptor)
