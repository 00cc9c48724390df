"""The servers that are measured: how each is started, and why one may be missing.

To add a peer, add a row to `PEERS`. The words of a command may hold `{python}`, `{port}`, `{site}` (the folder that is
served), `{servers}` (benchmarks/servers) and `{scratch}` (a folder to write to); results show the command like that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import Core, Server, free_port

SERVERS = Path(__file__).parent / "servers"
SUBJECT = "ktrio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server and how to start it.

    name: short, for the command line.
    does: what it does for a request, in a few words.
    command: see the module's docstring.
    module, program: what must be importable or on the PATH, and where its version comes from.
    config: a file of `servers` that is filled in and copied to `scratch`.
    """

    name: str
    does: str
    command: tuple[str, ...]
    module: str = ""
    program: str = ""
    config: str = ""

    def missing(self) -> str:
        """Why it cannot run here, with the remedy; empty if it can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"the module {self.module} is not installed (make bench installs it)"
        if self.program and find_program(self.program) is None:
            return f"{self.program} is not installed (Debian: apt-get install {self.program}-light)"
        return ""

    def start(self, core: Core, site: Path, scratch: Path) -> Server:
        """The server, to be entered."""
        own = scratch / self.name
        own.mkdir(exist_ok=True)
        port = free_port()
        words = {
            "python": sys.executable,
            "port": str(port),
            "site": str(site),
            "servers": str(SERVERS),
            "scratch": str(own),
        }
        if self.config:
            template = string.Template((SERVERS / self.config).read_text())
            (own / self.config).write_text(template.substitute(words))
        command = [word.format_map(words) for word in self.command]
        if self.program:
            command[0] = find_program(self.program) or self.program
        return Server(self.name, command, port, core, own)


PEERS = (
    Peer(
        name=SUBJECT,
        does="ktrio serve as it ships: a file, every limit and deadline on",
        command=("{python}", "-m", "ktrio", "serve", "{site}", "--port", "{port}", "--no-access-log"),
        module="ktrio",
    ),
    Peer(
        name="uvicorn-h11",
        does="uvicorn on asyncio's loop with h11: a constant ASGI reply",
        command=(
            *("{python}", "-m", "uvicorn", "asgi_constant:application", "--app-dir", "{servers}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--backlog", "1024"),
            *("--loop", "asyncio", "--http", "h11", "--lifespan", "off"),
            *("--no-access-log", "--log-level", "warning"),
        ),
        module="uvicorn",
    ),
    Peer(
        name="trio-h11",
        does="trio.serve_tcp with h11 in a plain loop: a constant reply",
        command=("{python}", "{servers}/trio_tcp.py", "{port}", "--parser", "h11"),
        module="trio",
    ),
    Peer(
        name="trio-bare",
        does="trio.serve_tcp, which only looks for the blank line: a constant reply",
        command=("{python}", "{servers}/trio_tcp.py", "{port}", "--parser", "none"),
        module="trio",
    ),
    Peer(
        name="threads",
        does="a thread per connection, which only looks for the blank line: a constant reply",
        command=("{python}", "{servers}/threads.py", "{port}"),
    ),
    Peer(
        name="nginx",
        does="nginx, one worker, sendfile, no open_file_cache: a file",
        command=("nginx", "-p", "{scratch}", "-c", "{scratch}/nginx.conf", "-e", "stderr"),
        program="nginx",
        config="nginx.conf",
    ),
)


def find_program(name: str) -> str | None:
    """Where a program lies; Debian keeps daemons where a user's PATH does not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def version_of_program(name: str, flag: str) -> str | None:
    """What a program says its version is; `None` if it is not installed."""
    path = find_program(name)
    if path is None:
        return None
    said = subprocess.run([path, flag], capture_output=True, text=True, timeout=10)
    found = re.search(r"\d+\.\d[\w.]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def versions() -> dict[str, str | None]:
    """Of everything that takes part; `None` where it is not installed."""
    found: dict[str, str | None] = {}
    for name in ("ktrio", "trio", "h11", "uvicorn", "aiojobs"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    for name, flag in (("nginx", "-v"), ("wrk", "-v"), ("ab", "-V")):
        found[name] = version_of_program(name, flag)
    return found
