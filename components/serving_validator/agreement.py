"""Compares a served model's answers with the evaluated ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.loading import load_model
from adclick.models.requests import requests_from_examples
from adclick.schema.feature_table import FeatureTable
from adclick.schema.signatures import CLICK_PROBABILITY, EMBED_CREATIVE, SCORE, SERVING_EXAMPLES
from adclick.serving.client.client import ModelServerClient
from adclick.serving.errors import ServingError
from adclick.serving.model_server.server import running_server

#: Float32 through other kernels, or other batch sizes, may differ in its last digits.
PROBABILITY_TOLERANCE = 1e-6
EMBEDDING_TOLERANCE = 1e-4

Floats = npt.NDArray[np.float64]


def disagreements(
    model_base: Path,
    evaluated_model: str,
    examples: Sequence[bytes],
    creatives: Mapping[str, bytes],
    features: FeatureTable,
) -> list[str]:
    """Serves the newest version below `model_base` over HTTP and sends each signature real requests.

    Args:
        model_base: A folder of versions.
        evaluated_model: The SavedModel that was evaluated; the newest version should be its copy.
        examples: Serialized held-out examples.
        creatives: By creative key, an image file's bytes.
        features: The feature table.

    Returns:
        What keeps the model from being served, in a line each; empty if every signature answers and all agree with the
        probabilities that are evaluated.
    """
    evaluate = load_model(evaluated_model).signatures[SERVING_EXAMPLES]
    evaluated = evaluate(examples=tf.constant(list(examples)))[CLICK_PROBABILITY].numpy().astype(np.float64)
    found: list[str] = []
    if not np.all((evaluated >= 0) & (evaluated <= 1)):
        found.append("an evaluated probability is not within [0, 1]")
    try:
        with running_server(model_base) as server, ModelServerClient(server.url, timeout_seconds=60) as client:
            found += _check_signatures(client, examples, creatives, features, evaluated)
    except ServingError as error:
        found.append(f"the candidate cannot be served: {error}")
    return found


def _check_signatures(
    client: ModelServerClient,
    examples: Sequence[bytes],
    creatives: Mapping[str, bytes],
    features: FeatureTable,
    evaluated: Floats,
) -> list[str]:
    rows = requests_from_examples(examples, features)
    found = _differences("serving_default", client.predict(rows), evaluated)
    found += _differences(SERVING_EXAMPLES, client.predict(examples, SERVING_EXAMPLES), evaluated)
    # What a person sends by hand: plain JSON, one row.
    plain = json.loads(json.dumps(rows[:1], default=lambda value: value.decode("latin-1")))
    found += _differences("serving_default with one row", client.predict(plain), evaluated[:1])
    image = features.image_name
    if image is None:
        return found
    embeddings = client.predict([row[image] for row in rows], EMBED_CREATIVE)
    scored = [
        {**{name: value for name, value in row.items() if name != image}, features.creative_embedding_name: embedding}
        for row, embedding in zip(rows, embeddings, strict=True)
    ]
    found += _differences(f"{EMBED_CREATIVE} and {SCORE}", client.predict(scored, SCORE), evaluated)
    if creatives:
        by_key = np.array(client.predict(list(creatives), EMBED_CREATIVE), np.float64)
        by_bytes = np.array(client.predict(list(creatives.values()), EMBED_CREATIVE), np.float64)
        difference = float(np.abs(by_key - by_bytes).max())
        if not difference <= EMBEDDING_TOLERANCE:
            found.append(
                f"{EMBED_CREATIVE}: an image sent as bytes and its creative's key differ by {difference:.3g} "
                f"in their embedding, more than {EMBEDDING_TOLERANCE:g}"
            )
    return found


def _differences(what: str, served: Sequence[Any], evaluated: Floats) -> list[str]:
    values = np.array(served, np.float64)
    if values.shape != evaluated.shape:
        return [f"{what}: answered shape {values.shape} for {len(evaluated)} impressions"]
    difference = float(np.abs(values - evaluated).max(initial=0.0))
    if difference <= PROBABILITY_TOLERANCE:
        return []
    return [
        f"{what}: a served probability differs from the evaluated one by {difference:.3g}, "
        f"more than {PROBABILITY_TOLERANCE:g}"
    ]
