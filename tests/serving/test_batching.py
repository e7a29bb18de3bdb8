"""Batches over real models: what is gathered, what each request gets back, and what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from adclick.serving.errors import DeadlineExceededError, InvalidArgumentError, ServingError, UnavailableError
from adclick.serving.model_server.batching import BatchingRunner, SingleRunner, wait_for
from adclick.serving.model_server.configuration import BatchingOptions
from adclick.serving.model_server.servable import Servable


class Gate(tf.Module):
    """Tells how many rows ran together; refuses a negative row; waits in proportion to `seconds`."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None, None], tf.string, name="words"),
        ]
    )
    def together(self, x: tf.Tensor, words: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "a negative row")]):
            rows = tf.shape(x)[0]
        return {
            "x": x * 2.0,
            "rows": tf.fill([rows], rows),
            "width": tf.fill([rows], tf.shape(words)[1]),
            "joined": tf.strings.reduce_join(words, axis=1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def servable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    path = tmp_path_factory.mktemp("gate") / "1"
    gate = Gate()
    tf.saved_model.save(gate, str(path), signatures={"serving_default": gate.together, "total": gate.total})
    loaded = Servable.load(path)
    yield loaded
    loaded.close()


def words(*rows: list[str]) -> np.ndarray[Any, Any]:
    return np.array([[word.encode() for word in row] for row in rows], object)


class Asking:
    """Sends requests to a runner, and reads what comes back by the signature's names."""

    def __init__(self, runner: BatchingRunner | SingleRunner, servable: Servable) -> None:
        self._runner = runner
        self._servable = servable

    def submit(self, x: list[float], words_: np.ndarray[Any, Any] | None = None, deadline: float | None = None) -> Any:
        inputs = {"x": np.array(x, np.float32), "words": words(*[["w"]] * len(x)) if words_ is None else words_}
        call = self._servable.prepare("serving_default", inputs)
        future = self._runner.submit(self._servable, call.feeds, call.fetches, call.values, deadline)
        return lambda: {name: value.tolist() for name, value in call.named(wait_for(future, None)).items()}


@pytest.fixture
def batching(servable: Servable) -> Iterator[Any]:
    runners = []

    def start(**options: Any) -> Asking:
        runners.append(BatchingRunner(BatchingOptions(**{"batch_timeout_seconds": 0.2, **options})))
        return Asking(runners[-1], servable)

    yield start
    for runner in runners:
        runner.close()


def test_requests_share_a_run_and_get_their_own_rows(batching: Any) -> None:
    asking = batching()
    answers = [asking.submit([1.0]), asking.submit([2.0, 3.0]), asking.submit([4.0])]
    got = [answer() for answer in answers]
    assert [answer["x"] for answer in got] == [[2.0], [4.0, 6.0], [8.0]]
    assert got[1]["rows"] == [4, 4]


def test_a_full_batch_does_not_wait(batching: Any) -> None:
    asking = batching(batch_timeout_seconds=60.0, max_batch_size=2)
    answers = [asking.submit([float(number)]) for number in range(4)]
    assert [answer()["rows"] for answer in answers] == [[2]] * 4


def test_rows_of_other_shapes_go_into_other_batches(batching: Any) -> None:
    asking = batching()
    answers = [asking.submit([1.0], words(["a"])), asking.submit([2.0], words(["b", "c"]))]
    assert [answer()["joined"] for answer in answers] == [[b"a"], [b"bc"]]
    assert [answer()["rows"] for answer in answers] == [[1], [1]]


def test_padded_rows_share_a_batch(batching: Any) -> None:
    asking = batching(pad_variable_length_inputs=True)
    answers = [asking.submit([1.0], words(["a"])), asking.submit([2.0], words(["b", "c"]))]
    assert [answer()["rows"] for answer in answers] == [[2], [2]]
    assert [answer()["width"] for answer in answers] == [[2], [2]]


def test_a_batch_is_filled_up_to_an_allowed_size(batching: Any) -> None:
    asking = batching(allowed_batch_sizes=(4, 1024))
    answer = asking.submit([1.0, 2.0])()
    assert answer["x"] == [2.0, 4.0]
    assert answer["rows"] == [4, 4]


def test_one_bad_request_fails_alone(batching: Any) -> None:
    asking = batching()
    good, bad, other = asking.submit([1.0]), asking.submit([-1.0]), asking.submit([3.0])
    assert good()["x"] == [2.0]
    assert other()["x"] == [6.0]
    with pytest.raises(ServingError, match="a negative row"):
        bad()


def test_an_output_without_rows_is_given_to_each(servable: Servable) -> None:
    runner = BatchingRunner(BatchingOptions(batch_timeout_seconds=0.1))
    calls = [servable.prepare("total", {"x": np.array(x, np.float32)}) for x in ([1, 2], [3])]
    futures = [runner.submit(servable, call.feeds, call.fetches, call.values) for call in calls]
    assert [float(wait_for(future, None)[0]) for future in futures] == [3.0, 3.0]
    runner.close()


def test_a_request_larger_than_a_batch(batching: Any) -> None:
    assert len(batching(max_batch_size=2).submit([1.0] * 5)()["x"]) == 5
    with pytest.raises(InvalidArgumentError, match="Task size 5 is larger than maximum input batch size 2"):
        batching(max_batch_size=2, takes_large_requests=False).submit([1.0] * 5)


def test_a_full_queue_refuses(batching: Any) -> None:
    asking = batching(batch_timeout_seconds=60.0, max_batch_size=100, max_enqueued_batches=1)
    for _ in range(4):
        asking.submit([1.0] * 30)
    with pytest.raises(UnavailableError, match="queue to which this task was submitted is full"):
        for _ in range(100):
            asking.submit([1.0] * 30)


def test_what_came_too_late_is_not_run(batching: Any) -> None:
    asking = batching()
    late = asking.submit([1.0], deadline=time.monotonic() - 1)
    assert asking.submit([2.0])()["rows"] == [1]
    with pytest.raises(DeadlineExceededError, match="waiting in the batching queue"):
        late()


def test_a_waiting_request_is_answered_before_the_end(servable: Servable) -> None:
    runner = BatchingRunner(BatchingOptions(batch_timeout_seconds=60.0))
    answer = Asking(runner, servable).submit([1.0])
    runner.close()
    assert answer()["x"] == [2.0]


def test_many_threads_get_their_own(servable: Servable) -> None:
    runner = BatchingRunner(BatchingOptions(max_batch_size=16, num_batch_threads=2))
    wrong: list[Any] = []

    def ask(number: int) -> None:
        asking = Asking(runner, servable)
        for _ in range(50):
            answer = asking.submit([float(number)] * (1 + number % 3))()
            if answer["x"] != [2.0 * number] * (1 + number % 3):
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=[number], daemon=True) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    runner.close()
    assert not wrong


def large_call(servable: Servable) -> Any:
    return servable.prepare("total", {"x": np.zeros(10_000_000, np.float32)})


def test_single_requests_run_alone_and_are_bounded(servable: Servable) -> None:
    runner = SingleRunner(threads=1, most_requests=1)
    assert Asking(runner, servable).submit([1.0, 2.0])()["rows"] == [2, 2]
    call = large_call(servable)
    with pytest.raises(UnavailableError, match="as many requests as it can hold"):
        for _ in range(100):
            runner.submit(servable, call.feeds, call.fetches, call.values)
    runner.close()


def test_a_slow_run_is_given_up(servable: Servable) -> None:
    runner = SingleRunner(threads=1)
    call = large_call(servable)
    futures = [runner.submit(servable, call.feeds, call.fetches, call.values) for _ in range(20)]
    with pytest.raises(DeadlineExceededError):
        wait_for(futures[-1], time.monotonic())
    runner.close()
