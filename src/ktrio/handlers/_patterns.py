"""Which paths a rule is about: patterns over decoded paths, matched in one pass whatever a peer asks for.

``*`` stands for any characters within one segment, ``**`` as the last segment for everything below. A pattern that
begins with a slash is about whole paths; one without any is about the last segment, anywhere. A slash at the end means
nothing, in the pattern as in the path: ``/old`` is ``/old/`` too. Everything else stands for itself, as on the disk.

Several ``*`` in one segment take as little as they can, each in an atomic group: a match never tries again what has
failed, so no path makes it take longer than the path is long.
"""

from __future__ import annotations

import re
from typing import Final

from ktrio.http.errors import BadRequest
from ktrio.http.target import all_names, is_plain_name

_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def path_to_match(path: str) -> str | None:
    """The decoded path that patterns are held against; None for a target that has none."""
    try:
        names = all_names(path)
    except BadRequest:
        return None
    return "/" + "/".join(names) + ("/" if names and path.endswith("/") else "")


def wildcards_in(pattern: str) -> int:
    """How many parts of a path `pattern` leaves open: `$1` to `$n` of a redirect."""
    return pattern.replace("**", "*").count("*")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`pattern` as a regular expression for `fullmatch` with what `path_to_match` gives; a group for each wildcard.

    Raises:
      ValueError: it is no pattern; one line that says why.
    """
    if _ESCAPE.search(pattern):
        raise ValueError(f"{pattern!r} is percent-encoded: write names as they are on the disk")
    if not pattern.startswith("/"):
        if "/" in pattern:
            raise ValueError(f"{pattern!r} does not begin with a slash; without one it may hold none, as '*.js'")
        return re.compile(rf"(?s:.*/){_segment(pattern, pattern)}/?")
    segments = [segment for segment in pattern.split("/") if segment]
    below = segments[-1:] == ["**"]
    if below:
        segments.pop()
    fixed = "".join(f"/{_segment(segment, pattern)}" for segment in segments)
    return re.compile(rf"{fixed}(?:/((?s:.*)))?" if below else rf"{fixed}/?")


def _segment(segment: str, pattern: str) -> str:
    if not is_plain_name(segment):
        raise ValueError(f"{pattern!r} has a segment that no path has: {segment!r}")
    if "**" in segment:
        raise ValueError(f"{pattern!r} is no pattern: '**' is the whole last segment, or write '*'")
    if segment == "*":
        return "([^/]+)"
    first, *others = map(re.escape, segment.split("*"))
    if not others:
        return first
    *middle, last = others
    return first + "".join(rf"(?>([^/]*?){each})" for each in middle) + rf"([^/]*){last}"
