"""Click probabilities of ads on the device: the served model's numeric core in LiteRT, its columns in numpy.

What names, quantities and times become stands in `models/preprocessing.py`, whose arithmetic this repeats: the same
vocabularies, hashes, bounds and buckets, float32 where the server has float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .ad_request import AdRequest, AdRequestForm, Limits, RequestField, RequestRefused
from .errors import BundleRefused
from .fingerprint import bucket_of
from .words import Alphabet, DeviceWordEffects

Floats32 = np.ndarray[Any, np.dtype[np.float32]]
Numbers32 = np.ndarray[Any, np.dtype[np.int32]]

MODEL, FACTS, VOCABULARIES = "scorer.tflite", "scorer.json", "scorer.vocabularies"
EMBEDDINGS, WORDS = "scorer.embeddings.f4", "scorer.words.f4"
#: What a bundle holds of a scorer.
FILES = (MODEL, FACTS, VOCABULARIES, EMBEDDINGS, WORDS)
PROBABILITY = "click_probability"

_MISSING_VALUE = "<missing>"
_DAY_SECONDS = 86_400
#: 1970-01-01 was a Thursday; weekdays count from Monday.
_EPOCH_WEEKDAY = 3
_KEY_DIGITS = 32
_LONGEST_KEY = 64


class AdScorer:
    """A scorer that is loaded; one thread uses it at a time.

    Attributes:
        model_version: The click model's version.
        form: Reads requests.

    Args:
        files: By name, see `FILES`.
        threads: LiteRT's threads.

    Raises:
        BundleRefused: They do not fit together.
    """

    def __init__(self, files: Mapping[str, bytes], threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            facts = json.loads(files[FACTS])
            self.model_version = int(facts["model_version"])
            self.form = AdRequestForm(
                tuple(RequestField(**field) for field in facts["fields"]), Limits(**facts["limits"])
            )
            self._columns = _Columns(facts, files[VOCABULARIES], files[WORDS])
            self._keys = {key: row for row, key in enumerate(facts["creative_keys"])}
            # The last row is the unknown creative's.
            self._embeddings = np.frombuffer(files[EMBEDDINGS], "<f4").reshape(-1, max(int(facts["creative_width"]), 1))
            if len(self._embeddings) != (len(self._keys) + 1 if facts["creative_width"] else 0):
                raise ValueError(f"{len(self._embeddings)} embeddings for {len(self._keys)} creatives")
            interpreter = Interpreter(model_content=files[MODEL], num_threads=threads)
            self._run = interpreter.get_signature_runner()
            self._parts = tuple(self._run.get_input_details())
        except (ValueError, KeyError, TypeError, RuntimeError, IndexError) as error:
            raise BundleRefused(
                "unfit", f"its scorer's parts do not fit together: {error!r}", "Export it anew."
            ) from None

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to a request in JSON: ads by rank, as the gateway's `POST /v1/score` gives them.

        Raises:
            RequestRefused: See `AdRequestForm.read`; or a picture that this device cannot embed.
        """
        request = self.form.read(body)
        probabilities, statuses = self.score(request)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise RequestRefused("no_probability", f"version {self.model_version} gave no click probability")
        order = np.argsort(-probabilities, kind="stable").tolist()
        ads = []
        for rank, index in enumerate(order, 1):
            # The shortest decimal number that is the same in float32.
            ad = {"index": index, "rank": rank, "click_probability": float(str(probabilities[index]))}
            ads.append({**ad, "creative_status": statuses[index]} if request.wants_status else ad)
        return {"model": {"version": self.model_version}, "ads": ads}

    def score(self, request: AdRequest) -> tuple[Floats32, list[str]]:
        """The click probability of each ad, float32 [ads], and what came of its image.

        Raises:
            RequestRefused: A picture that this device cannot embed.
        """
        parts = self._columns.parts(request.columns, len(request.images))
        rows, statuses = self._creative_rows(request.images)
        if len(self._embeddings):
            parts["creatives"] = self._embeddings[rows]
        found = self._run(**{name: parts[name] for name in self._parts})[PROBABILITY]
        return np.array(found, np.float32).reshape(len(request.images)), statuses

    def _creative_rows(self, images: Sequence[Any]) -> tuple[list[int], list[str]]:
        rows, statuses = [], []
        unknown = len(self._keys)
        for number, image in enumerate(images):
            place = f"ads[{number}].image"
            if image is None or image == "":
                row, status = unknown, "none"
            elif isinstance(image, bytes):
                key = hashlib.sha256(image).hexdigest()[:_KEY_DIGITS]
                if key not in self._keys:
                    raise RequestRefused(
                        "image_not_embedded",
                        "This device cannot embed pictures, and its bundle holds no such creative: book it and export "
                        "the bundle anew, or leave the image out",
                        place,
                    )
                row, status = self._keys[key], "ok"
            elif "://" in image or image.startswith("/"):
                raise RequestRefused(
                    "image_not_allowed", "A device fetches no pictures: give the creative's key", place
                )
            elif len(image.encode()) > _LONGEST_KEY:
                raise RequestRefused("invalid_request", f"A creative's key has at most {_LONGEST_KEY} bytes", place)
            else:
                row = self._keys.get(image, unknown)
                status = "unknown_key" if row == unknown else "ok"
            rows.append(row)
            statuses.append(status)
        return rows, statuses


