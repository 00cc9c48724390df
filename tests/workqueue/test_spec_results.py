"""Results, by the specification: odd values, several who wait, requeues, and what ends a run from outside."""

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ktrio.workqueue import (
    WQ_UNBOUND,
    DestroyedError,
    NoResultError,
    Work,
    open_supervisor,
    parked,
)
from tests.workqueue.conftest import KIND_NAMES, KINDS, Errors, Kind, Trace, alloc, assert_at_zero, open_with

over_kinds = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


@over_kinds
@pytest.mark.parametrize("value", [None, False, 0, NotImplemented, ValueError("not raised"), trio.Event, ...], ids=repr)
async def test_any_value_is_a_value_exceptions_and_none_included(kind: Kind, value: object) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        store = supervisor.alloc_workqueue("store", kind[0], on_error="store")

        async def give() -> object:
            await trio.lowlevel.checkpoint()
            return value

        for queue in (wq, store):
            for fn in (give, lambda: value):
                item = Work(fn)
                queue.queue_work(item)
                assert await item.result() is value
                assert await queue.run(fn) is value
        assert await store.map(lambda _: value, [1]) == [value]


@over_kinds
async def test_of_two_runs_each_caller_gets_that_of_his_queueing(kind: Kind, trace: Trace) -> None:
    """A caller during the first run, one after it was queued again, and one after that was withdrawn."""
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0])
        count = 0

        async def number() -> int:
            nonlocal count
            count += 1
            mine = count
            await trace.gate(str(mine)).wait()
            return mine

        got: dict[str, object] = {}
        item = Work(number)

        async def wait(name: str) -> None:
            try:
                got[name] = await item.result()
            except DestroyedError:
                got[name] = "destroyed"

        async with trio.open_nursery() as nursery:
            wq.queue_work(item)
            await wait_all_tasks_blocked()
            nursery.start_soon(wait, "first")
            await wait_all_tasks_blocked()
            wq.queue_work(item)
            nursery.start_soon(wait, "withdrawn")
            await wait_all_tasks_blocked()
            assert item.cancel() is True
            wq.queue_work(item)
            nursery.start_soon(wait, "second")
            await wait_all_tasks_blocked()
            trace.open("1", "2")
        assert got == {"first": 1, "withdrawn": "destroyed", "second": 2}
        assert count == 2


@over_kinds
async def test_an_error_taken_by_one_of_two_runs_is_told_once_and_the_other_error_once(kind: Kind) -> None:
    """W106, W114: each error goes to exactly one place."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)
        runs = 0

        async def fail() -> None:
            nonlocal runs
            runs += 1
            mine = runs
            if mine == 1:
                wq.queue_work(item)
            await trio.sleep(1)
            raise KeyError(mine)

        item = Work(fail)
        wq.queue_work(item)
        await trio.sleep(0.5)
        with pytest.raises(KeyError) as caught:
            await item.result()  # of the requeue
        assert caught.value.args == (2,)
        assert [error.args for error in errors.errors] == [(1,)]
        await assert_at_zero(supervisor, wq)


@over_kinds
async def test_when_all_who_waited_have_gone_the_error_is_the_queues_again(kind: Kind) -> None:
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)

        async def fail() -> None:
            await trio.sleep(2)
            raise KeyError

        item = Work(fail)
        wq.queue_work(item)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(item.result)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        await wq.flush()
        assert len(errors.seen) == 1


@over_kinds
async def test_an_interrupt_a_return_in_spite_of_it_and_an_error_on_the_way_out(kind: Kind) -> None:
    """Interrupted is a `DestroyedError` to who waits; but a value that was returned all the same is a value."""
    errors = Errors()
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], 0, errors)

        async def plain() -> str:
            await trio.sleep_forever()
            return "never"

        async def returns() -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                return "in spite"

        async def fails() -> str:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError

        got: dict[str, str] = {}

        async def wait(name: str, item: Work[str]) -> None:
            try:
                got[name] = await item.result()
            except Exception as error:
                got[name] = type(error).__name__

        async with trio.open_nursery() as nursery:
            items = [Work(fn, name=fn.__name__) for fn in (plain, returns, fails)]
            for item in items:
                wq.queue_work(item)
            await wait_all_tasks_blocked()
            for item in items:
                nursery.start_soon(wait, item.name, item)
            await wait_all_tasks_blocked()
            for item in items:
                assert item.interrupt() is True
        assert got["plain"] == "DestroyedError"
        assert got["fails"] == "KeyError"
        assert got["returns"] in ("in spite", "DestroyedError")
        assert errors.seen == []


@over_kinds
async def test_a_stored_outcome_goes_when_the_item_is_queued_again_also_if_that_is_withdrawn(
    kind: Kind, trace: Trace
) -> None:
    """The outcome kept is that of the *last* queueing; a withdrawn one has none but that it was withdrawn."""
    async with open_with(kind[1])() as supervisor:
        store = supervisor.alloc_workqueue("store", kind[0], 1, "store")
        item = Work(lambda: 5)
        store.queue_work(item)
        await item.flush()
        assert await item.result() == 5
        trace.queue(store, "holder")
        await wait_all_tasks_blocked()
        assert store.queue_work(item) is True
        assert item.cancel() is True
        with pytest.raises((DestroyedError, NoResultError)):
            await item.result()
        trace.open("holder")


async def test_an_item_keeps_nothing_of_its_last_value_alive_unless_its_queue_stores() -> None:
    class Value:
        pass

    async with open_supervisor() as supervisor:
        wq, store = alloc(supervisor, "wq"), supervisor.alloc_workqueue("store", WQ_UNBOUND, on_error="store")
        alive: list[bool] = []
        for queue in (wq, store):
            item = Work(Value)
            queue.queue_work(item)
            value = weakref.ref(await item.result())
            await wait_all_tasks_blocked()
            gc.collect()
            alive.append(value() is not None)
        assert alive == [False, True]


@over_kinds
async def test_a_result_of_an_item_that_parks_times_out_or_starts_parked(kind: Kind) -> None:
    async with open_with(kind[1])() as supervisor:
        wq = supervisor.alloc_workqueue("wq", kind[0], max_active=1)

        async def give() -> str:
            async with parked():
                await trio.sleep(2)
            return "value"

        begin = trio.current_time()
        item = Work(give)
        wq.queue_work(item, parked=True)
        assert await item.result() == "value"
        late = Work(give, timeout=1)
        wq.queue_work(late)
        with pytest.raises(trio.TooSlowError):
            await late.result()
        assert trio.current_time() == begin + 3
        await assert_at_zero(supervisor, wq)


async def test_the_same_error_raised_to_many_is_the_same_object_and_each_may_handle_it() -> None:
    async with open_supervisor() as supervisor:
        wq = supervisor.alloc_workqueue("wq", WQ_UNBOUND, on_error="store")
        item = Work(int, "x")
        caught: list[ValueError] = []

        async def wait() -> None:
            try:
                await item.result()
            except ValueError as error:
                caught.append(error)

        wq.queue_work(item)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
        await wait()
        assert len(caught) == 4
        assert len({id(error) for error in caught}) == 1
