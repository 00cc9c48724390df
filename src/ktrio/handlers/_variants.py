"""Which of its codings a file is sent in: a sibling's, one made on the way, or none.

The client's wish comes first (`ktrio.http.negotiation`), then what costs nothing: a sibling of any coding it accepts is
taken before anything is compressed. A part of a file is never compressed on the way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Protocol, final

import trio

from ktrio.handlers._encodings import (
    LEAST,
    MOST,
    ON_THE_LOOP,
    SUFFIXES,
    Remembered,
    compressors,
    is_compressible,
    may_have_variants,
)
from ktrio.handlers._representation import (
    Validators,
    Variant,
    refusal_by_precondition,
    respond_with_file,
    variant_of,
)
from ktrio.handlers._tree import Kind, Opened, PathError, Tree
from ktrio.http.headers import Headers
from ktrio.http.media_types import media_types_with
from ktrio.http.messages import Request, Response
from ktrio.http.negotiation import acceptable_codings


class _VariantOf(Protocol):
    def __call__(self, name: str, *, varies: bool) -> Variant: ...


def naming_with(media_types: Mapping[str, str]) -> tuple[_VariantOf, Callable[[str], bool]]:
    """`variant_of` and `may_have_variants`; with `media_types` before the table's if there are any."""
    if not media_types:
        return variant_of, may_have_variants
    type_of = lru_cache(maxsize=1024)(media_types_with(media_types))

    def own_variant_of(name: str, *, varies: bool) -> Variant:
        return Variant(type_of(name), varies=varies)

    return own_variant_of, lambda name: is_compressible(type_of(name))


@final
class Variants:
    """Answers with one file in the best of its codings.

    Args:
      precompressed: look for siblings.
      compress: compress on the way.
      media_types: by suffix, before those of the table.

    Legend: I set once.
    """

    __slots__ = (
        "_codings",
        "_compressors",
        "_may_vary",
        "_precompressed",
        "_remembered",
        "_threads",
        "_tree",
        "_variant_of",
        "_wall_clock",
    )

    def __init__(
        self,
        tree: Tree,
        *,
        precompressed: bool,
        compress: bool,
        media_types: Mapping[str, str],
        wall_clock: Callable[[], float],
        threads: trio.CapacityLimiter,
    ) -> None:
        self._tree = tree  # I
        self._variant_of, self._may_vary = naming_with(media_types)  # I
        self._precompressed = precompressed  # I
        self._compressors = compressors() if compress else {}  # I
        available = {**self._compressors, **(SUFFIXES if precompressed else {})}
        self._codings = [coding for coding in SUFFIXES if coding in available]  # I: best first
        self._wall_clock = wall_clock  # I
        self._threads = threads  # I
        self._remembered = Remembered()  # I; its content S

    async def respond(self, request: Request, names: tuple[str, ...], file: Opened) -> Response:
        """The answer with the file at `names`, which is `file`; it owns that, or has closed it."""
        name, now = names[-1], self._wall_clock()
        if not self._codings or not self._may_vary(name):
            return respond_with_file(request, self._variant_of(name, varies=False), file, now)
        variant = self._variant_of(name, varies=True)
        accepted = acceptable_codings(request.headers.get_all("accept-encoding"), self._codings)
        try:
            for each in accepted if self._precompressed else ():
                sibling = self._sibling(names, each, file)
                if sibling is not None:
                    file.close()
                    return respond_with_file(request, replace(variant, coding=each), sibling, now)
            coding = next((each for each in accepted if each in self._compressors), None)
            if coding is not None and LEAST <= file.status.st_size <= MOST and "range" not in request.headers:
                response = await self._compressed(request, replace(variant, coding=coding), file, now)
                if response is not None:
                    file.close()
                    return response
        except BaseException:
            file.close()
            raise
        return respond_with_file(request, variant, file, now)

    def _sibling(self, names: tuple[str, ...], coding: str, file: Opened) -> Opened | None:
        """The sibling with this coding, opened, if it may stand for `file`."""
        try:
            sibling = self._tree.open((*names[:-1], names[-1] + SUFFIXES[coding]), Kind.FILE)
        except PathError:  # missing, or not to be served: then there is none
            return None
        is_good = (
            sibling.kind is Kind.FILE
            and sibling.status.st_size < file.status.st_size
            and sibling.status.st_mtime >= file.status.st_mtime
        )
        if is_good:
            return sibling
        sibling.close()
        return None

    async def _compressed(self, request: Request, variant: Variant, file: Opened, now: float) -> Response | None:
        """The answer with `file` compressed; None: it does not shrink, or changes right now. Does not close it."""
        assert variant.coding is not None
        own = Validators.of(file.status, now)
        validators = own._replace(etag=etag_of_coded(own.etag, variant.coding))
        refusal = refusal_by_precondition(request, variant, validators)
        if refusal is not None:
            return refusal
        # While it is racy, one tag may stand for two contents.
        data = None if own.is_racy else self._remembered.get(variant.coding, own.etag)
        if data is None:
            data = await self._compress(file, variant.coding)
            if data is None:
                return None
            if not own.is_racy:
                self._remembered.put(variant.coding, own.etag, data)
        return Response(200, Headers(variant.fields_of_content(len(data), validators)), data) if data else None

    async def _compress(self, file: Opened, coding: str) -> bytes | None:
        """The bytes of `file` in fewer bytes; ``b""``: there are no fewer; None: it is not what it was."""
        size, compress = file.status.st_size, self._compressors[coding]

        def work() -> bytes | None:
            data = os.pread(file.descriptor, size, 0)
            if len(data) != size:
                return None
            made = compress(data)
            return made if len(made) < size else b""

        if size <= ON_THE_LOOP:
            return work()
        # Never abandoned: the descriptor is closed behind it, and its number would soon be another file's.
        return await trio.to_thread.run_sync(work, limiter=self._threads)


def etag_of_coded(etag: str, coding: str) -> str:
    """The entity tag of what was compressed here from the file with `etag`: another one, and weak."""
    return f'W/{etag.removeprefix("W/")[:-1]}-{coding}"'
