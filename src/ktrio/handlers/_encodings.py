"""Files in fewer bytes: siblings that somebody has compressed before, and text that is compressed on the way.

*Siblings* are ``page.html.br``, ``page.html.zst`` and ``page.html.gz`` beside ``page.html``. One is sent instead if the
client accepts its coding, if it is smaller, and if it is not older than what it stands for.

*On the way* only what shrinks is compressed: text of `LEAST` to `MOST` bytes, in a worker thread unless it is small,
and remembered by what it was made of (coding and the file's own entity tag), up to `REMEMBERED_BYTES` for a handler.
Two versions of a library may compress differently, so the entity tag of what was compressed here is a weak one.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final, Protocol, cast, final

from ktrio.http.media_types import media_type_of

LEAST: Final = 256  # bytes; below that the field that announces the coding eats what it saves
MOST: Final = 8 * 1024 * 1024  # bytes; a text that long is data: whoever serves it has a sibling made once
ON_THE_LOOP: Final = 4 * 1024  # bytes that are compressed in a fraction of a millisecond
REMEMBERED_BYTES: Final = 32 * 1024 * 1024

SUFFIXES: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""Content codings of siblings, best first, and the suffix of each."""

Compress = Callable[[bytes], bytes]

_COMPRESSIBLE: Final = frozenset(
    {
        "application/json",
        "application/manifest+json",
        "application/jsonl",
        "application/toml",
        "application/yaml",
        "application/xml",
        "application/wasm",
        "application/rtf",
        "application/vnd.apple.mpegurl",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "font/ttf",
        "font/otf",
        "font/collection",
        "model/obj",
        "model/stl",
    }
)


def is_compressible(media_type: str) -> bool:
    """Is this a type whose files usually shrink: text, or something written like text, or a plain grid of numbers?"""
    bare = media_type.partition(";")[0]
    return bare.startswith("text/") or bare in _COMPRESSIBLE or bare.endswith(("+json", "+xml"))


@lru_cache(maxsize=1024)
def may_have_variants(name: str) -> bool:
    """May a file of that name be sent in several codings? Then its answers say ``Vary: Accept-Encoding``."""
    return is_compressible(media_type_of(name))


def _gzip(data: bytes) -> bytes:
    # No time of making: the same bytes give the same bytes.
    return gzip.compress(data, compresslevel=6, mtime=0)


def compressors() -> dict[str, Compress]:
    """What this Python can compress with, best first: gzip always, br and zstd with the extra ``compression``."""
    found: dict[str, Compress] = {}
    with contextlib.suppress(ImportError):
        import brotli  # type: ignore[import-untyped, unused-ignore]

        found["br"] = cast("Compress", partial(brotli.compress, quality=5))  # pyright: ignore[reportUnknownMemberType]
    with contextlib.suppress(ImportError):
        import zstandard

        found["zstd"] = lambda data: zstandard.ZstdCompressor(level=6).compress(data)
    found["gzip"] = _gzip
    return found


@final
class StreamCompressor:
    """Compresses one text piece by piece, each so that what was given until then can be read.

    Legend: I set once.
    """

    __slots__ = ("_finish", "_flush", "_process")

    def __init__(
        self, process: Callable[[bytes], bytes], flush: Callable[[], bytes], finish: Callable[[], bytes]
    ) -> None:
        self._process = process  # I
        self._flush = flush  # I
        self._finish = finish  # I

    def piece(self, data: bytes) -> bytes:
        """The next piece."""
        return self._process(data) + self._flush()

    def last(self, data: bytes) -> bytes:
        """The last piece, or all of it."""
        return self._process(data) + self._finish()


def not_compressed() -> StreamCompressor:
    """The one that leaves everything as it is."""
    return StreamCompressor(bytes, bytes, bytes)


def _gzip_stream() -> StreamCompressor:
    stream = zlib.compressobj(5, zlib.DEFLATED, 31)
    return StreamCompressor(stream.compress, partial(stream.flush, zlib.Z_SYNC_FLUSH), stream.flush)


class _BrotliStream(Protocol):
    def process(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...

    def finish(self) -> bytes: ...


def stream_compressors() -> dict[str, Callable[[], StreamCompressor]]:
    """What this Python can compress with piece by piece, best first; quicker than `compressors`, as it is used once."""
    found: dict[str, Callable[[], StreamCompressor]] = {}
    with contextlib.suppress(ImportError):
        import brotli  # type: ignore[import-untyped, unused-ignore]

        def _brotli_stream() -> StreamCompressor:
            stream = cast("_BrotliStream", brotli.Compressor(quality=4))  # pyright: ignore[reportUnknownMemberType]
            return StreamCompressor(stream.process, stream.flush, stream.finish)

        found["br"] = _brotli_stream
    with contextlib.suppress(ImportError):
        import zstandard

        def _zstd_stream() -> StreamCompressor:
            stream = zstandard.ZstdCompressor(level=3).compressobj()
            flush = partial(stream.flush, zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            return StreamCompressor(stream.compress, flush, stream.flush)

        found["zstd"] = _zstd_stream
    found["gzip"] = _gzip_stream
    return found


@final
class Remembered:
    """What was compressed before, the most recently used of it; bounded by bytes.

    Legend: I set once · S changed only in one synchronous stretch.
    """

    __slots__ = ("_entries", "_limit", "bytes")

    def __init__(self, limit: int = REMEMBERED_BYTES) -> None:
        self._limit = limit  # I
        self._entries: OrderedDict[tuple[str, str], bytes] = OrderedDict()  # S: by coding and tag, oldest use first
        self.bytes = 0  # S: of the entries

    def get(self, coding: str, etag: str) -> bytes | None:
        """What the file with this entity tag was compressed to, if that is remembered; ``b""``: it did not shrink."""
        found = self._entries.get((coding, etag))
        if found is not None:
            self._entries.move_to_end((coding, etag))
        return found

    def put(self, coding: str, etag: str, data: bytes) -> None:
        """Remember it, and forget what has not been used for longest."""
        before = self._entries.pop((coding, etag), b"")
        self._entries[coding, etag] = data
        self.bytes += len(data) - len(before)
        while self.bytes > self._limit or len(self._entries) > 4096:
            _key, dropped = self._entries.popitem(last=False)
            self.bytes -= len(dropped)

    def __repr__(self) -> str:
        return f"<Remembered {len(self._entries)} of {self.bytes} bytes>"
