"""Why a row is in quarantine."""

from __future__ import annotations

from typing import Final

WRONG_FIELD_COUNT: Final = "wrong_field_count"
UNTERMINATED_QUOTE: Final = "unterminated_quote"
MALFORMED_QUOTE: Final = "malformed_quote"
TRUNCATED_FILE: Final = "truncated_file"
INVALID_UTF8: Final = "invalid_utf8"
UNDECODABLE: Final = "undecodable_text"
FIELD_TOO_LONG: Final = "field_too_long"
UNPARSABLE_NUMBER: Final = "unparsable_number"
UNPARSABLE_TIME: Final = "unparsable_time"
LABEL_NOT_0_OR_1: Final = "label_not_0_or_1"
MISSING_LABEL: Final = "missing_label"
MISSING_IDENTIFIER: Final = "missing_identifier"
MISSING_TIMESTAMP: Final = "missing_timestamp"
