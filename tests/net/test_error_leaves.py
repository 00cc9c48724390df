"""Groups of errors are split by their leaves: nothing is lost, nothing doubled, and what needs no splitting stays."""

from __future__ import annotations

from collections.abc import Callable

import trio
from hypothesis import given
from hypothesis import strategies as st

from ktrio.net.errors import ConnectionGone, is_gone, leaves_of, split_leaves

KINDS: list[Callable[[], BaseException]] = [
    lambda: ConnectionGone("ECONNRESET"),
    lambda: ValueError("a bug"),
    lambda: OSError(5, "an error"),
    lambda: trio.BrokenResourceError("a stream"),
    lambda: KeyboardInterrupt(),
    lambda: SystemExit(3),
]


def group_of(errors: list[BaseException]) -> BaseException:
    return BaseExceptionGroup("several", errors)  # an ExceptionGroup, if it can be one


leaves = st.sampled_from(KINDS).map(lambda make: make())
errors = st.recursive(leaves, lambda inner: st.lists(inner, min_size=1, max_size=4).map(group_of), max_leaves=12)
tests = st.sampled_from(
    [
        is_gone,
        lambda leaf: isinstance(leaf, Exception),
        lambda leaf: isinstance(leaf, trio.BrokenResourceError),
        lambda _leaf: True,
        lambda _leaf: False,
    ]
)


def ids_of(error: BaseException | None) -> list[int]:
    return [] if error is None else [id(leaf) for leaf in leaves_of(error)]


def shape_of(error: BaseException, keep: Callable[[BaseException], bool]) -> object:
    """The nesting of the leaves that are kept; None: there are none."""
    if not isinstance(error, BaseExceptionGroup):
        return id(error) if keep(error) else None
    inner = [shape for each in error.exceptions if (shape := shape_of(each, keep)) is not None]
    return inner or None


@given(errors)
def test_leaves_are_no_groups_and_come_in_order(error: BaseException) -> None:
    found = list(leaves_of(error))
    assert found
    assert not any(isinstance(leaf, BaseExceptionGroup) for leaf in found)
    assert ids_of(error) == _flat(shape_of(error, lambda _leaf: True))


def _flat(shape: object) -> list[object]:
    return [each for inner in shape for each in _flat(inner)] if isinstance(shape, list) else [shape]


@given(leaves)
def test_what_is_no_group_is_its_own_leaf(error: BaseException) -> None:
    assert list(leaves_of(error)) == [error]


@given(errors, tests)
def test_split_loses_and_doubles_nothing(error: BaseException, is_one: Callable[[BaseException], bool]) -> None:
    ones, others = split_leaves(error, is_one)
    assert ids_of(ones) == [id(leaf) for leaf in leaves_of(error) if is_one(leaf)]
    assert ids_of(others) == [id(leaf) for leaf in leaves_of(error) if not is_one(leaf)]
    assert (ones is None) == (ids_of(ones) == [])
    assert (others is None) == (ids_of(others) == [])


@given(errors, tests)
def test_what_needs_no_splitting_comes_back_as_it_was(
    error: BaseException, is_one: Callable[[BaseException], bool]
) -> None:
    ones, others = split_leaves(error, is_one)
    if ones is None:
        assert others is error
    elif others is None:
        assert ones is error
    else:
        assert isinstance(error, BaseExceptionGroup)


@given(errors, tests)
def test_both_parts_keep_the_nesting(error: BaseException, is_one: Callable[[BaseException], bool]) -> None:
    ones, others = split_leaves(error, is_one)
    if ones is not None and others is not None:
        assert shape_of(ones, lambda _leaf: True) == shape_of(error, is_one)
        assert shape_of(others, lambda _leaf: True) == shape_of(error, lambda leaf: not is_one(leaf))


@given(errors, tests)
def test_causes_and_notes_of_groups_stay(error: BaseException, is_one: Callable[[BaseException], bool]) -> None:
    error.__cause__ = cause = RuntimeError("why")
    if isinstance(error, BaseExceptionGroup):
        error.add_note("a note")
    for part in split_leaves(error, is_one):
        if part is not None and isinstance(error, BaseExceptionGroup):
            assert part.__cause__ is cause
            assert part.__notes__ == ["a note"]


@given(errors)
def test_split_by_being_an_exception_leaves_groups_that_can_be_caught_as_such(error: BaseException) -> None:
    """The errors are one `Exception`, whatever else was among them."""
    ordinary, going = split_leaves(error, lambda leaf: isinstance(leaf, Exception))
    assert ordinary is None or isinstance(ordinary, Exception)
    assert going is None or not any(isinstance(leaf, Exception) for leaf in leaves_of(going))


def test_only_the_loss_of_the_connection_is_gone() -> None:
    assert [is_gone(make()) for make in KINDS] == [True, False, False, False, False, False]
    assert not is_gone(ExceptionGroup("several", [ConnectionGone("EPIPE")]))
    assert not is_gone(ConnectionResetError())


def test_trios_cancellation_stays_beside_an_error() -> None:
    """As it comes out of a nursery of which one task met an error and another was cancelled."""

    async def fail() -> None:
        raise ValueError("a bug")

    async def main() -> tuple[BaseException | None, BaseException | None]:
        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    nursery.start_soon(fail)
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            except BaseException as error:
                return split_leaves(error, lambda leaf: isinstance(leaf, Exception))
        raise AssertionError

    ordinary, going = trio.run(main)
    assert ordinary is not None
    assert [type(leaf) for leaf in leaves_of(ordinary)] == [ValueError]
    assert going is None or {type(leaf) for leaf in leaves_of(going)} == {trio.Cancelled}
