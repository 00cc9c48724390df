"""What can come of a server in a play, what a peer can do, and how what is expected is compared with what came."""

from __future__ import annotations

import enum
import re
from typing import Final, Literal, Protocol, TypeAlias, final, runtime_checkable

import trio

from ktrio.testing._responses import parse_response
from ktrio.testing._server import MemoryServer
from ktrio.testing._streams import MemoryStream

# What a ``Date`` header is before it is compared: some date, always the same.
_SOME_DATE: Final = rb"\1Thu, 01 Jan 1970 00:00:00 GMT"
_DATE: Final = re.compile(rb"(?im)^(date:[ \t]*)[^\r\n]*")


def without_date(data: bytes) -> bytes:
    """The same with some date, always the same, in ``Date`` headers."""
    return _DATE.sub(_SOME_DATE, data)


@final
class Event(enum.Enum):
    """What can happen in a play beside bytes."""

    FIN = "FIN"
    RESET = "RESET"
    STALL = "STALL"
    READ_ON = "READ_ON"
    NOTHING = "NOTHING"

    def __repr__(self) -> str:
        return self.value


FIN: Final = Event.FIN
"""Of a peer: it shuts down its side. Of the server: it has, by closing or half, and all it sent was said before."""

RESET: Final = Event.RESET
"""Of a peer: it resets the connection. Of the server: it has."""

STALL: Final = Event.STALL
"""Of a peer: it reads nothing from here on, until `READ_ON`."""

READ_ON: Final = Event.READ_ON
"""Of a peer: it reads again what comes."""

NOTHING: Final = Event.NOTHING
"""Of the server: nothing has come, not even the end."""

PeerAct: TypeAlias = bytes | Literal[Event.FIN, Event.RESET, Event.STALL, Event.READ_ON]
"""What stands behind ``peer >>``."""


class Mismatch(Exception):  # noqa: N818 - becomes an AssertionError with the play around it
    """Something else happened: a sentence, and what is to be compared line by line."""

    def __init__(self, sentence: str, expected: bytes = b"", actual: bytes = b"") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.expected = expected
        self.actual = actual


@final
class Role:
    """A peer on stage.

    Legend: I set once · T only by the task that performs.
    """

    def __init__(self, number: int, stream: MemoryStream, memory: MemoryServer) -> None:
        self.number: Final = number  # I
        self._stream: Final = stream  # I
        self._memory: Final = memory  # I
        self._to_send: list[bytes | Event] = []  # T: what there was no room for
        self._is_stalled = False  # T
        self.received = b""  # T: and not said yet; with some date
        self.end: Event | None = None  # T: how the server ended it
        self.is_end_said = False  # T
        self.has_left = False  # T: by a reset of its own

    def act(self, what: PeerAct) -> None:
        """Do what the play says."""
        match what:
            case Event.STALL | Event.READ_ON:
                self._is_stalled = what is Event.STALL
            case Event.RESET:
                self._stream.reset()
                self.has_left = True
            case _:
                self._to_send.append(what)

    def exchange(self) -> bool:
        """Take what is there, give what there is room for; has anything moved?"""
        return not self.has_left and (self._take() | self._give())

    def _take(self) -> bool:
        if self._is_stalled or self.end is not None:
            return False
        try:
            data = self._stream.receive_nowait()
        except trio.BrokenResourceError:
            self.end = Event.RESET
            return False
        if data is None:
            return False
        if data:
            self.received = without_date(self.received + data)
        else:
            self.end = Event.FIN
        return bool(data)

    def _give(self) -> bool:
        if not self._to_send:
            return False
        what = self._to_send[0]
        if isinstance(what, Event):
            self._stream.finish()
            del self._to_send[0]
            return True
        try:
            sent = self._stream.send_nowait(what)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if self.end is None and not self._is_stalled:
                return False  # it is about to be seen
            raise Mismatch("the peer could not send, because the connection is over") from None
        self._to_send[0] = what[sent:]
        if not self._to_send[0]:
            del self._to_send[0]
        return sent > 0

    def reason(self) -> str:
        """Why the connection ended; ``""``: it has not."""
        return self._memory.reason_of(self._stream)


