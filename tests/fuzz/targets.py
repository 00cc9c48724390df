"""The targets by name, their seeds, and the words that inputs are mutated with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz.pure import PURE
from tests.fuzz.whole import WHOLE
from tests.hostile import chunks, framing, lines, paths, test_floods

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {**PURE, **WHOLE}
FOUND: Final = Path(__file__).parent / "found"

# The longest input that is tried: beyond it only limits are met, which the tests of floods do.
LONGEST: Final = 4096

_ATTACKS: Final = [
    attack.data for table in (framing, chunks, lines) for each in table.CLASSES for attack in each.attacks
]
_PATHS: Final = [attack.target.encode("latin-1") for each in paths.CLASSES for attack in each.attacks]
_RANGES: Final = [value.encode("latin-1") for _source, value, _status in test_floods.RANGES.values()]
_DATES: Final = [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"]
_TAGS: Final = [b'"a"', b'W/"a"', b'"a", "b"', b"*", b'"a", W/"b", ,', b""]
_CODINGS: Final = [b"gzip, br;q=0.5, *;q=0", b"identity;q=0, *", b"x-gzip;q=1.000", b"gzip;q=0\nbr", b"*;q=0.1"]

SEEDS: Final[dict[str, list[bytes]]] = {
    "target": [*_PATHS, b"*", b"http://x:80/a?b", b"//x/", b"/a%20b?c=%"],
    "ranges": [
        b"\x01\x00bytes=" + value
        for value in [*_RANGES, b"0-0,2-3", b"-5,0-", b"5-, 1-2 ,", b"0-100,5-6", b"5-6,0-100"]
    ],
    "conditional": [
        *(bytes([tag, which]) + value for tag in range(5) for which in range(2) for value in _TAGS),
        *(bytes([1, which]) + value for which in range(2, 5) for value in [*_DATES, *_TAGS]),
        b'\x01\x00"a"\n\x02Sun, 06 Nov 1994 08:49:37 GMT',
    ],
    "negotiation": _CODINGS,
    "head": [*_ATTACKS, b"GET / HTTP/1.1\r\nHost: x\r\nA: \xa0b\x85\r\nB:\t\xa0\t\r\n\r\n"],
    "chunks": [data.partition(b"\r\n\r\n")[2] for data in _ATTACKS if b"ransfer-Encoding: chunked\r\n\r\n" in data],
    "connection": _ATTACKS,
    "files": [
        *_PATHS,
        *(b"/a.txt\nRange: bytes=" + value for value in _RANGES),
        *(b"/a.txt\nAccept-Encoding: " + value.replace(b"\n", b",") for value in _CODINGS),
        *(b"/sub/\nIf-None-Match: " + value for value in _TAGS),
        *(b"/a.txt\nIf-Modified-Since: " + value for value in _DATES),
    ],
}

WORDS: Final[dict[str, list[bytes]]] = {
    "target": [b"/", b"..", b".", b"%2e", b"%2f", b"%5c", b"%00", b"%25", b"\\", b"?", b"#", b"http://", b"*", b"@"],
    "ranges": [b"bytes=", b"-", b",", b"0", b"255", b"256", b" ", b"\t", b"99999999999999999999", b"0-0", b"-1"],
    "conditional": [b'"', b"W/", b", ", b"*", b"a", b"\n", b" ", b"\t", *_DATES, b"GMT", b"\x00", b"\x01", b"\x04"],
    "negotiation": [b"gzip", b"br", b"zstd", b"identity", b"*", b";q=", b"0", b"1", b".5", b"1.000", b",", b" ", b"\n"],
    "chunks": [b"0", b"5", b"a", b"\r\n", b"\r", b"\n", b";", b"x=y", b'"', b"0\r\n\r\n", b"A: b\r\n", b" ", b"\x00"],
}
_OF_HEADS: Final = [
    *(b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b",", b"\x00", b"\x0b", b"\x80", b"\r\n\r\n", b"\r\n ", b"0", b"5"),
    *(b"GET / HTTP/1.1\r\nHost: x\r\n", b"HEAD ", b"POST ", b"HTTP/1.0", b"Host: y\r\n", b"Connection: close\r\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked", b"0\r\n\r\n", b"5\r\nabcde\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: keep-alive\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
]
WORDS["head"] = WORDS["connection"] = _OF_HEADS
WORDS["files"] = [
    *WORDS["target"],
    *WORDS["ranges"],
    b"\nRange: ",
    b"\nIf-Range: ",
    b"\nAccept-Encoding: gzip",
    b"a.txt",
]


def found(target: str) -> list[bytes]:
    """The inputs that once found something."""
    return [path.read_bytes() for path in sorted((FOUND / target).glob("*.bin"))]


def mutate(seed: bytes, words: list[bytes], random: Random) -> bytes:
    """`seed` with a few pieces taken out, doubled, or words put in."""
    data = bytearray(seed)
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(data))
        end = min(len(data), at + random.choice((0, 0, 1, 2, 8, 40)))
        match random.randrange(4):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = data[at:end]
            case 2:
                data[at:end] = random.choice(words)
            case _:
                data[at:at] = random.choice([*words, random.randbytes(1)])
    return bytes(data[:LONGEST])
