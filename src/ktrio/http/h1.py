"""One HTTP/1.x request and its response, as values: bytes in, facts out; facts in, bytes out.

The only importer of h11. h11 reads heads and bodies, always behind `ktrio.http.policy` and `ktrio.http.chunks`, which
refuse what it lets through; nothing is acted on that either of them would not read. `ktrio.http.responses` writes.

An `Exchange` lives from the moment a head is whole until the response is out; an idle connection holds none. It gets a
head already cut out of the receive buffer, and of what follows it takes the body's bytes only: the rest is handed back
by `take_leftover`, so h11 never buffers a pipelined request. Reading and writing do not wait for each other; a
response may be complete before its request is.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, final

import h11

from ktrio.http.chunks import ChunkGuard
from ktrio.http.errors import BadRequest, HeadTooLarge, HttpError, NotImplementedMethod, ResponseError
from ktrio.http.headers import Headers
from ktrio.http.policy import Limits, check_head, skip_leading_crlf
from ktrio.http.request_head import RequestHead, head_of, plain_head
from ktrio.http.responses import (
    CONTINUE,
    BodyPlan,
    Framing,
    render_last_chunk,
    write_head,
)

# What h11 hints at when it refuses bytes that policy has passed. The messages are ours: h11's quote the peer.
_REFUSALS: Final[dict[int, type[HttpError]]] = {431: HeadTooLarge, 501: NotImplementedMethod}


class BodyEvent(enum.Enum):
    """What `Exchange.next_body` says when it has no bytes."""

    NEED_DATA = "receive more"
    END = "the body is complete"


@final
class Exchange:
    """One request, read, and its response, written. Values in, values out; made by `read_head` only."""

    __slots__ = (
        "_body_left",
        "_broken",
        "_chunks",
        "_closes",
        "_continue_owed",
        "_head",
        "_leftover",
        "_plan",
        "_reader",
        "_response_complete",
        "_to_send",
    )

    def __init__(self, head: RequestHead, reader: h11.Connection | None, chunks: ChunkGuard | None) -> None:
        # The request's side.
        self._head = head
        self._reader: h11.Connection | None = reader if head.body_length != 0 else None  # None: the body is complete
        self._chunks = chunks  # None: the body is not chunked
        self._body_left = head.body_length or 0  # bytes of a sized body that have not been received
        self._leftover = bytearray()
        self._broken = False
        self._continue_owed = head.expects_continue
        # The response's side.
        self._plan: BodyPlan | None = None  # None: no head yet
        self._to_send = 0  # bytes of a sized body that have not been sent
        self._closes = not head.keep_alive
        self._response_complete = False

    @classmethod
    def read_head(cls, head: bytes, limits: Limits) -> tuple[Exchange, RequestHead]:
        """Read one whole head, as `ktrio.http.policy.find_head_end` delimits it.

        Raises:
          HttpError: the subclass that is the answer; see `ktrio.http.policy.check_head`,
            `ktrio.http.target.split_target` and `ktrio.http.policy.wants_continue`.
        """
        check_head(head, limits)
        plain = plain_head(head)
        if plain is not None:
            return cls(plain, None, None), plain
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        reader.receive_data(head[skip_leading_crlf(head) :])
        event = _next_event(reader)
        if not isinstance(event, h11.Request):  # policy has found it whole
            raise BadRequest("The head of the request is incomplete.")
        request_head = _request_head(event)
        chunks = ChunkGuard(limits) if request_head.body_length is None else None
        return cls(request_head, reader, chunks), request_head

    @classmethod
    def without_body(cls, head: RequestHead) -> Exchange:
        """The exchange of a request that has no body, from a head that was read before."""
        return cls(head, None, None)

    # -- The request's body ----------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came behind the head. Those behind the body wait for `take_leftover`; read no more then.

        Raises:
          BadRequest, HeadTooLarge: the body's framing is broken; the connection is of no more use.
        """
        if self._reader is None or not data:
            self._leftover += data
            return
        count = self._follow(data)
        if count:  # h11 takes empty data for the end of the connection
            self._reader.receive_data(data[:count])
            self._continue_owed = False
        self._leftover += data[count:]

    def _follow(self, data: bytes) -> int:
        """How many bytes of `data` belong to the body."""
        if self._chunks is None:
            count = min(self._body_left, len(data))
            self._body_left -= count
            return count
        try:
            return self._chunks.advance(data)
        except HttpError:
            self._broken = True
            raise

    def receive_eof(self) -> None:
        """The peer will send no more. `next_body` then raises, unless the body is complete."""
        if self._reader is not None:
            self._reader.receive_data(b"")

    def next_body(self) -> bytes | BodyEvent:
        """The next bytes of the body, or why there are none now. Trailer fields are dropped (RFC 9110 section 6.5.1).

        Raises:
          BadRequest: the framing is broken, or the peer has gone before the end (RFC 9112 section 8).
        """
        if self._reader is None:
            return BodyEvent.END
        if self._broken:
            raise BadRequest("The body of the request is malformed.")
        try:
            event = _next_event(self._reader)
        except HttpError:
            self._broken = True
            raise
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            self._reader = None
            return BodyEvent.END
        return BodyEvent.NEED_DATA

    def take_leftover(self) -> bytes:
        """The bytes received behind this request, which begin the next; handed out once."""
        leftover = bytes(self._leftover)
        self._leftover.clear()
        return leftover

    @property
    def body_complete(self) -> bool:
        """Has `next_body` given the whole body? True from the start if there is none."""
        return self._reader is None

    @property
    def body_unreceived(self) -> int | None:
        """How many bytes of the body have not come yet; `None`: nobody knows, it is chunked and has not ended."""
        if self._chunks is None:
            return self._body_left
        return 0 if self._chunks.complete else None

    @property
    def chunk_unreceived(self) -> int:
        """How many bytes of the chunk in progress have not come; 0 between chunks and if there are none."""
        return self._chunks.data_left if self._chunks is not None else 0

    @property
    def is_broken(self) -> bool:
        """Was the body's framing found broken? Then nobody knows where the next request begins."""
        return self._broken

    @property
    def awaits_continue(self) -> bool:
        """Does the client hold its body back until it is told to go on (RFC 9110 section 10.1.1)?

        A response sent now must close the connection: the body may come or not, and draining would wait for nothing.
        False once its first byte has come.
        """
        return self._continue_owed and not self.body_complete

    # -- The response ------------------------------------------------------------------------------------------------

    def send_continue(self) -> bytes:
        """``100 Continue``, once, if the client waits for it and there is no response yet; else nothing.

        See RFC 9110 section 10.1.1. A client whose body has begun to come does not wait any more.
        """
        owed = self.awaits_continue and self._plan is None
        if owed:
            self._continue_owed = False
        return CONTINUE if owed else b""

    def send_head(
        self, status: int, headers: Headers, *, close: bool, body_length: int | None, has_trailers: bool = False
    ) -> bytes:
        """The response's head; ``Content-Length``, ``Transfer-Encoding`` and ``Connection`` are added here.

        `body_length` is the body's, `None` if nobody knows: then a ``Content-Length`` in `headers` frames it, or it is
        chunked, or, on HTTP/1.0, ended by closing (`ktrio.http.responses.plan_body`). `close` closes the connection
        behind the response; so do a client that does not want to stay and a handler's ``Connection: close``. The other
        fields about the connection are dropped from `headers`, ``Trailer`` too unless there will be trailers
        (`has_trailers`), and ``Transfer-Encoding`` is refused.

        Raises:
          ResponseError: it is no valid response; nothing was changed, another head may be sent instead.
        """
        if self._plan is not None:
            raise RuntimeError("the head of this response has been sent already")
        head = self._head
        close = close or not head.keep_alive
        written = write_head(head.method, head.version, status, headers, close, body_length, has_trailers)
        self._plan = plan = written.plan
        self._closes = written.closes
        self._to_send = plan.length or 0
        return written.rendered

    @property
    def head_sent(self) -> bool:
        """Was `send_head` called? Then an error can no longer be told, only shown by closing early."""
        return self._plan is not None

    @property
    def sends_body(self) -> bool:
        """Do body bytes follow the head? Not on HEAD, 204 and 304: do not even begin to produce them."""
        return self._sent_plan().framing is not Framing.NONE

    def send_body(self, data: bytes) -> Sequence[bytes]:
        """`data`, framed, as buffers to be sent in one go; `data` itself is among them, uncopied. Maybe none.

        Raises:
          ResponseError: more bytes than the head declared. None of `data` may be sent then.
        """
        framing = self._sent_plan().framing
        if not data or framing is Framing.NONE:
            return ()
        if framing is Framing.CHUNKED:
            return (b"%x\r\n" % len(data), data, b"\r\n")
        self._count(len(data))
        return (data,)

    def unsend_body(self, count: int) -> None:
        """`count` bytes that `send_body` has framed were not sent after all, nor anything of their framing."""
        self._to_send += count

    def pass_through(self, count: int) -> None:
        """Count `count` bytes of the body that were or will be sent by other means, such as `os.sendfile`.

        Raises:
          ResponseError: more bytes than the head declared, or a framing that cannot count them.
        """
        if self._sent_plan().framing in (Framing.CHUNKED, Framing.NONE):
            raise ResponseError("bytes can only pass through where Content-Length or the connection's end frames them")
        self._count(count)

    def end_body(self, trailers: Headers | None = None) -> bytes:
        """What ends the body: if it is chunked the last chunk, with `trailers`, else nothing.

        Raises:
          ResponseError: fewer bytes than the head declared, or a trailer that is none: close the connection, so that
            the peer sees it too.
        """
        plan = self._sent_plan()
        if plan.framing is Framing.SIZED and self._to_send:
            raise ResponseError(f"the body ended {self._to_send} bytes before its Content-Length of {plan.length}")
        is_last = plan.framing is Framing.CHUNKED and not self._response_complete
        last = render_last_chunk(trailers) if is_last else b""
        self._response_complete = True
        return last

    def _count(self, count: int) -> None:
        plan = self._sent_plan()
        if plan.framing is Framing.SIZED:
            if count > self._to_send:
                raise ResponseError(f"the body is longer than its Content-Length of {plan.length}")
            self._to_send -= count

    def _sent_plan(self) -> BodyPlan:
        if self._plan is None:
            raise RuntimeError("send_head comes first")
        return self._plan

    @property
    def closes(self) -> bool:
        """Must the connection be closed behind this response? Settled by `send_head`, and said in it."""
        return self._closes

    @property
    def reusable(self) -> bool:
        """May another request follow on this connection? Both sides are complete and neither wants to close."""
        return self._response_complete and self.body_complete and not self._broken and not self._closes

    def __repr__(self) -> str:
        request = "complete" if self.body_complete else "broken" if self._broken else "body to come"
        response = "complete" if self._response_complete else "begun" if self._plan else "not begun"
        return f"<Exchange {self._head.method} {self._head.path!r} request={request} response={response}>"


def _next_event(reader: h11.Connection) -> object:
    """h11's next event, its refusals translated."""
    try:
        return reader.next_event()
    except h11.RemoteProtocolError as error:
        refusal = _REFUSALS.get(error.error_status_hint, BadRequest)
        raise refusal("The request is malformed or incomplete.") from error


def _request_head(event: h11.Request) -> RequestHead:
    """h11's reading of a head that policy has passed."""
    headers = Headers([(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers.raw_items()])
    version = "1.0" if event.http_version == b"1.0" else "1.1"
    return head_of(event.method.decode("ascii"), event.target.decode("ascii"), version, headers)
