"""`check_handler` lets good handlers pass and catches each kind of broken one, with a sentence that says what."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest
import trio

from ktrio import FileRange, Headers, HttpError, Response, files
from ktrio.testing import SampleRequest, check_handler

pytestmark = pytest.mark.exhaustive

# -- Good ones


async def plain(request):
    return Response(headers=Headers({"Content-Type": "text/plain"}), body=b"hello")


async def slow(request):
    await trio.sleep(1)
    await trio.lowlevel.checkpoint()
    return Response(body=b"at last")


async def reads(request):
    return Response(body=await request.read())


async def streams(request):
    async def pieces():
        for number in range(3):
            await trio.sleep(0.5)
            yield b"%d" % number

    return Response(body=pieces())


async def writes(request):
    async def write(send):
        for _ in range(3):
            await send(b"piece")
            await trio.sleep(0.1)

    return Response(body=write)


async def cleans_up(request):
    try:
        await trio.sleep(1)
    finally:
        with trio.move_on_after(0.5, shield=True):
            await trio.sleep(0.2)
    return Response()


async def gives_up_by_itself(request):
    with trio.move_on_after(0.5):
        await trio.sleep_forever()
    return Response(503)


async def thinks_in_a_thread(request):
    return Response(body=await trio.to_thread.run_sync(lambda: b"thought"))


async def streams_from_a_thread(request):
    async def pieces():
        for _ in range(5):
            yield await trio.to_thread.run_sync(think, 0.02)

    return Response(body=pieces())


class Thoughts:
    """Pieces that come from a thread, by a class of one's own."""

    def __init__(self):
        self.left = 5

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        return await trio.to_thread.run_sync(think, 0.02)


async def iterates_in_a_thread(request):
    return Response(body=Thoughts())


def think(seconds):
    """A thread needs real time, of which virtual time knows nothing."""
    threading.Event().wait(seconds)
    return b"thought"


async def asks_others(request):
    results = []

    async def ask(number):
        await trio.sleep(number)
        results.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(ask, number)
    return Response(body=bytes(results))


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        slow,
        reads,
        streams,
        writes,
        cleans_up,
        gives_up_by_itself,
        thinks_in_a_thread,
        streams_from_a_thread,
        iterates_in_a_thread,
        asks_others,
    ],
    ids=lambda value: value.__name__,
)
async def test_good_handler_passes(handler):
    await check_handler(lambda: handler, "/", SampleRequest("POST", "/words", body=b"so many words"))


async def test_handler_of_files_passes(tmp_path):
    (tmp_path / "small.txt").write_bytes(b"small")
    (tmp_path / "big.bin").write_bytes(os.urandom(300_000))
    await check_handler(lambda: files(tmp_path), "/", "/small.txt", "/big.bin", "/nothing", "/small.txt/")


# -- Broken ones


async def raises(request):
    raise LookupError("no such thing")


async def returns_text(request):
    return "hello"


async def frames_itself_wrong(request):
    return Response(headers=Headers({"Transfer-Encoding": "chunked"}))


async def body_raises(request):
    async def pieces():
        yield b"one"
        raise LookupError("no second")

    return Response(body=pieces())


async def never_answers(request):
    await trio.sleep_forever()


async def takes_too_long(request):
    await trio.sleep(100)
    return Response()


async def refuses_head(request):
    return Response(405) if request.method == "HEAD" else Response(body=b"x")


async def another_type_on_head(request):
    kind = "text/plain" if request.method == "HEAD" else "text/html"
    return Response(headers=Headers({"Content-Type": kind}), body=b"x")


async def swallows_cancelled(request):
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        return Response(500)
    return Response()


async def swallows_cancelled_for_ever(request):
    while True:
        try:
            await trio.sleep(5)
        except trio.Cancelled:
            continue
        return Response()


async def turns_cancelled_into_an_error(request):
    try:
        await trio.sleep(1)
    except BaseException as error:
        raise LookupError("cancelled") from error
    return Response()


async def shields_itself(request):
    with trio.CancelScope(shield=True):
        await trio.sleep(20)
    return Response()


async def body_shields_itself(request):
    async def pieces():
        yield b"one"
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        yield b"two"

    return Response(body=pieces())


