"""Is this request for us? The hosts that a server answers for (RFC 9110 sections 4.3.3, 7.2 and 7.4).

A page of anybody's can let its own name point at this machine, and then read what is served here as if it were its own
(DNS rebinding). Its requests give themselves away by their ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, final

# reg-name of what people call hosts, or an IPv4 address; an IP-literal. IDNs stand in ``Host`` as "xn--...".
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]")


def host_name(name: str) -> str:
    """`name`, as it is compared: in lower case, IPv6 in brackets, without the dot of a complete name.

    ``*.`` before a name stands for whatever lies below it.

    Raises:
      ValueError: it is no name of a host; a port is none of it.
    """
    lower = name.lower()
    if lower.count(":") > 1 and not lower.startswith("["):
        lower = f"[{lower}]"
    bare = lower.removeprefix("*.")
    if not _NAME.fullmatch(bare) or (bare != lower and bare.startswith("[")):
        raise ValueError(
            f"{name!r} is not the name of a host: give it without port, as example.org, *.example.org, 192.0.2.1 or ::1"
        )
    return lower.removesuffix(".")


def host_of(authority: str) -> str:
    """The host of a well-formed ``Host``, without its port (RFC 9110 section 7.2), as `host_name` writes it."""
    lower = authority.lower()
    host = lower[: lower.find("]") + 1] if lower.startswith("[") else lower.partition(":")[0]
    return host.removesuffix(".")


@final
class AllowedHosts:
    """The hosts a server answers for; `names` as of `host_name`. Legend: I set once."""

    __slots__ = ("_below", "_names")

    def __init__(self, names: Iterable[str]) -> None:
        known = [host_name(name) for name in names]
        self._names = frozenset(name for name in known if not name.startswith("*"))  # I
        self._below = tuple(name[1:] for name in known if name.startswith("*"))  # I: each with its leading dot

    def allow(self, authority: str | None) -> bool:
        """Is a request with this ``Host`` for one of them? None names no host, and so none of them."""
        if authority is None:
            return False
        host = host_of(authority)
        return host in self._names or host.endswith(self._below)

    def __repr__(self) -> str:
        return f"<AllowedHosts {', '.join([*sorted(self._names), *(f'*{each}' for each in self._below)])}>"
