"""One file as an answer: its validators, the parts that were asked for, its coding, the header fields.

Everything is decided from the status of the open descriptor and the request, before a byte is read. What is sent is
the descriptor's bytes, by the protocol, which closes it.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, final

from ktrio.handlers._errors import error_page
from ktrio.handlers._tree import Opened
from ktrio.http.conditional import evaluate, has_preconditions, range_applies
from ktrio.http.dates import format_http_date
from ktrio.http.headers import Headers
from ktrio.http.media_types import media_type_of
from ktrio.http.messages import FileRange, FileRanges, Request, Response
from ktrio.http.ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    content_range,
    multipart_end,
    multipart_type,
    part_head,
    select_ranges,
)

# Seconds. A file changed so recently may change again within one tick of the clock that stamps it, keeping its size:
# the same identity for two contents. git calls such an entry racy; 2 s covers the coarsest stamp in use (FAT).
RACY_SECONDS: Final = 2.0


def is_racy(status: os.stat_result, now: float) -> bool:
    """Was the file changed so shortly before `now` (wall clock) that its identity proves nothing yet?

    The inode's change time is asked, not the modification time: the latter can be set to anything.
    """
    return now - status.st_ctime < RACY_SECONDS


def etag_of(status: os.stat_result, *, racy: bool) -> str:
    """The entity tag of a file with this identity (RFC 9110 section 8.8.3), weak while `racy`.

    Device, inode, size and both times to the nanosecond, hashed, because inode numbers are nobody's business.
    The racy tag is a different one, not the same with ``W/`` before it: If-None-Match compares weakly, and
    what was fetched in the racy moment has to be fetched once more after it.
    """
    return _tag_of((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, racy))


@lru_cache(maxsize=4096)
def _tag_of(identity: tuple[int, int, int, int, int, bool]) -> str:
    tag = hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()
    return f'W/"{tag}"' if identity[-1] else f'"{tag}"'


def last_modified_of(status: os.stat_result, now: float) -> int:
    """Last-Modified in seconds since the epoch; never later than `now` (RFC 9110 section 8.8.2.1)."""
    return math.floor(min(status.st_mtime, now))


class Validators(NamedTuple):
    """What tells one state of a file from another (RFC 9110 section 8.8)."""

    etag: str
    """Weak while `is_racy`."""
    last_modified: int
    """Seconds since the epoch."""
    is_racy: bool
    """May another state of the file bear the same date? Then the date is no strong validator (section 8.8.2.2)."""

    @classmethod
    def of(cls, status: os.stat_result, now: float) -> Validators:
        """Those of a file with this `status` at `now` (wall clock)."""
        racy = is_racy(status, now)
        return cls(etag_of(status, racy=racy), last_modified_of(status, now), racy)


def ranges_of(request: Request, validators: Validators, size: int) -> list[ByteRange] | None:
    """The parts of a file of `size` bytes to send; `None`: all of it. ``Range`` is for GET (RFC 9110 section 14.2).

    Raises:
      UnsatisfiableRangeError: they lie beyond its end.
    """
    values = request.headers.get_all("range") if request.method == "GET" else []
    if not values:
        return None
    strong_date = None if validators.is_racy else validators.last_modified
    if not range_applies(request.headers.get_all("if-range"), validators.etag, strong_date):
        return None
    return select_ranges(values, size)


@final
@dataclass(frozen=True, slots=True)
class Variant:
    """As what a file is sent (RFC 9110 section 8)."""

    media_type: str
    coding: str | None = None
    """The content coding its bytes are in; None: they are what they are."""
    varies: bool = False
    """Might another ``Accept-Encoding`` get another answer? Then caches must be told (section 12.5.5)."""

    def fields(self, validators: Validators) -> list[tuple[str, str]]:
        """Those that every answer with this variant has, a 304 too."""
        fields = [("etag", validators.etag)]
        if self.varies:
            fields.append(("vary", "accept-encoding"))
        return fields

    def fields_of_content(self, size: int, validators: Validators, *, media_type: str = "") -> list[tuple[str, str]]:
        """Those of an answer with `size` bytes; of `media_type`, if that is not the variant's."""
        fields = [
            ("content-type", media_type or self.media_type),
            # The protocol would add it, but for HEAD of an empty file: there it cannot know.
            ("content-length", str(size)),
            ("last-modified", format_http_date(validators.last_modified)),
            *self.fields(validators),
            ("x-content-type-options", "nosniff"),
        ]
        if self.coding is not None:
            fields.append(("content-encoding", self.coding))
        return fields


