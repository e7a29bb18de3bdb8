"""Scores on the device: the features, refusals and probabilities of the gateway's."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adclick.models.extension import pixels_as_png
from adclick.models.text import word_effects
from adclick.pipeline.edge.scorer import DeviceScorer, alphabet
from adclick.schema.errors import ConfigError
from adclick.schema.roles.inputs import TextField
from adclick.schema.signatures import EXTRA_FOLDER
from adclick.serving.edge.ad_request import RequestRefused
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.errors import BundleRefused
from adclick.serving.edge.fingerprint import bucket_of
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.scorer import FACTS, FILES, MODEL, AdScorer
from adclick.serving.edge.words import Alphabet, DeviceWordEffects
from adclick.serving.gateway.server import running_gateway
from adclick.serving.model_server.server import running_server
from tests.models.text_model import train_text_model
from tests.models.tiny_model import TinyModel
from tests.serving.edge.test_bundle import changed, refused
from tests.serving.gateway.conftest import settings_for

TOLERANCE = 1e-4
VERSION = 7
NOW = int(time.time())
WORDS = [
    "a",
    "balam",
    "<b>Nox</b>",
    "&eacute;t",
    "don't",
    "\u03a3\u039f\u03a3",
    "\u6771\u4eac",
    "<script>x</script>",
    "\u0130x",
]
unlike_surrogates = st.characters(exclude_categories=["Cs"])


@pytest.fixture(scope="module")
def scorer_files(tiny_model: TinyModel) -> dict[str, bytes]:
    return DeviceScorer(str(tiny_model.folder), VERSION).files()


@pytest.fixture(scope="module")
def scorer(scorer_files: dict[str, bytes]) -> AdScorer:
    return AdScorer(scorer_files)


@pytest.fixture(scope="module")
def letters() -> Alphabet:
    return Alphabet(json.loads(json.dumps(alphabet())))


@pytest.fixture(scope="module")
def ask(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], httpx.Response]]:
    """Asks a real gateway that serves the model in its process."""
    yield from gateway_of(tiny_model.folder, tmp_path_factory.mktemp("served"))


def gateway_of(model: Path, base: Path) -> Iterator[Callable[[bytes], httpx.Response]]:
    shutil.copytree(model, base / str(VERSION))
    headers = {"content-type": "application/json"}
    with (
        running_server(base, grpc_port=0, poll_seconds=0.1) as models,
        running_gateway(
            settings_for("in_process", models, base), model_server=models.model_server, is_open=True
        ) as gateway,
        httpx.Client(trust_env=False, timeout=150) as client,
    ):
        yield lambda body: client.post(f"{gateway.url}/v1/score", content=body, headers=headers)


def assert_equal_answers(here: dict[str, Any], there: dict[str, Any]) -> None:
    def by_index(answer: dict[str, Any], part: str) -> list[Any]:
        return [ad.get(part) for ad in sorted(answer["ads"], key=lambda ad: ad["index"])]

    assert here["model"]["version"] == there["model"]["version"]
    found, wanted = by_index(here, "click_probability"), by_index(there, "click_probability")
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0)
    assert by_index(here, "creative_status") == by_index(there, "creative_status")
    assert [ad["rank"] for ad in here["ads"]] == list(range(1, len(found) + 1))
    probabilities = [ad["click_probability"] for ad in here["ads"]]
    assert probabilities == sorted(probabilities, reverse=True)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=70), st.binary(min_size=60, max_size=400)), st.integers(2, 2**62))
def test_texts_are_numbered_as_tensorflow_does(content: bytes, buckets: int) -> None:
    assert bucket_of(content, buckets) == int(tf.strings.to_hash_bucket_fast([content], buckets)[0])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.lists(st.one_of(st.sampled_from(WORDS), st.text(unlike_surrogates, max_size=30)), max_size=6).map(
                " ".join
            ),
            st.lists(st.sampled_from([*"Aa\u03a3\u03c3\u02b0\u0301.<>!-/&;#x27"]), max_size=20).map("".join),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 9),
)
def test_words_add_what_the_graph_says(letters: Alphabet, texts: list[str], most_words: int) -> None:
    weights = np.random.default_rng(1).normal(size=512).astype(np.float32)
    there = word_effects(tf.constant(texts), TextField("headline", 512, most_words), tf.constant(weights)).effects
    here = DeviceWordEffects(letters, most_words, weights).effects(texts)
    np.testing.assert_allclose(here, there.numpy(), atol=2e-5)


def ads_of(model: TinyModel) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Ads with what the model knows, what it does not, nothing, and numbers out of all bounds."""
    texts = st.one_of(
        st.sampled_from(["ad1", "ad2", "ad7", "t1", "t4", "site3", "", "<missing>"]), st.text(unlike_surrogates)
    )
    numbers = st.one_of(st.floats(-(2.0**127), 2.0**127, width=32), st.integers(-100, 100), st.just(0.0))
    keys = st.sampled_from([*(creative.key for creative in model.creatives), "unknown", "", "<no creative>"])
    values = {
        "shown_at": st.integers(NOW - 10**8, NOW + 10**7),
        "ad": texts,
        "site": texts,
        "topics": st.lists(texts, max_size=5),
        "price": numbers,
        "height": numbers,
        "image": keys,
    }
    ad = st.fixed_dictionaries({}, optional={name: st.none() | kind for name, kind in values.items()})
    # The time is now unless it is given, and now must be the same for both.
    timed = ad.map(lambda one: {**one, "shown_at": one.get("shown_at") or NOW})
    return st.lists(timed, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_get_the_gateways_probabilities(
    tiny_model: TinyModel, scorer: AdScorer, ask: Callable[[bytes], httpx.Response], data: st.DataObject
) -> None:
    body = json.dumps({"ads": data.draw(ads_of(tiny_model)), "creative_status": True}).encode()
    there = ask(body)
    assert there.status_code == 200, there.text
    assert_equal_answers(scorer.answer(body), there.json())


def test_five_hundred_ads_at_once_and_the_ads_value_counts(
    tiny_model: TinyModel, scorer: AdScorer, ask: Callable[[bytes], httpx.Response]
) -> None:
    def plain(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    rows = [
        {
            name: [*map(plain, values)] if name == "topics" else plain(values[0])
            for name, values in row.items()
            if values
        }
        for row in tiny_model.rows[:500]
    ]
    for row in rows:
        del row["clicked"]
    body = json.dumps({"context": {"site": "site1", "price": 5}, "ads": rows}).encode()
    there = ask(body).json()
    assert_equal_answers(scorer.answer(body), there)
    assert np.ptp([ad["click_probability"] for ad in there["ads"]]) > 0.05


def test_the_bytes_of_a_known_picture_are_scored_and_others_refused(
    tiny_model: TinyModel, ask: Callable[[bytes], httpx.Response]
) -> None:
    device = DeviceScorer(str(tiny_model.folder), VERSION)
    picture = pixels_as_png(tiny_model.creatives[0].image or b"")[:-12] + b"\0\0\0\0IEND\xaeB`\x82"
    assert device.add_creative(picture) and not device.add_creative(b"no picture")
    scorer = AdScorer(device.files())
    at = int(time.time())
    image = {"b64": base64.b64encode(picture).decode()}
    body = json.dumps(
        {"context": {"shown_at": at, "ad": "ad1"}, "ads": [{"image": image}, {}], "creative_status": True}
    )
    assert_equal_answers(scorer.answer(body.encode()), ask(body.encode()).json())
    other = {"b64": base64.b64encode(b"another").decode()}
    for image, code in ((other, "image_not_embedded"), ("gs://bucket/a.png", "image_not_allowed")):
        with pytest.raises(RequestRefused) as caught:
            scorer.answer(json.dumps({"ads": [{}, {"image": image}]}).encode())
        assert (caught.value.code, caught.value.field) == (code, "ads[1].image")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"ads": []}',
        b'{"ads": {}}',
        b'{"ads": [1]}',
        b'{"ads": [null]}',
        b'{"ads": [{}], "other": 1}',
        b'{"ads": [{"other": 1}]}',
        b'{"ads": [{}, {"ad": 1}]}',
        b'{"ads": [{"ad": true}]}',
        b'{"ads": [{"ad": ["x"]}]}',
        b'{"ads": [{"topics": "x"}]}',
        b'{"ads": [{"topics": ["x", 1]}]}',
        b'{"ads": [{"topics": [null]}]}',
        b'{"ads": [{"price": "1"}]}',
        b'{"ads": [{"price": true}]}',
        b'{"ads": [{"price": 1e39}]}',
        b'{"ads": [{"price": -3.5e38}]}',
        b'{"ads": [{"price": 1e400}]}',
        b'{"ads": [{"price": NaN}]}',
        b'{"ads": [{"price": Infinity}]}',
        b'{"ads": [{"shown_at": 1.0}]}',
        b'{"ads": [{"shown_at": 9223372036854775808}]}',
        b'{"ads": [{"shown_at": 1790812800000}]}',
        b'{"ads": [{"shown_at": -1}]}',
        b'{"context": {"shown_at": 12}, "ads": [{}]}',
        b'{"context": {"image": "x"}, "ads": [{}]}',
        b'{"context": [], "ads": [{}]}',
        b'{"context": null, "ads": [{}]}',
        b'{"context": {"clicked": 1}, "ads": [{}]}',
        b'{"creative_status": 1, "ads": [{}]}',
        b'{"ads": [{"ad": "\\ud83d"}]}',
        b'{"ads": [{"ad": "\xff"}]}',
        b'{"ads": [{"image": {"b64": "?"}}]}',
        b'{"ads": [{"image": {}}]}',
        b'{"ads": [{"image": {"b64": "", "x": 1}}]}',
        b'{"ads": [{"image": 3}]}',
        b'{"ads": [{"image": "%s"}]}' % (b"k" * 65),
        b'{"ads": [{"image": "/etc/passwd"}]}',
        b'{"ads": [%s{}]}' % (b"{}, " * 500),
        b"\xef\xbb\xbf" + b'{"ads": [{}]}',
        # And what is taken.
        b'{"ads": [{}]}',
        b' {"ads": [{"price": 3}], "context": {}} ',
        b'{"ads": [{"price": 3.4028234e38, "ad": null, "topics": null, "shown_at": null}]}',
        b'{"ads": [{"ad": "\\ud83d\\ude00"}]}',
        b'{"ads": [{"topics": []}]}',
        b'{"ads": [{"price": 1}], "ads": [{"price": 2}]}',
    ],
)
def test_what_the_gateway_refuses_is_refused_for_the_same_reason(
    scorer: AdScorer, ask: Callable[[bytes], httpx.Response], body: bytes
) -> None:
    there = ask(body)
    if there.status_code == 200:
        assert len(scorer.answer(body)["ads"]) == len(there.json()["ads"])
        return
    with pytest.raises(RequestRefused) as caught:
        scorer.answer(body)
    error = there.json()["error"]
    assert (caught.value.code, caught.value.field) == (error["code"], error.get("field", "")), str(caught.value)


