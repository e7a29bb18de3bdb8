"""What is asked of a Flink cluster over its REST API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from adclick.schema.errors import AdclickError, ConfigError
from adclick.stream.flink.jars import FLINK_VERSION

_ANSWER_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_CANCEL_SECONDS = 300.0
#: The states of a job that is over.
ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})


class ClusterUnreachable(AdclickError):
    """The cluster cannot be reached; a job that runs on it goes on."""

    exit_code = 2


@dataclass(frozen=True)
class FlinkCluster:
    """A cluster.

    Attributes:
        host: Of the job manager's REST API.
        port: Of it.
    """

    host: str
    port: int

    @classmethod
    def at(cls, address: str) -> FlinkCluster:
        """The cluster at `host:port`.

        Raises:
            ConfigError: It is no such text.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ConfigError(
                f"--flink {address!r}: no address", "Give host:port of the job manager's REST API, port 8081."
            )
        return cls(host, int(port))

    def check(self) -> None:
        """Sees that a cluster of the right version answers.

        Raises:
            ClusterUnreachable: None does.
            ConfigError: It is of another version.
        """
        version = str(self.get("config").get("flink-version"))
        wanted = FLINK_VERSION.rpartition(".")[0]
        if version.split(".")[:2] != wanted.split("."):
            raise ConfigError(f"{self.host}:{self.port} is Flink {version}", f"Submit to Flink {wanted}.")

    def get(self, path: str) -> dict[str, Any]:
        """What it answers to a GET, as JSON.

        Raises:
            ClusterUnreachable: It does not.
        """
        return self._ask("GET", path)

    def running_job(self, name: str) -> str | None:
        """The id of the job of a name that has not ended; None where there is none."""
        jobs = self.get("jobs/overview")["jobs"]
        return next((str(job["jid"]) for job in jobs if job["name"] == name and job["state"] not in ENDED), None)

    def state(self, job: str) -> str:
        """A job's state, such as RUNNING; tasks that are not yet running are INITIALIZING."""
        found = self.get(f"jobs/{job}")
        tasks = {vertex["status"] for vertex in found["vertices"]}
        return "INITIALIZING" if found["state"] == "RUNNING" and tasks != {"RUNNING"} else str(found["state"])

    def failure(self, job: str) -> str:
        """What a job failed of last, in its own words; empty where it did not."""
        entries = self.get(f"jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return str(entries[0]["stacktrace"]) if entries else ""

    def cancel(self, job: str) -> None:
        """Ends a job, and waits until it has ended; its newest checkpoint stays.

        Raises:
            AdclickError: It does not end.
        """
        self._ask("PATCH", f"jobs/{job}?mode=cancel")
        deadline = time.monotonic() + _CANCEL_SECONDS
        while self.state(job) not in ENDED:
            if time.monotonic() > deadline:
                raise AdclickError(f"Flink's job {job} does not end: {self.state(job)}")
            time.sleep(_PAUSE_SECONDS)

    def wait_until_running(self, job: str, seconds: float, go_on: Callable[[], bool] = lambda: True) -> None:
        """Waits until all tasks run, or there is no more waiting.

        Args:
            job: The job.
            seconds: How long.
            go_on: Whether to wait on.

        Raises:
            AdclickError: They do not.
        """
        deadline = time.monotonic() + seconds
        while go_on():
            state = self.state(job)
            if state == "RUNNING":
                return
            if state in ENDED or time.monotonic() > deadline:
                # Long traces end with the cause.
                raise AdclickError(f"Flink's job {job} does not run: {state}\n{self.failure(job)[-3000:]}")
            time.sleep(_PAUSE_SECONDS)

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = httpx.request(
                method,
                f"http://{self.host}:{self.port}/v1/{path}",
                json=body,
                timeout=_ANSWER_SECONDS,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise ClusterUnreachable(
                f"Flink at {self.host}:{self.port} does not answer: {error}",
                "Is its job manager running there?",
            ) from None
        if answer.is_error:
            raise AdclickError(f"Flink at {self.host}:{self.port}: {method} {path}: {answer.text[:600]}")
        found: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            found = dict(answer.json())
        return found
