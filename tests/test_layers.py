"""The architecture as a test: who may import what, and how big a file or a function may be.

Every file of the package is read with `ast`. Imports count wherever they stand: at the top, inside a
function, under `TYPE_CHECKING` (a type that may not be imported is a dependency like any other). The tables
below are the law, explained in ARCHITECTURE.md; the second half of this file plants one violation of each
kind in a copy and expects exactly that one to be found.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import ktrio

LIBRARIES: Final = {"workqueue", "net", "http"}
SIBLINGS: Final = {"server", "protocols", "handlers", "instrumentation"}

# What each package or top-level module may import of ktrio. A table of edges, not of rows: `protocols` may
# not import `workqueue` although that lies below it. "ktrio" is ktrio/__init__.py, which may name
# everything; nothing may import from it (but the version), or every edge could be had through it.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "ktrio": LIBRARIES | SIBLINGS | {"serve", "commands", "config", "testing", "cli"},
    "__main__": {"cli"},
    "cli": {"commands", "config"},
    "commands": LIBRARIES | SIBLINGS | {"serve", "config"},
    "serve": LIBRARIES | SIBLINGS | {"config"},
    "config": LIBRARIES | SIBLINGS,
    "testing": LIBRARIES | SIBLINGS | {"serve", "config"},
    "server": {"workqueue", "net"},
    "protocols": {"net", "http"},
    "handlers": {"http"},
    "instrumentation": {"http", "workqueue"},
    "workqueue": set(),
    "net": set(),
    "http": set(),
}
FREE_NAMES_OF_THE_ROOT: Final = {"__version__"}

# What each may import of other projects: these and no others.
THIRD_PARTY: Final[dict[str, set[str]]] = {
    "ktrio": set(),
    "__main__": {"trio"},
    "cli": {"trio", "click", "rich"},
    "commands": {"trio"},
    "serve": {"trio"},
    "config": set(),
    "testing": {"trio"},
    "server": {"trio"},
    "protocols": {"trio"},
    "handlers": {"trio", "brotli", "zstandard"},
    "instrumentation": {"trio"},
    "workqueue": {"trio", "typing_extensions"},  # the latter for type checkers only, which bring it along
    "net": {"trio"},
    "http": {"h11"},
}
ONE_IMPORTER: Final = {"h11": "ktrio.http.h1"}

# What each may not import of the standard library, beside NOWHERE. `http` is a library of pure functions:
# values in, values out. Only the server and what starts it may touch signals: a library that does surprises
# its caller.
SOCKETS: Final = {"socket", "ssl", "select", "selectors", "socketserver"}
NOWHERE: Final = {"asyncio", "concurrent", "multiprocessing"}
NOT_FROM_STDLIB: Final[dict[str, set[str]]] = {
    "ktrio": SOCKETS | {"signal", "threading"},
    "__main__": SOCKETS | {"threading"},
    "cli": set(),
    "commands": SOCKETS,
    "serve": {"ssl", "select", "selectors"},
    "config": SOCKETS | {"signal", "threading"},
    "testing": {"signal"},
    "server": {"ssl", "selectors"},
    "protocols": SOCKETS | {"signal", "threading"},
    "handlers": SOCKETS | {"signal", "threading"},
    "instrumentation": {"ssl", "select", "selectors", "signal"},
    "workqueue": SOCKETS | {"signal"},
    "net": {"signal", "threading"},
    "http": SOCKETS | {"time", "threading", "logging", "random", "secrets", "signal", "subprocess"},
}
# An import by a computed name escapes these tables, so only these two may do it: the lazy exports, and the
# command line, which loads a handler that the user names.
MAY_IMPORT_BY_NAME: Final = {"ktrio", "cli"}

# The scheduler and the server serve any protocol; an identifier that names one says they do not.
NAMES_NO_PROTOCOL: Final = {"server", "workqueue"}
PROTOCOL_WORD: Final = re.compile("http|echo", re.IGNORECASE)

DRAWERS: Final = {"util", "utils", "common", "helpers"}
FILE_LINES: Final = 400
FUNCTION_LINES: Final = 60  # its docstring does not count


@dataclass(frozen=True)
class Source:
    """One parsed file, and the package or top-level module whose row of the tables holds for it."""

    module: str
    layer: str
    text: str
    tree: ast.Module

    def says(self, line: int, what: str) -> str:
        return f"{self.module}:{line}: {what}"


def find_violations(package: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        found.extend(find_violations_in(".".join(parts), path.read_text(encoding="utf-8")))
    return found


@cache  # the plants below read the same package over and over
def find_violations_in(module: str, text: str) -> tuple[str, ...]:
    layer = module.split(".")[1] if "." in module else "ktrio"
    source = Source(module, layer, text, ast.parse(text, module))
    rules = (check_place, check_imports, check_imports_by_name, check_words, check_sizes)
    return tuple(each for rule in rules for each in rule(source))


def check_place(source: Source) -> Iterator[str]:
    if source.layer not in MAY_IMPORT:
        yield source.says(1, f"{source.layer!r} has no row in the tables of tests/test_layers.py")
    for part in source.module.split("."):
        if part.strip("_") in DRAWERS:
            yield source.says(1, f"a module called {part!r} says nothing about what is in it")


def check_imports(source: Source) -> Iterator[str]:
    if source.layer not in MAY_IMPORT:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield source.says(node.lineno, "relative import; the layer must stand in every import line")
        elif isinstance(node, ast.ImportFrom) and node.module == "ktrio":
            for alias in node.names:
                yield from check_edge(source, node.lineno, f"ktrio.{alias.name}")
        elif isinstance(node, ast.ImportFrom):
            yield from check_edge(source, node.lineno, node.module or "")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from check_edge(source, node.lineno, alias.name)


def check_edge(source: Source, line: int, target: str) -> Iterator[str]:
    """Hold one import, by its absolute dotted name, against the row of the importing layer."""
    top, _, rest = target.partition(".")
    layer = source.layer
    if top == "ktrio":
        name = rest.partition(".")[0]
        if name in MAY_IMPORT:
            if name != layer and name not in MAY_IMPORT[layer]:
                yield source.says(line, f"{layer} may not import ktrio.{name}")
        elif name not in FREE_NAMES_OF_THE_ROOT:
            yield source.says(line, f"{layer} takes {target} from ktrio itself; name its module")
    elif top in sys.stdlib_module_names:
        if top in NOT_FROM_STDLIB[layer] | NOWHERE:
            yield source.says(line, f"{layer} may not import {top}")
    elif top in ONE_IMPORTER and source.module != ONE_IMPORTER[top]:
        yield source.says(line, f"only {ONE_IMPORTER[top]} may import {top}")
    elif top not in THIRD_PARTY[layer]:
        yield source.says(line, f"{layer} may not import {top}")


def check_imports_by_name(source: Source) -> Iterator[str]:
    if source.layer in MAY_IMPORT_BY_NAME:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in {"import_module", "__import__"}:
                yield source.says(node.lineno, f"{name}() escapes the layer test")


def check_words(source: Source) -> Iterator[str]:
    if source.layer not in NAMES_NO_PROTOCOL:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant):
            continue
        # Whatever else a node holds as a string is an identifier: name, attribute, argument, alias, module.
        values = [
            value for _, field in ast.iter_fields(node) for value in (field if isinstance(field, list) else [field])
        ]
        for word in sorted({value for value in values if isinstance(value, str) and PROTOCOL_WORD.search(value)}):
            yield source.says(getattr(node, "lineno", 1), f"{source.layer} names a protocol: {word}")


def check_sizes(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield source.says(1, f"{lines} lines, and {FILE_LINES} are enough")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = lines_of(node)
            if count > FUNCTION_LINES:
                yield source.says(node.lineno, f"{node.name} has {count} lines, and {FUNCTION_LINES} are enough")


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    count = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        count -= (first.end_lineno or first.lineno) - first.lineno + 1
    return count


PACKAGE: Final = Path(ktrio.__file__).parent


def test_the_package_keeps_to_its_layers() -> None:
    violations = find_violations(PACKAGE)
    assert not violations, "\n".join(["", *violations])


def test_every_row_of_the_tables_is_about_the_same_layers() -> None:
    assert set(MAY_IMPORT) == set(THIRD_PARTY) == set(NOT_FROM_STDLIB)
    assert set().union(*MAY_IMPORT.values()) <= set(MAY_IMPORT)


def test_the_tables_allow_no_cycle() -> None:
    done: list[str] = []
    while waiting := set(MAY_IMPORT) - set(done):
        ready = {layer for layer in waiting if MAY_IMPORT[layer] <= set(done)}
        assert ready, f"these import each other: {sorted(waiting)}"
        done.extend(sorted(ready))


# kind -> the file planted, its text, and the one thing that must be said about it
PLANTS: Final[dict[str, tuple[str, str, str]]] = {
    "edge not in the table": (
        "protocols/planted.py",
        "from ktrio.workqueue import Work\n",
        "ktrio.protocols.planted:1: protocols may not import ktrio.workqueue",
    ),
    "library that imports another": (
        "net/planted.py",
        "import ktrio.http.headers\n",
        "ktrio.net.planted:1: net may not import ktrio.http",
    ),
    "settings outside serve and cli": (
        "server/planted.py",
        "from ktrio import config\n",
        "ktrio.server.planted:1: server may not import ktrio.config",
    ),
    "edge for types only": (
        "handlers/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ktrio.net.errors import ListenError\n",
        "ktrio.handlers.planted:3: handlers may not import ktrio.net",
    ),
    "edge inside a function": (
        "instrumentation/planted.py",
        "def f():\n    import ktrio.server.roster as roster\n",
        "ktrio.instrumentation.planted:2: instrumentation may not import ktrio.server",
    ),
    "relative import": (
        "net/planted.py",
        "from .errors import ConnectionGone\n",
        "ktrio.net.planted:1: relative import; the layer must stand in every import line",
    ),
    "import through the root": (
        "handlers/planted.py",
        "from ktrio import Work\n",
        "ktrio.handlers.planted:1: handlers takes ktrio.Work from ktrio itself; name its module",
    ),
    "import by name": (
        "http/planted.py",
        "import importlib\nimportlib.import_module('trio')\n",
        "ktrio.http.planted:2: import_module() escapes the layer test",
    ),
    "another project": (
        "http/planted.py",
        "import trio.lowlevel\n",
        "ktrio.http.planted:1: http may not import trio",
    ),
    "drawing outside the command line": (
        "net/planted.py",
        "from rich.console import Console\n",
        "ktrio.net.planted:1: net may not import rich",
    ),
    "clock in a pure library": (
        "http/planted.py",
        "from time import monotonic\n",
        "ktrio.http.planted:1: http may not import time",
    ),
    "socket in the scheduler": (
        "workqueue/planted.py",
        "import socket\n",
        "ktrio.workqueue.planted:1: workqueue may not import socket",
    ),
    "asyncio anywhere": (
        "cli/planted.py",
        "import asyncio\n",
        "ktrio.cli.planted:1: cli may not import asyncio",
    ),
    "second importer of h11": (
        "http/planted.py",
        "import h11\n",
        "ktrio.http.planted:1: only ktrio.http.h1 may import h11",
    ),
    "protocol named by an import": (
        "workqueue/planted.py",
        "import http as codes\n",
        "ktrio.workqueue.planted:1: workqueue names a protocol: http",
    ),
    "protocol named by an identifier": (
        "server/planted.py",
        "def admit(connection):\n    return connection.is_http\n",
        "ktrio.server.planted:2: server names a protocol: is_http",
    ),
    "module that says nothing": (
        "net/_utils.py",
        "",
        "ktrio.net._utils:1: a module called '_utils' says nothing about what is in it",
    ),
    "package without a row": (
        "planted/__init__.py",
        "import trio\n",
        "ktrio.planted:1: 'planted' has no row in the tables of tests/test_layers.py",
    ),
    "file too long": (
        "net/planted.py",
        "x = 1\n" * (FILE_LINES + 1),
        "ktrio.net.planted:1: 401 lines, and 400 are enough",
    ),
    "function too long": (
        "net/planted.py",
        'def f():\n    """One\n\n    docstring.\n    """\n' + "    x = 1\n" * FUNCTION_LINES,
        "ktrio.net.planted:1: f has 61 lines, and 60 are enough",
    ),
}
# What looks like a violation and is none.
INNOCENT: Final[dict[str, tuple[str, str]]] = {
    "its own package": ("net/planted.py", "from ktrio.net.errors import ConnectionGone\n"),
    "the version": ("cli/planted.py", "from ktrio import __version__\n"),
    "a protocol in a string": ("server/planted.py", 'LINE = "http://127.0.0.1/"\n'),
    "a long docstring": ("net/planted.py", 'def f():\n    """\n' + "    a\n" * 90 + '    """\n'),
    "a file just short enough": ("net/planted.py", "x = 1\n" * FILE_LINES),
}


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Add a file to a copy of the package; gives back what is said now and was not before."""

    def plant(file: str, text: str) -> list[str]:
        copy = tmp_path / "ktrio"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        before = find_violations(copy)
        path = copy / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return [each for each in find_violations(copy) if each not in before]

    return plant


@pytest.mark.parametrize("kind", PLANTS)
def test_a_planted_violation_is_found_and_nothing_else(kind: str, plant: Callable[[str, str], list[str]]) -> None:
    file, text, expected = PLANTS[kind]
    assert plant(file, text) == [expected]


@pytest.mark.parametrize("kind", INNOCENT)
def test_what_only_looks_like_a_violation_passes(kind: str, plant: Callable[[str, str], list[str]]) -> None:
    assert plant(*INNOCENT[kind]) == []
