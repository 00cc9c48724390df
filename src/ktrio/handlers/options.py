"""What `files` was asked for, as records: checked when they are made, read once when the handler is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final, get_args

from ktrio.handlers.cors import check_origins
from ktrio.handlers.rules import Rules
from ktrio.http.media_types import check_media_types
from ktrio.http.target import is_plain_name

Dotfiles: TypeAlias = Literal["deny", "unlisted", "allow"]
"""What becomes of names that begin with a dot: not served, served to whoever knows the name, or served and listed."""

Links: TypeAlias = Literal["inside", "owner", "never", "all"]
"""Which symbolic links are followed: see `ktrio.handlers._links`."""

SecurityHeaders: TypeAlias = Literal["off", "basic", "strict"]
"""How much browsers are told to be careful: see `ktrio.handlers.site.security_fields`."""

DOTFILES: Final[tuple[Dotfiles, ...]] = get_args(Dotfiles)
"""Every policy for dotfiles."""
LINKS: Final[tuple[Links, ...]] = get_args(Links)
"""Every policy for links."""
SECURITY_HEADERS: Final[tuple[SecurityHeaders, ...]] = get_args(SecurityHeaders)
"""Every level of security headers."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """How one folder is served. The defaults are those of `ktrio.files`, where each is explained.

    Raises:
      ValueError: an option has a value it cannot have; one line that names it.
    """

    index: tuple[str, ...] = ("index.html",)
    listing: bool = True
    spa: bool = False
    error_pages: bool = False
    precompressed: bool = True
    compress: bool = True
    dotfiles: Dotfiles = "deny"
    links: Links = "inside"
    media_types: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for name in self.index:
            if not is_plain_name(name):
                raise ValueError(f"index file {name!r} is not the name of a file")
        if self.dotfiles not in DOTFILES:
            raise ValueError(f"dotfiles must be one of {', '.join(DOTFILES)}, not {self.dotfiles!r}")
        if self.links not in LINKS:
            raise ValueError(f"links must be one of {', '.join(LINKS)}, not {self.links!r}")
        check_media_types(self.media_types)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What holds for all that a site serves, from one folder or several. The defaults are those of `ktrio.files`.

    Raises:
      ValueError: an option has a value it cannot have; one line that names it.
    """

    rules: Rules | str | os.PathLike[str] | None = None
    """Redirects, header fields and caching by path, or the file they are read from when the handler is made."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may read what is served; ``*``: all."""
    security_headers: SecurityHeaders = "basic"
    immutable: bool = False

    def __post_init__(self) -> None:
        check_origins(self.cors)
        if self.security_headers not in SECURITY_HEADERS:
            raise ValueError(
                f"security_headers must be one of {', '.join(SECURITY_HEADERS)}, not {self.security_headers!r}"
            )
