"""Texts: what they are taken apart into, what clicks say of their words, and the model that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from adclick.models.description import read_description
from adclick.models.requests import requests_from_examples
from adclick.models.text import strongest_words, text_effects, tokenise, word_effects
from adclick.models.text_effects import estimate_text_effects
from adclick.models.text_store import TextStore
from adclick.schema.roles.inputs import TextField
from adclick.schema.signatures import BASELINE_LOGIT, CLICK_PROBABILITY, CONTRIBUTIONS, LOGIT, WORD_CONTRIBUTIONS, WORDS
from adclick.serving.model_server.servable import Servable
from tests.models.text_model import FEATURES, NEW, headlines, impressions, train_text_model

FIELD = TextField("headline", 8_192, 20)
Array = np.ndarray[Any, Any]


def words_of(text: str | bytes) -> list[str]:
    return [word.decode() for word in tokenise(tf.constant([text]), FIELD).words.numpy()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("<p>Buy&nbsp;NOW</p><br/>and <a href='x'>save</a>", ["buy", "now", "and", "save"]),
        ("<script>alert('x')</script><style>p {}</style><!-- <b>no</b> -->yes", ["yes"]),
        ("Don&#39;t, don&rsquo;t, don't, don\N{RIGHT SINGLE QUOTATION MARK}t", ["dont"] * 4),
        ("caf&eacute; \N{LATIN CAPITAL LETTER U WITH DIAERESIS}BER &amp; 20 %", ["cafe", "über", "20"]),
        ("東京タワー2026 сЛоВо", ["東", "京", "タ", "ワ", "ー", "2026", "слово"]),
        (b"\xff bad \xfe bytes", ["bad", "bytes"]),
        ("a" * 50, ["a" * 24]),
        (" ".join(f"w{number}" for number in range(30)), [f"w{number}" for number in range(20)]),
        ("3 < 5 and 7 > 6", ["3", "5", "and", "7", "6"]),
    ],
)
def test_words(text: str | bytes, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_pairs_and_parts_are_tokens() -> None:
    tokens = tokenise(tf.constant(["", "cats sat", "a"]), FIELD)
    # Of `<cats>` three parts, of `<sat>` two, of `<a>` none.
    assert tokens.text_of_word.numpy().tolist() == [1, 1, 2]
    assert tokens.word_of_token.numpy().tolist() == [0, 1, 2, 0, 0, 0, 0, 1, 1]
    assert tokens.is_pair.numpy().tolist() == [False] * 3 + [True] + [False] * 5
    assert len(set(tokens.buckets.numpy().tolist())) == 9
    shared = {*tokenise(tf.constant(["cats"]), FIELD).buckets.numpy()} & {
        *tokenise(tf.constant(["cat"]), FIELD).buckets.numpy()
    }
    assert len(shared) == 1, "the part `<cat`"


def test_the_words_of_a_text_add_up_to_its_effect() -> None:
    weights = tf.constant(np.random.default_rng(0).normal(size=FIELD.buckets), tf.float32)
    texts = tf.constant(["one two two", "", "three", "one two two"])
    found = word_effects(texts, FIELD, weights)
    sums = np.bincount(found.text_of_word.numpy(), found.of_words.numpy(), 4)
    np.testing.assert_allclose(found.effects.numpy(), sums, rtol=1e-5)
    np.testing.assert_allclose(text_effects(texts, FIELD, weights).numpy(), sums, rtol=1e-5)
    words, added = strongest_words(found, 4, 3)
    assert words.numpy()[1].tolist() == [b"", b"", b""]
    assert sorted(words.numpy()[0].tolist()) == [b"", b"one", b"two"]
    np.testing.assert_allclose(added.numpy().sum(axis=1), sums, rtol=1e-5)
    assert (np.diff(np.abs(added.numpy())) <= 0).all()


def test_the_store_says_what_the_graph_says() -> None:
    fields = (FIELD, TextField("lede", 4_096, 5))
    store = TextStore(fields)
    texts = np.array([[b"one two", b"x y"], [b"", b"x y"], [b"one two", b""], [b"z " * 9, b"<b>x</b> y"]], object)
    positions = store.positions(texts)
    assert positions[0].tolist() == positions[0, [0, 1]].tolist() == [positions[2, 0], positions[1, 1]]
    np.testing.assert_array_equal(store.positions(texts[::-1]), positions[::-1])
    weights = [np.random.default_rng(number).normal(size=field.buckets) for number, field in enumerate(fields)]
    table = store.effects(weights)
    for number, field in enumerate(fields):
        expected = text_effects(tf.constant(texts[:, number]), field, tf.constant(weights[number], tf.float32)).numpy()
        np.testing.assert_allclose(table[positions[:, number], number], expected, rtol=1e-5, atol=1e-6)
        by_matrix = (store.matrix(number) @ weights[number])[positions[:, number]]
        np.testing.assert_allclose(by_matrix, expected, rtol=1e-5, atol=1e-6)
    assert (store.effects([np.zeros(field.buckets) for field in fields]) == 0).all()


def stored(texts: list[str]) -> tuple[TextStore, Array]:
    store = TextStore((FIELD,))
    return store, store.positions(np.array([[text.encode()] for text in texts], object))[:, 0]


def test_what_words_do_is_found_and_holds_for_new_texts() -> None:
    texts, clicked = impressions(1.0)
    store, positions = stored(texts)
    offset = np.full(len(clicked), -2.5)
    found = estimate_text_effects(store.matrix(0), positions, clicked, offset)
    assert 0.05 < found.deviation < 1 and found.scale > 0.8
    new = headlines(300, np.random.default_rng(9))
    effects = text_effects(tf.constant(new), FIELD, tf.constant(found.weights, tf.float32)).numpy()
    holds = np.array(["balam" in text for text in new])
    assert effects[holds].mean() - effects[~holds].mean() == pytest.approx(1.0, abs=0.35)
    again = estimate_text_effects(store.matrix(0), positions, clicked, offset)
    np.testing.assert_array_equal(again.weights, found.weights)


def test_texts_that_say_nothing_add_next_to_nothing() -> None:
    texts, clicked = impressions(0.0)
    store, positions = stored(texts)
    found = estimate_text_effects(store.matrix(0), positions, clicked, np.full(len(clicked), -2.5))
    effects = text_effects(tf.constant(texts), FIELD, tf.constant(found.weights, tf.float32)).numpy()
    assert np.abs(effects).max() < 0.1


def test_empty_texts_have_no_effect() -> None:
    store, positions = stored([""] * 50)
    found = estimate_text_effects(store.matrix(0), positions, np.arange(50) % 2, np.zeros(50))
    assert found.deviation == 0 and not found.weights.any()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    return train_text_model(tmp_path_factory.mktemp("text"))


def columns(servable: Servable, signature: str, rows: list[dict[str, Any]]) -> dict[str, Array]:
    return {name: np.array([row[name] for row in rows], object) for name in servable.signatures[signature].inputs}


def test_a_server_takes_the_plain_text(model: tuple[Path, list[bytes]]) -> None:
    folder, examples = model
    servable = Servable.load(folder)
    rows = requests_from_examples(examples, FEATURES)
    by_examples = servable.run("serving_examples", {"examples": np.array(examples, object)})[CLICK_PROBABILITY]
    by_columns = servable.run("serving_default", columns(servable, "serving_default", rows))[CLICK_PROBABILITY]
    np.testing.assert_allclose(by_columns, by_examples, atol=1e-6)
    plain = {"site": "s1", "lede": ""}
    texts = ["", NEW, "<p>BALAM</p> in a new text", "konox in a new text", b"\xff\xfe", "x" * 100_000]
    asked = columns(servable, "serving_default", [{**plain, "the headline": text} for text in texts])
    nothing, known, same, other, broken, long = servable.run("serving_default", asked)[CLICK_PROBABILITY]
    assert known == pytest.approx(same, abs=1e-7)
    assert known > 1.5 * other
    assert broken == pytest.approx(nothing, abs=1e-7) and 0 < long < 1
    assert read_description(str(folder)).features == FEATURES


def test_an_explanation_names_the_words(model: tuple[Path, list[bytes]]) -> None:
    servable = Servable.load(model[0])
    rows = [{"site": "s1", "the headline": text, "lede": ""} for text in (NEW, "")]
    found = servable.run("explain", columns(servable, "explain", rows))
    contributions = found[CONTRIBUTIONS]
    np.testing.assert_allclose(contributions.sum(axis=1), found[LOGIT] - found[BASELINE_LOGIT], atol=1e-4)
    assert contributions[0, 1] > 0.4 and contributions[1, 1] == 0
    words, added = found[WORDS].reshape(2, 2, -1), found[WORD_CONTRIBUTIONS].reshape(2, 2, -1)
    assert words[0, 0, 0] == b"balam" and added[0, 0, 0] > 0.4
    np.testing.assert_allclose(added[0, 0].sum(), contributions[0, 1], atol=1e-5)
    assert not [word for word in words[1].ravel() if word]
