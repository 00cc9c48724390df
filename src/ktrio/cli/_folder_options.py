"""The options of `serve` that say what is served of a folder, and how."""

from __future__ import annotations

from typing import Final

import click

from ktrio.cli._options import Command, Values
from ktrio.cli._values import Pair
from ktrio.config import DOTFILES, LINKS, FolderOptions

_MIME: Final = Pair("SUFFIX=TYPE", "'.glsl=text/plain'")


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


def folder_options_of(values: Values) -> FolderOptions:
    """How folders are served, by the options of the command.

    Raises:
      click.UsageError: an option has a value it cannot have.
    """
    try:
        return FolderOptions(
            index=values["index"] or ("index.html",),
            listing=values["listing"],
            compress=values["compress"],
            dotfiles=values["dotfiles"],
            links=values["links"],
            media_types=dict(values["mime"]),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
