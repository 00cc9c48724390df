"""The monitor: a supervisor's statistics for whoever connects and watches, as ``ktrio top`` does.

The protocol is lines of JSON in both directions, version `PROTOCOL`. Whoever connects gets a snapshot at once and then
one every second, until they close. They may send a line, ``{"interval": 0.5}``, at any time: so many seconds from one
snapshot to the next from then on. A line that makes no sense, or a watcher too many, is answered with a line that has
``"error"`` in place of ``"supervisor"``, and the connection is closed.

Nobody who watches can do harm: there are at most `MOST_WATCHERS`, at most one line is read from each per snapshot, one
who takes nothing for `SEND_WITHIN` seconds is closed, and what is wrong with one concerns no other. While nobody
watches, one task waits for somebody to come.
"""

from __future__ import annotations

import enum
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, cast, final

import trio

from ktrio import __version__
from ktrio.workqueue import Supervisor

__all__ = [
    "DEFAULT_INTERVAL",
    "LEAST_INTERVAL",
    "MOST_INTERVAL",
    "MOST_WATCHERS",
    "PROTOCOL",
    "Monitor",
    "wanted_interval",
]

log = logging.getLogger("ktrio.monitor")

PROTOCOL: Final = 1
"""Grows when a client of the old one would misread the new one; new fields alone do not."""
MOST_WATCHERS: Final = 8
"""Connections at once: a few people and a collector."""
DEFAULT_INTERVAL: Final = 1.0
"""Seconds from one snapshot to the next if nothing is said, as of wq_monitor."""
LEAST_INTERVAL: Final = 0.1
"""Seconds: ten snapshots a second from each watcher cost well under a hundredth of the loop."""
MOST_INTERVAL: Final = 3600.0
"""Seconds."""
SEND_WITHIN: Final = 5.0
"""Seconds in which a watcher has to take a snapshot that the socket has no room for."""
ACCEPT_PAUSE: Final = 1.0
"""Seconds until accepting is tried again when it failed: no descriptor was free, most likely."""
MOST_OF_A_TURN: Final = 0.0005
"""Seconds of the loop that are taken at once to write a snapshot."""
MOST_OF_A_LINE: Final = 1024
"""Bytes of a watcher's line."""


class _RequestError(ValueError):
    """A watcher's line makes no sense; the text is for the watcher."""


