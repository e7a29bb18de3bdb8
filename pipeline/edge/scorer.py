"""A pushed click model as devices run it: its numeric core in LiteRT, and beside it what its columns are read by."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf

from adclick.models.export import CREATIVES_ASSET
from adclick.models.features import column_of_field, quantity_columns, text_columns, vocabulary_columns
from adclick.models.images import CorruptImage, OversizedImage, check_whole, inspect_image, to_decodable
from adclick.models.loading import load_model
from adclick.models.preprocessing import VOCABULARIES_ASSET, TransformParameters, read_parameters, read_vocabularies
from adclick.models.scoring import Scorer
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import Column, FeatureTable, RawType
from adclick.schema.roles.inputs import CategoryField
from adclick.schema.signatures import EXTRA_FOLDER
from adclick.serving.edge import scorer as device
from adclick.serving.edge.ad_request import RequestField
from adclick.serving.gateway.settings import CreativeSettings, LimitSettings

_KEY_DIGITS = 32
#: The device's probabilities may differ from the served ones by so much.
_TOLERANCE = 1e-4
_TRIED_ROWS = 500
_LEAVE_OUT = "Train it anew with this version of adclick, or leave the scorer out: --no-scorer."
#: Unicode's planes that hold letters, marks and digits; the others are empty or private.
_PLANES = (range(0xD800), range(0xE000, 0x40000), range(0xE0000, 0xE1000))


class DeviceScorer:
    """Makes the files of a bundle's scorer (`serving.edge.scorer.FILES`).

    Args:
        folder: The pushed version, on this machine.
        version: Its number.

    Raises:
        ConfigError: The model is not ours, or was exported before devices could score.
    """

    def __init__(self, folder: str, version: int) -> None:
        self._served = Scorer(folder)
        self._features: FeatureTable = self._served.description.features
        self._folder, self._version = folder, version
        self._model = load_model(folder)
        extra = os.path.join(folder, EXTRA_FOLDER)
        if not hasattr(self._model, "core"):
            raise ConfigError(f"version {version} of the click model has no part that devices can run", _LEAVE_OUT)
        self._parameters: TransformParameters = read_parameters(extra)
        self._embeddings: dict[str, npt.NDArray[np.float32]] = {}
        if self._features.image_name is not None:
            self._embeddings = dict(_creatives(folder))

    def add_creative(self, content: bytes) -> bool:
        """Adds a creative's embedding, as the server makes it of these bytes; says whether it can be made."""
        key = hashlib.sha256(content).hexdigest()[:_KEY_DIGITS]
        if self._features.image_name is None or key in self._embeddings:
            return True
        try:
            inspect_image(content, CreativeSettings().max_pixels)
            decodable = to_decodable(content)
            check_whole(decodable)
        except (CorruptImage, OversizedImage):
            return False
        self._embeddings[key] = self._served.embed([decodable])[0]
        return True

    def files(self) -> dict[str, bytes]:
        """The scorer's files, tried against the served model.

        Raises:
            ConfigError: LiteRT cannot run the model, or not to the served probabilities.
        """
        vocabularies = b""
        path = os.path.join(self._folder, "assets", VOCABULARIES_ASSET)
        if self._parameters.vocabulary_sizes:
            with tf.io.gfile.GFile(path, "rb") as stream:
                vocabularies = stream.read()
        rows = [self._embeddings[key] for key in sorted(self._embeddings)]
        if self._features.image_name is not None:
            rows.append(self._served.embed([b""])[0])
        files = {
            device.MODEL: self._converted(),
            device.FACTS: json.dumps(self._facts(), ensure_ascii=False, sort_keys=True, allow_nan=False).encode(),
            device.VOCABULARIES: vocabularies,
            device.EMBEDDINGS: b"".join(row.astype("<f4").tobytes() for row in rows),
            device.WORDS: b"".join(weights.numpy().astype("<f4").tobytes() for weights in self._model.word_effects),
        }
        self._try(files)
        return files

    def _converted(self) -> bytes:
        core = self._model.core
        (parts,) = core.concrete_functions[0].structured_input_signature[0]
        specs = [tf.TensorSpec(parts[name].shape, parts[name].dtype, name) for name in sorted(parts)]
        # Only the variables are saved with it, not the model's tables.
        module = tf.Module()
        module.weights = self._model.weights

        def call(*values: tf.Tensor) -> dict[str, tf.Tensor]:
            return {device.PROBABILITY: core(dict(zip(sorted(parts), values, strict=True)))}

        module.call = tf.function(call, input_signature=specs, autograph=False)
        with tempfile.TemporaryDirectory(prefix="adclick-scorer-") as folder:
            tf.saved_model.save(module, folder, module.call.get_concrete_function())
            try:
                return bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
            except Exception as error:  # the converter's own, of no public type
                reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "")
                raise ConfigError(
                    f"version {self._version} of the click model: LiteRT cannot run it: {reason.strip()}", _LEAVE_OUT
                ) from None

    def _facts(self) -> dict[str, Any]:
        layout = self._parameters.layout(self._features)
        features = self._features
        column_of = column_of_field(features)
        limits = LimitSettings()
        singles = len(layout.singles)
        # The cells of effects are linear in the categories: those of none, and of each category alone.
        cells = self._model.effect_cells(tf.constant(np.eye(singles + 1, singles, -1, np.int32))).numpy()
        numbers = []
        for name in quantity_columns(features):
            scale = asdict(self._parameters.scales[name])
            bounds = {part: float(np.float32(scale[part])) for part in ("low", "high", "mean", "deviation")}
            numbers.append({"column": name, **bounds, "is_log": features.root[name].quantity_scaling == "log"})
        width = len(self._served.embed([b""])[0]) if features.image_name is not None else 0
        return {
            "model_version": self._version,
            "fields": [asdict(field) for field in _fields(features)],
            "limits": {"ads": limits.ads, "past_days": limits.past_days, "future_days": limits.future_days},
            "singles": [self._field(field, column_of[field.name]) for field in layout.singles],
            "multiples": [
                {**self._field(field, column_of[field.name]), "width": field.width} for field in layout.multiples
            ],
            "numbers": numbers,
            "texts": [
                {"column": column_of[text.name], "buckets": text.buckets, "max_words": text.max_words}
                for text in layout.texts
            ],
            "alphabet": alphabet() if layout.texts else None,
            "offsets": cells[0].tolist(),
            "strides": (cells[1:] - cells[0]).tolist(),
            "creative_keys": sorted(self._embeddings),
            "creative_width": width,
        }

    def _field(self, field: CategoryField, column: str) -> dict[str, Any]:
        """How a device numbers the column's values for the field."""
        numbered: dict[str, Any] = {"column": column, "by": field.by}
        if field.by == "quantiles":
            bounds = [float(np.float32(bound)) for bound in self._parameters.boundaries[column]]
            return {**numbered, "boundaries": bounds, "missing": field.ordered}
        if field.by == "hash":
            return {**numbered, "buckets": field.size}
        if field.by == "vocabulary":
            names = [*vocabulary_columns(self._features)]
            sizes = self._parameters.vocabulary_sizes
            place = names.index(column)
            first = sum(sizes[name] for name in names[:place])
            return {**numbered, "place": place, "first": first, "size": sizes[column]}
        return numbered

    def _try(self, files: Mapping[str, bytes]) -> None:
        """Scores requests of all sorts by both; what differs is never handed out."""
        ads = self._ads(np.random.default_rng(15))
        scorer = device.AdScorer(files)
        found, _ = scorer.score(scorer.form.read(json.dumps({"ads": ads}).encode()))
        features, image = self._features, self._features.image_name
        columns = {
            name: _column(features, name, [ad.get(name) for ad in ads])
            for name in features.model_inputs
            if name != image
        }
        creatives = None
        if image is not None:
            unknown = self._served.embed([b""])[0]
            creatives = np.stack([self._embeddings.get(ad[image], unknown) for ad in ads])
        served = self._served.score(columns, creatives)
        difference = np.abs(found - served)
        # NaN is no agreement.
        if not difference.max() <= _TOLERANCE:
            row = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
            raise ConfigError(
                f"version {self._version} of the click model: LiteRT gives {found[row]:.6f} where it is served as "
                f"{served[row]:.6f}, for {json.dumps(ads[row], ensure_ascii=False)}",
                "A model of mixed precision gives other probabilities in float32: train it without "
                "(training.mixed_precision), or leave the scorer out: --no-scorer.",
            )

    def _ads(self, random: np.random.Generator) -> list[dict[str, Any]]:
        """Ads with values that the model knows, others, and none, of every role."""
        features, layout = self._features, self._parameters.layout(self._features)
        known = read_vocabularies(self._folder, features)
        values = {name: [value.decode(errors="replace") for value in found] for name, found in known.items()}
        words = [*["<b>Free</b>", "&amp;", "new", "&eacute;t&eacute;", "don't", "ΣΟΦΟΣ", "東京"]]
        words += [value for found in values.values() for value in found[:50]]
        keys = [*sorted(self._embeddings)[:200], "unknown"]
        now = int(time.time())

        def text_of(name: str) -> str:
            if name in values and values[name] and random.random() < 0.8:
                return values[name][int(random.integers(len(values[name])))]
            return "".join(chr(int(random.integers(32, 0x3000))) for _ in range(int(random.integers(1, 80))))

        with_words = {*text_columns(features)}
        widths = {column_of_field(features)[field.name]: field.width for field in layout.multiples}

        def value_of(name: str, column: Column) -> Any:
            if column.is_list:
                return [text_of(name) for _ in range(int(random.integers(widths[name] + 2)))]
            if name in with_words:
                return " ".join(words[int(n)] for n in random.integers(0, len(words), int(random.integers(12))))
            if column.is_quantity:
                scale, bounds = self._parameters.scales.get(name), self._parameters.boundaries.get(name, ())
                ends = [*((scale.low, scale.high) if scale is not None else ()), *bounds[:: max(len(bounds) // 8, 1)]]
                kinds = [random.uniform(min(ends, default=0), max(ends, default=1)), 1e38, -1e38, 0.0, *ends]
                return float(np.float32(kinds[int(random.integers(len(kinds)))]))
            if column.raw_type is RawType.STRING:
                return text_of(name)
            return now - int(random.integers(10 * 365 * 86_400))

        ads = []
        for _ in range(_TRIED_ROWS):
            ad: dict[str, Any] = {}
            for name, column in features.model_inputs.items():
                if name == features.image_name:
                    ad[name] = keys[int(random.integers(len(keys)))]
                elif name == features.timestamp_name or column.required or random.random() < 0.9:
                    ad[name] = value_of(name, column)
            ads.append(ad)
        return ads


def _fields(features: FeatureTable) -> Iterator[RequestField]:
    """The fields of a request, as the gateway has them (`serving.gateway.fields.fields_of`)."""
    types = {"string": "string", "float": "float32", "int": "int64"}
    roles = {features.timestamp_name: "timestamp", features.image_name: "image"}
    for name, column in features.model_inputs.items():
        kind = types[features.raw_type(name).value]
        yield RequestField(name, kind, column.is_list, roles.get(name, ""), column.required)
    if features.identifier_name is not None:
        yield RequestField(features.identifier_name, "string", role="identifier")


def _column(features: FeatureTable, name: str, values: Sequence[Any]) -> pa.Array:
    kind = {"string": pa.binary(), "float": pa.float32(), "int": pa.int64()}[features.raw_type(name).value]
    if features.root[name].is_list:
        return pa.array([[one.encode() for one in value or ()] for value in values], pa.list_(kind))
    return pa.array([value.encode() if isinstance(value, str) else value for value in values], kind)


def _creatives(folder: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Keys and embeddings of the creatives that the model knows."""
    with tf.io.gfile.GFile(os.path.join(folder, "assets", CREATIVES_ASSET), "r") as stream:
        for line in stream:
            key, _, embedding = line.rstrip("\n").partition("\t")
            # The first line holds a column open, and is no creative.
            if not key.startswith("<"):
                yield key, np.frombuffer(base64.urlsafe_b64decode(embedding), "<f4")


def alphabet() -> dict[str, Any]:
    """What TensorFlow takes for letters, asked of TensorFlow itself; see `serving.edge.words.Alphabet`."""
    points = [point for plane in _PLANES for point in plane]
    characters = tf.constant([chr(point) for point in points])
    kept = tf.strings.regex_replace(characters, r"[^\p{L}\p{M}\p{N}]+", "")
    letters = [point for point, text in zip(points, kept.numpy(), strict=True) if text]
    characters = tf.constant([chr(point) for point in letters])
    apart = tf.strings.regex_replace(characters, r"([\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}])", "")
    alone = [point for point, text in zip(letters, apart.numpy(), strict=True) if not text]

    def lowered(texts: list[str]) -> list[str]:
        return [text.decode() for text in tf.strings.lower(tf.constant(texts), encoding="utf-8").numpy()]

    small = {p: text for p, text in zip(letters, lowered([chr(p) for p in letters]), strict=True) if text != chr(p)}
    last = "\u03c2"
    # Behind a cased letter a sigma is the last one; behind what is ignored it is where a letter stands before that.
    cased = [p for p, t in zip(letters, lowered([chr(p) + "\u03a3" for p in letters]), strict=True) if t[-1] == last]
    behind = lowered([f"a{chr(point)}\u03a3" for point in letters])
    either = {point for point, text in zip(letters, behind, strict=True) if text[-1] == last}
    return {
        "letters": _ranges(letters),
        "alone": _ranges(alone),
        "small": {str(point): text for point, text in small.items()},
        "cased": _ranges(cased),
        "ignorable": _ranges(sorted(either - set(cased))),
    }


def _ranges(points: Sequence[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for point in points:
        if ranges and point == ranges[-1][1] + 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return ranges
