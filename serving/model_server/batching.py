"""Runs requests on a servable: each by itself, or gathered into batches with those that come at the same time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from adclick.serving.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ServingError,
    UnavailableError,
)
from adclick.serving.model_server.configuration import BatchingOptions
from adclick.serving.model_server.metrics import Metrics
from adclick.serving.model_server.servable import Array, Servable

logger = logging.getLogger(__name__)

Answer = Future[list[Array]]
Result = TypeVar("Result")
_MOST_REQUESTS = 4096


class Runner(Protocol):
    """Runs graphs without keeping its caller waiting."""

    def submit(
        self,
        servable: Servable,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        values: tuple[Array, ...],
        deadline: float | None = None,
    ) -> Answer:
        """Runs `servable.call(feeds, fetches, values)`; the future holds its result or its `ServingError`.

        Args:
            servable: The model; the caller keeps it loaded until the future is done.
            feeds: Names of the tensors that are given.
            fetches: Names of the tensors wanted.
            values: An array for each of `feeds`.
            deadline: When waiting to run makes no sense any more, by `time.monotonic()`.

        Raises:
            UnavailableError: Too many requests wait already.
            InvalidArgumentError: The request has more rows than a batch may.
        """

    def close(self, within_seconds: float = 30.0) -> None:
        """Runs what waits, then ends; returns after so many seconds although something still runs."""


class SingleRunner:
    """Runs each request by itself, as TensorFlow Serving does without `--enable_batching`.

    Args:
        threads: How many run at the same time; by default four for each core, as in TensorFlow Serving.
        most_requests: How many may run or wait.
    """

    def __init__(self, threads: int | None = None, most_requests: int = _MOST_REQUESTS) -> None:
        self._pool = ThreadPoolExecutor(threads or 4 * len(os.sched_getaffinity(0)), thread_name_prefix="run")
        self._places = threading.BoundedSemaphore(most_requests)
        self._changed = threading.Lock()
        self._running: set[Answer] = set()

    def submit(
        self,
        servable: Servable,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        values: tuple[Array, ...],
        deadline: float | None = None,
    ) -> Answer:
        """As `Runner.submit`."""
        if not self._places.acquire(blocking=False):
            raise UnavailableError("The server has as many requests as it can hold; try again later")

        def run() -> list[Array]:
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineExceededError("Deadline exceeded before the request could run")
            return servable.call(feeds, fetches, values, deadline)

        future = self._pool.submit(run)
        future.add_done_callback(self._done)
        with self._changed:
            self._running.add(future)
        return future

    def _done(self, future: Answer) -> None:
        self._places.release()
        with self._changed:
            self._running.discard(future)

    def close(self, within_seconds: float = 30.0) -> None:
        """As `Runner.close`."""
        self._pool.shutdown(wait=False)
        with self._changed:
            running = set(self._running)
        wait(running, within_seconds)


@dataclass
class _Task:
    values: tuple[Array, ...]
    rows: int
    deadline: float | None
    came: float = field(default_factory=time.monotonic)
    answer: Answer = field(default_factory=Future)


@dataclass
class _Queue:
    """Requests that can share a batch, in the order in which they came."""

    servable: Servable
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    options: BatchingOptions
    tasks: deque[_Task] = field(default_factory=deque)
    rows: int = 0


class BatchingRunner:
    """Gathers requests for the same tensors of the same servable into batches.

    Differs from TensorFlow Serving's batching where that makes one request pay for another: requests whose rows have
    other shapes go into other batches, and after a batch has failed each of its requests runs by itself. Requests that
    have no common first dimension run by themselves.

    Args:
        options: The parameters.
        metrics: Where batches are counted.
        per_model: Whether the models' own parameters count, but for the threads; a model without any is not batched.
    """

    def __init__(self, options: BatchingOptions, metrics: Metrics | None = None, per_model: bool = False) -> None:
        self._options = options
        self._metrics = metrics or Metrics()
        self._per_model = per_model
        self._singles = SingleRunner()
        self._changed = threading.Condition()
        self._queues: OrderedDict[tuple[Any, ...], _Queue] = OrderedDict()
        self._waiting_rows = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{options.thread_pool_name}-{number}", daemon=True)
            for number in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        servable: Servable,
        feeds: tuple[str, ...],
        fetches: tuple[str, ...],
        values: tuple[Array, ...],
        deadline: float | None = None,
    ) -> Answer:
        """As `Runner.submit`."""
        sizes = {value.shape[0] if value.ndim else None for value in values}
        rows = sizes.pop() if len(sizes) == 1 else None
        if not rows:
            return self._singles.submit(servable, feeds, fetches, values, deadline)
        options = servable.batching if self._per_model else self._options
        if options is None:
            return self._singles.submit(servable, feeds, fetches, values, deadline)
        for value in values:
            self._metrics.input_batch_size.record(len(value))
        if rows > options.max_batch_size and not options.takes_large_requests:
            raise InvalidArgumentError(
                f"Task size {rows} is larger than maximum input batch size {options.max_batch_size}"
            )
        kinds = tuple((value.ndim, value.dtype.char) for value in values)
        shapes = () if options.pad_variable_length_inputs else tuple(value.shape[1:] for value in values)
        key = (id(servable), feeds, fetches, kinds, shapes)
        task = _Task(values, rows, deadline)
        with self._changed:
            if self._closing or self._waiting_rows >= options.max_enqueued_batches * options.max_batch_size:
                raise UnavailableError("The batch scheduling queue to which this task was submitted is full")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = _Queue(servable, feeds, fetches, options)
            queue.tasks.append(task)
            queue.rows += rows
            self._waiting_rows += rows
            self._changed.notify()
        return task.answer

    def close(self, within_seconds: float = 30.0) -> None:
        """As `Runner.close`."""
        deadline = time.monotonic() + within_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._singles.close(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            queue, tasks = batch
            try:
                self._run(queue, tasks)
            except Exception:  # The thread must outlive whatever one batch meets.
                logger.exception("a batch failed")
                for task in tasks:
                    _resolve(task.answer, InternalError("Internal error; the server's log says more"))

    def _next_batch(self) -> tuple[_Queue, list[_Task]] | None:
        with self._changed:
            while True:
                now = time.monotonic()
                wait: float | None = None
                for key, queue in self._queues.items():
                    remaining = queue.tasks[0].came + queue.options.batch_timeout_seconds - now
                    if remaining <= 0 or queue.rows >= queue.options.max_batch_size or self._closing:
                        tasks = self._take(queue)
                        if queue.tasks:
                            # Those behind must not wait for as long as this queue is never empty.
                            self._queues.move_to_end(key)
                            self._changed.notify()
                        else:
                            del self._queues[key]
                        return queue, tasks
                    wait = remaining if wait is None else min(wait, remaining)
                if self._closing:
                    return None
                self._changed.wait(wait)

    def _take(self, queue: _Queue) -> list[_Task]:
        tasks = [queue.tasks.popleft()]
        rows = tasks[0].rows
        while queue.tasks and rows + queue.tasks[0].rows <= queue.options.max_batch_size:
            tasks.append(queue.tasks.popleft())
            rows += tasks[-1].rows
        queue.rows -= rows
        self._waiting_rows -= rows
        return tasks

    def _run(self, queue: _Queue, tasks: list[_Task]) -> None:
        now = time.monotonic()
        waiting = []
        for task in tasks:
            self._metrics.queuing_latency.record((now - task.came) * 1e6, self._options.thread_pool_name)
            if task.deadline is not None and now > task.deadline:
                _resolve(task.answer, DeadlineExceededError("Deadline exceeded while waiting in the batching queue"))
            else:
                waiting.append(task)
        if not waiting:
            return
        rows = [task.rows for task in waiting]
        try:
            merged = [_merge([task.values[i] for task in waiting], queue.options) for i in range(len(queue.feeds))]
            self._metrics.padding_size.record(len(merged[0]) - sum(rows), str(len(merged[0])))
            self._metrics.processed_batch_size.record(len(merged[0]))
            self._metrics.wrapped_run_count.add()
            deadlines = [task.deadline for task in waiting if task.deadline is not None]
            last = max(deadlines) if len(deadlines) == len(waiting) else None
            fetched = queue.servable.call(queue.feeds, queue.fetches, merged, last)
            answers = _split(fetched, rows, len(merged[0]))
        except ServingError as error:
            if len(waiting) == 1:
                _resolve(waiting[0].answer, error)
                return
            answers = None
        if answers is None:
            for task in waiting:
                self._run_alone(queue, task)
            return
        for task, answer in zip(waiting, answers, strict=True):
            _resolve(task.answer, answer)

    def _run_alone(self, queue: _Queue, task: _Task) -> None:
        try:
            _resolve(task.answer, queue.servable.call(queue.feeds, queue.fetches, task.values, task.deadline))
        except ServingError as error:
            _resolve(task.answer, error)


def _merge(values: Sequence[Array], options: BatchingOptions) -> Array:
    if options.pad_variable_length_inputs and len({value.shape[1:] for value in values}) > 1:
        values = _padded(values)
    merged = values[0] if len(values) == 1 else np.concatenate(values)
    size = next((size for size in options.allowed_batch_sizes if size >= len(merged)), len(merged))
    if size == len(merged):
        return merged
    return np.concatenate([merged, np.repeat(merged[:1], size - len(merged), axis=0)])


def _split(fetched: Sequence[Array], rows: Sequence[int], size: int) -> list[list[Array]] | None:
    """Each request's part of what a batch fetched; None if that has not a row for each of the batch's."""
    if len(rows) == 1 and sum(rows) == size:
        return [list(fetched)]
    if any(value.ndim == 0 or len(value) != size for value in fetched):
        return None
    ends = np.cumsum(rows)
    return [[value[end - count : end] for value in fetched] for end, count in zip(ends, rows, strict=True)]


def _padded(values: Sequence[Array]) -> list[Array]:
    """Fills rows up to one shape, as TensorFlow Serving does: with the first value of the array that is filled."""
    shape = np.max([value.shape[1:] for value in values], axis=0)
    return [
        np.pad(
            value,
            [(0, 0), *((0, int(most) - have) for most, have in zip(shape, value.shape[1:], strict=True))],
            constant_values=value.flat[0] if value.size else (b"" if value.dtype.kind in "OSU" else 0),
        )
        for value in values
    ]


def _resolve(answer: Answer, result: list[Array] | ServingError) -> None:
    try:
        if isinstance(result, ServingError):
            answer.set_exception(result)
        else:
            answer.set_result(result)
    except InvalidStateError:
        # Whoever asked has given up.
        pass


def wait_for(answer: Future[Result], deadline: float | None) -> Result:
    """The result of a run, waited for until the deadline by `time.monotonic()`.

    Raises:
        DeadlineExceededError: It took longer.
        ServingError: The run failed.
    """
    remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return answer.result(remaining)
    except TimeoutError:
        answer.cancel()
        raise DeadlineExceededError("Deadline exceeded while the model ran") from None