def test_what_is_nested_too_deeply_is_refused(scorer: AdScorer) -> None:
    with pytest.raises(RequestRefused) as caught:
        scorer.answer(b'{"ads": ' + b"[" * 100_000)
    assert caught.value.code == "invalid_request"


def test_a_model_of_texts_and_one_of_odd_names_score_as_they_are_served(
    oddly_named_model: TinyModel, tmp_path: Path
) -> None:
    folder, _ = train_text_model(tmp_path / "text")
    scorer = AdScorer(DeviceScorer(str(folder), VERSION).files())
    body = json.dumps(
        {"ads": [{"the headline": f"{word} balam", "site": "s1", "lede": word} for word in WORDS]}
    ).encode()
    for ask in gateway_of(folder, tmp_path / "served"):
        there = ask(body).json()
        assert_equal_answers(scorer.answer(body), there)
        assert np.ptp([ad["click_probability"] for ad in there["ads"]]) > 0
    odd = AdScorer(DeviceScorer(str(oddly_named_model.folder), VERSION).files())
    ad = {
        oddly_named_model.names["price"]: 3.5,
        oddly_named_model.names["ad"]: "ad1",
        oddly_named_model.names["shown_at"]: int(time.time()),
    }
    for ask in gateway_of(oddly_named_model.folder, tmp_path / "odd"):
        assert_equal_answers(
            odd.answer(json.dumps({"ads": [ad]}).encode()), ask(json.dumps({"ads": [ad]}).encode()).json()
        )


