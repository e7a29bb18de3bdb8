"""What is no event of a topic, and how it is handed on."""

from __future__ import annotations

from adclick.stream.events import Event, EventReader, RejectedEvent

#: Kafka keeps no longer note beside an offset than 4,096 bytes; a place holds the event's id.
_LONGEST_ID = 1_000
#: Of a larger message that was no event only so much is kept: with its headers it must be one that Kafka takes.
_MOST_REJECTED_BYTES = 900_000


def read_event(reader: EventReader, payload: bytes, partition: int, offset: int) -> Event | RejectedEvent:
    """An event of a topic: as `EventReader.read` has it, with an id that is not too long for a note of Kafka's."""
    event = reader.read(payload, partition, offset)
    if isinstance(event, Event) and len(event.id) > _LONGEST_ID:
        reason = f"the id has {len(event.id)} characters, more than {_LONGEST_ID}"
        return RejectedEvent(event.kind, reason, payload, partition, offset)
    return event


def rejected_bytes(event: RejectedEvent) -> bytes:
    """The bytes of what was no event, as many as are kept."""
    return event.payload[:_MOST_REJECTED_BYTES]


def rejection_headers(event: RejectedEvent) -> list[tuple[str, bytes]]:
    """What goes beside the bytes of what was no event."""
    return [
        ("reason", event.reason.encode()[:1000]),
        ("kind", event.kind.encode()),
        ("partition", str(event.partition).encode()),
        ("offset", str(event.offset).encode()),
        ("bytes", str(len(event.payload)).encode()),
    ]
