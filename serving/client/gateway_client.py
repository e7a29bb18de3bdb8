"""A small client of the gateway."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
#: Nothing was done: asking again is safe.
_RETRIED = (429, 503)


class GatewayRefusal(Exception):
    """The gateway refused a request, or could not be reached.

    Attributes:
        status: The HTTP status; 0 if no answer came.
        code: A short name of the reason.
        message: The reason in words.
        field: The field that is wrong; empty if it is none.
        request_id: The request, for the gateway's log.
    """

    def __init__(self, status: int, code: str, message: str, field: str = "", request_id: str = "") -> None:
        super().__init__(f"{message}{f' ({field})' if field else ''}")
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.request_id = request_id
        self.retry_after_seconds = 0.0


@dataclass(frozen=True)
class ScoredAd:
    """An ad's score.

    Attributes:
        index: Which of the request's ads, from 0.
        rank: 1 for the ad that is most likely to be clicked.
        click_probability: Calibrated, in [0, 1].
        creative_status: `ok`, or why the ad was scored with the unknown creative; None where it was not asked for.
    """

    index: int
    rank: int
    click_probability: float
    creative_status: str | None = None


@dataclass(frozen=True)
class Scores:
    """The answer for one context.

    Attributes:
        ads: Ranked.
        model_version: The version that answered.
        route: The route that led to it.
    """

    ads: tuple[ScoredAd, ...]
    model_version: int
    route: str


@dataclass(frozen=True)
class Explanation:
    """Why an ad has its score.

    Attributes:
        click_probability: As `score` answers.
        logit: log(p / (1 - p)) of it.
        baseline_logit: The logit of an ad of which nothing is known.
        contributions: What each field adds to the logit, the largest first; together `logit - baseline_logit`.
        model_version: The version that answered.
        creative_status: What came of the image; None for a model without images.
        logit_against_grey: What the image adds against a plain grey one; None where its pixels were not given.
        heat_map: PNG of the image with its pixels' contributions above; None where its pixels were not given.
        words: By field that is a text, what its words add that add or take the most, with their parts and neighbours.
    """

    click_probability: float
    logit: float
    baseline_logit: float
    contributions: Mapping[str, float]
    model_version: int
    creative_status: str | None = None
    logit_against_grey: float | None = None
    heat_map: bytes | None = None
    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class GatewayClient:
    """Asks one gateway; safe to share between threads. Use it in a `with` block, or close it.

    A request is sent again, after a growing pause, when no connection was made or the gateway answered 429 or 503: then
    nothing was done.

    Args:
        url: The gateway's address, such as http://127.0.0.1:8080.
        api_key: The API key; None where none is needed.
        timeout_seconds: How long one call may take, all tries together, in seconds.
        retries: How often to try again.
        verify: Whether, or against which certificates, the gateway's is checked; see httpx.
        certificate: The client's certificate and key files, for mutual TLS.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 2.0,
        retries: int = 3,
        verify: Any = True,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        cert = None if certificate is None else (str(certificate[0]), str(certificate[1]))
        # The environment's proxies are for the world outside; a gateway stands inside.
        self._http = httpx.Client(base_url=url, headers=headers, verify=verify, cert=cert, trust_env=False)

    def __enter__(self) -> GatewayClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def score(
        self,
        ads: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        *,
        creative_status: bool = False,
        request_id: str | None = None,
    ) -> Scores:
        """Scores the ads of one context.

        Args:
            ads: The fields of each ad; an image as a creative's key, an address or bytes.
            context: The fields that all of them share.
            creative_status: Whether to say what came of each image.
            request_id: Names the request in the gateway's log.

        Raises:
            GatewayRefusal: The gateway refused it, or did not answer in time.
        """
        document = self._post("/v1/score", _request(ads, context, creative_status), request_id)
        return _scores(document)

    def score_batch(
        self,
        requests: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
        *,
        creative_status: bool = False,
        request_id: str | None = None,
    ) -> list[Scores]:
        """Scores the ads of several contexts, each given as the context and its ads; raises as `score`."""
        body = {"requests": [_request(ads, context, creative_status) for context, ads in requests]}
        return [_scores(response) for response in self._post("/v1/score:batch", body, request_id)["responses"]]

    def explain(
        self, ad: Mapping[str, Any], context: Mapping[str, Any] | None = None, *, request_id: str | None = None
    ) -> Explanation:
        """Explains the score of one ad, given as to `score`; raises as `score`."""
        document = self._post("/v1/explain", _request([ad], context, creative_status=True), request_id)
        image = document.get("image", {})
        encoded = image.get("heat_map", {}).get("b64")
        return Explanation(
            click_probability=document["click_probability"],
            logit=document["logit"],
            baseline_logit=document["baseline"]["logit"],
            contributions={one["field"]: one["contribution"] for one in document["contributions"]},
            model_version=document["model"]["version"],
            creative_status=image.get("creative_status"),
            logit_against_grey=image.get("logit_against_grey"),
            heat_map=None if encoded is None else base64.b64decode(encoded),
            words={
                one["field"]: {word["word"]: word["contribution"] for word in one["words"]}
                for one in document["contributions"]
                if "words" in one
            },
        )

    def _post(self, path: str, body: Mapping[str, Any], request_id: str | None) -> Any:
        headers = {} if request_id is None else {"x-request-id": request_id}
        deadline = time.monotonic() + self._timeout_seconds
        retrying = Retrying(
            retry=retry_if_exception(_is_worth_another_try),
            stop=stop_after_attempt(self._retries + 1) | stop_before_delay(self._timeout_seconds),
            wait=_pause,
            reraise=True,
        )
        return retrying(self._send, path, body, headers, deadline)

    def _send(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], deadline: float) -> Any:
        remaining = max(0.001, deadline - time.monotonic())
        try:
            answer = self._http.post(path, json=body, headers=headers, timeout=remaining)
        except httpx.ConnectError as error:
            raise GatewayRefusal(0, "unreachable", f"no gateway answers at {self._http.base_url}: {error}") from error
        except httpx.TimeoutException as error:
            raise GatewayRefusal(0, "timed_out", f"no answer within {self._timeout_seconds:g} s") from error
        except httpx.HTTPError as error:
            raise GatewayRefusal(0, "broken_connection", str(error) or type(error).__name__) from error
        if answer.status_code == 200:
            return answer.json()
        raise _refusal(answer)


def _request(
    ads: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None, creative_status: bool
) -> dict[str, Any]:
    return {
        "context": dict(context or {}),
        "ads": [{name: _value(value) for name, value in ad.items()} for ad in ads],
        "creative_status": creative_status,
    }


def _value(value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _scores(document: Mapping[str, Any]) -> Scores:
    ads = tuple(
        ScoredAd(ad["index"], ad["rank"], ad["click_probability"], ad.get("creative_status")) for ad in document["ads"]
    )
    return Scores(ads, document["model"]["version"], document["model"]["route"])


def _refusal(answer: httpx.Response) -> GatewayRefusal:
    try:
        error = answer.json()["error"]
        refusal = GatewayRefusal(
            answer.status_code, error["code"], error["message"], error.get("field", ""), error["request_id"]
        )
    except (ValueError, KeyError, TypeError):
        refusal = GatewayRefusal(answer.status_code, "unknown", f"HTTP status {answer.status_code}")
    refusal.retry_after_seconds = float(answer.headers.get("retry-after", 0))
    return refusal


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, GatewayRefusal) and (error.status in _RETRIED or error.code == "unreachable")


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_seconds if isinstance(error, GatewayRefusal) else 0.0
    return max(asked, wait_random_exponential(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)(state))
