"""Cancelling a server, in every state a connection can be in: it returns, nothing is left, others do not notice."""

from __future__ import annotations

import contextlib

import pytest
import trio

import ktrio
from ktrio import WQ_UNBOUND, QueueOptions, Work
from tests.server.fixtures import open_descriptors
from tests.server.harness import GET, Ended, get, settle, time_passing
from tests.server.states import CASES, STATES, HttpHandler, Scene, State, every_case, make_scene, new

pytestmark = pytest.mark.exhaustive


def all_tasks() -> set[trio.lowlevel.Task]:
    """Every task of this run."""
    found, waiting = set(), [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        found.add(task)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def nothing_is_open(scene: Scene) -> bool:
    assert scene.server is not None
    open_ones = [each for each in scene.server.connections() if each.state != "closed"]
    return (scene.handler.inside, scene.server.statistics().open, open_ones) == (0, 0, [])


class Bystander:
    """An item of another queue that runs for as long as it is asked to, again and again."""

    def __init__(self, queue: ktrio.Workqueue) -> None:
        self.queue = queue
        self.runs = 0
        self.is_wanted = True
        self.work = Work(self.run)
        queue.queue_work(self.work)

    async def run(self) -> None:
        await trio.sleep(0.05)
        self.runs += 1
        if self.is_wanted:
            self.queue.queue_work(self.work)

    async def check_it_goes_on(self) -> None:
        before = self.runs
        await trio.sleep(0.5)
        assert self.runs > before

    async def stop(self) -> None:
        self.is_wanted = False
        await self.queue.drain()


@every_case
@pytest.mark.parametrize("then", ["at once", "settled"])
async def test_cancelled_server_returns_and_leaves_nothing(mock_clock, tmp_path, state: State, transport, then):
    """Of its own supervisor: no task, no socket, no file; the peer sees the end of its connection."""
    scene = make_scene(state, transport, tmp_path)
    before = set(open_descriptors())
    async with time_passing(mock_clock), scene:
        tasks = all_tasks()
        async with trio.open_nursery() as nursery:
            await scene.start(nursery, queue=QueueOptions(max_active=state.max_active))
            await state.enter(scene)
            if then == "settled":
                await settle()
            begun = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 3 + state.shield
        assert all_tasks() <= tasks
        assert nothing_is_open(scene)
        await scene.see_the_ends()
    assert set(open_descriptors()) == before


@every_case
async def test_cancelled_server_leaves_a_shared_supervisor_as_it_was(mock_clock, tmp_path, state: State, transport):
    """Its connections end, the queue is empty and can be used again, other queues do not notice."""
    scene = make_scene(state, transport, tmp_path)
    gate, finished = trio.Event(), []

    async def item():
        await gate.wait()
        finished.append(True)

    before = set(open_descriptors())
    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor, scene:
        shared = supervisor.alloc_workqueue("shared", WQ_UNBOUND, max_active=state.max_active)
        bystander = Bystander(supervisor.alloc_workqueue("other", WQ_UNBOUND))
        await settle()
        if state.max_active != 1:
            shared.queue_work(Work(item))  # of somebody else, on the server's own queue
        tasks = all_tasks()
        async with trio.open_nursery() as nursery:
            await scene.start(nursery, workqueue=shared)
            await state.enter(scene)
            await settle()
            await bystander.check_it_goes_on()
            begun = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 3 + state.shield
        assert nothing_is_open(scene)
        # What there is more of is workers of the pool, and they are idle but for the items of others.
        assert all(task.name.startswith("kworker/") for task in all_tasks() - tasks)
        assert shared.statistics().in_flight == (state.max_active != 1)
        await bystander.check_it_goes_on()
        await scene.see_the_ends()
        gate.set()
        await shared.flush()
        async with Scene(scene.kind, scene.handler, "socket") as again, trio.open_nursery() as nursery:
            await again.start(nursery, workqueue=shared)
            await (await again.connect()).send(GET if scene.kind == "http" else b"hello")
            await again.peers[0].read(5)
            nursery.cancel_scope.cancel()
        await bystander.stop()
    assert len(finished) == (state.max_active != 1)
    assert set(open_descriptors()) == before


@every_case
@pytest.mark.parametrize("how", ["begin_shutdown", "force_shutdown"])
async def test_server_that_goes_down_ends_every_state(mock_clock, tmp_path, state: State, transport, how):
    """With the grace over, or forced: `serve_...` returns by itself."""
    scene = make_scene(state, transport, tmp_path)
    before = set(open_descriptors())
    async with time_passing(mock_clock), scene:
        async with trio.open_nursery() as nursery:
            await scene.start(nursery, queue=QueueOptions(max_active=state.max_active))
            await state.enter(scene)
            await settle()
            begun = trio.current_time()
            if how == "begin_shutdown":
                scene.server.begin_shutdown(grace=2)
            else:
                scene.server.force_shutdown("second-signal")
            nursery.cancel_scope.deadline = begun + 60
        assert not nursery.cancel_scope.cancel_called
        assert trio.current_time() - begun <= (2 if how == "begin_shutdown" else 0) + 2.5 + state.shield
        assert nothing_is_open(scene)
        await scene.see_the_ends()
    assert set(open_descriptors()) == before


@pytest.mark.parametrize("shared", [False, True], ids=["own supervisor", "shared supervisor"])
@pytest.mark.parametrize("transport", ["socket", "lockstep", "tls-memory"])
@pytest.mark.parametrize("kind", ["http", "stream", "echo"])
async def test_connection_that_was_accepted_in_this_turn_ends_with_its_server(
    mock_clock, tmp_path, kind, transport, shared
):
    """Whether or not a worker has taken it yet."""
    before = set(open_descriptors())
    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND) if shared else None
        for turns in range(6):
            async with make_scene(State("new", kind, new), transport, tmp_path) as scene:
                async with trio.open_nursery() as nursery:
                    await scene.start(nursery, workqueue=queue)
                    await scene.connect()
                    while not scene.server.statistics().accepted:
                        await trio.lowlevel.checkpoint()
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                assert nothing_is_open(scene)
                assert queue is None or queue.statistics().in_flight == 0
                await scene.see_the_ends()
    assert set(open_descriptors()) == before


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["own supervisor", "shared supervisor"])
@pytest.mark.parametrize("transport", ["socket", "lockstep"])
@pytest.mark.parametrize("kind", ["http", "stream", "echo"])
async def test_connections_in_every_state_at_once_end_with_the_server(mock_clock, tmp_path, kind, transport, shared):
    states = [each for each, place in CASES if (each.kind, place, each.max_active) == (kind, transport, 0)]
    scene = make_scene(states[0], transport, tmp_path)
    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor, scene:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND) if shared else None
        async with trio.open_nursery() as nursery:
            await scene.start(nursery, workqueue=queue)
            for state in states * 3:
                await state.enter(scene)
            await settle()
            begun = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun <= 8
        assert nothing_is_open(scene)
        await scene.see_the_ends()


