"""Waiting for a run in an event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from adclick.serving.errors import DeadlineExceededError

Result = TypeVar("Result")


async def finished(run: Future[Result], deadline: float) -> Result:
    """The result of a run, with a tenth of the work that `asyncio.wait_for` and `asyncio.wrap_future` are.

    Args:
        run: The run; it goes on when it is given up.
        deadline: When it is given up, by `time.monotonic()`.

    Raises:
        DeadlineExceededError: It took longer.
        ServingError: The run failed.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake_from_thread(_: Future[Result]) -> None:
        # The loop may have ended with the server while the model ran.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    timer = loop.call_later(max(0.0, deadline - time.monotonic()), wake)
    run.add_done_callback(wake_from_thread)
    await waiter
    timer.cancel()
    if not run.done():
        raise DeadlineExceededError("Timed out waiting for notification")
    return run.result()
