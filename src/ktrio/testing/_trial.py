"""One handler under trial: a fresh one behind the real server, with every call and every body under observation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar, cast, final

import trio

from ktrio.http.headers import Headers, HeaderSource
from ktrio.http.messages import (
    Body,
    BodyWriter,
    FileRange,
    FileRanges,
    Handler,
    Request,
    RequestBody,
    Response,
    SendBytes,
)
from ktrio.http.policy import Limits
from ktrio.net.errors import is_gone, leaves_of
from ktrio.protocols._handler_errors import http_error_of
from ktrio.protocols._response_writer import _is_writer
from ktrio.testing._clock import LEAST_STEP, settle
from ktrio.testing._probe import Probe
from ktrio.testing._responses import MemoryResponse
from ktrio.testing._server import MemoryServer, serve_in_memory
from ktrio.testing._streams import MemoryStream

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request that a handler is to be checked with; see `check_handler`."""

    method: str = "GET"
    """The method, in capitals."""
    target: str = "/"
    """The request target."""
    headers: HeaderSource = ()
    """Header fields; ``Host`` and the framing of the body are added."""
    body: bytes = b""
    """The content, at most 32 KiB."""

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What all trials of a handler have in common."""

    make: Callable[[], Handler]
    limits: Limits
    patience: float
    grace: float

    @asynccontextmanager
    async def begin(self, on_wait: Callable[[int], object] = lambda number: None) -> AsyncGenerator[Trial]:
        """A fresh handler behind a server; `on_wait` is called at each wait of it or of its bodies, counted from 1."""
        trial = Trial(self.make(), on_wait, self.patience)
        async with serve_in_memory(trial.handle, limits=self.limits) as memory:
            trial.memory = memory
            try:
                yield trial
            finally:
                await trial.end()
        trial.check_bodies()


@final
class _Closing:
    """How often a body was closed, and what came of it."""

    def __init__(self, body: object) -> None:
        self.body: Final = body
        self.count = 0
        self.error: BaseException | None = None


@final
class Trial:
    """One fresh handler behind one server.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    memory: MemoryServer  # I, by `Trials.begin`

    def __init__(self, handler: Handler, on_wait: Callable[[int], object], patience: float) -> None:
        self._handler: Final = handler  # I
        self._on_wait: Final = on_wait  # I
        self.patience: Final = patience  # I
        self.probes: list[Probe] = []  # S: calls of the handler and of its bodies
        self.waits = 0  # S: of all of them
        self._bodies: list[_Closing] = []  # S
        self._complaint = ""  # S: what a handler must not do, and no probe sees

    async def handle(self, request: Request) -> Response:
        """The handler, watched."""
        asked = WatchedRequestBody(self, request.body)

        async def call() -> Response:
            return await self._handler(replace(request, body=asked))

        response = await self.run(call(), fallback=Response(500))
        if not isinstance(cast("object", response), Response):
            self.complain(f"the handler returned {response!r:.80}, not a Response")
            return Response(500)
        asked.is_over = isinstance(
            response.body, bytes | FileRange | FileRanges
        )  # the others may read while they are sent
        return Response(response.status, response.headers, self._watch(response.body), response.trailers)

    def complain(self, what: str) -> None:
        """Note what a handler must not do and no probe sees."""
        self._complaint = self._complaint or what

    async def run(self, awaitable: Awaitable[T], *, fallback: T) -> T:
        """Await other people's code, watched."""
        probe = Probe(self._waited)
        self.probes.append(probe)
        return await probe.run(awaitable, fallback=fallback)

    def _waited(self) -> None:
        self.waits += 1
        self._on_wait(self.waits)

    def _watch(self, body: Body) -> Body:
        if isinstance(body, bytes):
            return body
        if isinstance(body, FileRange | FileRanges):
            closing = self._closing(body)

            def close() -> None:
                closing.count += 1
                try:
                    body.close()
                except BaseException as error:
                    closing.error = error
                    raise

            return replace(body, close=close)
        if _is_writer(body):
            return self._watch_writer(body)
        iterable = cast("AsyncIterable[bytes]", body)
        return WatchedIterable(self, iterable, self._closing(iterable))

    def _watch_writer(self, writer: BodyWriter) -> BodyWriter:
        async def write(send: SendBytes) -> None:
            async def call() -> None:
                await writer(send)

            await self.run(call(), fallback=None)

        return write

    def _closing(self, body: object) -> _Closing:
        if any(each.body is body for each in self._bodies):
            self.complain(f"the handler gave the same body twice, and each time it is closed: {body!r:.80}")
        self._bodies.append(_Closing(body))
        return self._bodies[-1]

    async def wait_for(self, is_done: Callable[[], bool]) -> bool:
        """Let time pass, as far as the patience goes, until `is_done`; False: it never was."""
        until = trio.current_time() + self.patience
        while True:
            await settle()
            if is_done():
                return True
            if not self._jump(until):
                return False

    async def read_to_end(self, stream: MemoryStream, *, or_until: Callable[[], bool] = lambda: False) -> bytes | None:
        """What comes, while time passes, until the server ends it, or `or_until`; None: no end within the patience."""
        until = trio.current_time() + self.patience
        received = b""
        while True:
            try:
                received += await stream.receive_until_blocked()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return received
            if stream.ended or or_until():
                return received
            if not self._jump(until):
                return None

    def _jump(self, until: float) -> bool:
        """Go on to the next deadline; False: there is none until then."""
        step = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if trio.current_time() + step > until:
            return False
        self.memory.clock.jump(max(step, LEAST_STEP))
        return True

    async def ask(self, sample: SampleRequest, *, method: str | None = None) -> MemoryResponse:
        """The valid response to a request, whatever time it takes; AssertionError: there is none."""
        [response] = await self.ask_all([sample], method=method)
        return response

    async def ask_all(self, samples: list[SampleRequest], *, method: str | None = None) -> list[MemoryResponse]:
        """The same for several requests at once, on a connection each."""
        answers: dict[int, MemoryResponse | AssertionError] = {}

        async def go(number: int, sample: SampleRequest) -> None:
            try:
                answers[number] = await self.memory.request(
                    method or sample.method, sample.target, headers=sample.headers, body=sample.body
                )
            except AssertionError as error:
                answers[number] = error

        async with trio.open_nursery() as nursery:
            for number, sample in enumerate(samples):
                nursery.start_soon(go, number, sample)
            is_over = await self.wait_for(lambda: len(answers) == len(samples))
            nursery.cancel_scope.cancel(reason="no longer waited for")
        for probe in self.probes:
            self.check_outcome(probe, samples[0])
        assert is_over, f"{samples[0]} was not answered within {self.patience:g} s"
        for sample, (_, answer) in zip(samples, sorted(answers.items()), strict=True):
            if isinstance(answer, AssertionError):
                raise AssertionError(f"{method or sample.method} {sample.target} has no valid response: {answer}")
        return [answer for _, answer in sorted(answers.items()) if isinstance(answer, MemoryResponse)]

    def check_outcome(self, probe: Probe, sample: object) -> None:
        """AssertionError if this raised what a handler or a body must not raise."""
        error = probe.error
        assert not self._complaint, f"{sample}: {self._complaint}"
        assert not probe.is_circling, f"{sample}: the handler goes round in circles, {probe.waits} waits so far"
        if probe.outcome != "raised" or not isinstance(error, Exception):
            return
        if http_error_of(error) is None and not any(is_gone(leaf) for leaf in leaves_of(error)):
            raise AssertionError(f"{sample}: the handler, or the body of its response, raised {error!r}") from error

    async def end(self) -> None:
        """End the server; what would not end is thrown out."""
        self.memory.cancel()
        await settle()
        for probe in self.probes:
            probe.kick()

    def check_bodies(self) -> None:
        """AssertionError if a body was not closed exactly once, or a request's was read too late."""
        assert not self._complaint, self._complaint
        for each in self._bodies:
            assert each.error is None, f"closing the body {each.body!r:.80} raised {each.error!r}"
            assert each.count == 1, f"the body {each.body!r:.80} was closed {each.count} times"


