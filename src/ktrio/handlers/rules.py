"""Redirects, header fields and caching by path: what a rules file says, checked before anything is served.

A rules file is TOML, with three kinds of table::

    [[redirect]]                # asked before any file; the first that matches
    from = "/old/**"
    to = "/new/$1"              # a path, or a whole URL; $1 is what the first wildcard stands for
    status = 301                # 302 if not said

    [[header]]                  # all that match, the later over the earlier; "" takes a field away
    path = "/**"
    set = { X-Frame-Options = "DENY" }

    [[cache]]                   # Cache-Control of files, never of errors and listings; the last that matches
    path = "/assets/**"
    control = "public, max-age=31536000, immutable"

Paths are patterns (`ktrio.handlers._patterns`). What a peer sends reaches an answer only by ``$1``, percent-encoded and
behind the host, so it can neither add a field nor choose where a redirect leads to.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, final
from urllib.parse import quote

from ktrio.handlers._patterns import compile_pattern, path_to_match, wildcards_in

__all__ = ["CacheRule", "HeaderRule", "Redirect", "Rules", "RulesError", "read_rules", "rules_of"]

REDIRECTIONS: Final = (301, 302, 303, 307, 308)
"""The statuses of a redirect (RFC 9110 section 15.4)."""

_MOST_STEPS: Final = 20  # redirects one behind the other; browsers give up there
_MOST_BYTES: Final = 4 * 1024 * 1024  # of a rules file: a wrong file is not read for long

_FIELD_NAME: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_TARGET: Final = re.compile(r"(?:https?://[A-Za-z0-9.:\[\]_-]+)?(/[\x21-\x5b\x5d-\x7e]*)?")
_REFERENCE: Final = re.compile(r"\$([0-9])")

# What the protocol says, or what the file itself says; another value would be a lie that breaks clients.
_NOT_FROM_RULES: Final = frozenset(
    {
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
    }
)
_REMEDIES: Final = {
    "cache-control": "write a [[cache]] rule, so that errors are not kept",
    "content-type": "use media types (--mime)",
    "location": "write a [[redirect]] rule",
}

# RFC 9111 section 5.2.2, RFC 5861, RFC 8246; those with a number behind them are True.
_DIRECTIVES: Final = {
    "immutable": False,
    "max-age": True,
    "must-revalidate": False,
    "must-understand": False,
    "no-cache": False,
    "no-store": False,
    "no-transform": False,
    "private": False,
    "proxy-revalidate": False,
    "public": False,
    "s-maxage": True,
    "stale-if-error": True,
    "stale-while-revalidate": True,
}


@final
class RulesError(ValueError):
    """A rules file that cannot be read or says what cannot be done: one line with file, rule, key and remedy."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Paths that `pattern` matches are somewhere else.

    Raises:
      ValueError: they cannot be; one line that says why.
    """

    pattern: str
    to: str
    status: int = 302

    def __post_init__(self) -> None:
        compile_pattern(self.pattern)
        if self.status not in REDIRECTIONS:
            raise ValueError(f"'status' is one of {', '.join(map(str, REDIRECTIONS))}, not {self.status!r}")
        match = _TARGET.fullmatch(self.to)
        if not self.to or match is None or self.to.startswith("//"):
            raise ValueError(
                f"'to' is a path such as '/new/$1' or a URL such as 'https://example.org/', in visible ASCII and "
                f"percent-encoded, not {self.to!r}"
            )
        for found in _REFERENCE.finditer(self.to):
            if not 1 <= int(found[1]) <= wildcards_in(self.pattern):
                raise ValueError(f"'to' has {found[0]!r}, but 'from' has {wildcards_in(self.pattern)} wildcards")

    def location(self, match: re.Match[str], query: str | None) -> str:
        """Where what has matched is; with the query of the request, unless the rule has its own."""
        where = _REFERENCE.sub(lambda found: _quoted(match[int(found[1])] or ""), self.to)
        if where.startswith("/"):
            where = "/" + where.lstrip("/")  # two of them would begin with a host
        if query is None or "?" in where:
            return where
        path, sign, fragment = where.partition("#")
        return f"{path}?{quote(query, safe=_PLAIN_IN_QUERY)}{sign}{fragment}"


_PLAIN_IN_QUERY: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="/")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRule:
    """Answers at paths that `pattern` matches get these fields, by lower-case name; ``""`` takes one away.

    Raises:
      ValueError: a field is not a rule's to set, or cannot be sent.
    """

    pattern: str
    fields: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        compile_pattern(self.pattern)
        for name, value in self.fields:
            if not _FIELD_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a header field")
            if name in _NOT_FROM_RULES or name in _REMEDIES:
                remedy = _REMEDIES.get(name, "the server says it itself; leave it out")
                raise ValueError(f"the field {name!r} cannot be set by a rule: {remedy}")
            if not _FIELD_VALUE.fullmatch(value):
                raise ValueError(f"the field {name!r} has a value that is not visible ASCII in one line: {value!r}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRule:
    """Files at paths that `pattern` matches have this ``Cache-Control`` (RFC 9111 section 5.2.2).

    Raises:
      ValueError: it has a directive there is not, or one without its number.
    """

    pattern: str
    control: str

    def __post_init__(self) -> None:
        compile_pattern(self.pattern)
        for each in self.control.split(","):
            name, sign, argument = each.strip().lower().partition("=")
            has_number = _DIRECTIVES.get(name)
            if has_number is None:
                raise ValueError(f"'control' has {each.strip()!r}; there are {', '.join(_DIRECTIVES)}")
            if has_number != (argument.isascii() and argument.isdigit()) or has_number != bool(sign):
                raise ValueError(f"'control' has {each.strip()!r}; write {name}{'=SECONDS' if has_number else ''}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Every rule of a file, each kind in its order.

    Raises:
      ValueError: redirects lead in a circle.
    """

    redirects: tuple[Redirect, ...] = ()
    headers: tuple[HeaderRule, ...] = ()
    caches: tuple[CacheRule, ...] = ()

    def __post_init__(self) -> None:
        compiled = [(compile_pattern(each.pattern), each) for each in self.redirects]
        for each in self.redirects:
            if leads_in_a_circle(each, compiled):
                raise ValueError(
                    f"the redirect from {each.pattern!r} to {each.to!r} leads in a circle: its target is redirected "
                    f"again, over more than {_MOST_STEPS} steps; leave the target out of the 'from' of every redirect"
                )


