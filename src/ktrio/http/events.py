"""Server-sent events: one event as bytes (HTML Living Standard, section 9.2 "Server-sent events")."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Final, final

MEDIA_TYPE: Final = "text/event-stream; charset=utf-8"


@final
@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream of events.

    data: the text; may have several lines.
    event: its type, which a browser dispatches by; empty: ``message``.
    id: what the browser sends as ``Last-Event-ID`` when it connects again; `None`: unchanged.
    retry: seconds after which it is to connect again; `None`: unchanged.

    Raises:
      ValueError: a line break in `event` or `id`, a NUL in `id`, or a negative `retry`.
    """

    data: str
    event: str = ""
    id: str | None = None
    retry: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("event", self.event), ("id", self.id or "")):
            if any(char in value for char in "\r\n\0"):
                raise ValueError(f"the {name} of an event is one line without NUL, not {value!r}")
        if self.retry is not None and not self.retry >= 0:
            raise ValueError(f"retry must be seconds from 0 on, not {self.retry!r}")

    def encode(self) -> bytes:
        """The event as it is sent."""
        lines: list[str] = []
        if self.event:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry is not None:
            lines.append(f"retry: {round(self.retry * 1000)}")
        # Not `splitlines`: only these three end a line there.
        text = self.data.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
        return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


@final
class EncodedEvents:
    """The events of an iterable, each as the bytes of one piece; closes the iterable when it is closed."""

    __slots__ = ("_events", "_iterator")

    def __init__(self, events: AsyncIterable[ServerSentEvent | str]) -> None:
        self._events = events  # I: set once
        self._iterator: AsyncIterator[ServerSentEvent | str] | None = None  # T: by whoever iterates

    def __aiter__(self) -> EncodedEvents:
        return self

    async def __anext__(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(self._events)
        event = await anext(self._iterator)
        return (ServerSentEvent(event) if isinstance(event, str) else event).encode()

    async def aclose(self) -> None:
        """Close the iterator, and the iterable if that is another."""
        for each in dict.fromkeys((self._iterator, self._events)):
            aclose = getattr(each, "aclose", None)
            if aclose is not None:
                await aclose()
