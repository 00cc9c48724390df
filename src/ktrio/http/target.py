"""May this target be served, and as what? The forms of RFC 9112 section 3.2, decoded once and never trusted.

A path becomes a tuple of names to be looked up one below the other. What could name anything but an entry of a folder
is refused here, whatever the file system would make of it: a conforming client sends none of it, because it resolves
dot segments itself (RFC 3986 section 5.2.4) and encodes what must be encoded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from ktrio.http.errors import BadRequest

# absolute-form of a scheme this port can stand for, with its authority (RFC 9112 section 3.2.2).
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

# uri-host [ ":" port ] without userinfo, which RFC 9110 section 4.2.4 says to treat as an error.
_NAME_CHARS: Final = r"[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}"
AUTHORITY: Final = re.compile(rf"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:{_NAME_CHARS})+)(?::[0-9]*)?")

_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def split_target(raw: str, *, method: str = "GET") -> tuple[str, str | None]:
    """The path of a request target, still encoded, and its query (`None`: there was no ``?``).

    Origin form gives its own path, absolute form the path behind its authority (RFC 9112 sections 3.2.1, 3.2.2), and
    ``*`` stands for itself with OPTIONS only (section 3.2.4).

    Raises:
      BadRequest: none of these forms, or a fragment, which no target has.
    """
    if raw == "*":
        if method != "OPTIONS":
            raise BadRequest("The target * is for OPTIONS only.")
        return raw, None
    if not raw.startswith("/"):
        raw = _path_of_absolute(raw)
    if "#" in raw:
        raise BadRequest("A request target has no fragment.")
    path, mark, query = raw.partition("?")
    return path, query if mark else None


def authority_of(raw: str) -> str | None:
    """The host and port an absolute-form target names, which replace ``Host``; `None` for the other forms.

    See RFC 9112 section 3.2.2. Ask only about targets that `split_target` has passed.
    """
    match = None if raw.startswith("/") else _ABSOLUTE.fullmatch(raw)
    return None if match is None else match[1]


def _path_of_absolute(raw: str) -> str:
    """What follows the authority of an absolute-form target; never empty, as section 3.2.1 of RFC 9112 demands."""
    match = _ABSOLUTE.fullmatch(raw)
    if match is None:
        raise BadRequest("The request target is neither a path nor an http URL.")
    if not AUTHORITY.fullmatch(match[1]):
        raise BadRequest("The request target's host is malformed.")
    rest = match[2]
    return rest if rest.startswith("/") else f"/{rest}"


class EmptySegmentError(BadRequest):
    """The path has an empty segment within it, as ``//a///b/`` has: nothing is called that.

    Who knows better, because to him it is the path without them, redirects there; others answer with a 400.
    """


@lru_cache(maxsize=1024)  # the same paths are asked for again and again
def decode_path(path: str) -> tuple[str, ...]:
    """The names along `path`, percent-decoded exactly once as UTF-8; ``/`` gives the empty tuple.

    Bytes that are not UTF-8 become surrogate escapes, so that `os.fsencode` gives them back. Ask ``path.endswith("/")``
    about a slash behind the last.

    Raises:
      BadRequest: the path does not begin with a slash, has a broken escape, a dot segment, a NUL, a slash or a
        backslash in a name (raw or encoded).
      EmptySegmentError: nothing of that, but an empty segment.
    """
    segments = _decode_segments(path)
    if "" in segments:
        raise EmptySegmentError("The path has an empty segment.")
    return segments


@lru_cache(maxsize=1024)
def leading_names(path: str) -> tuple[str, ...]:
    """The names along `path` up to the first empty segment, decoded as by `decode_path`.

    Asked by who shares out paths among others, and leaves it to them what an empty segment is.

    Raises:
      BadRequest: as `decode_path`, but for empty segments.
    """
    segments = _decode_segments(path)
    return segments[: segments.index("")] if "" in segments else segments


@lru_cache(maxsize=1024)
def all_names(path: str) -> tuple[str, ...]:
    """All names along `path`, decoded as by `decode_path`, as if there were no empty segments.

    Asked by who holds rules against paths: an empty segment must not lead past one.

    Raises:
      BadRequest: as `decode_path`, but for empty segments.
    """
    return tuple(each for each in _decode_segments(path) if each)


def _decode_segments(path: str) -> tuple[str, ...]:
    """The segments of `path`, decoded, those within it that are empty among them."""
    if not path.startswith("/") or not path.isascii():
        raise BadRequest("The path does not begin with a slash, or has characters that must be encoded.")
    if _BROKEN_ESCAPE.search(path):
        raise BadRequest("The path has a broken percent-encoding.")
    segments = tuple(_decode_segment(segment) for segment in path[1:].removesuffix("/").split("/"))
    for each in segments:
        if each and not is_plain_name(each):
            raise BadRequest("The path has a segment that cannot name a file.")
    return () if path == "/" else segments


def _decode_segment(segment: str) -> str:
    """One segment, decoded once; bytes that are not UTF-8 survive as surrogate escapes."""
    if "%" not in segment:
        return segment
    return unquote_to_bytes(segment).decode("utf-8", "surrogateescape")


def is_plain_name(name: str) -> bool:
    """Can `name` be looked up in a folder, and mean nothing but one of its entries?

    Asked about every segment of a path, and by a listing about every entry before linking to it. A backslash is a
    separator to browsers and to some file systems, so a name with one is not served.
    """
    return name not in {"", ".", ".."} and not any(char in name for char in "/\\\0")


@lru_cache(maxsize=1024)
def is_hidden(names: tuple[str, ...]) -> bool:
    """Does any of `names` begin with a dot? ``.well-known`` at the root does not count (RFC 8615 section 3)."""
    return any(name.startswith(".") for name in names[names[:1] == (".well-known",) :])
