"""The documents tell the truth: their Python runs, their commands, options and make targets exist.

* Every ```python block of the Markdown at the top and in docs/ runs. The blocks of a file run in order and in
  one namespace, in a process of their own, warnings being errors. `await` may stand at the top level of a
  block; such a block runs in a `trio.run` of its own.
* A block after a line `<!-- not run: the reason -->` is only compiled, and is skipped with that reason.
* In ```console blocks, what follows `$ ` is a command. Of those that call ktrio, commands, arguments and
  options are parsed by the program itself (nothing is run, and no value is looked at); of those that call
  make, the target must be in the Makefile.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+?) -->")
SECONDS_PER_DOCUMENT = 60

# Runs in the child. Blocks are padded with empty lines, so a traceback names the line of the document.
RUN_BLOCKS = """
import ast, inspect, json, sys
name, blocks = json.load(sys.stdin)
namespace = {"__name__": "__main__"}
for line, text in blocks:
    code = compile("\\n" * line + text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        import trio
        async def run_block():
            await eval(code, namespace)
        trio.run(run_block)
    else:
        exec(code, namespace)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the line of its fence, its text, and why it is not to be run, if so."""

    document: str
    language: str
    line: int
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    below = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
    return [path for path in [*top, *below] if path.exists()]


def blocks_of(document: str, text: str) -> Iterator[Block]:
    lines = iter(enumerate(text.splitlines(), 1))
    before = ""
    for number, line in lines:
        if fence := FENCE.match(line):
            body: list[str] = []
            for _, inner in lines:
                if inner.strip() == fence["ticks"]:
                    break
                body.append(inner.removeprefix(fence["indent"]))
            reason = NOT_RUN.search(before)
            yield Block(
                document,
                fence["language"],
                number,
                "\n".join(body) + "\n",
                reason["reason"] if reason else "",
            )
            before = ""
        elif line.strip():
            before = line


def blocks(*languages: str) -> list[Block]:
    return [
        block
        for path in documents()
        for block in blocks_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        if block.language in languages
    ]


def run_blocks(document: str, wanted: list[Block], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_BLOCKS],
        input=json.dumps([document, [(block.line, block.text) for block in wanted]]),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_PER_DOCUMENT,
    )


PYTHON = blocks("python", "py")


@pytest.mark.slow
@pytest.mark.parametrize("document", sorted({block.document for block in PYTHON if not block.not_run}))
def test_the_python_of_a_document_runs(document: str, tmp_path: Path) -> None:
    wanted = [block for block in PYTHON if block.document == document and not block.not_run]
    done = run_blocks(document, wanted, tmp_path)
    assert done.returncode == 0, f"{document} does not run:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_that_is_not_run_has_a_reason_and_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.not_run:
        pytest.skip(f"{block} is not run: {block.not_run}")


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each command after a `$ ` prompt; a pipe, `&&`, `;`, `&` or a redirection ends a command."""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("$ "):
            continue
        lexer = shlex.shlex(line.lstrip()[2:], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not word or not set(word) <= set(lexer.punctuation_chars):  # '' is an argument
                words.append(word)
                continue
            while words and re.fullmatch(r"\w+=.*", words[0]):  # X=1 before the command
                del words[0]
            if words:
                yield words
            words = []


def ktrio_arguments(words: list[str]) -> list[str] | None:
    """What a command hands to ktrio, or `None` if it calls something else."""
    if Path(words[0]).name == "ktrio":
        return words[1:]
    if re.fullmatch(r"python[\d.]*", Path(words[0]).name) and words[1:3] == ["-m", "ktrio"]:
        return words[3:]
    return None


def check_arguments(command: click.Command, name: str, arguments: list[str]) -> None:
    """Let click split the arguments; raises `click.UsageError` for an option, argument or command it lacks.

    Only names are looked at: no value is converted, no callback acts, nothing is run.
    """
    context = click.Context(command, info_name=name)
    _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    if rest and isinstance(command, click.Group):
        below, subcommand, after = command.resolve_command(context, rest)
        assert subcommand is not None
        check_arguments(subcommand, below or "", after)
    elif rest:
        raise click.UsageError(f"{name} takes no argument {rest[0]!r}")


def the_program() -> click.Group:
    cli = pytest.importorskip("ktrio.cli")
    groups = [each for each in vars(cli).values() if isinstance(each, click.Group)]
    if not groups:
        pytest.skip("ktrio.cli has no commands yet")
    return groups[0]


COMMANDS = [
    (block, words) for block in blocks("console", "sh", "shell", "bash", "") for words in commands_in(block.text)
]
CALLS = [(block, words) for block, words in COMMANDS if ktrio_arguments(words) is not None]
MAKES = [(block, words) for block, words in COMMANDS if words[0] == "make"]


@pytest.mark.parametrize(("block", "words"), CALLS, ids=[f"{block} {shlex.join(words)}" for block, words in CALLS])
def test_a_documented_call_of_ktrio_has_real_commands_and_options(block: Block, words: list[str]) -> None:
    arguments = ktrio_arguments(words)
    assert arguments is not None
    try:
        check_arguments(the_program(), "ktrio", arguments)
    except click.UsageError as error:
        pytest.fail(f"{block}: {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(("block", "words"), MAKES, ids=[f"{block} {shlex.join(words)}" for block, words in MAKES])
def test_a_documented_make_target_exists(block: Block, words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*)(?=[ a-z-]*:(?!=))", makefile, re.MULTILINE))
    wanted = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
    unknown = {word for word in wanted - targets if not re.fullmatch(r"test-3\.\d+", word)}
    assert not unknown, f"{block}: the Makefile has no target {unknown}"


# The machinery itself, on documents of its own.

SAMPLE = """
```python
import trio
x = 1
```
Text.

```python
await trio.lowlevel.checkpoint()
x += 1
```

1. In a list:
   ```python
   assert x == 2, x
   ```

<!-- not run: it would never end -->
```python
while True: pass
```

```console
$ ktrio serve . --port 8080 | tee log
serving
$ LANG=C python -m ktrio echo && curl -s http://127.0.0.1:8080/ > x
```
"""


def test_blocks_are_found_with_language_line_and_reason() -> None:
    found = [(block.language, block.line, block.not_run) for block in blocks_of("x.md", SAMPLE)]
    assert found == [
        ("python", 2, ""),
        ("python", 8, ""),
        ("python", 14, ""),
        ("python", 19, "it would never end"),
        ("console", 23, ""),
    ]


@pytest.mark.slow
def test_blocks_share_a_namespace_and_an_error_names_the_line_of_the_document(tmp_path: Path) -> None:
    good = [block for block in blocks_of("x.md", SAMPLE) if block.language == "python" and not block.not_run]
    assert run_blocks("x.md", good, tmp_path).returncode == 0
    done = run_blocks("x.md", good[2:], tmp_path)
    assert done.returncode == 1
    assert 'File "x.md", line 15' in done.stderr
    assert "NameError" in done.stderr


def test_commands_are_split_as_a_shell_would() -> None:
    *_, console = blocks_of("x.md", SAMPLE)
    assert list(commands_in(console.text)) == [
        ["ktrio", "serve", ".", "--port", "8080"],
        ["tee", "log"],
        ["python", "-m", "ktrio", "echo"],
        ["curl", "-s", "http://127.0.0.1:8080/"],
        ["x"],
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("serve . --port nine", ""),
        ("serve --help", ""),
        ("--version", ""),
        ("serve --prot 9", "--prot"),
        ("sevre .", "sevre"),
        ("serve one two", "two"),
    ],
)
def test_an_option_or_a_command_that_does_not_exist_is_found(arguments: str, complaint: str) -> None:
    @click.group()
    @click.version_option("1")
    def program() -> None: ...

    @program.command()
    @click.argument("folder", type=click.Path(exists=True))
    @click.option("--port", type=int)
    def serve(folder: str, port: int) -> None: ...

    if not complaint:
        check_arguments(program, "program", arguments.split())
        return
    with pytest.raises(click.UsageError, match=complaint):
        check_arguments(program, "program", arguments.split())


EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_what_to_try_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comment = "\n".join(re.match(r"(?:#!?.*\n)*", text)[0].splitlines())  # type: ignore[index]
    header = ast.get_docstring(ast.parse(text)) or comment
    assert header.strip("# \n"), "an example begins with a comment: what it shows, and what to try"
    assert path.name in header, f"the header says how to run it: python examples/{path.name}"
    lines = len(text.splitlines())
    excused = "60 lines" in header  # "Longer than 60 lines because ..."
    assert lines < 60 or excused, f"{lines} lines; a longer example says why in its header"


def test_every_page_is_in_a_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs") for path in documents() if path.is_relative_to(ROOT / "docs")}
    folders = {page.parts[0] for page in pages if len(page.parts) > 1}
    lost = [folder for folder in folders if f"{folder}/*" not in index]
    assert not lost, f"docs/index.md has no toctree for {lost}"
