"""What an exported model and those who ask it agree on: its signatures, their outputs, where it describes itself."""

from __future__ import annotations

from typing import Final

#: Signatures.
SERVING_DEFAULT: Final = "serving_default"
SERVING_EXAMPLES: Final = "serving_examples"
EMBED_CREATIVE: Final = "embed_creative"
SCORE: Final = "score"
EXPLAIN: Final = "explain"

#: Outputs of those that score, and of `embed_creative`.
CLICK_PROBABILITY: Final = "click_probability"
CREATIVE_EMBEDDING: Final = "creative_embedding"

#: Outputs of `explain`; of each text in turn, the words that add or take the most, and what each of them adds.
COLUMNS: Final = "columns"
CONTRIBUTIONS: Final = "contributions"
LOGIT: Final = "logit"
BASELINE_LOGIT: Final = "baseline_logit"
HEAT_MAP: Final = "heat_map"
WORDS: Final = "words"
WORD_CONTRIBUTIONS: Final = "word_contributions"

#: An image value up to this long is a creative's key; no image file is as short.
LONGEST_KEY: Final = 64

#: Below a version's folder, what model servers ignore, and the description in it.
EXTRA_FOLDER: Final = "assets.extra"
DESCRIPTION_FILE: Final = "adclick.json"
