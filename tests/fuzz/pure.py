"""What must hold of any input to the pure functions of `ktrio.http`."""

from __future__ import annotations

import os
from itertools import pairwise
from urllib.parse import quote_from_bytes, urljoin, urlsplit

import h11

from ktrio.handlers.files import location_with_slash
from ktrio.http import h1
from ktrio.http.chunks import ChunkGuard
from ktrio.http.conditional import evaluate, has_preconditions, matches_strongly, matches_weakly, range_applies
from ktrio.http.dates import format_http_date, parse_http_date
from ktrio.http.errors import HttpError
from ktrio.http.h1 import Exchange
from ktrio.http.head import HeadMemo
from ktrio.http.headers import Headers
from ktrio.http.negotiation import acceptable_codings, weights_of
from ktrio.http.policy import Limits, find_head_end, skip_leading_crlf
from ktrio.http.ranges import (
    COALESCED_GAP,
    MAX_RANGES,
    UnsatisfiableRangeError,
    select_ranges,
)
from ktrio.http.request_head import RequestHead, plain_head
from ktrio.http.target import authority_of, decode_path, is_plain_name, split_target
from tests.fuzz.reference import RefusedError, read_chunks

LIMITS = Limits()
ROOT = b"/srv/root"


def attempt(fn, *args, **options):
    """What a function gives, or the type of the `HttpError` that it raises; anything else it raises is a finding."""
    try:
        return fn(*args, **options)
    except HttpError as error:
        return type(error)


# -- targets


def fuzz_target(data: bytes) -> None:
    """A path names nothing outside, and says the same when it is written and read once more."""
    raw = data.decode("latin-1")
    for method in ("GET", "OPTIONS"):
        split = attempt(split_target, raw, method=method)
        if isinstance(split, type):
            continue
        path, query = split
        authority_of(raw)
        assert query is None or "#" not in query
        if path == "*":
            assert method == "OPTIONS"
            continue
        names = attempt(decode_path, path)
        if not isinstance(names, type):
            check_names(path, names)


def check_names(path: str, names: tuple[str, ...]) -> None:
    assert all(map(is_plain_name, names))
    octets = [name.encode("utf-8", "surrogateescape") for name in names]
    place = os.path.normpath(b"/".join((ROOT, *octets)))
    assert place == b"/".join((ROOT, *octets)), "a second look at the path leads elsewhere"
    again = "".join(f"/{quote_from_bytes(name)}" for name in octets) or "/"
    assert decode_path(again) == names
    if names:
        location = location_with_slash(names[-1], "a=b")
        assert location.isascii()
        assert location.isprintable()
        assert " " not in location
        there = urlsplit(urljoin("http://here/", again))
        assert urlsplit(urljoin(there.geturl(), location)).netloc == "here"


# -- ranges


def fuzz_ranges(data: bytes) -> None:
    """What is selected covers what was asked for, and no more than small gaps besides; never more than there is."""
    size, value = int.from_bytes(data[:2], "big"), data[2:].decode("latin-1")
    try:
        ranges = select_ranges([value], size)
    except UnsatisfiableRangeError:
        return
    if ranges is None:
        return
    assert 0 < len(ranges) <= MAX_RANGES
    assert all(0 <= each.first <= each.last < size for each in ranges)
    ordered = sorted(ranges, key=lambda each: each.first)
    for before, after in pairwise(ordered):
        assert after.first > before.last + COALESCED_GAP
    asked = asked_for(value, size)
    sent = {byte for each in ranges for byte in range(each.first, each.last + 1)}
    assert asked <= sent
    assert len(sent) <= len(asked) + MAX_RANGES * (COALESCED_GAP + 1)
    again = "bytes=" + ",".join(f"{each.first}-{each.last}" for each in ranges)
    assert select_ranges([again], size) == ranges


def asked_for(value: str, size: int) -> set[int]:
    found: set[int] = set()
    for member in value[6:].split(","):
        first, dash, last = member.strip(" \t").partition("-")
        if not dash:
            continue
        start = int(first) if first else max(0, size - int(last))
        found.update(range(start, min(size, int(last) + 1 if first and last else size)))
    return found


# -- conditional requests

CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
TAGS = (None, '"a"', 'W/"a"', '"b"', '""')