# -- At any moment ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handler(tmp_path):
    return make_scene(STATES[0], "socket", tmp_path).handler


async def test_requests_that_wait_for_a_slot_end_with_the_server(start_http, connect, mock_clock, handler: HttpHandler):
    async with time_passing(mock_clock):
        async with trio.open_nursery() as nursery:
            server = await start_http(handler, queue=QueueOptions(max_active=1), within=nursery)
            clients = [await connect(server) for _ in range(10)]
            for client in clients:
                await client.send(get("/block"))
            await settle()
            assert handler.inside == 1
            nursery.cancel_scope.cancel()
        for client in clients:
            with contextlib.suppress(Ended):
                await client.read_to_end()
    assert handler.entered == 1


@pytest.mark.parametrize("shared", [False, True], ids=["own supervisor", "shared supervisor"])
@pytest.mark.parametrize("transport", ["socket", "lockstep"])
@pytest.mark.parametrize("kind", ["http", "stream", "echo"])
@pytest.mark.parametrize("turns", range(0, 60, 12))
async def test_cancellation_at_any_moment_is_clean(mock_clock, tmp_path, kind, transport, turns, shared):
    """After so many turns of the loop, whatever had been begun by then."""
    states = [each for each, place in CASES if (each.kind, place, each.max_active) == (kind, transport, 0)]
    scene = make_scene(states[0], transport, tmp_path)

    async def visit(state):
        with contextlib.suppress(Ended, OSError, trio.BrokenResourceError):
            await state.enter(scene)

    async with time_passing(mock_clock), ktrio.open_supervisor() as supervisor, scene:
        queue = supervisor.alloc_workqueue("shared", WQ_UNBOUND)
        async with trio.open_nursery() as visitors:
            async with trio.open_nursery() as nursery:
                await scene.start(nursery, workqueue=queue if shared else None)
                for state in states:
                    visitors.start_soon(visit, state)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert nothing_is_open(scene)
            assert queue.statistics().in_flight == 0
            visitors.cancel_scope.cancel()


@pytest.mark.parametrize("turns", range(12))
async def test_cancellation_during_the_start_is_clean(start_http, handler, turns, tmp_path):
    """Before it has started there is no server, and no listener is left either; many times, because Trio shuffles."""

    async def cancel_later(scope):
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for _ in range(15):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_later, scope)
                with contextlib.suppress(RuntimeError):  # the child ended before it had started
                    await start_http(handler, "127.0.0.1:0", f"unix:{tmp_path}/socket", within=nursery)
                await trio.sleep_forever()
        assert not (tmp_path / "socket").exists()
