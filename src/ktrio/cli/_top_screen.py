"""The terminal as ``ktrio top`` uses it: a screen of its own that is drawn again and again, and single keys.

The only module that imports rich. It is loaded when a screen is wanted, so no server has it in memory.
"""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, final

import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ktrio.cli._snapshots import Record
from ktrio.cli._top_table import Line, page

_STYLES: Final = {"heading": "bold reverse", "alert": "bold yellow", "note": "bold"}
_KEYS_THAT_LEAVE: Final = frozenset(b"qQ")

NO_NEWS_AFTER: Final = 1.5
"""Seconds beyond the interval after which it says that nothing has come."""


def is_screen() -> bool:
    """Is standard output a terminal that can be drawn on?"""
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


@final
class Screen:
    """The terminal while it is ours, showing the latest snapshot. A `View` of `ktrio.cli.top`.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, interval: float) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)  # I
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )  # I
        self._keyboard = _find_keyboard()  # I: its descriptor, if there is one
        self._modes = None if self._keyboard is None else termios.tcgetattr(self._keyboard)  # I: as they were
        self._interval = interval  # I
        self._now: Record | None = None  # S
        self._before: Record | None = None  # S
        self._came_at = 0.0  # S: when the latest snapshot did

    def take(self) -> None:
        """Take the terminal: its second screen without a cursor; keys come one by one, and unseen."""
        if self._keyboard is not None:
            tty.setcbreak(self._keyboard)
        self._live.start()

    def give_back(self) -> None:
        """Make it what it was."""
        self._live.stop()
        if self._keyboard is not None and self._modes is not None:
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._modes)

    def pause(self) -> None:
        """Ctrl-Z: stop, without the terminal, until somebody continues us."""
        self.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.take()
        self.redraw()

    def show(self, now: Record) -> bool:
        """Draw a snapshot."""
        self._before, self._now, self._came_at = self._now, now, trio.current_time()
        self.redraw()
        return True

    def redraw(self) -> None:
        """Draw the latest one again: the terminal has another size, or nothing has come for a while."""
        if self._now is None:
            return
        silence = trio.current_time() - self._came_at
        note = "" if self._keyboard is None else "q leaves"
        if silence > self._interval + NO_NEWS_AFTER:
            note = f"HELD UP: no news for {silence:.0f} s"
        size = self._console.size
        lines = page(self._now, self._before, width=size.width, height=size.height, note=note)
        self._live.update(Text("\n").join(map(_styled, lines)), refresh=True)

    async def wait_for_leave(self) -> None:
        """Wait for the key ``q``; for ever if there is no keyboard, or no more."""
        while self._keyboard is not None:
            await trio.lowlevel.wait_readable(self._keyboard)
            pressed = os.read(self._keyboard, 256)
            if _KEYS_THAT_LEAVE.intersection(pressed):
                return
            if not pressed:
                break
        await trio.sleep_forever()


def _styled(line: Line) -> Text:
    text = Text(line.text, no_wrap=True, overflow="crop", end="")
    for start, end, what in line.marks:
        text.stylize(_STYLES[what], start, end)
    return text


@contextmanager
def screen(interval: float) -> Generator[Screen]:
    """The terminal, until the end of the block; what was there comes back in any case."""
    screen = Screen(interval)
    try:
        screen.take()
        yield screen
    finally:
        screen.give_back()


def _find_keyboard() -> int | None:
    """The descriptor that keys come from. None in the background: we would be stopped for asking."""
    return 0 if os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp() else None
