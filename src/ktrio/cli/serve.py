"""``ktrio serve``: a folder over HTTP/1.1."""

from __future__ import annotations

from urllib.parse import unquote

import click

from ktrio.cli._folder_options import (
    folder_options,
    folder_options_of,
    folders_of,
    site_options,
    site_options_of,
)
from ktrio.cli._options import (
    Values,
    access_log_of,
    address_options,
    http_options,
    log_options,
    queue_options,
    server_options,
    settings_of,
    timeout_options,
    version_option,
)
from ktrio.cli._terminal import Terminal, print_timeouts, raise_limit, run_or_explain, say, say_nothing
from ktrio.commands import run_http_command


@click.command()
@version_option
@click.argument("folder", metavar="[DIR]", required=False)
@address_options(8081)
@folder_options
@site_options
@queue_options
@server_options
@timeout_options(idle=5.0)
@http_options
@log_options
def serve(folder: str | None, **values: Values) -> int:
    """Serve the folder DIR (default: this one) over HTTP.

    Nothing outside the folder is served, nor are dotfiles, unless you say so. Ctrl-C lets downloads in progress finish,
    Ctrl-\\ shows who is connected.
    """
    asked = dict(values)
    folders = folders_of(folder, asked)
    settings = settings_of(
        asked,
        folders=folders,
        files=folder_options_of(asked),
        site=site_options_of(asked),
        access_log=access_log_of(asked),
    )
    if values["print_timeouts"]:
        print_timeouts(settings)
        return 0
    speak = say_nothing if values["quiet"] else say
    raise_limit(speak)
    terminal = Terminal(f"serving {_shown(folders)}", settings, speak)
    return run_or_explain(lambda: run_http_command(settings, terminal))


def _shown(folders: tuple[tuple[str, str], ...]) -> str:
    """Each folder, and the path it is at if that is not the root."""
    return ", ".join(where if path == "/" else f"{where} at {unquote(path)}" for path, where in folders)