def wanted_interval(line: bytes) -> float:
    """The seconds between snapshots that a watcher's line asks for. ValueError: it asks for nothing possible."""
    try:
        request: object = json.loads(line)
    except (ValueError, RecursionError):
        raise _RequestError("the line is no JSON") from None
    value = cast("dict[str, object]", request).get("interval") if isinstance(request, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_INTERVAL <= value <= MOST_INTERVAL:
        raise _RequestError(f'say {{"interval": seconds}}, {LEAST_INTERVAL:g} to {MOST_INTERVAL:g}')
    return float(value)


def _field_names(value: object) -> tuple[str, ...]:
    """The fields of a record; none of anything else."""
    return tuple(getattr(type(value), "__dataclass_fields__", ()))


def _plain(value: object) -> object:
    """What JSON has in place of a `value` that it lacks; what is inside may be of the same kind."""
    names = _field_names(value)
    if names:
        return {name: getattr(value, name) for name in names}
    if isinstance(value, enum.Flag):
        return [each.name for each in value]
    if isinstance(value, set | frozenset):
        return list(cast("set[object]", value))
    return str(value)


_encode: Final = json.JSONEncoder(default=_plain, allow_nan=False).encode


def as_json(value: object) -> str:
    """Statistics as JSON: records are objects, flags the list of their names, a number that is not finite is null.

    It knows no field by name, so that a new counter is in the snapshot from its first day.
    """
    try:
        return _encode(value)
    except ValueError:  # a number that is not finite, somewhere
        return _encode(_finite(value))


def _finite(value: object) -> object:
    """A copy with None for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in cast("Sequence[object]", value)]
    if _field_names(value):
        return _finite(_plain(value))
    return value


@final
class Monitor:
    """Shows a supervisor to those who connect.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor  # I
        self._watchers = 0  # S
        self._cannot_accept = False  # S: the last attempt failed, and was logged

    def __repr__(self) -> str:
        return f"<Monitor of {self._supervisor!r} watchers={self._watchers}/{MOST_WATCHERS}>"

    async def run(self, listener: trio.abc.Listener[trio.abc.Stream]) -> NoReturn:
        """Serve whoever connects, until cancelled; every watcher is gone then. The listener is the caller's."""
        async with trio.open_nursery() as watchers:
            while True:
                stream = await self._accept(listener)
                if self._watchers < MOST_WATCHERS:
                    self._watchers += 1
                    watchers.start_soon(self._watched, stream, name="a watcher of the monitor")
                else:  # here, so that those who are refused cannot be many at once either
                    async with stream:
                        await _send_if_taken(stream, _error(f"{MOST_WATCHERS} are watching already"))

    async def _accept(self, listener: trio.abc.Listener[trio.abc.Stream]) -> trio.abc.Stream:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if not self._cannot_accept:
                    log.warning("%r cannot accept, and will go on trying: %s", self, error)
                self._cannot_accept = True
                await trio.sleep(ACCEPT_PAUSE)
            else:
                self._cannot_accept = False
                return stream

    async def _watched(self, stream: trio.abc.Stream) -> None:
        """Barrier: what goes wrong with one watcher ends that watcher."""
        try:
            async with stream:
                await self._show(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # gone in the middle: how most of them go
        except Exception:
            log.exception("%r lost a watcher", self)
        finally:
            self._watchers -= 1

    async def _show(self, stream: trio.abc.Stream) -> None:
        """Send snapshots until the watcher closes, or takes them no more."""
        interval, received = DEFAULT_INTERVAL, bytearray()
        while await _send_if_taken(stream, await self._snapshot()):
            sent_at = trio.current_time()
            with trio.move_on_at(sent_at + interval) as pause:
                try:
                    line = await _receive_line(stream, received)
                    if line is None:
                        return
                    interval = wanted_interval(line)
                except _RequestError as error:
                    await _send_if_taken(stream, _error(str(error)))
                    return
            if not pause.cancelled_caught:  # and no second line is read before the next snapshot
                await trio.sleep_until(sent_at + interval)

    async def _snapshot(self) -> bytes:
        """The statistics of one moment as a line. Written in turns of at most `MOST_OF_A_TURN`: there may be much."""
        now = self._supervisor.statistics()
        texts = {**_head(), "seconds": as_json(trio.current_time())}
        fields: dict[str, str] = {}
        enough = time.perf_counter() + MOST_OF_A_TURN
        for name in _field_names(now):
            value: object = getattr(now, name)
            if not isinstance(value, tuple):
                fields[name] = as_json(value)
                continue
            records: list[str] = []
            for each in cast("tuple[object, ...]", value):
                records.append(as_json(each))
                if time.perf_counter() > enough:
                    await trio.lowlevel.checkpoint()
                    enough = time.perf_counter() + MOST_OF_A_TURN
            fields[name] = f"[{', '.join(records)}]"
        texts["supervisor"] = _object(fields)
        return f"{_object(texts)}\n".encode()


def _head() -> dict[str, str]:
    """How every line begins: whose it is."""
    return {
        "ktrio": as_json(__version__),
        "protocol": as_json(PROTOCOL),
        "pid": as_json(os.getpid()),
        "timestamp": as_json(time.time()),
    }


def _error(text: str) -> bytes:
    return f"{_object({**_head(), 'error': as_json(text)})}\n".encode()


def _object(fields: Mapping[str, str]) -> str:
    """A JSON object of texts that are JSON."""
    return "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"


async def _send_if_taken(stream: trio.abc.Stream, line: bytes) -> bool:
    """Send, unless that takes too long; was it sent? If not, the stream is of no use any more."""
    with trio.move_on_after(SEND_WITHIN) as patience:
        await stream.send_all(line)
    return not patience.cancelled_caught


async def _receive_line(stream: trio.abc.Stream, received: bytearray) -> bytes | None:
    """The next line; None at the end. What comes beyond it stays in `received`, also when this is cancelled."""
    while b"\n" not in received:
        if len(received) >= MOST_OF_A_LINE:
            raise _RequestError(f"the line is longer than {MOST_OF_A_LINE} bytes")
        data = await stream.receive_some(MOST_OF_A_LINE)
        if not data:
            return None
        received += data
    line, _, rest = received.partition(b"\n")
    received[:] = rest
    return bytes(line)
