"""Has the client's copy gone stale? ``If-None-Match`` and ``If-Modified-Since`` (RFC 9110 section 13)."""

from __future__ import annotations

import re
from typing import Final, Literal

from ktrio.http.dates import parse_http_date
from ktrio.http.headers import Headers

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (RFC 9110 section 8.8.3); "W/" is case-sensitive.
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# #entity-tag with the empty members a recipient must bear (section 5.6.1.2): separators, a tag, a separator or the end.
_TAG_LIST: Final = re.compile(rf"[ \t,]*+(?:{_TAG.pattern}[ \t]*+(?:,[ \t,]*+|\Z))+")

_SAFE: Final = frozenset({"GET", "HEAD"})


def evaluate(method: str, headers: Headers, etag: str | None, last_modified: int | None) -> Literal[200, 304, 412]:
    """What the preconditions of a request make of a resource that exists: 200 go on, 304 or 412.

    `etag` is its current entity tag as sent (``"x"`` or ``W/"x"``, `None`: it has none), `last_modified` in seconds
    since the epoch (`None`: unknown). ``If-Modified-Since`` counts only without ``If-None-Match``, only for GET and
    HEAD, and only if it is a date (RFC 9110 sections 13.1.3 and 13.2.2).
    """
    if "if-none-match" in headers:
        if not matches_any(", ".join(headers.get_all("if-none-match")), etag):
            return 200
        return 304 if method in _SAFE else 412
    if method in _SAFE and not_modified_since(headers.get_all("if-modified-since"), last_modified):
        return 304
    return 200


def matches_any(condition: str, etag: str | None) -> bool:
    """Is `etag` among the tags of an ``If-None-Match``, by weak comparison (RFC 9110 sections 13.1.2, 8.8.3.2)?

    ``*`` is matched by whatever exists. A list that is not one matches nothing: then the answer is sent whole, which
    is never wrong.
    """
    if condition.strip(" \t") == "*":
        return True
    if etag is None or not _TAG_LIST.fullmatch(condition):
        return False
    return etag.removeprefix("W/") in _TAG.findall(condition)


def not_modified_since(conditions: list[str], last_modified: int | None) -> bool:
    """Is `last_modified` no later than the one date in `conditions` (RFC 9110 section 13.1.3)?"""
    if last_modified is None or len(conditions) != 1:
        return False
    since = parse_http_date(conditions[0])
    return since is not None and last_modified <= since
