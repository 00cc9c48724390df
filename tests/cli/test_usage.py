"""Help, versions, and wrong usage: one clear line, exit status 2, and never a traceback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

import ktrio
from tests.cli.conftest import Start
from tests.cli.processes import KTRIO, Program, assert_served_cleanly
from tests.cli.warm_start import Ran, WarmStart

pytestmark = pytest.mark.slow

BOTH = ["--host", "--port", "--unix", "--fd", "--cpus", "--capacity", "--max-active", "--max-connections",
        "--idle-timeout", "--write-timeout", "--grace", "--backlog", "--max-errors", "--monitor", "--trace",
        "--error-log", "--print-timeouts", "--quiet", "--version", "--help"]  # fmt: skip
OPTIONS = {
    "serve": [
        *BOTH,
        "--head-timeout",
        "--body-timeout",
        "--max-requests-per-connection",
        "--access-log",
        "--index",
        "--no-listing",
        "--dotfiles",
        "--links",
        "--mime",
        "--spa",
        "--error-pages",
        "--mount",
        "--rules",
        "--immutable",
        "--cors",
        "--security-headers",
        "--allowed-host",
        "--no-access-log",
        "--log-format",
        "--trust-request-id",
    ],
    "echo": BOTH,
    "top": ["--once", "--json", "--interval", "--version", "--help"],
}
DEFAULTS = {"serve": ["127.0.0.1", "8081", "512", "256", "5", "30", "10", "8", "1024", "10000"],
            "echo": ["127.0.0.1", "12345", "512", "256", "300", "30", "8", "1024"],
            "top": ["1.0"]}  # fmt: skip

CASES = {
    # name: the arguments, and what its line has to name
    "missing-folder": (["serve", "/no/such/folder"], ["/no/such/folder", "no such"]),
    "no-folder-at-all": (["serve", "", "--port", "0"], ["folder"]),
    "file-as-folder": (["serve", __file__], [__file__, "not a folder"]),
    "two-folders": (["serve", ".", "other"], ["other"]),
    "port-is-no-number": (["serve", "--port", "http"], ["--port", "http", "number"]),
    "port-too-high": (["serve", "--port", "65536"], ["--port", "65536", "65535"]),
    "port-negative": (["echo", "--port", "-1"], ["--port", "-1"]),
    "max-errors-negative": (["serve", "--max-errors", "-1"], ["--max-errors", "-1"]),
    "port-missing": (["serve", "--port"], ["--port", "ktrio serve"]),
    "grace-negative": (["serve", "--grace", "-1"], ["--grace", "-1"]),
    "grace-not-a-number": (["serve", "--grace", "nan"], ["--grace", "nan"]),
    "timeout-endless": (["serve", "--idle-timeout", "inf"], ["--idle-timeout", "inf"]),
    "timeout-not-a-number": (["echo", "--write-timeout", "nan"], ["--write-timeout", "nan"]),
    "timeout-zero": (["serve", "--head-timeout", "0"], ["--head-timeout", "0"]),
    "cpus-zero": (["serve", "--cpus", "0"], ["--cpus", "0"]),
    "connections-fractional": (["serve", "--max-connections", "1.5"], ["--max-connections", "1.5", "number"]),
    "index-with-a-slash": (["serve", "--index", "a/b"], ["index", "a/b"]),
    "dotfiles-unknown": (["serve", "--dotfiles", "show"], ["--dotfiles", "show", "unlisted"]),
    "links-unknown": (["serve", "--links", "some"], ["--links", "some", "owner"]),
    "mime-without-type": (["serve", "--mime", "glsl"], ["--mime", "glsl", "="]),
    "mime-is-no-type": (["serve", "--mime", "glsl=text"], ["'text'", "media type", "text/plain"]),
    "mount-without-slash": (["serve", "--mount", "docs=."], ["--mount", "docs", "/docs"]),
    "mount-without-folder": (["serve", "--mount", "/docs"], ["--mount", "/docs", "="]),
    "mount-twice": (["serve", "--mount", "/docs=.", "--mount", "/docs/=."], ["--mount", "/docs/", "two"]),
    "mount-at-the-root-beside-a-folder": (["serve", ".", "--mount", "/=."], ["--mount", "'/'", "two"]),
    "mount-of-no-folder": (["serve", "--mount", "/docs=/no/such"], ["/no/such", "no such folder"]),
    "cors-is-no-origin": (["serve", "--cors", "example.org"], ["example.org", "https://example.org"]),
    "rules-missing": (["serve", "--rules", "/no/such.toml"], ["/no/such.toml", "rules"]),
    "security-headers-unknown": (["serve", "--security-headers", "high"], ["--security-headers", "strict"]),
    "allowed-host-with-a-port": (
        ["serve", "--allowed-host", "a.example:80"],
        ["--allowed-host", "a.example:80", "port"],
    ),
    "unknown-option": (["serve", "--prot", "1"], ["--prot", "--port"]),
    "unknown-command": (["server"], ["server", "serve"]),
    "fd-not-open": (["serve", "--fd", "77"], ["77", "open"]),
    "fd-no-socket": (["echo", "--fd", "0"], ["0", "listening socket"]),
    "host-unknown": (["serve", "--host", "no-such-host.invalid"], ["no-such-host.invalid", "name"]),
    "host-not-ours": (["serve", "--host", "203.0.113.1", "--port", "0"], ["203.0.113.1", "address"]),
    "unix-path-too-long": (["serve", "--unix", "/tmp/" + "x" * 200], ["x" * 200, "too long"]),
    "unix-path-taken-by-a-file": (["serve", "--unix", __file__], [__file__, "socket"]),
    "access-log-folder-missing": (
        ["serve", "--port", "0", "--access-log", "/no/such/log"],
        ["/no/such/log", "make it"],
    ),
    "access-log-is-a-folder": (["serve", "--port", "0", "--access-log", "/usr"], ["/usr", "it is a folder"]),
    "error-log-folder-missing": (["echo", "--port", "0", "--error-log", "/no/such/log"], ["/no/such/log", "make it"]),
    "log-format-unknown": (["serve", "--log-format", "apache"], ["--log-format", "apache", "combined"]),
    "monitor-folder-missing": (
        ["echo", "--port", "0", "--monitor", "/no/such/folder/m"],
        ["/no/such/folder/m", "folder"],
    ),
    "monitor-path-taken-by-a-file": (["serve", "--port", "0", "--monitor", __file__], [__file__, "socket"]),
    "trace-folder-missing": (["echo", "--port", "0", "--trace", "/no/such/folder/t"], ["/no/such/folder/t", "trace"]),
    "unix-folder-missing": (["echo", "--unix", "/no/such/folder/s"], ["/no/such/folder/s", "folder"]),
}


def refused(program: Program | Ran) -> str:
    """The one line with which it refuses to run."""
    ran = program if isinstance(program, Ran) else Ran(program.wait(), program.out.text, program.said)
    lines = ran.err.splitlines()
    assert len(lines) == 1, f"one line, not {len(lines)}:\n{ran.err}"
    assert ran.status == 2
    assert ran.out == ""
    assert lines[0].startswith("ktrio")
    return lines[0]


def succeeded(ran: Ran) -> str:
    """What it printed, without a complaint."""
    assert (ran.status, ran.err) == (0, "")
    return ran.out


@pytest.mark.parametrize("case", CASES)
def test_wrong_usage_is_one_line_and_status_2(warm_start: WarmStart, case: str) -> None:
    arguments, named = CASES[case]
    line = refused(warm_start.run(*arguments))
    for each in named:
        assert each in line, f"{each!r} is not in {line!r}"


@pytest.mark.parametrize("command", ["serve", "echo"])
def test_port_in_use_is_one_line_that_names_it_and_a_remedy(warm_start: WarmStart, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(warm_start.run(command, "--port", port))
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line
    assert "--port" in line or "another" in line


def test_unix_socket_of_a_living_server_is_in_use(warm_start: WarmStart, tmp_path: Path) -> None:
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(os.fspath(path))
        taken.listen()
        line = refused(warm_start.run("serve", "--unix", str(path)))
    assert str(path) in line
    assert "another" in line
    assert path.exists()


def test_one_bad_address_among_good_ones_starts_nothing(warm_start: WarmStart, tmp_path: Path) -> None:
    path = tmp_path / "good.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(warm_start.run("serve", "--unix", str(path), "--host", "127.0.0.1", "--port", port))
    assert not path.exists()


def unprivileged() -> list[str]:
    """A prefix that runs ktrio without the privileges of root."""
    if os.geteuid() != 0:
        return [*KTRIO]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv(1) cannot drop its privileges")
    return [setpriv, "--bounding-set=-all", "--inh-caps=-all", *KTRIO]


@pytest.mark.exhaustive
def test_folder_without_permission_is_one_line(start: Start, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    try:
        line = refused(start("serve", locked, "--port", "0", command=unprivileged()))
    finally:
        locked.chmod(0o700)
    assert str(locked) in line
    assert "permi" in line.lower()


@pytest.mark.exhaustive
def test_unix_path_without_permission_is_one_line(start: Start, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    line = refused(start("echo", "--unix", locked / "s", command=unprivileged()))
    assert str(locked / "s") in line
    assert "permi" in line.lower()


@pytest.mark.exhaustive
def test_privileged_port_without_permission_is_one_line_with_a_remedy(start: Start) -> None:
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first_free.exists() or int(first_free.read_text()) <= 1:
        pytest.skip("this machine lets everybody listen on every port")
    line = refused(start("serve", "--port", "1", command=unprivileged()))
    assert "127.0.0.1:1" in line
    assert "permi" in line.lower()
    assert "102" in line  # 1024 and up, or over 1023


def test_port_of_a_disturbed_start_is_free_again(warm_start: WarmStart, tmp_path: Path) -> None:
    # The first address could be bound, the second not: the first must be given back before the refusal ends.
    file = tmp_path / "file"
    file.touch()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    refused(warm_start.run("serve", "--host", "127.0.0.1", "--port", str(port), "--unix", str(file)))
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("command", OPTIONS)
def test_help_of_a_command_shows_every_option_with_its_default(warm_start: WarmStart, command: str) -> None:
    text = succeeded(warm_start.run(command, "--help"))
    assert text.startswith(f"Usage: ktrio {command}")
    for option in OPTIONS[command]:
        assert re.search(rf"(^|[\s,/]){option}\b", text, re.MULTILINE), f"{option} is missing"
    shown = " ".join(text.split())
    for default in DEFAULTS[command]:
        assert re.search(rf"default: \(?{re.escape(default)}\b", shown), f"the default {default} is missing"
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text


def test_every_option_in_the_help_is_explained(warm_start: WarmStart) -> None:
    text = succeeded(warm_start.run("serve", "--help"))
    rows = re.split(r"\n(?=  -)", text.partition("Options:\n")[2])
    assert len(rows) >= len(OPTIONS["serve"])
    for row in rows:
        words = re.sub(r"\[[^]]*\]", "", row).split()
        assert sum(word.isalpha() and word.islower() for word in words) >= 2, f"not explained: {row!r}"


def test_help_of_ktrio_shows_its_commands_and_exit_statuses(warm_start: WarmStart) -> None:
    text = succeeded(warm_start.run("--help"))
    for shown in ("serve", "echo", "top", "--version", "130", "143"):
        assert shown in text


def test_ktrio_without_a_command_shows_what_it_can_do(warm_start: WarmStart) -> None:
    ran = warm_start.run()
    assert ran.status in (0, 2)
    assert "serve" in ran.out + ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", [(), ("serve",), ("echo",), ("top",)], ids=["ktrio", "serve", "echo", "top"])
def test_version_is_the_packages_version(warm_start: WarmStart, command: tuple[str, ...]) -> None:
    text = succeeded(warm_start.run(*command, "--version"))
    assert text.split()[:1] == ["ktrio"]
    assert ktrio.__version__ in text
    assert len(text.splitlines()) == 1


TIMEOUTS = {"head": "10", "idle": "5", "body": "30", "write": "30", "linger": "1", "half-closed": "2", "grace": "8"}


def test_print_timeouts_of_serve_lists_every_deadline_there_is(warm_start: WarmStart) -> None:
    text = succeeded(warm_start.run("serve", "--print-timeouts"))
    for name, seconds in TIMEOUTS.items():
        assert re.search(rf"^{name} +{seconds} s\b", text, re.MULTILINE), name
    assert re.search("240 B/s", text)
    assert re.search(r"^linger-draining +0\.3 s", text, re.MULTILINE)
    assert re.search(r"^handler +none", text, re.MULTILINE)  # the one stated exception


def test_print_timeouts_shows_what_the_options_make_of_them(warm_start: WarmStart) -> None:
    text = succeeded(
        warm_start.run("serve", "--print-timeouts", "--idle-timeout", "75", "--grace", "2.5", "--head-timeout", "0.5")
    )
    for name, seconds in (("idle", "75"), ("grace", r"2\.5"), ("head", r"0\.5")):
        assert re.search(rf"^{name} +{seconds} s\b", text, re.MULTILINE), name


def test_print_timeouts_of_echo_has_its_own_idle_timeout(warm_start: WarmStart) -> None:
    text = succeeded(warm_start.run("echo", "--print-timeouts"))
    assert re.search(r"^idle +300 s\b", text, re.MULTILINE)


@pytest.mark.parametrize("command", ["serve", "echo"])
def test_print_timeouts_shows_the_budget_of_errors_unless_there_is_none(warm_start: WarmStart, command: str) -> None:
    text = succeeded(warm_start.run(command, "--print-timeouts"))
    assert re.search(r"^errors +10 s  100 unexpected errors", text, re.MULTILINE)
    text = succeeded(warm_start.run(command, "--print-timeouts", "--max-errors", "7"))
    assert re.search(r"^errors +10 s  7 unexpected errors", text, re.MULTILINE)
    text = succeeded(warm_start.run(command, "--print-timeouts", "--max-errors", "0"))
    assert "unexpected errors" not in text


@pytest.mark.exhaustive
def test_help_into_a_closed_pipe_is_no_traceback(start: Start) -> None:
    program = start("-c", '"$@" serve --help | true', "sh", *KTRIO, command=["bash", "-o", "pipefail"])
    program.wait()
    assert_served_cleanly(program)


def test_echo_takes_no_folder(warm_start: WarmStart, folder: Path) -> None:
    assert str(folder) in refused(warm_start.run("echo", str(folder)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("arguments", [("serve", "--help"), ("serve", "/missing")], ids=["help", "wrong"])
def test_module_and_script_are_the_same_command(
    start: Start, warm_start: WarmStart, arguments: tuple[str, ...]
) -> None:
    script = Path(sys.executable).parent / "ktrio"
    if not script.exists():
        pytest.skip(f"there is no {script}")
    for run in (start(*arguments), start(*arguments, command=[script])):
        assert Ran(run.wait(), run.out.text, run.said) == warm_start.run(*arguments)


def test_quiet_is_not_quiet_about_errors(warm_start: WarmStart) -> None:
    assert "not a folder" in refused(warm_start.run("serve", __file__, "--quiet"))
