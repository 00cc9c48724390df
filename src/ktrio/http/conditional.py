"""Preconditions: does the client's idea of a representation still hold? (RFC 9110 section 13)

Validators are compared in two ways (section 8.8.3.2): *weakly* where equal enough will do, for a cached copy, and
*strongly* where bytes of two answers are put together or something is overwritten; then a weak tag equals nothing.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from ktrio.http.dates import parse_http_date
from ktrio.http.headers import Headers

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE (RFC 9110 section 8.8.3); "W/" is case-sensitive.
_TAG: Final = re.compile(r'((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")')
# #entity-tag with the empty members a recipient must bear (section 5.6.1.2): separators, a tag, a separator or the end.
_TAG_LIST: Final = re.compile(rf"[ \t,]*+(?:{_TAG.pattern}[ \t]*+(?:,[ \t,]*+|\Z))+")

_SAFE: Final = frozenset({"GET", "HEAD"})
_PRECONDITIONS: Final = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


def has_preconditions(headers: Headers) -> bool:
    """Is there anything to `evaluate`? Cheaper than that, for most requests have none."""
    return not _PRECONDITIONS.isdisjoint([name for name, _value in headers])


def evaluate(method: str, headers: Headers, etag: str | None, last_modified: int | None) -> Literal[200, 304, 412]:
    """What the preconditions of a request make of a representation that exists: 200 go on, 304 or 412.

    `etag` is its current entity tag as sent (``"x"`` or ``W/"x"``, `None`: it has none), `last_modified` in seconds
    since the epoch (`None`: unknown). In the order of RFC 9110 section 13.2.2: a date counts only if there is no list
    of tags for the same question, and ``If-Modified-Since`` only for GET and HEAD.
    """
    if "if-match" in headers:
        if not matches_strongly(", ".join(headers.get_all("if-match")), etag):
            return 412
    elif modified_since(headers.get_all("if-unmodified-since"), last_modified):
        return 412
    if "if-none-match" in headers:
        if not matches_weakly(", ".join(headers.get_all("if-none-match")), etag):
            return 200
        return 304 if method in _SAFE else 412
    if method in _SAFE and not_modified_since(headers.get_all("if-modified-since"), last_modified):
        return 304
    return 200


def matches_weakly(condition: str, etag: str | None) -> bool:
    """Is `etag` among the tags of an ``If-None-Match``, by weak comparison (RFC 9110 sections 13.1.2, 8.8.3.2)?

    ``*`` is matched by whatever exists. A list that is not one matches nothing: then the answer is sent whole, which
    is never wrong.
    """
    if condition.strip(" \t") == "*":
        return True
    if etag is None or not _TAG_LIST.fullmatch(condition):
        return False
    opaque = etag.removeprefix("W/")
    return any(each.removeprefix("W/") == opaque for each in _TAG.findall(condition))


def matches_strongly(condition: str, etag: str | None) -> bool:
    """Is `etag` among the tags of an ``If-Match``, by strong comparison (RFC 9110 sections 13.1.1, 8.8.3.2)?

    ``*`` is matched by whatever exists. A list that is not one matches nothing: then nothing is done.
    """
    if condition.strip(" \t") == "*":
        return True
    if etag is None or etag.startswith("W/") or not _TAG_LIST.fullmatch(condition):
        return False
    return etag in _TAG.findall(condition)


def not_modified_since(conditions: list[str], last_modified: int | None) -> bool:
    """Is `last_modified` no later than the one date in `conditions` (RFC 9110 section 13.1.3)?"""
    since = _one_date(conditions)
    return last_modified is not None and since is not None and last_modified <= since


def modified_since(conditions: list[str], last_modified: int | None) -> bool:
    """Is `last_modified` later than the one date in `conditions` (RFC 9110 section 13.1.4)? Unknown is not."""
    since = _one_date(conditions)
    return last_modified is not None and since is not None and last_modified > since


def _one_date(conditions: list[str]) -> int | None:
    return parse_http_date(conditions[0]) if len(conditions) == 1 else None


def range_applies(conditions: list[str], etag: str | None, last_modified: int | None) -> bool:
    """Does an ``If-Range`` (its values; none: yes) let ``Range`` count? (RFC 9110 section 13.1.5)

    Strong comparison of the tag, or exactly the date; `last_modified` is to be `None` unless it is a strong validator
    (section 8.8.2.2). Anything else sends the whole.
    """
    if not conditions:
        return True
    if len(conditions) != 1:
        return False
    condition = conditions[0].strip(" \t")
    if condition.startswith(('"', "W/")):
        return etag is not None and not etag.startswith("W/") and condition == etag
    return last_modified is not None and parse_http_date(condition) == last_modified
