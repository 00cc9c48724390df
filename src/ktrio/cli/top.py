"""``ktrio top``: what a running program's workqueues are doing, live in the terminal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol, final

import click
import trio

from ktrio.cli._options import version_option
from ktrio.cli._snapshots import EndedError, Record, Snapshots, connect
from ktrio.cli._table import printable
from ktrio.cli._top_table import page
from ktrio.cli._values import Seconds
from ktrio.commands import DEFAULT_INTERVAL, LEAST_INTERVAL, MOST_INTERVAL

_ANY_WIDTH: Final = 1 << 16  # columns, where nobody says how many there are
_REDRAW_EVERY: Final = 1.0  # seconds, while nothing comes

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH)

_interval = Seconds(least=LEAST_INTERVAL, most=MOST_INTERVAL)


@click.command()
@version_option
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Print snapshots as JSON, one a line.")
@click.option("--once", is_flag=True, help="Print one table, as plain text, and exit.")
@click.option("--interval", "-i", type=_interval, default=DEFAULT_INTERVAL, metavar="S", show_default=True,
              help="Seconds from one look to the next.")  # fmt: skip
def top(path: str, interval: float, once: bool, as_json: bool) -> int:
    """Watch the workqueues of a running program.

    PATH is the unix socket that its --monitor was given. In a terminal the tables are drawn again every second; q or
    Ctrl-C leaves. Elsewhere they are printed one after another. A column that there is no room for is left out.

    \b
    total    items begun            active/max  slots taken, of all
    /s       of them, per second    CPUtime     seconds they kept the loop
    infl     begun, not ended       CPU%        of them, per second
    park     of them, parked        CPUhog      runs that kept it too long
    pend     not yet begun          CMW/RPR     sleeps that let another begin
    inact    of them, without       mayday      calls for the rescuer
             a slot                 rescued     items that it has run
    delay    on a timer             -           not counted here
    """
    if once:
        return trio.run(_look_once, path, _json_text if as_json else _table_text)
    if as_json:
        return trio.run(_watch, path, interval, _printing(_json_text))
    from ktrio.cli import _top_screen  # it imports rich, and nothing else is to have that in memory

    if _top_screen.is_screen():
        return trio.run(_watch, path, interval, _top_screen.screen(interval))
    return trio.run(_watch, path, interval, _printing(_next_table_text))


class View(Protocol):
    """Where snapshots are shown."""

    def show(self, now: Record) -> bool:
        """Show a snapshot; False if nobody sees it any more."""
        ...

    def redraw(self) -> None:
        """The terminal has another size, or nothing has come for a second."""
        ...

    def pause(self) -> None:
        """Stop the process until it is continued, as SIGTSTP asks."""
        ...

    async def wait_for_leave(self) -> None:
        """Wait until somebody has seen enough."""
        ...


# -- printed


def _json_text(now: Record, _before: Record | None) -> str:
    return json.dumps(now) + "\n"


def _table_text(now: Record, before: Record | None) -> str:
    width = shutil.get_terminal_size((_ANY_WIDTH, 0)).columns
    return "".join(f"{line.text.rstrip()}\n" for line in page(now, before, width=width))


def _next_table_text(now: Record, before: Record | None) -> str:
    return ("" if before is None else "\n") + _table_text(now, before)


@final
class _Printed:
    """Snapshots printed one after another. A `View`.

    Legend: I set once · T only by the task that reads.
    """

    def __init__(self, text_of: Callable[[Record, Record | None], str]) -> None:
        self._text_of = text_of  # I
        self._before: Record | None = None  # T

    def show(self, now: Record) -> bool:
        """Print a snapshot; False if nobody takes it any more. ClickException: it cannot be written."""
        text = self._text_of(now, self._before)
        self._before = now
        stream = sys.stdout
        if stream is None:  # closed by whoever started us
            return False
        try:
            stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
            stream.flush()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for what is still in the buffer: it is tried again at exit
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                return False
            raise click.ClickException(f"cannot write: {(error.strerror or str(error)).lower()}") from error
        return True

    def redraw(self) -> None:
        """What is printed stays."""

    def pause(self) -> None:
        """Stop the process until it is continued."""
        os.kill(os.getpid(), signal.SIGSTOP)

    async def wait_for_leave(self) -> None:
        """Nobody is asked."""
        await trio.sleep_forever()


@contextmanager
def _printing(text_of: Callable[[Record, Record | None], str]) -> Generator[_Printed]:
    yield _Printed(text_of)


async def _look_once(path: str, text_of: Callable[[Record, Record | None], str]) -> int:
    async with await connect(path) as stream:
        _Printed(text_of).show(await Snapshots(stream, path).first())
    return 0


# -- followed until somebody has enough


@final
class _Ending:
    """How it ends: what happens first decides.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope  # I
        self.status = 0  # S
        self.error: click.ClickException | None = None  # S
        self.last_word = ""  # S

    def end(self, *, status: int = 0, last_word: str = "", error: click.ClickException | None = None) -> None:
        """End with this, unless it has ended already."""
        if not self._scope.cancel_called:
            self.status, self.last_word, self.error = status, last_word, error
            self._scope.cancel(reason="ktrio top has ended")


async def _watch(path: str, interval: float, view: AbstractContextManager[View]) -> int:
    async with await connect(path) as stream:
        snapshots = Snapshots(stream, path)
        first = await snapshots.first()
        await snapshots.ask(interval)
        # Around the view: what it does to the terminal is undone before a signal can end the process.
        with trio.open_signal_receiver(*_SIGNALS) as signals, view as shown:
            async with trio.open_nursery() as nursery:
                ending = _Ending(nursery.cancel_scope)
                nursery.start_soon(_heed, signals, shown, ending)
                nursery.start_soon(_leave_when_told, shown, ending)
                nursery.start_soon(_redraw, shown)
                await _read(snapshots, first, path, shown, ending)
    if ending.error is not None:
        raise ending.error
    if ending.last_word:
        click.echo(ending.last_word, err=True)
    return ending.status


async def _read(snapshots: Snapshots, first: Record, path: str, view: View, ending: _Ending) -> None:
    try:
        now = first
        while view.show(now):
            now = await snapshots.next()
        ending.end()
    except EndedError:
        why = "its program has ended, or this one did not take what it had to say"
        ending.end(last_word=f"ktrio top: {printable(path)} was closed: {why}")
    except click.ClickException as error:
        ending.end(error=error)


async def _heed(signals: AsyncIterator[int], view: View, ending: _Ending) -> None:
    async for signum in signals:
        if signum == signal.SIGWINCH:
            view.redraw()
        elif signum == signal.SIGTSTP:
            view.pause()
        else:
            ending.end(status=0 if signum == signal.SIGINT else 128 + signum)


async def _leave_when_told(view: View, ending: _Ending) -> None:
    await view.wait_for_leave()
    ending.end()


async def _redraw(view: View) -> None:
    while True:
        await trio.sleep(_REDRAW_EVERY)
        view.redraw()
