"""The options of `serve` that say what is served of a folder, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import click

from ktrio.cli._options import Command, Values
from ktrio.cli._values import Pair
from ktrio.config import DOTFILES, LINKS, SECURITY_HEADERS, FolderOptions, SiteOptions

_MIME: Final = Pair("SUFFIX=TYPE", "'.glsl=text/plain'")
_MOUNT: Final = Pair("/PATH=DIR", "'/docs=build/docs'")


def folder_options(command: Command) -> Command:
    """What is served, and how."""
    for option in (
        click.option("--mime", type=_MIME, multiple=True, metavar=_MIME.name,
                     help="Media type of files with this suffix (may be repeated)."),
        click.option("--links", type=click.Choice(LINKS), default="inside", show_default=True,
                     help="Symbolic links to follow: those that end inside the folder; of these, those of the same "
                     "owner as their target; none; or all, out of the folder too."),
        click.option("--dotfiles", type=click.Choice(DOTFILES), default="deny", show_default=True,
                     help="Names that begin with a dot: 404 but for /.well-known/, served but not listed, or served."),
        click.option("--error-pages", is_flag=True,
                     help="Send 404.html or 40x.html of the folder with a 404, and so on for other errors."),
        click.option("--spa", is_flag=True,
                     help="Answer navigations to unknown paths with the index file, for an app that routes for itself; "
                     "list no folders."),
        click.option("--listing/--no-listing", default=True, show_default="on",
                     help="List folders that have no index file."),
        click.option("--index", multiple=True, metavar="NAME", show_default="index.html",
                     help="File that stands for its folder (may be repeated, the first there is wins)."),
        click.option("--compress/--no-compress", default=True, show_default="on",
                     help="Compress text for clients that accept it. Compressed files beside it (.br, .zst, .gz) are "
                     "sent either way."),
    ):  # fmt: skip
        command = option(command)
    return command


def site_options(command: Command) -> Command:
    """What holds for all that is served."""
    for option in (
        click.option("--security-headers", type=click.Choice(SECURITY_HEADERS), default="basic", show_default=True,
                     help="'basic' says nosniff; 'strict' also keeps others from framing and embedding what is served, "
                     "and says no referrer."),
        click.option("--cors", multiple=True, metavar="ORIGIN",
                     help="Let pages of this origin read what is served, '*' for all (may be repeated)."),
        click.option("--immutable", is_flag=True,
                     help="Have files with a hash in their name (app.3f9c2b7d.js) kept for a year."),
        click.option("--rules", metavar="FILE", help="TOML file with redirects, header fields and caching by path."),
        click.option("--mount", type=_MOUNT, multiple=True, metavar=_MOUNT.name,
                     help="Serve this folder below a path (may be repeated); DIR, if given, is everywhere else."),
    ):  # fmt: skip
        command = option(command)
    return command


def site_options_of(values: Values) -> SiteOptions:
    """What holds for all that is served, by the options of the command.

    Raises:
      click.UsageError: an option has a value it cannot have.
    """
    try:
        return SiteOptions(
            rules=values["rules"],
            cors=values["cors"],
            security_headers=values["security_headers"],
            immutable=values["immutable"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def folders_of(folder: str | None, values: Values) -> tuple[tuple[str, str], ...]:
    """The path and the place of each folder that the command serves. Without DIR and mounts it is this folder.

    Raises:
      click.BadParameter: DIR is empty, a path cannot be one, or is there twice.
    """
    if folder == "":
        raise click.BadParameter("it is empty; give a folder, or '.' for this one", param_hint="'DIR'")
    mounts: Sequence[tuple[str, str]] = values["mount"]
    found = {} if folder is None and mounts else {"/": folder or "."}
    for path, where in mounts:
        names = [name for name in path.split("/") if name]
        if not path.startswith("/") or {".", ".."} & {*names} or "\\" in path:
            raise click.BadParameter(
                f"{path!r} is not a path on the server: give one such as '/docs'", param_hint="'--mount'"
            )
        key = quote("/" + "/".join(names))
        if key in found:
            raise click.BadParameter(f"two folders at {path!r}: leave one out", param_hint="'--mount'")
        found[key] = where
    return tuple(found.items())


def folder_options_of(values: Values) -> FolderOptions:
    """How folders are served, by the options of the command.

    Raises:
      click.UsageError: an option has a value it cannot have.
    """
    try:
        return FolderOptions(
            index=values["index"] or ("index.html",),
            listing=values["listing"],
            spa=values["spa"],
            error_pages=values["error_pages"],
            compress=values["compress"],
            dotfiles=values["dotfiles"],
            links=values["links"],
            media_types=dict(values["mime"]),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
