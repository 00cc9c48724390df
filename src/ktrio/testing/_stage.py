"""A play performed: its steps, one after the other, and how a failure is shown.

There are no tasks here: after each step everything runs until nothing can any more (`settle`), and then the peers take
what is there and give what there is room for, until nothing moves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from ktrio.testing._clock import settle
from ktrio.testing._roles import FromServer, Mismatch, PeerAct, Role, compare, nothing_received
from ktrio.testing._server import MemoryServer

_LINE_BYTES: Final = 72  # of a diff
_DIFF_LINES: Final = 40


# -- Steps ------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Connect:
    """A peer connects."""

    peer: int


@final
@dataclass(frozen=True, slots=True)
class FromPeer:
    """``peer >> what``."""

    peer: int
    what: PeerAct


@final
@dataclass(frozen=True, slots=True)
class Act:
    """``server[peer] << what``."""

    peer: int
    what: FromServer


@final
@dataclass(frozen=True, slots=True)
class PassTime:
    """``clock += seconds``."""

    seconds: float


@final
@dataclass(frozen=True, slots=True)
class ServerAct:
    """``server.name(...)``."""

    text: str
    function: Callable[[MemoryServer], None]


Step: TypeAlias = Connect | FromPeer | Act | PassTime | ServerAct


def _text_of(step: Step) -> str:
    match step:
        case Connect(peer):
            return f"{_name(peer)} connects"
        case FromPeer(peer, what):
            return f"{_name(peer)} >> {_short(what)}"
        case Act(peer, what):
            return f"server{'' if peer == 1 else f'[{_name(peer)}]'} << {_short(what)}"
        case PassTime(seconds):
            return f"clock += {seconds:g}"
        case ServerAct(text):
            return f"server.{text}"


def _name(peer: int) -> str:
    return "peer" if peer == 1 else f"peer{peer}"


def _short(what: object) -> str:
    text = repr(what)
    return text if len(text) <= 90 else f"{text[:60]}...{text[-20:]}"


# -- The performance --------------------------------------------------------------------------------------------------


async def perform(steps: Sequence[Step], memory: MemoryServer) -> None:
    """Perform a play; AssertionError if something else happens."""
    roles: dict[int, Role] = {}
    at = 0
    try:
        for at, step in enumerate(steps):
            match step:
                case Connect(peer):
                    roles[peer] = Role(peer, memory.connect(), memory)
                case FromPeer(peer, what):
                    roles[peer].act(what)
                case PassTime(seconds):
                    await memory.advance(seconds)
                case ServerAct():
                    step.function(memory)
                case Act(peer, expected):
                    compare(roles[peer], expected)
                    if not _goes_on(steps[at + 1 :], peer):
                        nothing_received(roles[peer])
            await _run_to_rest(roles)
        at = len(steps)
        for role in roles.values():
            _nothing_left(role)
    except Mismatch as mismatch:
        raise AssertionError(_show(steps, at, mismatch)) from None


async def _run_to_rest(roles: dict[int, Role]) -> None:
    while True:
        await settle()
        moved = [role.exchange() for role in roles.values()]
        if not any(moved):
            return


def _goes_on(following: Sequence[Step], peer: int) -> bool:
    """Does the play say more of what has come to this peer by now?"""
    for step in following:
        if not isinstance(step, Act):
            return False
        if step.peer == peer:
            return True
    return False


def _nothing_left(role: Role) -> None:
    """Has the play said all that came?"""
    try:
        nothing_received(role)
        if role.end is not None and not role.is_end_said:
            raise Mismatch(f"the connection ended with {role.end!r}")
    except Mismatch as mismatch:
        mismatch.sentence = f"{_name(role.number)} got what no step says: {mismatch.sentence}"
        raise


def _show(steps: Sequence[Step], at: int, mismatch: Mismatch) -> str:
    where = f"step {at + 1}" if at < len(steps) else "the end"
    lines = [f"the play failed at {where}: {mismatch.sentence}", ""]
    lines += [f"  {'>' if number == at else ' '} {number + 1:3} {_text_of(step)}" for number, step in enumerate(steps)]
    if at == len(steps):
        lines.append("  >     the end")
    if mismatch.expected or mismatch.actual:
        lines += ["", "  - expected, + came", *_diff(mismatch.expected, mismatch.actual)]
    return "\n".join(lines)


def _diff(expected: bytes, actual: bytes) -> list[str]:
    wanted, came = _lines(expected), _lines(actual)
    same = 0
    while same < min(len(wanted), len(came)) and wanted[same] == came[same]:
        same += 1
    skipped = max(0, same - 3)
    most = 5 * _DIFF_LINES  # comparing takes the square of it
    compared = difflib.ndiff(wanted[skipped : skipped + most], came[skipped : skipped + most])
    lines = [f"  {line}" for line in compared if not line.startswith("?")]
    if skipped:
        lines.insert(0, f"    ({skipped} lines are the same)")
    if len(lines) > _DIFF_LINES:
        lines[_DIFF_LINES:] = [f"    ({len(expected)} bytes were expected, {len(actual)} came)"]
    return lines


def _lines(data: bytes) -> list[str]:
    """Bytes for people: a line each, and long ones in pieces."""
    return [
        repr(line[at : at + _LINE_BYTES])
        for line in data.splitlines(keepends=True)
        for at in range(0, len(line), _LINE_BYTES)
    ]
