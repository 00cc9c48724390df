"""Programs that are nothing but a server: signals, the story they tell, the exit status.

`ktrio.serve` is for any Trio program; what is here owns its process, so it may install signal handlers, raise the limit
on open files, and leave by `os._exit`.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast, final

import trio

from ktrio.config import STDERR, STDOUT, CommandSettings
from ktrio.handlers.files import RootError, RulesError, folder
from ktrio.handlers.mounts import mount
from ktrio.handlers.site import site
from ktrio.http.details import Tell
from ktrio.http.messages import Handler
from ktrio.instrumentation.access_log import AccessLog, open_access_log
from ktrio.instrumentation.chrome_trace import ChromeTrace, chrome_trace
from ktrio.instrumentation.error_log import ErrorLog, PrintableFormatter
from ktrio.instrumentation.log_sinks import LogError
from ktrio.instrumentation.monitor import DEFAULT_INTERVAL, LEAST_INTERVAL, MOST_INTERVAL, PROTOCOL
from ktrio.net.addresses import describe, url_of
from ktrio.net.errors import AddressError, ListenError
from ktrio.serve import serve_echo, serve_http, serve_monitor
from ktrio.server.connections import ConnectionStatistics
from ktrio.server.errors import BrokenServerError
from ktrio.server.lifecycle import Server, ServerStatistics
from ktrio.server.signals import forwarding, status_of

__all__ = [
    "DEFAULT_INTERVAL",
    "LEAST_INTERVAL",
    "MOST_INTERVAL",
    "PROTOCOL",
    "STARTUP_ERRORS",
    "BrokenServerError",
    "ConnectionStatistics",
    "Narrator",
    "PrintableFormatter",
    "Server",
    "ServerStatistics",
    "TraceError",
    "describe",
    "exit_status",
    "raise_open_file_limit",
    "run_echo_command",
    "run_http_command",
    "url_of",
]


class TraceError(Exception):
    """The caller's fault: the file for a trace cannot be written."""


STARTUP_ERRORS: Final = (AddressError, ListenError, LogError, RootError, RulesError, TraceError)
"""What can be wrong with what a server was asked for; each says it in one line."""

log = logging.getLogger("ktrio.commands")

# Seconds from the cancellation of what did not finish to `os._exit`, for a handler that shields itself.
LAST_RESORT_AFTER: Final = 2.0
# Seconds for what is still to be written to the access log then.
LAST_LINES_WITHIN: Final = 0.5


class Narrator(Protocol):
    """What a command says while it serves; plain functions that do not block. What they raise is logged."""

    def started(self, server: Server) -> None:
        """It accepts connections."""
        ...

    def draining(self, server: Server) -> None:
        """Nobody new is accepted, and everybody was told."""
        ...

    def waiting(self, server: Server) -> None:
        """It still drains; called once a second."""
        ...

    def asked(self, server: Server) -> None:
        """SIGQUIT: somebody wants to know who is connected. At any time between `started` and `ended`."""
        ...

    def ended(self, server: Server, seconds: float) -> None:
        """It is over, `seconds` after the first signal."""
        ...


def exit_status(cut: int, forced_by: int | None) -> int:
    """The status of a command told to stop: 128 + n if a second signal forced it, 4 if an answer was cut, or 0."""
    if forced_by is not None:
        return status_of(forced_by)
    return 4 if cut else 0