async def outlives_the_grace(request):
    await trio.sleep(10)
    return Response()


async def hides_errors_of_the_body(request):
    try:
        return Response(body=await request.read())
    except HttpError:
        return Response(500)


async def trips_over_a_bad_body(request):
    try:
        return Response(body=await request.read())
    except HttpError as error:
        raise LookupError from error


async def closing_raises(request):
    class Pieces:
        def __aiter__(self):
            return self

        async def __anext__(self):
            raise StopAsyncIteration

        async def aclose(self):
            raise LookupError("cannot close")

    return Response(body=Pieces())


class SharesItsBody:
    def __init__(self):
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.body = FileRange(descriptor=descriptor, offset=0, count=0, close=lambda: os.close(descriptor))

    async def __call__(self, request):
        return Response(body=self.body)


class LeavesFilesOpen:
    def __init__(self):
        self.opened = []

    async def __call__(self, request):
        self.opened.append(os.open(os.devnull, os.O_RDONLY))
        return Response()

    def __del__(self):
        for each in self.opened:
            os.close(each)


class RemembersTheLast:
    def __init__(self):
        self.seen = 0

    async def __call__(self, request):
        self.seen += 1
        return Response(body=b"%d" % self.seen)


class OneAtATime:
    def __init__(self):
        self.busy = False

    async def __call__(self, request):
        if self.busy:
            return Response(503)
        self.busy = True
        try:
            await trio.sleep(1)
        finally:
            self.busy = False
        return Response()


async def reads_behind_its_answer(request):
    trio.lowlevel.spawn_system_task(read_late, request)
    return Response()


async def read_late(request):
    await trio.sleep(0.1)
    with contextlib.suppress(Exception):
        await request.read()


async def goes_in_circles(request):
    while True:
        await trio.lowlevel.checkpoint()


def always(handler):
    return lambda: handler


BROKEN = [
    (always(raises), r"GET /: the handler, or the body of its response, raised LookupError\('no such thing'\)"),
    (always(returns_text), "returned .hello., not a Response"),
    (always(frames_itself_wrong), "500"),
    (always(body_raises), r"raised LookupError\('no second'\)"),
    (always(never_answers), "GET / was not answered within 60 s"),
    (always(takes_too_long), "GET / was not answered within 60 s"),
    (always(goes_in_circles), "goes round in circles"),
    (always(reads_behind_its_answer), "reads the body of a request that it has answered"),
    (always(refuses_head), "HEAD / is answered with 405, GET with 200"),
    (always(another_type_on_head), "HEAD / says content-type"),
    (always(swallows_cancelled), "goes on when"),
    (always(swallows_cancelled_for_ever), "goes on when its client has gone, in its wait 1"),
    (always(turns_cancelled_into_an_error), "goes on when"),
    (always(shields_itself), "does not end when its client has gone, in its wait 1"),
    (always(body_shields_itself), "does not end when its client has gone"),
    (always(outlives_the_grace), "did not end within the grace of 8 s"),
    (always(hides_errors_of_the_body), "with a body that is too large is answered with 500"),
    (always(trips_over_a_bad_body), r"with a body that is too large: the handler.* raised LookupError\(\)"),
    (always(closing_raises), "cannot close"),
    (SharesItsBody, "gave the same body twice"),
    (LeavesFilesOpen, r"after each request \d+ more files are open"),
    (RemembersTheLast, "the body of GET / is another one among other requests"),
    (OneAtATime, "GET / is answered with 503 among others, and with 200 alone"),
]


@pytest.mark.parametrize(("make", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
async def test_broken_handler_is_caught(make, sentence, caplog):
    with pytest.raises(AssertionError, match=sentence):
        await check_handler(make, SampleRequest("GET", "/"))


async def test_varying_headers_are_left_out():
    numbers = iter(range(1000))

    async def handler(request):
        return Response(headers=Headers({"X-Request-Id": str(next(numbers))}))

    with pytest.raises(AssertionError, match="x-request-id"):
        await check_handler(lambda: handler)
    await check_handler(lambda: handler, varying=["X-Request-Id"])


def test_without_virtual_time_the_remedy_is_named():
    with pytest.raises(RuntimeError, match="MockClock"):
        trio.run(check_handler, lambda: plain)