class _Columns:
    """From columns as requests give them to what the network takes, by the names of the core's inputs."""

    def __init__(self, facts: Mapping[str, Any], vocabularies: bytes, words: bytes) -> None:
        # As TensorFlow reads lines of a table's file.
        lines = vocabularies.replace(b"\r", b"").split(b"\n")[:-1]
        self._numbers = {line: number for number, line in enumerate(lines)}
        self._singles, self._several = facts["singles"], facts["multiples"]
        self._strides = np.array(facts["strides"], np.int32).reshape(len(self._singles), -1)
        self._offsets = np.array(facts["offsets"], np.int32)
        self._quantities = [_Quantity(**each) for each in facts["numbers"]]
        alphabet = Alphabet(facts["alphabet"]) if facts["texts"] else None
        self._texts: list[tuple[str, DeviceWordEffects]] = []
        start = 0
        for text in facts["texts"]:
            weights = np.frombuffer(words, "<f4", int(text["buckets"]), 4 * start)
            start += int(text["buckets"])
            assert alphabet is not None
            self._texts.append((text["column"], DeviceWordEffects(alphabet, int(text["max_words"]), weights)))

    def parts(self, columns: Mapping[str, list[Any]], rows: int) -> dict[str, Any]:
        """The parts of the network's input, by name: what `models.export.core_specs` says."""
        categories = np.zeros((rows, len(self._singles)), np.int32)
        for place, field in enumerate(self._singles):
            categories[:, place] = self._categories(field, columns[field["column"]])
        parts: dict[str, Any] = {"categories": categories, "cells": categories @ self._strides + self._offsets}
        if self._several:
            parts["multiples"] = np.concatenate(
                [self._padded(field, columns[field["column"]]) for field in self._several], axis=1
            )
        scaled = [each.scaled(_floats(columns[each.column])) for each in self._quantities]
        parts["numbers"] = np.concatenate(scaled, axis=1) if scaled else np.zeros((rows, 0), np.float32)
        if self._texts:
            effects = [told.effects([text or "" for text in columns[name]]) for name, told in self._texts]
            parts["texts"] = np.stack(effects, axis=1)
        return parts

    def _categories(self, field: Mapping[str, Any], values: list[Any]) -> Any:
        by = field["by"]
        if by in ("vocabulary", "hash"):
            # Ads of one request share most of their values.
            numbers = {value: self._number(field, value or _MISSING_VALUE) for value in set(values)}
            return [numbers[value] for value in values]
        if by == "quantiles":
            quantities = _floats(values)
            bounds = np.array(field["boundaries"], np.float32)
            found = np.searchsorted(bounds, np.where(np.isnan(quantities), np.float32(0), quantities), side="right")
            return np.where(np.isnan(quantities), field["missing"], found)
        seconds = np.maximum(np.array(values, np.int64), 0)
        return seconds // 3600 % 24 if by == "hour" else (seconds // _DAY_SECONDS + _EPOCH_WEEKDAY) % 7

    def _padded(self, field: Mapping[str, Any], lists: list[Any]) -> Numbers32:
        padded = np.full((len(lists), field["width"]), -1, np.int32)
        for row, values in enumerate(lists):
            for place, value in enumerate((values or ())[: field["width"]]):
                if value:
                    padded[row, place] = self._number(field, value)
        return padded

    def _number(self, field: Mapping[str, Any], value: str) -> int:
        content = value.encode()
        if field["by"] == "hash":
            return bucket_of(content, field["buckets"])
        line = self._numbers.get(b"%d:%b" % (field["place"], content))
        return int(field["size"]) if line is None else line - int(field["first"])


class _Quantity:
    """How a numeric column is clipped and scaled."""

    def __init__(self, column: str, low: float, high: float, mean: float, deviation: float, is_log: bool) -> None:
        self.column = column
        self._low, self._high, self._mean, self._deviation = (np.float32(n) for n in (low, high, mean, deviation))
        self._is_log = is_log

    def scaled(self, quantities: Floats32) -> Floats32:
        """float32 [rows, 2]: the quantity, and beside it whether it is missing."""
        missing = np.isnan(quantities)
        values = np.clip(np.where(missing, np.float32(0), quantities), self._low, self._high)
        if self._is_log:
            values = np.sign(values) * np.log1p(np.abs(values))
        scaled = np.where(missing, np.float32(0), (values - self._mean) / self._deviation)
        return np.stack([scaled, missing.astype(np.float32)], axis=1)


def _floats(values: list[Any]) -> Floats32:
    return np.array([np.nan if value is None else value for value in values], np.float32)
