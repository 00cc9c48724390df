"""The errors HTTP knows, each named by whose fault it is and carrying the status that tells the peer.

An `HttpError` is an answer waiting to be rendered (`ktrio.http.responses.error_response`): a protocol turns it into a
response if nothing was sent yet. A `ResponseError` is no answer but a bug in a handler. Messages are sentences for the
peer; they never quote what the peer sent, so nothing can be reflected through them.
"""

# ruff: noqa: N818 - each is named by what its status code says
from __future__ import annotations

from typing import ClassVar


class HttpError(Exception):
    """A request that gets an error for an answer; the abstract base, which refuses to be raised itself.

    `status` is the status code (RFC 9110 section 15), `message` one sentence for the peer.
    """

    status: ClassVar[int] = 0

    def __init__(self, message: str) -> None:
        if type(self).status == 0:
            raise TypeError(f"{type(self).__name__} is abstract: raise one of its subclasses")
        super().__init__(message)
        self.message = message

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The header fields this status asks for besides the usual ones; none unless a subclass says so."""
        return ()


class BadRequest(HttpError):
    """400: the peer's bytes are not HTTP, or can be read in two ways; the peer's fault (RFC 9110 section 15.5.1).

    Raised for a malformed head, ambiguous framing, a body that ends early, or a path that names nothing servable.
    """

    status = 400


class NotFound(HttpError):
    """404: there is nothing here by that name, or nothing the peer may see (RFC 9110 section 15.5.5)."""

    status = 404


class MethodNotAllowed(HttpError):
    """405: a method ktrio knows and this resource does not support (RFC 9110 section 15.5.6).

    `allow` lists the methods it does support; the answer names them in ``Allow``, as the RFC demands.
    """

    status = 405

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """``Allow``, with every supported method."""
        return (("allow", ", ".join(self.allow)),)


class RequestTimeout(HttpError):
    """408: the peer began a request and did not finish it in time (RFC 9110 section 15.5.9)."""

    status = 408


class BodyTooLarge(HttpError):
    """413: the request body is, or says it is, longer than `Limits.body_bytes` (RFC 9110 section 15.5.14)."""

    status = 413


class TargetTooLong(HttpError):
    """414: the request target is longer than `Limits.target_bytes` (RFC 9110 section 15.5.15)."""

    status = 414


class ExpectationFailed(HttpError):
    """417: ``Expect`` asks for something other than ``100-continue`` (RFC 9110 section 15.5.18)."""

    status = 417


class MisdirectedRequest(HttpError):
    """421: the request is for a host that this server does not answer for (RFC 9110 section 15.5.20)."""

    status = 421


class HeadTooLarge(HttpError):
    """431: the head has more than `Limits.head_bytes` or more than `Limits.fields` fields (RFC 6585 section 5)."""

    status = 431


class InternalError(HttpError):
    """500: a handler failed; never the peer's fault (RFC 9110 section 15.6.1)."""

    status = 500


class NotImplementedMethod(HttpError):
    """501: a method, or a transfer coding, that ktrio does not know (RFC 9110 section 15.6.2, RFC 9112 section 6.1)."""

    status = 501


class ServiceUnavailable(HttpError):
    """503: no room for this request now; try again (RFC 9110 section 15.6.4).

    `retry_after`, in seconds, becomes ``Retry-After``; `None`, the default, sends no such field.
    """

    status = 503

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """``Retry-After`` if there is one."""
        return () if self.retry_after is None else (("retry-after", str(self.retry_after)),)


class VersionNotSupported(HttpError):
    """505: a major version of HTTP other than 1, the HTTP/2 preface among them (RFC 9110 section 15.6.6)."""

    status = 505


class ResponseError(Exception):
    """A handler's response cannot be sent as HTTP; the handler's fault, one sentence for its author.

    Raised for a status outside 200 to 599, a header with a line break in it, a ``Content-Length`` that does not match
    the body, a body on a status that has none. If nothing was sent yet it becomes a 500; otherwise the connection is
    cut, so that the peer sees an incomplete response rather than a wrong one (RFC 9112 section 8).
    """
