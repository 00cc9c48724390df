"""The head of a request as values: what `ktrio.http.policy` has passed, with the questions about it answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from ktrio.http.headers import Headers
from ktrio.http.policy import skip_leading_crlf, wants_continue
from ktrio.http.target import authority_of, split_target


@final
@dataclass(slots=True, kw_only=True)
class RequestHead:
    """A request but for its body. Not frozen, because one is made for each request; not mutated by convention.

    method, target: as sent. path, query: see `ktrio.http.target.split_target`.
    version: ``"1.0"``, or ``"1.1"`` for that and all later minor versions (RFC 9110 section 2.5).
    headers: as sent; of an absolute-form target, ``host`` is the target's (RFC 9112 section 3.2.2).
    keep_alive: may the connection stay open, as far as the client is concerned (RFC 9112 section 9.3)?
    expects_continue: does the client wait for ``100 Continue`` before it sends the body?
    body_length: bytes of body that follow; 0: there is no body; `None`: it is chunked.
    """

    method: str
    target: str
    path: str
    query: str | None
    version: str
    headers: Headers
    keep_alive: bool
    expects_continue: bool
    body_length: int | None


def plain_head(head: bytes) -> RequestHead | None:
    """A head that policy has passed and that has no body, read without h11; None: h11 is to read it.

    Policy's pattern is stricter than h11's: what it has passed can be split at line ends, first colons and white space,
    and `tests/http/test_h1.py` holds both readings against each other. That costs a quarter of h11.
    """
    lines = head[skip_leading_crlf(head) : -4].decode("latin-1").split("\r\n")
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields.append((name, value.strip(" \t")))
    headers = Headers(fields)
    if "content-length" in headers or "transfer-encoding" in headers:
        return None
    method, target, version = lines[0].split(" ")
    return head_of(method, target, "1.0" if version == "HTTP/1.0" else "1.1", headers)


def head_of(method: str, target: str, version: str, headers: Headers) -> RequestHead:
    """A head with the questions about it answered."""
    path, query = split_target(target, method=method)
    authority = authority_of(target)
    if authority is not None:
        headers.set("host", authority)
    body_length = _body_length(headers)
    return RequestHead(
        method=method,
        target=target,
        path=path,
        query=query,
        version=version,
        headers=headers,
        keep_alive=_allows_keep_alive(version, headers),
        expects_continue=wants_continue(version, headers) and body_length != 0,
        body_length=body_length,
    )


def _body_length(headers: Headers) -> int | None:
    """How long the body of a request is, its framing known to be sound (RFC 9112 section 6.3)."""
    if "transfer-encoding" in headers:
        return None
    return int(headers.get("content-length", "0") or 0)


def _allows_keep_alive(version: str, headers: Headers) -> bool:
    """Does the client let the connection persist (RFC 9112 section 9.3)? ``close`` wins over everything."""
    options = headers.tokens("connection")
    return "close" not in options and (version != "1.0" or "keep-alive" in options)