def test_a_model_that_answers_otherwise_on_the_device_is_never_handed_out(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model.folder, tmp_path / "model")
    path = tmp_path / "model" / EXTRA_FOLDER / "columns.json"
    facts = json.loads(path.read_text())
    facts["scales"]["price"]["deviation"] *= 1.5
    path.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"where it is served as .*price"):
        DeviceScorer(str(tmp_path / "model"), VERSION).files()


def test_a_bundle_bears_the_scorer_and_is_refused_without_a_part_of_it(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], scorer_files: dict[str, bytes]
) -> None:
    bundle = make_bundle(scorer_files=scorer_files)
    assert bundle == make_bundle(scorer_files=scorer_files)
    assert read_bundle(bundle, [read_public_key(keys[1])]).scorer == scorer_files
    assert refused(changed(bundle, lambda parts: parts.pop(MODEL)), keys[1]) == "altered"
    stripped = changed(bundle, lambda parts: [parts.pop(name) for name in FILES])
    assert refused(stripped, keys[1]) == "altered"
    added = changed(make_bundle(), lambda parts: parts.update(scorer_files))
    assert refused(added, keys[1]) == "altered"
    longer = changed(bundle, lambda parts: parts.update({FACTS: parts[FACTS] + b" "}))
    assert refused(longer, keys[1]) == "altered"
    with pytest.raises(BundleRefused, match="do not fit together"):
        AdScorer({**scorer_files, FACTS: b"{}"})


def test_the_command_answers_a_line_each_and_says_what_it_refuses(
    make_bundle: Callable[..., bytes], scorer_files: dict[str, bytes], start: Any, tmp_path: Path
) -> None:
    (tmp_path / "scoring.bundle").write_bytes(make_bundle(scorer_files=scorer_files))
    process = start("score", bundle=tmp_path / "scoring.bundle", stdin=-1)
    output, errors = process.communicate(
        b'{"ads": [{"ad": "ad1"}, {"ad": "new"}]}\n\n{"ads": [{"x": 1}]}\n', timeout=60
    )
    first, second = map(json.loads, output.splitlines())
    assert process.returncode == 2, errors
    assert first["model"] == {"version": VERSION} and {ad["index"] for ad in first["ads"]} == {0, 1}
    assert (second["error"]["code"], second["error"]["field"]) == ("invalid_request", "ads[0]")
    process = start("score")
    assert process.wait(60) == 2 and b"scores no ads" in process.stderr.read()
