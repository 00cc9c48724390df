"""The words of the tables: an attack, and a class of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

HOST: Final = b"Host: x\r\n"
# What an attacker wants to be read as a request of its own, and what never may be.
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT: Final = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"

Test = TypeVar("Test", bound=Callable[..., object])


@dataclass(frozen=True)
class Attack:
    """Bytes, and the statuses of all that is answered to them by a handler that reads its request.

    name: what is wrong with them. source: who used it, or the section that forbids it.
    closes: is the connection closed behind the last answer? If not, the next request on it is answered.
    """

    name: str
    source: str
    data: bytes
    answers: tuple[int, ...] = (400,)
    closes: bool = True

    @property
    def answer(self) -> str:
        """For people."""
        statuses = ", then ".join(str(status) for status in self.answers) or "none"
        return f"{statuses}; {'closed' if self.closes else 'stays open'}"


@dataclass(frozen=True)
class Told:
    """An attack that is no single piece of bytes: a test plays it, and this is its row."""

    name: str
    source: str
    answer: str


@dataclass(frozen=True)
class AttackClass:
    """Attacks of one kind."""

    title: str
    about: str
    attacks: tuple[Attack, ...]


def told(name: str, *, source: str, answer: str) -> Callable[[Test], Test]:
    """Put the decorated test into the page."""

    def put(test: Test) -> Test:
        test.told = Told(name, source, answer)  # type: ignore[attr-defined]
        return test

    return put


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST, body: bytes = b"") -> bytes:
    """A head of `line`, `host` and `fields`, each a whole line without its end, and what follows it."""
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def post(*fields: bytes, body: bytes = b"") -> bytes:
    """The same with POST."""
    return request(*fields, line=b"POST / HTTP/1.1", body=body)


def chunked(body: bytes) -> bytes:
    """A chunked request with this body, as it is."""
    return post(b"Transfer-Encoding: chunked", body=body)
