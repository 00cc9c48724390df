"""Where to go instead: the Locations of redirects within a server, pure.

They are relative references (RFC 9110 section 10.2.2) that cannot lead to another host whatever the path was
(``//evil``). They hold below a mount, and the way to a folder also behind a proxy that cuts a prefix off.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from ktrio.handlers.listing import quote_name
from ktrio.http.target import split_target

# Visible ASCII may stand in a Location as it came (RFC 3986 section 3.4); anything else is percent-encoded.
_PLAIN_IN_URL: Final = "".join(chr(code) for code in range(0x21, 0x7F))
_SLASHES: Final = re.compile("/+")


def location_with_slash(name: str, query: str | None) -> str:
    """The Location that adds the slash to the folder `name`, the last segment of the request's path.

    ``./`` keeps a colon in the name from being read as a scheme.
    """
    return f"./{quote_name(name)}/{_suffix(query)}"


def location_without_empty_segments(target: str) -> str:
    """The Location of a request target less the empty segments of its path: ``/a/b?q`` for ``//a///b?q``.

    From the root, as the client sees it, because many clients resolve relative references against such paths in ways of
    their own: Python's `urllib.parse.urljoin` drops the empty segments first. It begins with one slash.
    """
    path, query = split_target(target)
    return f"{quote(_SLASHES.sub('/', path), safe=_PLAIN_IN_URL)}{_suffix(query)}"


def _suffix(query: str | None) -> str:
    return "" if query is None else f"?{quote(query, safe=_PLAIN_IN_URL)}"
