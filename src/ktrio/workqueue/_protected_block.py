"""``async with`` blocks of ours that Ctrl-C cannot tear: entering and leaving are protected, what is inside is not.

`contextlib.asynccontextmanager` alone does not do: its own frames, through which a block is left, are nobody's, so an
interrupt that strikes there leaves the generator, and with it a nursery, standing open. Trio then finds its stack of
nurseries corrupted. Protection is a matter of frames, and goes on to whatever they call: so one frame around it is
enough, for the generator as well. (`trio.open_nursery` has methods of its own for the same reason.)
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar, final

from trio.lowlevel import enable_ki_protection

__all__ = ["protected_block"]

P = ParamSpec("P")
T = TypeVar("T")


@final
class ProtectedBlock(AbstractAsyncContextManager[T]):
    """The context manager that a function with `protected_block` returns."""

    __slots__ = ("_block",)

    def __init__(self, block: AbstractAsyncContextManager[T]) -> None:
        self._block = block  # I

    @enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._block.__aenter__()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, traceback)


def protected_block(make: Callable[P, AsyncGenerator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """As `contextlib.asynccontextmanager`; an interrupt waits until the block has been entered, or left."""
    block = asynccontextmanager(make)

    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return ProtectedBlock(block(*args, **kwargs))

    return call
