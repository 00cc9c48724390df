"""What can go wrong with a running server, named by whose fault it is."""

from __future__ import annotations

from typing import Final, cast, final

# Characters of the last error's own text in a message of one line.
EXCERPT: Final = 200


@final
class BrokenServerError(Exception):
    """The server answered nothing but unexpected errors, more than its budget allows, and has shut down because of it.

    You get it from every ``serve_...`` function when the last connection has ended: `ServerOptions.max_errors`
    unexpected errors had come within `ServerOptions.errors_within` seconds, and nothing had ended well in between. The
    fault of the handler, or of what it depends on: mend that; each error is in the log. ``__cause__`` is the last one.
    """


@final
class ServerEndedError(RuntimeError):
    """The server ended before it had the connections that `Server.wait_for_connections` waits for; it never will.

    The caller's fault, or nobody's: somebody shut the server down meanwhile. Nothing is to be done.
    """


def one_line(error: BaseException) -> str:
    """The type and the text of `error`, of the first one if it is a group, in one line that is not too long."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    text = " ".join(str(error).split())
    if len(text) > EXCERPT:
        text = text[:EXCERPT] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
