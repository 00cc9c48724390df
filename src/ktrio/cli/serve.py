"""``ktrio serve``: a folder over HTTP/1.1."""

from __future__ import annotations

import sys

import click

from ktrio.cli._folder_options import folder_options, folder_options_of
from ktrio.cli._options import (
    Values,
    address_options,
    http_options,
    queue_options,
    server_options,
    settings_of,
    timeout_options,
    version_option,
)
from ktrio.cli._terminal import Terminal, print_timeouts, raise_limit, run_or_explain, say, say_nothing, write_log
from ktrio.commands import run_http_command


@click.command()
@version_option
@click.argument("folder", metavar="[DIR]", default=".")
@address_options(8081)
@folder_options
@queue_options
@server_options
@timeout_options(idle=5.0)
@http_options
@click.option(
    "--access-log/--no-access-log",
    default=None,
    show_default="on if standard error is a terminal",
    help="Write a line per request to standard error.",
)
def serve(folder: str, access_log: bool | None, **values: Values) -> int:
    """Serve the folder DIR (default: this one) over HTTP.

    Nothing outside the folder is served, nor are dotfiles, unless you say so. Ctrl-C lets downloads in progress finish,
    Ctrl-\\ shows who is connected.
    """
    if not folder:
        raise click.BadParameter("it is empty; give a folder, or '.' for this one", param_hint="'DIR'")
    logs = sys.stderr is not None and sys.stderr.isatty() and not values["quiet"] if access_log is None else access_log
    settings = settings_of(dict(values), folder=folder, files=folder_options_of(dict(values)), access_log=logs)
    if values["print_timeouts"]:
        print_timeouts(settings)
        return 0
    speak = say_nothing if values["quiet"] else say
    raise_limit(speak)
    terminal = Terminal(f"serving {folder}", settings, speak)
    return run_or_explain(lambda: run_http_command(settings, terminal, write_log))