def leads_in_a_circle(redirect: Redirect, redirects: Sequence[tuple[re.Pattern[str], Redirect]]) -> bool:
    """Would a client that follows `redirect`, and all that come then, go on for ever?

    Tried with an ``x`` for wildcards. What a wildcard stands for may still lead back to the very path it came
    from; that is served instead of redirected.
    """
    where = _REFERENCE.sub("x", redirect.to)
    for _ in range(_MOST_STEPS):
        if not where.startswith("/"):
            return False
        path = path_to_match(re.split("[?#]", where)[0]) or ""
        found = next(
            (each.location(match, None) for pattern, each in redirects if (match := pattern.fullmatch(path))), None
        )
        if found is None:
            return False
        where = found
    return True


def read_rules(path: str | os.PathLike[str]) -> Rules:
    """The rules of a file; read now, once.

    Raises:
      RulesError: it cannot be read, is no TOML, or has a rule that cannot be.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise RulesError(f"cannot read the rules {name!r}: {error.strerror}") from error
    except ValueError as error:
        raise RulesError(f"cannot read the rules {name!r}: this cannot be a path") from error
    if len(text) > _MOST_BYTES:
        raise RulesError(f"{name}: over {_MOST_BYTES} bytes are no rules")
    try:
        return rules_of(tomllib.loads(text.decode()), name=name)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{name}: {error}; rules are written in TOML") from None
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise RulesError(f"{name}: line {line} is not UTF-8") from None


def rules_of(tables: Mapping[str, object], *, name: str = "rules") -> Rules:
    """The rules of a mapping that is shaped like a rules file; `name` is what errors call it.

    Raises:
      RulesError: it has a rule that cannot be.
    """
    unknown = set(tables) - {"redirect", "header", "cache"}
    if unknown:
        raise RulesError(f"{name}: there is no {min(unknown)!r}; write [[redirect]], [[header]] or [[cache]]")
    try:
        return Rules(
            redirects=tuple(_redirect(each) for each in _tables(tables, "redirect", name)),
            headers=tuple(_header_rule(each) for each in _tables(tables, "header", name)),
            caches=tuple(_cache_rule(each) for each in _tables(tables, "cache", name)),
        )
    except RulesError:
        raise
    except ValueError as error:
        raise RulesError(f"{name}: {error}") from None


@final
class _Table:
    """One table of a file, and how to call it in errors. Legend: I set once · T taken from by its reader only."""

    def __init__(self, values: Mapping[str, object], what: str) -> None:
        self._values = dict(values)  # T
        self.what = what  # I

    def text(self, key: str) -> str:
        """The string of a key that must be there."""
        value = self._values.pop(key, None)
        if not isinstance(value, str):
            state = "is missing" if value is None else f"is a text in quotes, not {value!r}"
            raise RulesError(f"{self.what}: {key!r} {state}")
        return value

    def number(self, key: str, default: int) -> int:
        """The whole number of a key, or `default`."""
        value = self._values.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise RulesError(f"{self.what}: {key!r} is a number, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[tuple[str, str], ...]:
        """The table of strings of a key that must be there, its names in lower case."""
        value = self._values.pop(key, None)
        found = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        texts = {name.lower(): each.strip() for name, each in found.items() if isinstance(each, str)}
        if not found or len(texts) != len(found):
            raise RulesError(f'{self.what}: {key!r} is a table such as {{ X-Frame-Options = "DENY" }}')
        return tuple(texts.items())

    def end(self) -> None:
        """Raise if there is a key that nobody has taken: a misspelt one would be a rule that does nothing."""
        if self._values:
            raise RulesError(f"{self.what}: there is no key {min(self._values)!r}")


def _tables(tables: Mapping[str, object], kind: str, name: str) -> list[_Table]:
    found = tables.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in cast("list[object]", found)):
        raise RulesError(f"{name}: write [[{kind}]], with two brackets, for each rule")
    rows = cast("list[Mapping[str, object]]", found)
    return [_Table(each, f"{name}: [[{kind}]] number {at}") for at, each in enumerate(rows, 1)]


def _redirect(table: _Table) -> Redirect:
    pattern, to, status = table.text("from"), table.text("to"), table.number("status", 302)
    table.end()
    try:
        return Redirect(pattern=pattern, to=to, status=status)
    except ValueError as error:
        raise RulesError(f"{table.what}: {error}") from None


def _header_rule(table: _Table) -> HeaderRule:
    pattern, fields = table.text("path"), table.texts("set")
    table.end()
    try:
        return HeaderRule(pattern=pattern, fields=fields)
    except ValueError as error:
        raise RulesError(f"{table.what}: {error}") from None


def _cache_rule(table: _Table) -> CacheRule:
    pattern, control = table.text("path"), table.text("control")
    table.end()
    try:
        return CacheRule(pattern=pattern, control=control)
    except ValueError as error:
        raise RulesError(f"{table.what}: {error}") from None
