"""``ktrio echo``: TCP echo, like kecho."""

from __future__ import annotations

import click

from ktrio.cli._options import (
    Values,
    address_options,
    queue_options,
    server_options,
    settings_of,
    timeout_options,
    version_option,
)
from ktrio.cli._terminal import ECHO_PHASES, Terminal, print_timeouts, raise_limit, run_or_explain, say, say_nothing
from ktrio.commands import run_echo_command


@click.command()
@version_option
@address_options(12345)
@queue_options
@server_options
@timeout_options(idle=300.0)
def echo(**values: Values) -> int:
    """Send every byte back (RFC 862). Ctrl-C lets the bytes in hand go out, Ctrl-\\ shows who is connected."""
    settings = settings_of(dict(values))
    if values["print_timeouts"]:
        print_timeouts(settings, ECHO_PHASES)
        return 0
    speak = say_nothing if values["quiet"] else say
    raise_limit(speak)
    terminal = Terminal("echoing", settings, speak)
    return run_or_explain(lambda: run_echo_command(settings, terminal))
