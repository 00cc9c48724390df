"""The kinds of value that options take, with errors that say what to type instead."""

from __future__ import annotations

import math
from typing import Final, final

import click

from ktrio.config import host_name


@final
class Seconds(click.ParamType[float]):
    """A finite number of seconds within bounds."""

    name = "seconds"

    def __init__(self, *, zero: bool = False, least: float = 0, most: float | None = None) -> None:
        self._zero = zero  # I: is 0 allowed?
        self._least = least  # I
        self._most = A_DAY if most is None else most  # I

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a number; fails with what is allowed."""
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not (self._least <= seconds <= self._most) or (seconds == 0 and not self._zero):
            least = f"{self._least:g}" if self._zero or self._least else "above 0"
            self.fail(f"{value!r} is not a number of seconds: give {least} to {self._most:g}, such as 2.5", param, ctx)
        return seconds


@final
class Whole(click.ParamType[int]):
    """A whole number within bounds."""

    name = "number"

    def __init__(self, least: int, most: int) -> None:
        self._least = least  # I
        self._most = most  # I

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`value` as a number; fails with what is allowed."""
        try:
            number = int(str(value))
        except ValueError:
            number = self._least - 1
        if not self._least <= number <= self._most:
            self.fail(f"{value!r} is not a whole number from {self._least} to {self._most}", param, ctx)
        return number


@final
class Pair(click.ParamType[tuple[str, str]]):
    """Two values with a ``=`` between them, neither empty."""

    def __init__(self, name: str, example: str) -> None:
        self.name = name  # I: both by what they are
        self._example = example  # I

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """`value` in two; fails with an example."""
        first, sign, second = str(value).partition("=")
        if not (first and sign and second):
            self.fail(f"{value!r} is not {self.name}: give one such as {self._example}", param, ctx)
        return first, second


@final
class HostName(click.ParamType[str]):
    """What a ``Host`` may name, without a port."""

    name = "host"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`value` as it is compared; fails with what is allowed."""
        try:
            return host_name(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


# Long enough for any timeout in earnest, short enough to catch milliseconds given for seconds.
A_DAY: Final = 86_400
