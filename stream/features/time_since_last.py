"""How long ago a key's last event was."""

from __future__ import annotations

from typing import Literal

from adclick.stream.features.feature import Add, Fields, State, Value, WindowFeature


class TimeSinceLast(WindowFeature):
    """Seconds since the event of the key before this click; missing where the window holds none."""

    kind: Literal["time_since_last"]

    @property
    def explanation(self) -> str:
        return f"seconds since the one before among the {self.of} of the last {self.window}; kept: two times"

    def new_state(self) -> State:
        # The last event's time and that of the one before it, -1 where there is none.
        return [-1, -1]

    def add(self) -> Add:
        def add(state: State, time: int, fields: Fields) -> None:
            state[1] = state[0]
            state[0] = time

        return add

    def value(self) -> Value:
        # The click itself is the last of the clicks.
        before = 1 if self.of == "clicks" else 0
        length = self.length

        def value(state: State, time: int, fields: Fields) -> float | None:
            last = state[before]
            return (time - last) / 1_000_000 if last >= 0 and time - last <= length else None

        return value