@lru_cache(maxsize=1024)
def variant_of(name: str, *, varies: bool) -> Variant:
    """A file called `name`, as it is."""
    return Variant(media_type_of(name), varies=varies)


def _file_headers(variant: Variant, size: int, validators: Validators, *, media_type: str = "") -> Headers:
    fields = variant.fields_of_content(size, validators, media_type=media_type)
    fields.append(("accept-ranges", "bytes"))
    return Headers(fields)


def _whole(file: Opened, variant: Variant, validators: Validators) -> Response:
    body = FileRange(descriptor=file.descriptor, offset=0, count=file.status.st_size, close=file.close)
    return Response(200, _file_headers(variant, body.count, validators), body)


def _part(file: Opened, variant: Variant, validators: Validators, part: ByteRange) -> Response:
    """One part (RFC 9110 section 15.3.7.1)."""
    body = FileRange(descriptor=file.descriptor, offset=part.first, count=part.count, close=file.close)
    headers = _file_headers(variant, body.count, validators)
    headers.add("content-range", content_range(part, file.status.st_size))
    return Response(206, headers, body)


def _parts(file: Opened, variant: Variant, validators: Validators, ranges: Sequence[ByteRange]) -> Response:
    """Several parts (RFC 9110 section 15.3.7.2), each with the media type of the file."""
    size, media_type = file.status.st_size, variant.media_type
    boundary = secrets.token_hex(16)  # nobody can have written it into the file
    body = FileRanges(
        descriptor=file.descriptor,
        parts=tuple(
            (part_head(part, size, media_type, boundary, is_first=not index), part.first, part.count)
            for index, part in enumerate(ranges)
        ),
        end=multipart_end(boundary),
        close=file.close,
    )
    return Response(206, _file_headers(variant, body.count, validators, media_type=multipart_type(boundary)), body)


def _unsatisfiable(size: int) -> Response:
    """RFC 9110 section 15.5.17: it says how much there is."""
    page = error_page(416)
    page.headers.add("content-range", content_range(None, size))
    page.headers.add("accept-ranges", "bytes")
    return page


def refusal_by_precondition(request: Request, variant: Variant, validators: Validators) -> Response | None:
    """A 304 or 412; None: the preconditions hold, or there are none."""
    if not has_preconditions(request.headers):
        return None
    verdict = evaluate(request.method, request.headers, validators.etag, validators.last_modified)
    if verdict == 304:
        # Section 15.4.5: the validator and what caches go by, and nothing that describes a body.
        return Response(304, Headers(variant.fields(validators)))
    return error_page(412) if verdict == 412 else None


def respond_with_file(request: Request, variant: Variant, file: Opened, now: float) -> Response:
    """A 200 or 206 that owns `file`, or a 304, 412 or 416, that has closed it. `now` is the wall clock."""
    is_sent = False
    try:
        validators = Validators.of(file.status, now)
        refusal = refusal_by_precondition(request, variant, validators)
        if refusal is not None:
            return refusal
        try:
            ranges = ranges_of(request, validators, file.status.st_size)
        except UnsatisfiableRangeError:
            return _unsatisfiable(file.status.st_size)
        if ranges is None:
            response = _whole(file, variant, validators)
        elif len(ranges) == 1:
            response = _part(file, variant, validators, ranges[0])
        else:
            response = _parts(file, variant, validators, ranges)
        is_sent = True
        return response
    finally:
        if not is_sent:
            file.close()
