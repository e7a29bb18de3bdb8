"""Texts to words, pairs of words and parts of words, and to what these add to a click logit.

HTML and character references are taken away, letters made small. A word is a run of letters and digits; a Chinese or
Japanese character is one by itself. Parts are what of four letters in a row a word holds, its beginning and end marked
(Bojanowski et al. 2017, "Enriching word vectors with subword information"), which tells `cat` from `cats` but not far.
Each is numbered by its hash (Weinberger et al. 2009, "Feature hashing for large scale multitask learning"), so that
memory is bounded and a word that was never seen still shares its parts' effects. A text's effect is the sum of theirs
over the square root of their number: long texts say more, but not as much more as they are longer.

All of it is operations that TensorFlow Serving has; training and serving run the same graph.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from adclick.schema.roles.inputs import TextField

#: Longer words are cut, in characters.
_LONGEST_WORD = 24
_PART_CHARACTERS = 4
#: In turn, what is replaced by what. RE2 has no look-around.
_REPLACEMENTS = (
    (r"(?is)<(?:script|style)\b.*?</(?:script|style)\s*>", " "),
    (r"(?s)<!--.*?-->", " "),
    (r"</?[a-zA-Z][^<>]*>|<![^<>]*>", " "),
    (r"&([a-zA-Z])(?:acute|grave|circ|uml|tilde|cedil|ring|slash|caron);", r"\1"),
    # An apostrophe is no border within a word.
    (r"&(?:apos|rsquo|lsquo|#0*39|#0*8217|#x27);|['\x{2019}\x{02BC}]", ""),
    (r"&(?:[a-zA-Z][a-zA-Z0-9]*|#[0-9]+|#x[0-9a-fA-F]+);", " "),
    (r"([\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}])", r" \1 "),
    (r"[^\p{L}\p{M}\p{N}]+", " "),
)
#: Parts the hashes of words, of pairs and of parts of words.
_WORD, _PAIR, _PART = "w ", "p ", "c "


class Tokens(NamedTuple):
    """What some texts consist of.

    Attributes:
        words: string [words], all texts' words in order.
        text_of_word: int32 [words], the text that each is of.
        buckets: int32 [tokens], the number of each word, pair and part.
        word_of_token: int32 [tokens], the word that each is of; of a pair the first.
        is_pair: bool [tokens].
    """

    words: tf.Tensor
    text_of_word: tf.Tensor
    buckets: tf.Tensor
    word_of_token: tf.Tensor
    is_pair: tf.Tensor


def tokenise(texts: tf.Tensor, field: TextField) -> Tokens:
    """Takes texts apart, string [n]; bytes that are not UTF-8 part words."""
    plain = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace", replacement_char=32)
    for pattern, replacement in _REPLACEMENTS:
        plain = tf.strings.regex_replace(plain, pattern, replacement)
    split = tf.strings.split(tf.strings.lower(plain, encoding="utf-8"))[:, : field.max_words]
    words = tf.strings.substr(split.values, 0, _LONGEST_WORD, unit="UTF8_CHAR")
    text_of_word = tf.cast(split.value_rowids(), tf.int32)
    number = tf.range(tf.size(words))
    has_next = tf.equal(text_of_word[:-1], text_of_word[1:])
    pairs = tf.boolean_mask(tf.strings.join([words[:-1], words[1:]], " "), has_next)
    letters = tf.strings.unicode_split(tf.strings.join(["<", words, ">"]), "UTF-8")
    parts = tf.strings.ngrams(letters, _PART_CHARACTERS, separator="")
    kinds = [
        (_WORD, words, number),
        (_PAIR, pairs, tf.boolean_mask(number[:-1], has_next)),
        (_PART, parts.values, tf.cast(parts.value_rowids(), tf.int32)),
    ]
    hashed = [tf.strings.to_hash_bucket_fast(tf.strings.join([kind, found]), field.buckets) for kind, found, _ in kinds]
    return Tokens(
        words,
        text_of_word,
        tf.cast(tf.concat(hashed, axis=0), tf.int32),
        tf.concat([of_word for _, _, of_word in kinds], axis=0),
        tf.concat([tf.fill(tf.shape(of_word), kind == _PAIR) for kind, _, of_word in kinds], axis=0),
    )


class WordEffects(NamedTuple):
    """What texts, and each of their words, add to the logit.

    Attributes:
        effects: float32 [n], of each text.
        words: string [words].
        text_of_word: int32 [words].
        of_words: float32 [words]: a word's own effect, its parts', and half of the pairs' that it is in; those of a
            text add up to its effect.
    """

    effects: tf.Tensor
    words: tf.Tensor
    text_of_word: tf.Tensor
    of_words: tf.Tensor


def text_effects(texts: tf.Tensor, field: TextField, weights: tf.Tensor) -> tf.Tensor:
    """The effect of each text, float32 [n], of texts string [n] and the field's effects float32 [buckets]."""
    # Impressions of one ad share its texts.
    distinct, where = tf.unique(texts)
    return tf.gather(word_effects(distinct, field, weights).effects, where)


def word_effects(texts: tf.Tensor, field: TextField, weights: tf.Tensor) -> WordEffects:
    """As `text_effects`, with each word's share."""
    tokens = tokenise(texts, field)
    count = tf.size(tokens.words)
    told = tf.gather(weights, tokens.buckets)
    own = tf.where(tokens.is_pair, told / 2, told)
    of_words = tf.math.unsorted_segment_sum(own, tokens.word_of_token, count)
    # A pair's other half is its second word's.
    second = tf.boolean_mask(tokens.word_of_token + 1, tokens.is_pair)
    of_words += tf.math.unsorted_segment_sum(tf.boolean_mask(own, tokens.is_pair), second, count)
    rows = tf.size(texts)
    text_of_token = tf.gather(tokens.text_of_word, tokens.word_of_token)
    length = tf.math.unsorted_segment_sum(tf.ones_like(told), text_of_token, rows)
    of_words *= tf.gather(tf.math.rsqrt(tf.maximum(length, 1.0)), tokens.text_of_word)
    effects = tf.math.unsorted_segment_sum(of_words, tokens.text_of_word, rows)
    return WordEffects(effects, tokens.words, tokens.text_of_word, of_words)


def strongest_words(found: WordEffects, texts: int | tf.Tensor, most: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The words of each text that add or take the most, each once, the strongest first.

    Args:
        found: What the words of the texts add.
        texts: How many texts there are, n.
        most: How many words to give of each.

    Returns:
        The words, string [n, most], empty where a text has fewer; and what each adds, all its places together,
        float32 [n, most].
    """
    keys = tf.strings.join([tf.strings.as_string(found.text_of_word), found.words], " ")
    distinct, where = tf.unique(keys)
    count = tf.size(distinct)
    added = tf.math.unsorted_segment_sum(found.of_words, where, count)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(where)), where, count)
    rows = tf.cast(tf.gather(found.text_of_word, first), tf.int64)

    def by_text(values: tf.Tensor, empty: object) -> tf.Tensor:
        ragged = tf.RaggedTensor.from_value_rowids(values, rows, tf.cast(texts, tf.int64), validate=False)
        dense = ragged.to_tensor(empty)
        return tf.pad(dense, [[0, 0], [0, most]], constant_values=empty)

    dense = by_text(added, 0.0)
    places = tf.math.top_k(tf.abs(dense), most).indices
    words = tf.gather(by_text(tf.gather(found.words, first), ""), places, batch_dims=1)
    return tf.ensure_shape(words, [None, most]), tf.ensure_shape(tf.gather(dense, places, batch_dims=1), [None, most])