@runtime_checkable
class Expect(Protocol):
    """What stands behind ``server <<`` beside bytes and events: compares by itself."""

    def compare(self, role: Role) -> None:
        """Take from `role` what was expected, or raise `Mismatch`."""
        ...


FromServer: TypeAlias = bytes | Literal[Event.FIN, Event.RESET, Event.NOTHING] | Expect
"""What stands behind ``server <<``."""


@final
class _Response:
    """See `response`."""

    def __init__(self, status: int, body: bytes, method: str, headers: dict[str, str | None]) -> None:
        self._status = status
        self._body = body
        self._method = method
        self._headers = headers

    def __repr__(self) -> str:
        words = [repr(self._status), repr(self._body)]
        words += [f"{name.replace('-', '_')}={value!r}" for name, value in self._headers.items()]
        return f"response({', '.join(words)})"

    def compare(self, role: Role) -> None:
        """See `Expect.compare`."""
        try:
            parsed = parse_response(role.received, method=self._method, ended=role.end is Event.FIN)
        except AssertionError as error:
            raise Mismatch(str(error), actual=role.received) from None
        if parsed is None:
            raise Mismatch("there is no whole response", actual=role.received)
        found, taken = parsed
        if found.status != self._status:
            raise Mismatch(f"the status is {found.status}", actual=role.received[:taken])
        for name, value in self._headers.items():
            values = found.headers.get_all(name)
            if values != ([] if value is None else [value]):
                raise Mismatch(f"the header {name} is {', '.join(map(repr, values)) or 'not there'}")
        if found.body != self._body:
            raise Mismatch("the body is another one", self._body, found.body)
        role.received = role.received[taken:]


@final
class _Ended:
    """See `ended`."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __repr__(self) -> str:
        return f"ended({self._reason!r})"

    def compare(self, role: Role) -> None:
        """See `Expect.compare`."""
        nothing_received(role)
        reason = role.reason()
        if reason != self._reason:
            raise Mismatch(f"the connection has ended as {reason!r}" if reason else "the connection has not ended")
        role.is_end_said = True


def response(status: int, body: bytes = b"", *, method: str = "GET", **headers: str | None) -> Expect:
    """In a play, behind ``server <<``: one valid response with this status and exactly this body.

    Args:
      status, body: of the response; `body` without its framing.
      method: of the request that it answers: a response to HEAD has no body, whatever it says.
      headers: fields that must be there once with this value, or not at all (`None`); others do not matter. In names
        ``_`` stands for ``-``: ``content_type="text/plain"``.
    """
    return _Response(status, body, method, {name.replace("_", "-"): value for name, value in headers.items()})


def ended(reason: str) -> Expect:
    """In a play, behind ``server <<``: the server is done with the connection, for this reason.

    The words are those of `ServerStatistics.reasons`. Whether the peer saw a `FIN` or a `RESET` can be said before.
    """
    return _Ended(reason)


def compare(role: Role, expected: FromServer) -> None:
    match expected:
        case bytes():
            wanted = without_date(expected)
            if not role.received.startswith(wanted):
                raise Mismatch("other bytes came" if role.received else "no bytes came", wanted, role.received)
            role.received = role.received[len(wanted) :]
        case Event.NOTHING:
            nothing_received(role)
            if role.end is not None and not role.is_end_said:
                raise Mismatch(f"the connection ended with {role.end!r}")
        case Event():
            nothing_received(role)
            if role.end is not expected:
                raise Mismatch("the connection is open" if role.end is None else f"{role.end!r} came")
            role.is_end_said = True
        case _:
            expected.compare(role)


def nothing_received(role: Role) -> None:
    if role.received:
        raise Mismatch("more bytes came", b"", role.received)
