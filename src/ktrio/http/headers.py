"""Header fields in order, looked up without regard to case (RFC 9110 section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, cast, final

HeaderSource: TypeAlias = "Headers | Mapping[str, str] | Iterable[tuple[str, str]]"


@final
class Headers:
    """An ordered list of header fields; names are kept in lower case, values as given.

    Values are ``str`` decoded as Latin-1, which maps each octet to one character (RFC 9110 section 5.5).
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: HeaderSource = ()) -> None:
        self._fields: list[tuple[str, str]]
        if isinstance(fields, Headers):
            self._fields = list(fields._fields)
            return
        if isinstance(fields, list):  # the common case: asking an ABC costs more than all the rest
            self._fields = [(name.lower(), value) for name, value in fields]
            return
        # A mapping that is also an iterable of pairs is possible to type checkers only.
        pairs = cast("Mapping[str, str]", fields).items() if isinstance(fields, Mapping) else fields
        self._fields = [(name.lower(), value) for name, value in pairs]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field called `name`, or `default`."""
        name = name.lower()
        for each, value in self._fields:
            if each == name:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """The values of every field called `name`, in order."""
        name = name.lower()
        return [value for each, value in self._fields if each == name]

    def tokens(self, name: str) -> list[str]:
        """The comma-separated members of every field called `name`, lower case (RFC 9110 section 5.6.1)."""
        members = (member.strip().lower() for value in self.get_all(name) for member in value.split(","))
        return [member for member in members if member]

    def add(self, name: str, value: str) -> None:
        """Append a field; others of that name stay."""
        self._fields.append((name.lower(), value))

    def set(self, name: str, value: str) -> None:
        """Replace every field called `name` by one."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Drop every field called `name`; none is no error."""
        name = name.lower()
        self._fields = [field for field in self._fields if field[0] != name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"
