"""The terminal as ``ktrio top`` uses it: a screen of its own that is drawn again and again, and single keys.

The only module that imports rich. It is loaded when a screen is wanted, so no server has it in memory.
"""

from __future__ import annotations

import os
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

    def __init__(self, console: Console, live: Live, keyboard: int | None, interval: float) -> None:
        self._console = console  # I
        self._live = live  # I
        self._keyboard = keyboard  # I
        self._interval = interval  # I
        self._now: Record | None = None  # S
        self._before: Record | None = None  # S
        self._came_at = 0.0  # S: when the latest snapshot did

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
    """Take the terminal, on its second screen, without a cursor; what was there comes back in any case."""
    console = Console(highlight=False, markup=False, emoji=False)
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with _single_keys() as keyboard, live:
        yield Screen(console, live, keyboard, interval)


@contextmanager
def _single_keys() -> Generator[int | None]:
    """Let keys come one by one and unseen; gives the descriptor to read them from, None if there is no keyboard."""
    keyboard = 0
    if not os.isatty(keyboard) or os.tcgetpgrp(keyboard) != os.getpgrp():  # in the background: it would be stopped
        yield None
        return
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