def raise_open_file_limit() -> tuple[int, int]:
    """Raise the limit on open files to the hard one; the limit before and after."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS calls its hard limit infinite and refuses it
        return soft, soft
    return soft, hard


def handler_of(settings: CommandSettings) -> Handler:
    """What answers: one folder, or several below paths of their own, within what holds for the whole site.

    Raises:
      RootError, RulesError: a folder cannot be served, or the rules cannot be read, in one line.
    """
    handlers = {path: folder(where, settings.files) for path, where in settings.folders}
    only = handlers.get("/") if len(handlers) == 1 else None
    return site(mount(handlers) if only is None else only, settings.site)


def run_http_command(settings: CommandSettings, narrator: Narrator) -> int:
    """Run ``ktrio serve``: the folders of `settings`, until signalled; the exit status.

    Raises:
      RootError, RulesError, ListenError, AddressError, LogError: it cannot be served, in one line.
      BrokenServerError: it has shut down because of too many unexpected errors, in one line as well.
    """
    handler = handler_of(settings)

    async def serve(*, tell: Tell | None, task_status: trio.TaskStatus[Server]) -> None:
        await serve_http(
            handler,
            *settings.addresses,
            options=settings.server,
            timeouts=settings.timeouts,
            limits=settings.limits,
            queue=settings.queue,
            tell=tell,
            allowed_hosts=settings.allowed_hosts,
            trust_request_id=settings.trust_request_id,
            task_status=task_status,
        )

    return trio.run(_run_until_signalled, serve, narrator, settings)


def run_echo_command(settings: CommandSettings, narrator: Narrator) -> int:
    """Run ``ktrio echo`` until signalled; the exit status. Raises as `run_http_command`."""

    async def serve(*, tell: Tell | None, task_status: trio.TaskStatus[Server]) -> None:
        await serve_echo(
            *settings.addresses,
            options=settings.server,
            timeouts=settings.timeouts,
            queue=settings.queue,
            task_status=task_status,
        )

    return trio.run(_run_until_signalled, serve, narrator, settings)


class _Serve(Protocol):
    def __call__(self, *, tell: Tell | None, task_status: trio.TaskStatus[Server]) -> Awaitable[None]: ...


@asynccontextmanager
async def _access_log_of(settings: CommandSettings) -> AsyncGenerator[AccessLog | None]:
    """The access log that was asked for, if any."""
    where = settings.access_log
    if where is None:
        yield None
        return
    descriptors = {STDOUT: 1, STDERR: 2}
    log_format = settings.log_format or ("short" if where == STDERR else "combined")
    async with open_access_log(descriptors.get(where, where), log_format=log_format) as access_log:
        yield access_log


@contextmanager
def _error_log_of(settings: CommandSettings) -> Generator[ErrorLog | None]:
    """Have errors written to the file that was asked for, if any, and not to standard error."""
    if settings.error_log is None:
        yield None
        return
    root = logging.getLogger()
    error_log, before = ErrorLog(settings.error_log), root.handlers[:]
    root.handlers[:] = [error_log]
    try:
        yield error_log
    finally:
        root.handlers[:] = before
        error_log.close()


@final
@dataclass(slots=True)
class _Signalled:
    """A server and what signals have asked of it; changed only in one synchronous stretch (S)."""

    server: Server | None = None  # None: it has not started
    first_at: float = 0.0
    access_log: AccessLog | None = None
    early: int | None = None  # a signal that came before the server had started
    forced_by: int | None = None  # the second signal, if anything was left for it to force


async def _run_until_signalled(serve: _Serve, narrator: Narrator, settings: CommandSettings) -> int:
    """Serve until told to stop by signals, and tell the story; the exit status."""
    state = _Signalled()

    def on_signal(signum: int, count: int) -> None:
        server = state.server
        if server is None:
            state.early = signum
            nursery.cancel_scope.cancel(reason="signalled before the start")
        elif count == 1:
            state.first_at = trio.current_time()
            server.begin_shutdown()
        else:
            if server.statistics().busy:
                state.forced_by = signum
            server.force_shutdown("second-signal")

    def on_quit() -> None:
        if state.server is not None:
            _tell(narrator.asked, state.server)

    def on_reopen() -> None:
        if error_log is not None:
            error_log.reopen()
        if state.access_log is not None:
            state.access_log.reopen()

    with (
        _error_log_of(settings) as error_log,
        _tracing(settings.trace) as trace,
        forwarding(on_signal, on_quit, on_reopen),
        _single_error_unwrapped(),
    ):
        async with _access_log_of(settings) as state.access_log, trio.open_nursery() as nursery:
            await nursery.start(_serve_then_cancel, serve, nursery.cancel_scope, state)
            if settings.monitor is not None and state.server is not None:  # it ends after the connections
                await nursery.start(serve_monitor, state.server.supervisor, settings.monitor)
            if trace is not None and state.server is not None:
                state.server.supervisor.add_instrument(trace)
            gc.freeze()  # what is there now stays: the collector need not look at it again under load
            if state.server is not None:
                _tell(narrator.started, state.server)
                nursery.start_soon(_narrate_drain, state.server, narrator)
                nursery.start_soon(_leave_as_last_resort, state.server, narrator, state)
    return _conclude(state, narrator)


@contextmanager
def _tracing(path: str | None) -> Generator[ChromeTrace | None]:
    """The trace that was asked for, if any; TraceError if its file cannot be written."""
    with ExitStack() as opened:
        try:
            trace = opened.enter_context(chrome_trace(path)) if path is not None else None
        except OSError as error:
            raise TraceError(f"cannot write the trace {path}: {error.strerror}") from error
        yield trace


def _tell(say: Callable[[Server], None], server: Server) -> None:
    """Barrier: a story that cannot be told ends no server."""
    try:
        say(server)
    except Exception:
        log.exception("the narrator raised")


def _conclude(state: _Signalled, narrator: Narrator) -> int:
    """The closing line and the exit status of a command whose server has ended."""
    server = state.server
    if server is None:
        return status_of(state.early or 0)
    if not state.first_at:  # nobody has told it to stop: it ended by itself
        return 1
    seconds = trio.current_time() - state.first_at
    _tell(lambda over: narrator.ended(over, seconds), server)
    return exit_status(server.statistics().cut, state.forced_by)


@contextmanager
def _single_error_unwrapped() -> Generator[None]:
    """What a nursery of ours raises in a group of one, the address that cannot be bound say, is raised by itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


async def _serve_then_cancel(
    serve: _Serve, scope: trio.CancelScope, state: _Signalled, *, task_status: trio.TaskStatus[Server]
) -> None:
    class Started:
        """Notes the server in the very step in which it starts: a signal may come before anybody else learns of it."""

        def started(self, value: Server) -> None:
            state.server = value
            task_status.started(value)

    await serve(tell=state.access_log, task_status=cast("trio.TaskStatus[Server]", Started()))
    scope.cancel(reason="the server has ended")


async def _narrate_drain(server: Server, narrator: Narrator) -> None:
    await server.draining.wait()
    _tell(narrator.draining, server)
    while True:
        await trio.sleep(1)
        _tell(narrator.waiting, server)


async def _leave_as_last_resort(server: Server, narrator: Narrator, state: _Signalled) -> None:
    """A handler that shields itself can hold everything up but this."""
    await server.cutting.wait()
    await trio.sleep(LAST_RESORT_AFTER)
    if state.access_log is not None:
        with trio.move_on_after(LAST_LINES_WITHIN):
            await state.access_log.flush()
    os._exit(_conclude(state, narrator))
