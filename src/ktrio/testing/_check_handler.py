"""`check_handler`: what every HTTP handler must do, as a specification that executes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final, Literal

from ktrio.http.headers import Headers
from ktrio.http.messages import Handler
from ktrio.http.policy import Limits
from ktrio.net.deadlines import WINDOW
from ktrio.testing._clock import advance, run_clock, settle
from ktrio.testing._responses import MemoryResponse, parse_response
from ktrio.testing._streams import MemoryStream
from ktrio.testing._trial import SampleRequest, Trial, Trials, fields_but

# Waits of a handler at which its client goes, and at which it is cancelled: the first ones, one server for each.
WAITS_TRIED: Final = 25
# Requests at once.
TOGETHER: Final = 5
# Virtual seconds for a handler to clean up behind a shield, once it has been cancelled.
CLEANING_UP: Final = 1.0
# The limit for bodies in the trial of bodies that are too large.
BODY_LIMIT: Final = 32 * 1024

_HOP_BY_HOP: Final = frozenset({"date", "connection", "transfer-encoding"})


async def check_handler(
    make: Callable[[], Handler],
    *requests: SampleRequest | str,
    limits: Limits | None = None,
    varying: Collection[str] = (),
    patience: float = 60.0,
    grace: float = 8.0,
) -> None:
    """Check that a handler does what any HTTP handler must do, through the real server, in memory.

    * Its responses are valid and complete, and it raises nothing but `HttpError`. HEAD is answered as GET, without the
      body. Several requests at once, or one after the other on a connection, are answered like one alone.
    * It ends when its client goes, and when it is cancelled, at each of its waits, and lets `trio.Cancelled` through.
      It ends within the grace of a shutdown.
    * Bodies that are too large, broken or cut off are no reason for a 500: it lets the errors of `RequestBody` through.
      It reads none behind its answer.
    * Whatever happens, the bodies of its responses are closed once, without an error, and no file is left open.

    Args:
      make: gives a fresh handler; called for each of many servers.
      requests: what to ask; a string is the target of a GET; the default is ``"/"``. Each must be answered in the end:
        a stream without an end is nothing for this check.
      limits: as of `ktrio.serve_http`.
      varying: names of response headers that differ from one response to the next; ``Date`` is known.
      patience: the seconds of virtual time that a response may take.
      grace: the seconds of virtual time that it may take once a shutdown has begun.

    Raises:
      AssertionError: one sentence says which request, and what is wrong.
      RuntimeError: the clock of the run is no `trio.testing.MockClock`.
    """
    run_clock()
    trials = Trials(make=make, limits=limits or Limits(), patience=patience, grace=grace)
    left_out = _HOP_BY_HOP | {name.lower() for name in varying}
    for each in requests or ("/",):
        sample = each if isinstance(each, SampleRequest) else SampleRequest("GET", each)
        alone, waits, is_stable = await _check_alone(trials, sample)
        if sample.method == "GET":
            await _check_head(trials, sample, alone, left_out, is_stable=is_stable)
        await _check_together(trials, sample, alone, left_out, is_stable=is_stable)
        for at in range(1, min(waits, WAITS_TRIED) + 1):
            await _check_ending(trials, sample, at, "gone")
            await _check_ending(trials, sample, at, "cancelled")
        await _check_drain(trials, sample)
        await _check_request_bodies(trials, sample)
        await _check_files(trials, sample)


async def _check_alone(trials: Trials, sample: SampleRequest) -> tuple[MemoryResponse, int, bool]:
    """The response of a fresh handler, its waits, and whether another fresh one gives the same body."""
    async with trials.begin() as trial:
        alone, waits = await trial.ask(sample), trial.waits
    async with trials.begin() as trial:
        again = await trial.ask(sample)
    return alone, waits, alone.body == again.body


async def _check_head(
    trials: Trials, sample: SampleRequest, got: MemoryResponse, left_out: frozenset[str], *, is_stable: bool
) -> None:
    """RFC 9110 section 9.3.2: the same fields, but for those that only the content would have told."""
    async with trials.begin() as trial:
        head = await trial.ask(sample, method="HEAD")
    assert head.status == got.status, f"HEAD {sample.target} is answered with {head.status}, GET with {got.status}"
    for name in {name for name, _ in [*head.headers, *got.headers]} - left_out:
        on_head, on_get = head.headers.get_all(name), got.headers.get_all(name)
        if name == "content-length" and (not is_stable or not on_head or not on_get):
            continue  # it may be left out, and unknown to either
        if on_head or name != "trailer":
            assert on_head == on_get, f"HEAD {sample.target} says {name} {on_head}, GET says {on_get}"


async def _check_together(
    trials: Trials, sample: SampleRequest, alone: MemoryResponse, left_out: frozenset[str], *, is_stable: bool
) -> None:
    async with trials.begin() as trial:
        together = await trial.ask_all([sample] * TOGETHER)
        together += [await trial.ask(sample) for _ in range(2)]
    for each in together:
        assert each.status == alone.status, (
            f"{sample} is answered with {each.status} among others, and with {alone.status} alone"
        )
        if is_stable:
            assert each.body == alone.body, f"the body of {sample} is another one among other requests"
            assert fields_but(each.headers, left_out) == fields_but(alone.headers, left_out), (
                f"the headers of {sample} are others among other requests"
            )


async def _check_ending(trials: Trials, sample: SampleRequest, at: int, way: Literal["gone", "cancelled"]) -> None:
    """Its client goes, or it is cancelled, in the wait number `at`."""
    is_reached = False

    def on_wait(number: int) -> None:
        nonlocal is_reached
        if number == at:
            is_reached = True
            stream.reset() if way == "gone" else trial.memory.cancel()

    async with trials.begin(on_wait) as trial:
        stream = trial.memory.connect()
        _send(stream, sample)
        await trial.read_to_end(stream, or_until=lambda: is_reached)
        if not is_reached:
            return  # it needed less waits this time
        await settle()
        if any(not probe.outcome for probe in trial.probes):
            await advance(trial.memory.clock, CLEANING_UP)
        what = "its client has gone" if way == "gone" else "it is cancelled"
        for probe in trial.probes:
            assert probe.outcome, f"{sample}: the handler does not end when {what}, in its wait {at}"
            assert not probe.swallowed, f"{sample}: the handler goes on when {what}, in its wait {at}, and must not"
            trial.check_outcome(probe, sample)


async def _check_drain(trials: Trials, sample: SampleRequest) -> None:
    """A shutdown begins at its first wait."""

    def on_wait(number: int) -> None:
        if number == 1:
            trial.memory.server.begin_shutdown(grace=trials.grace)

    async with trials.begin(on_wait) as trial:
        stream = trial.memory.connect()
        _send(stream, sample)
        await trial.read_to_end(stream)
        await advance(trial.memory.clock, WINDOW)
        for probe in trial.probes:
            trial.check_outcome(probe, sample)
        cut = trial.memory.server.statistics().cut
        assert not cut, f"{sample}: the handler did not end within the grace of {trials.grace:g} s"


def _send(stream: MemoryStream, sample: SampleRequest, *fields: str, body: bytes | None = None) -> None:
    """Send a request that is the last on its connection, at once; `fields` frame the body."""
    content = sample.body if body is None else body
    framing = fields or ((f"Content-Length: {len(content)}",) if content or sample.method != "GET" else ())
    named = [f"{name}: {value}" for name, value in _fields_of(sample)]
    lines = [f"{sample.method} {sample.target} HTTP/1.1", *named, *framing, "Connection: close", "", ""]
    stream.send_nowait("\r\n".join(lines).encode("latin-1") + content)


def _fields_of(sample: SampleRequest) -> list[tuple[str, str]]:
    """The header fields of a request, with a ``Host``, and without framing."""
    fields = Headers(sample.headers)
    if "host" not in fields:
        fields = Headers([("host", "memory"), *fields])
    fields.remove("content-length")
    fields.remove("transfer-encoding")
    return list(fields)


async def _check_request_bodies(trials: Trials, sample: SampleRequest) -> None:
    """Bodies that no handler can read; one that does not read them need not notice."""
    small = Trials(make=trials.make, limits=Limits(body_bytes=BODY_LIMIT), patience=trials.patience, grace=trials.grace)
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    for what, framing, body in (
        ("is too large", f"Content-Length: {2 * BODY_LIMIT}", b"x" * 100),
        ("grows too large", "Transfer-Encoding: chunked", chunk * 9),
        ("is broken", "Transfer-Encoding: chunked", b"1\r\nx\r\nnonsense\r\n"),
        ("is cut off", "Content-Length: 100", b"x" * 10),
    ):
        async with small.begin() as trial:
            await _check_bad_body(trial, sample, what, framing, body)


async def _check_bad_body(trial: Trial, sample: SampleRequest, what: str, framing: str, body: bytes) -> None:
    stream = trial.memory.connect()
    _send(stream, sample, framing, body=body)
    if what != "is too large":
        stream.finish()
    received = await trial.read_to_end(stream)
    for probe in trial.probes:
        trial.check_outcome(probe, f"{sample} with a body that {what}")
    assert received is not None, f"{sample} with a body that {what} was not answered within {trial.patience:g} s"
    if not received:
        return  # a handler may answer later than a client that is half gone is given
    try:
        parsed = parse_response(received, method=sample.method, ended=True)
    except AssertionError as error:
        raise AssertionError(f"{sample} with a body that {what} has no valid response: {error}") from None
    assert parsed is not None
    assert parsed[0].status != 500, (
        f"{sample} with a body that {what} is answered with 500: let BadRequest and BodyTooLarge through"
    )


async def _check_files(trials: Trials, sample: SampleRequest) -> None:
    """Sent, not asked for, or not taken: no file stays open. The first time a handler may open what it keeps."""
    counts: list[int] = []
    async with trials.begin() as trial:
        for _ in range(3):
            await trial.ask(sample)
            if sample.method == "GET":
                await trial.ask(sample, method="HEAD")
            stream = trial.memory.connect()
            _send(stream, sample)
            await settle()
            stream.reset()
            await trial.wait_for(lambda: not trial.memory.server.statistics().open)
            counts.append(_open_descriptors())
    assert counts[1] >= counts[2], f"{sample}: after each request {counts[2] - counts[1]} more files are open"


def _open_descriptors() -> int:
    """How many descriptors this process has open, where the system tells."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0