def fuzz_conditional(data: bytes) -> None:
    """One of three verdicts, by rules that hold whatever the fields say (RFC 9110 section 13)."""
    fields = [
        (CONDITIONS[line[0] % len(CONDITIONS)], line[1:].decode("latin-1").strip(" \t"))
        for line in data[1:].split(b"\n")
        if line
    ]
    headers, etag = Headers(fields), TAGS[data[0] % len(TAGS)] if data else None
    for method in ("GET", "HEAD", "POST"):
        verdict = evaluate(method, headers, etag, 1_000_000_000)
        assert verdict in (200, 304, 412)
        assert verdict == 200 or has_preconditions(headers)
        assert verdict != 304 or method != "POST"
    assert evaluate("GET", headers, etag, 1) == evaluate("HEAD", headers, etag, 1)
    range_applies(headers.get_all("if-range"), etag, 1_000_000_000)
    for _name, value in fields:
        assert not matches_strongly(value, etag) or matches_weakly(value, etag)
        when = parse_http_date(value)
        assert when is None or parse_http_date(format_http_date(when)) == when
        if '"' not in value and "\t" not in value.strip() and etag is not None and value:
            assert matches_weakly(value + f", {etag}", etag) is (not value.strip(" \t,"))


# -- negotiation

AVAILABLE = ("br", "zstd", "gzip")


def fuzz_negotiation(data: bytes) -> None:
    """Nothing that is refused, nothing twice, best first (RFC 9110 section 12.5.3)."""
    values = [line.decode("latin-1") for line in data.split(b"\n")]
    weights = weights_of(values)
    assert all(0 <= weight <= 1000 for weight in weights.values())
    found = acceptable_codings(values, AVAILABLE)
    assert len(set(found)) == len(found)
    assert set(found) <= set(AVAILABLE)
    of = [weights.get(name, weights.get("*", 0)) for name in found]
    assert all(of)
    assert of == sorted(of, reverse=True)
    again = ", ".join(f"{name};q={weight / 1000:.3f}" for name, weight in weights.items())
    assert weights_of([again]) == weights
    assert acceptable_codings([again], AVAILABLE) == found


# -- heads


def fuzz_head(data: bytes) -> None:
    """The fast lane accepts nothing that h11 refuses, and reads nothing differently; pieces change nothing."""
    end = attempt(find_head_end, data, LIMITS)
    check_pieces(data, end)
    if not isinstance(end, int):
        return
    head = data[:end]
    memo = HeadMemo(LIMITS)
    read = attempt(Exchange.read_head, head, LIMITS)
    remembered = [attempt(memo.read, head) for _ in range(2)]
    if isinstance(read, type):
        assert remembered == [read, read]
        return
    request = read[1]
    assert [each[1] for each in remembered] == [request, request]
    check_against_h11(head, request)


def check_pieces(data: bytes, end: object) -> None:
    """Looked at after every few bytes, the same head ends at the same place, or is refused; perhaps earlier."""
    step = max(1, len(data) // 16)
    scanned = 0
    for upto in [*range(step, len(data), step), len(data)]:
        found = attempt(find_head_end, data[:upto], LIMITS, scanned)
        if found is not None:
            assert isinstance(found, type) == isinstance(end, type) or isinstance(found, type)
            assert isinstance(found, type) or found == end
            return
        scanned = upto
    assert end is None


def check_against_h11(head: bytes, request: RequestHead) -> None:
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMITS.head_bytes)
    reader.receive_data(head[skip_leading_crlf(head) :])
    event = reader.next_event()
    assert isinstance(event, h11.Request)
    assert h1._request_head(event) == request
    plain = plain_head(head)
    assert plain is None or plain == request


# -- chunks


def fuzz_chunks(data: bytes) -> None:
    """Our guard, h11 and the reference agree where a chunked body ends, however it comes."""
    whole = follow(data, [len(data)])
    step = data[0] % 7 + 1 if data else 1
    assert follow(data, range(step, len(data) + step, step)) == whole
    if not isinstance(whole, int):
        return
    body, end = reference_chunks(data)
    assert end == whole
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMITS.head_bytes)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(reader.next_event(), h11.Request)
    read = b""
    try:
        while isinstance(event := reader.next_event(), h11.Data):
            read += bytes(event.data)
    except h11.RemoteProtocolError:
        return  # h11 refuses: so do we, as it reads behind the guard
    assert isinstance(event, h11.EndOfMessage)
    assert (read, reader.trailing_data[0]) == (body, data[whole:])


def follow(data: bytes, ends) -> int | type[HttpError] | None:
    """Where the body ends for the guard, the type of its refusal; None: it has not ended."""
    guard, at, taken = ChunkGuard(LIMITS), 0, 0
    for end in ends:
        count = attempt(guard.advance, data[at:end])
        if isinstance(count, type):
            return count
        taken += count
        at = min(end, len(data))
        if guard.complete:
            return taken
        assert taken == at
    return None


def reference_chunks(data: bytes) -> tuple[bytes, int]:
    try:
        return read_chunks(data, 0)
    except RefusedError:
        raise AssertionError("the reference refuses what the guard has passed") from None


PURE = {
    "target": fuzz_target,
    "ranges": fuzz_ranges,
    "conditional": fuzz_conditional,
    "negotiation": fuzz_negotiation,
    "head": fuzz_head,
    "chunks": fuzz_chunks,
}
