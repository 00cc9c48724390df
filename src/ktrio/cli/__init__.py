"""The command line: one module a command; each turns options into settings and calls `ktrio.serve`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import click

from ktrio.cli._options import version_option
from ktrio.cli._terminal import ErrorsOnTerminal
from ktrio.cli.echo import echo
from ktrio.cli.serve import serve
from ktrio.cli.top import top

# Bad usage or settings, as for every Unix command.
USAGE_ERROR: Final = 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try 'ktrio serve' in a folder, open the address it prints, and press Ctrl-C during a download.",
)
@version_option
def cli() -> None:
    """A server on workqueues that always stops when told.

    The first Ctrl-C (or SIGTERM) lets requests in progress finish within the grace, the second one cuts them, the third
    ends the process. Exit status: 0 all answered, 4 something was cut by the grace, 130 or 143 by a second signal,
    2 wrong usage or settings, 1 anything else.

    Ctrl-\\ (or SIGQUIT) prints a table of the connections, SIGUSR1 opens log files anew; neither stops anything. 'ktrio
    top' watches the workqueues of a server that was started with --monitor.
    """


cli.add_command(serve)
cli.add_command(echo)
cli.add_command(top)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit status. Errors of usage are one line on standard error."""
    logging.basicConfig(level=logging.WARNING, handlers=[ErrorsOnTerminal()])
    try:
        status: object = cli.main(list(arguments), prog_name="ktrio", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE_ERROR
    except click.UsageError as error:
        command = _command_of(arguments)
        click.echo(f"{command}: {error.format_message()} (see '{command} --help')", err=True)
        return USAGE_ERROR
    except click.ClickException as error:
        click.echo(f"{_command_of(arguments)}: {error.format_message()}", err=True)
        return USAGE_ERROR
    return status if isinstance(status, int) else 0


def _command_of(arguments: Sequence[str]) -> str:
    """The command that the arguments name, for messages; click does not know it in all of its errors."""
    return next((f"ktrio {argument}" for argument in arguments[:1] if argument in cli.commands), "ktrio")