@final
class WatchedRequestBody:
    """A request's body, watched."""

    def __init__(self, trial: Trial, body: RequestBody) -> None:
        self._trial = trial
        self._body = body
        self.is_over = False  # the handler has returned, and so has its response no more to ask for

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._note()
        return aiter(self._body)

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """See `RequestBody.read`."""
        self._note()
        return await self._body.read(max_bytes=max_bytes)

    def _note(self) -> None:
        if self.is_over:
            self._trial.complain("the handler reads the body of a request that it has answered")


@final
class WatchedIterable:
    """A handler's iterable body, watched."""

    def __init__(self, trial: Trial, body: AsyncIterable[bytes], closing: _Closing) -> None:
        self._trial = trial
        self._body = body
        self._closing = closing
        self._iterator: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._iterator = aiter(self._body)
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        iterator = self._iterator
        assert iterator is not None

        async def call() -> bytes | None:
            return await anext(iterator, None)

        piece = await self._trial.run(call(), fallback=None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Close it."""
        self._closing.count += 1
        try:
            if self._iterator is not None and self._iterator is not self._body:
                await _aclose(self._iterator)
            await _aclose(self._body)
        except Exception as error:
            self._closing.error = error
            raise


async def _aclose(resource: object) -> None:
    aclose = cast("Callable[[], Awaitable[object]] | None", getattr(resource, "aclose", None))
    if aclose is not None:
        await aclose()


def fields_but(headers: Headers, left_out: frozenset[str]) -> list[tuple[str, str]]:
    """Header fields to compare, in order of name."""
    return sorted((name, value) for name, value in headers if name not in left_out)
