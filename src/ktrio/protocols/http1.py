"""HTTP/1.1 on one connection (RFC 9112): heads in, a handler called, responses out, in order.

One request is answered at a time; what a client pipelines behind it stays in the buffer, and beyond that in the kernel.
The loop `converse` can be entered again after a rescue, so its state is in attributes. The connection's states here:

===============  ======================================================================================================
NEW, IDLE, HEAD  a head is waited for: `ktrio.protocols._head_reader`
HANDLING         the handler works on a complete head; no deadline of ours, but the peer is watched
BODY             the handler waits for the body: `Phase.BODY`
WRITING          a response goes out: `Phase.WRITE` while the peer does not take it
LINGERING        the last response is out, and unread input may be left
===============  ======================================================================================================
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import final

import trio

from ktrio.http.details import Tell
from ktrio.http.errors import HttpError, InternalError, ResponseError
from ktrio.http.h1 import Exchange
from ktrio.http.headers import Headers
from ktrio.http.messages import Handler, Request, Response
from ktrio.http.policy import Limits, is_worth_draining, wants_head_only
from ktrio.http.request_head import RequestHead
from ktrio.http.responses import error_response, render_error
from ktrio.net.connection import Connection, State
from ktrio.net.errors import ConnectionGone, is_gone, leaves_of, split_leaves
from ktrio.protocols._handler_errors import http_error_of
from ktrio.protocols._head_reader import HeadReader
from ktrio.protocols._last_words import is_the_clients, last_words
from ktrio.protocols._request_body import NO_BODY, IncomingBody, NoBody
from ktrio.protocols._response_writer import BrokenPieceError, ResponseWriter, close_body, is_there
from ktrio.protocols._telling import details_of, is_a_mere_look, tell_safely
from ktrio.protocols._user_code import call_handler, user_code

log = logging.getLogger("ktrio.http")


@final
class Http1:
    """HTTP/1.1 for one connection.

    Args:
      handler: answers each request.
      limits: what is taken from the peer.
      read_head: reads one whole head, within the same limits: `ktrio.http.head.HeadMemo.read`.
      tell: called once for each request, when it is over.
      make_id: names a request that somebody wants to name: `ktrio.protocols._request_ids.RequestIds`.
      date: the present ``Date``, rendered (RFC 9110 section 6.6.1).
      server: the ``Server`` field; empty: none.

    Legend: I set once · T only by the connection's task.
    """

    __slots__ = (
        "_connection",
        "_date",
        "_exchange",
        "_failed",
        "_handler",
        "_head",
        "_heads",
        "_is_told",
        "_limits",
        "_make_id",
        "_read_head",
        "_request",
        "_requests",
        "_server",
        "_tell",
        "_writer",
    )

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        *,
        limits: Limits,
        read_head: Callable[[bytes], tuple[Exchange, RequestHead]],
        tell: Tell | None,
        make_id: Callable[[Request], str],
        date: Callable[[], str],
        server: str,
    ) -> None:
        self._connection = connection  # I
        self._handler = handler  # I
        self._limits = limits  # I
        self._read_head = read_head  # I
        self._tell = tell  # I
        self._make_id = make_id  # I
        self._date = date  # I
        self._server = server  # I
        self._requests = 0  # T: heads read
        self._heads = HeadReader(connection, limits)  # I; its content T
        # T: the request in progress, None between requests.
        self._exchange: Exchange | None = None
        self._head: RequestHead | None = None
        self._writer: ResponseWriter | None = None
        self._request: Request | None = None
        self._failed = False  # T: has an unexpected error been told of?
        self._is_told = False  # T: was the end of the connection told, by its last words?

    # -- the loop

    async def converse(self) -> None:
        """Answer requests until the connection is done."""
        while True:
            head_only = False
            try:
                head = await self._heads.next_head()
                if head is None:
                    self._tell_end()
                    return
                head_only = wants_head_only(head)
                self._read(head)
            except HttpError as error:
                await self._reject(error, head_only=head_only or self._heads.wants_head_only)
                return
            except ConnectionGone:
                self._connection.end("peer-reset")
                self._tell_end()
                raise
            if not await self._answer():
                return
            if self._heads.has_begun:  # pipelined: others have their turn first, of the loop and of the slot
                self._connection.deadlines.settle()
                async with self._connection.waiting():
                    await trio.lowlevel.checkpoint()

    def rescue(self) -> bool:
        """The scope has ended: have the bytes that it waited for come in that very turn? See `HeadReader.rescue`."""
        return self._heads.rescue()

    # -- one request

    def _read(self, head: bytes) -> None:
        """Begin an exchange: from here on an answer is owed."""
        self._exchange, self._head = self._read_head(head)
        self._requests += 1
        self._failed = False
        self._writer = ResponseWriter(self._connection, self._exchange, self._head.method)
        self._connection.owe_answer()
        self._connection.become(State.HANDLING)

    async def _answer(self) -> bool:
        """Call the handler and send its response; may another request follow?"""
        connection, exchange, head, writer = self._connection, self._exchange, self._head, self._writer
        assert exchange is not None
        assert head is not None
        assert writer is not None
        body = NO_BODY if exchange.body_complete else self._take_body(exchange, head)
        try:
            response = await self._call_handler(head, body)
            try:
                is_sent = await self._send(response, exchange, writer)
            finally:
                await self._close_body(response)
        except ConnectionGone:
            connection.end("client-gone")
            self._finish()
            raise
        finally:
            connection.unwatch_peer()
            is_body_in_use = body.finish()
        self._finish()
        if not is_sent:
            return False
        connection.answered += 1
        if not self._failed:
            self._tell_outcome(None)
        if is_body_in_use:  # by a task that the handler has left behind: nobody else can read from this connection
            connection.end("answered")
            return False
        is_read = exchange.body_complete or (not exchange.closes and await self._drop_body(body))
        self._heads.give_back(body.take_leftover())
        if exchange.closes or not is_read or connection.draining.is_set():
            connection.end(self._reason_to_close())
            await self._linger_if_needed(may_be_unread=not is_read)
            return False
        return True

    async def _close_body(self, response: Response) -> None:
        if not is_there(response.body):  # an iterable may take its time to close
            self._connection.deadlines.settle()
        await close_body(response)

    def _take_body(self, exchange: Exchange, head: RequestHead) -> IncomingBody:
        rest = self._heads.take_rest()
        return IncomingBody(self._connection, exchange, self._limits, rest, is_chunked=head.body_length is None)

    async def _call_handler(self, head: RequestHead, body: IncomingBody | NoBody) -> Response:
        """The handler's response, or the one that its error calls for. Barrier: a handler's error costs its request."""
        connection = self._connection
        self._request = request = Request(
            method=head.method,
            target=head.target,
            path=head.path,
            query=head.query,
            version=head.version,
            headers=Headers(head.headers),  # the head may be shared, and a handler may do with these what it likes
            peer=connection.peer,
            draining=connection.draining,
            body=body,
            make_id=self._make_id,
        )
        try:
            response = await user_code(call_handler(self._handler, request), connection.watch_peer)
            if isinstance(response, Response):
                return response
            raise TypeError(f"the handler returned {response!r}, not a Response")
        except Exception as error:
            gone, other = split_leaves(error, is_gone)
            expected = http_error_of(other) if other is not None else None
            if other is not None and expected is None:
                log.error("the handler of %s raised", self._name(head), exc_info=other)
                self._tell_outcome(other)
            if gone is not None:  # nobody is there to be answered
                raise next(iter(leaves_of(gone))) from error
            return error_response(expected or InternalError("The server met an unexpected error."))

    async def _send(self, response: Response, exchange: Exchange, writer: ResponseWriter) -> bool:
        """Send the response; False: it broke off (an answer is still owed), or an error was sent in its place."""
        connection, head = self._connection, self._head
        assert head is not None
        try:
            await writer.send(
                response, common=self._common_headers(), must_close=partial(self._must_close, exchange, head)
            )
        except Exception as error:
            gone, other = split_leaves(error, is_gone)
            if gone is not None:
                if other is not None:
                    self._report_broken(other, head)
                raise next(iter(leaves_of(gone))) from error
            await self._break_off(error, exchange, head, writer)
            return False
        await connection.flush()
        connection.owes_answer = False
        return True

    async def _break_off(self, error: Exception, exchange: Exchange, head: RequestHead, writer: ResponseWriter) -> None:
        """A response came to nothing: say so if nothing of it was sent; else the connection's end must show it."""
        expected = http_error_of(error)  # the request's fault, found by a body that reads the request's
        self._connection.end("error" if expected is None else "bad-request")
        if not writer.status and not writer.is_in_use:
            if expected is None:
                self._connection.had_error = True
                self._tell_outcome(error)
                log.error("the response to %s cannot be sent", self._name(head), exc_info=error)
            await self._say_error(
                expected or InternalError("The server met an unexpected error."),
                head_only=head.method == "HEAD",
                may_be_unread=not exchange.body_complete,
            )
        elif expected is None:
            self._report_broken(error, head)

    def _report_broken(self, error: BaseException, head: RequestHead) -> None:
        trace = None if isinstance(error, ResponseError) else error  # that one says it all in a line
        log.error("the response to %s broke off: %s", self._name(head), error, exc_info=trace)
        if not isinstance(error, BrokenPieceError):  # that one is the doing of a slow client
            self._connection.had_error = True  # beside another reason, perhaps
            self._tell_outcome(error)

    def _name(self, head: RequestHead) -> str:
        """The request in progress, as the log of errors calls it."""
        return f"{head.method} {head.target} (request {self._request.id if self._request is not None else '-'})"

    def _must_close(self, exchange: Exchange, head: RequestHead) -> bool:
        """Is this the connection's last response?"""
        return (
            self._connection.draining.is_set()
            or self._requests >= self._limits.requests_per_connection
            or exchange.awaits_continue
            or exchange.is_broken
            or not (exchange.body_complete or self._is_worth_draining(head))
        )

    def _is_worth_draining(self, head: RequestHead) -> bool:
        """Is a body that nobody has read small enough to keep the connection for?"""
        return self._limits.drain_bytes > 0 and is_worth_draining(head.body_length, self._limits)

    def _common_headers(self) -> tuple[tuple[str, str], ...]:
        date = ("date", self._date())
        return (date, ("server", self._server)) if self._server else (date,)

    async def _drop_body(self, body: IncomingBody | NoBody) -> bool:
        """Read what is left of a body that the handler did not want, so that the next request can be read."""
        try:
            return await body.drop()
        except HttpError:
            return False  # the answer is out; the framing behind it is lost

    def _finish(self) -> None:
        """The request in progress is over: tell it."""
        exchange, head, writer, request = self._exchange, self._head, self._writer, self._request
        self._exchange = self._head = self._writer = self._request = None
        if self._tell is None or exchange is None or head is None or writer is None:
            return
        close_reason = self._reason_to_close() if exchange.closes else ""
        self._tell_request(head, request, writer.status, writer.body_bytes, writer.began, close_reason)

    def _tell_request(
        self,
        head: RequestHead | None,
        request: Request | None,
        status: int,
        body_bytes: int,
        response_began: float | None = None,
        close_reason: str = "",
    ) -> None:
        if self._tell is not None:
            told = details_of(self._connection, head, request, self._heads.began, response_began, status, body_bytes)
            told.close_reason = told.reason or close_reason
            tell_safely(self._tell, told)

    def _tell_end(self) -> None:
        """The connection ends, and no whole request is in: tell it if it was bringing one, or never has."""
        if self._tell is None or self._is_told:
            return
        if self._heads.has_begun or (not self._requests and not is_a_mere_look(self._connection)):
            self._tell_request(None, None, 0, 0)

    def _tell_outcome(self, error: BaseException | None) -> None:
        """Tell the server of an unexpected error, or that an answer was completed without one."""
        self._failed = error is not None
        if self._connection.on_outcome is not None:
            self._connection.on_outcome(error)

    # -- the end

    def _reason_to_close(self) -> str:
        """Why the connection ends behind a complete answer."""
        if self._connection.draining.is_set():
            return "draining"
        return "max-requests" if self._requests >= self._limits.requests_per_connection else "answered"

    async def _linger_if_needed(self, *, may_be_unread: bool) -> None:
        """Linger where input that nobody will read may be left or still come: its reset would destroy the answer."""
        try:
            if may_be_unread or self._heads.has_begun or self._connection.receive_nowait():
                await self._connection.linger()
        except ConnectionGone:
            return  # the peer has closed first, after its answer

    async def _reject(self, error: HttpError, *, head_only: bool) -> None:
        """A head that cannot be read: say why, and close, because nobody knows where the next one begins."""
        self._connection.end("bad-request")
        await self._say_error(error, head_only=head_only, may_be_unread=True)

    async def _say_error(self, error: HttpError, *, head_only: bool, may_be_unread: bool) -> None:
        """Send an error as the connection's last response, and tell it."""
        connection = self._connection
        connection.become(State.WRITING)
        message = render_error(error, date=self._date(), head_only=head_only, server=self._server or None)
        status = 0
        try:
            await connection.send_all(message)
            await connection.flush()
            status = error.status
            connection.owes_answer = False
        finally:
            body_bytes = len(message.partition(b"\r\n\r\n")[2]) if status else 0
            self._is_told = True
            self._tell_request(self._head, self._request, status, body_bytes)
            self._exchange = self._head = self._writer = self._request = None
        await self._linger_if_needed(may_be_unread=may_be_unread)

    async def farewell(self) -> None:
        """Last words, if a request was begun and nothing sent: 408 after its deadline, 503 at a shutdown, 500."""
        await trio.lowlevel.checkpoint()
        error = self._last_words()
        head_only = self._head is not None and self._head.method == "HEAD"
        if error is None and self._head is None:
            self._tell_end()
        elif error is None or (self._writer is not None and self._writer.status):
            self._finish()
        else:
            with contextlib.suppress(ConnectionGone):  # then nobody is there to hear them
                await self._say_error(
                    error,
                    head_only=head_only or self._heads.wants_head_only,
                    may_be_unread=self._exchange is None or not self._exchange.body_complete,
                )

    def _last_words(self) -> HttpError | None:
        """What the reason for the end calls for, if anything can be said."""
        reason = self._connection.reason
        if self._head is None and not is_the_clients(reason) and not self._heads.take_unread():
            return None
        return last_words(reason, has_begun=self._head is not None or self._heads.has_begun)
