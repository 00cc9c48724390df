"""Where do requests end? A second reader, straight from RFC 9112: strict, without limits, and with none of our code.

What ktrio hands to a handler must be what this reader reads at the same place. It reads whole inputs only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([!-~]+) HTTP/1\.([0-9])")
FIELD: Final = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:;[\t -~\x80-\xff]*)?")


class RefusedError(Exception):
    """The bytes are no request, or not a whole one."""


class Read(NamedTuple):
    """One request as it was read."""

    method: bytes
    target: bytes
    body: bytes
    end: int


def read_requests(data: bytes) -> Iterator[Read]:
    """The requests at the beginning of `data`, until one is none, or is not whole."""
    at = 0
    while at < len(data):
        try:
            read = read_request(data, at)
        except RefusedError:
            return
        yield read
        at = read.end


def read_request(data: bytes, at: int) -> Read:
    """The request at `at`."""
    if data.startswith(b"\r\n", at):
        at += 2
    lines, at = read_lines(data, at)
    if not lines:
        raise RefusedError
    line = REQUEST_LINE.fullmatch(lines[0])
    fields = [FIELD.fullmatch(each) for each in lines[1:]]
    if line is None or None in fields:
        raise RefusedError
    named = [(field[1].lower(), field[2]) for field in fields if field is not None]
    lengths = [value for name, value in named if name == b"content-length"]
    codings = [value for name, value in named if name == b"transfer-encoding"]
    if codings:
        if lengths or line[3] == b"0" or [each.lower() for each in codings] != [b"chunked"]:
            raise RefusedError
        body, at = read_chunks(data, at)
    elif lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise RefusedError
        count = int(lengths[0]) if len(lengths[0]) < 4000 else len(data) + 1
        body, at = data[at : at + count], at + count
        if at > len(data):
            raise RefusedError
    else:
        body = b""
    return Read(line[1], line[2], body, at)


def read_lines(data: bytes, at: int) -> tuple[list[bytes], int]:
    """The lines up to the next empty one, and what follows it."""
    lines = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise RefusedError
        line, at = data[at:end], end + 2
        if not line:
            return lines, at
        lines.append(line)


def read_chunks(data: bytes, at: int) -> tuple[bytes, int]:
    """A chunked body and where it ends."""
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        size = SIZE.fullmatch(data[at:end]) if end >= 0 else None
        if size is None:
            raise RefusedError
        count, at = int(size[1], 16), end + 2
        if not count:
            break
        body += data[at : at + count]
        at += count
        if data[at : at + 2] != b"\r\n":
            raise RefusedError
        at += 2
    trailers, at = read_lines(data, at)
    if not all(FIELD.fullmatch(each) for each in trailers):
        raise RefusedError
    return body, at
