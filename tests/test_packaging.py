"""What is published, and the tools that set up a checkout: metadata, licences, dependencies, make and its set-up."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ktrio

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGE = Path(ktrio.__file__).parent
METADATA = importlib.metadata.metadata("ktrio")


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s\[<>=!~;]", each, maxsplit=1)[0].lower().replace("-", "_") for each in requirements}


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert importlib.metadata.version("ktrio") == PROJECT["version"]
    assert getattr(ktrio, "__version__", PROJECT["version"]) == PROJECT["version"]


def test_type_checkers_are_told_that_there_are_types() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert "Typing :: Typed" in METADATA.get_all("Classifier", [])


def test_both_licences_are_named_and_shipped_whole() -> None:
    assert METADATA["License-Expression"] == "MIT OR Apache-2.0"
    assert set(METADATA.get_all("License-File", [])) == {"LICENSE", "LICENSE.MIT", "LICENSE.APACHE2"}
    assert "LICENSE.MIT or LICENSE.APACHE2" in (ROOT / "LICENSE").read_text()
    assert "Permission is hereby granted" in (ROOT / "LICENSE.MIT").read_text()
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE.APACHE2").read_text()


def test_every_tool_is_told_the_oldest_python_supported() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py311"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == "3.11"
    assert PYPROJECT["tool"]["pyright"]["pythonVersion"] == "3.11"
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]


def test_the_dependencies_are_what_is_imported() -> None:
    imported: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"ktrio"}
    declared = names_of(PROJECT["dependencies"])
    optional = set().union(*(names_of(each) for each in PROJECT["optional-dependencies"].values()))
    every_type_checker_has = {"typing_extensions"}  # only they see it
    assert foreign <= declared | optional | every_type_checker_has, "imported and not declared"


def test_every_dependency_has_its_reason_in_the_architecture() -> None:
    architecture = ROOT / "ARCHITECTURE.md"
    if not architecture.exists():
        pytest.skip("there is no ARCHITECTURE.md yet")
    text = architecture.read_text(encoding="utf-8").lower()
    assert [name for name in names_of(PROJECT["dependencies"]) if name not in text] == []


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    groups += [[each for each in group if isinstance(each, str)] for group in PYPROJECT["dependency-groups"].values()]
    unbounded = [each for group in groups for each in group if ">=" not in each or ",<" not in each]
    assert not unbounded


def test_the_command_is_installed_and_starts() -> None:
    [entry] = importlib.metadata.entry_points(group="console_scripts", name="ktrio")
    if not (PACKAGE / "__main__.py").exists():
        pytest.skip("there is no command yet")
    assert callable(entry.load())
    for command in ([str(Path(sys.executable).with_name("ktrio"))], [sys.executable, "-m", "ktrio"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert PROJECT["version"] in done.stdout


def test_news_have_valid_names() -> None:
    kinds = "|".join(kind["directory"] for kind in PYPROJECT["tool"]["towncrier"]["type"])
    valid = re.compile(rf"(\d+|\+[\w-]+)\.({kinds})(\.\d+)?\.md")
    ignored = PYPROJECT["tool"]["towncrier"]["ignore"]
    files = [path.name for path in (ROOT / "newsfragments").iterdir() if path.name not in ignored]
    assert [name for name in files if not valid.fullmatch(name)] == []


# The set-up. The interpreters here are scripts, so nothing is installed and no network is asked.

REAL = f'exec "{sys.executable}" "$@"'
WITHOUT_VENV = f"case $2 in *ensurepip*) exit 1 ;; esac\n{REAL}"
TOO_OLD = "case $2 in *exit*) exit 1 ;; *) echo 3.9 ;; esac"
SHIM = 'echo "pyenv: $0: command not found" >&2; exit 127'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, with just what setting up needs."""
    if shutil.which("make") is None or not (ROOT / ".ci" / "environment").exists():
        pytest.skip("make, or the files of a checkout, are missing")
    folder = tmp_path / "a check out"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", ".ci/environment"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def set_up(
    checkout: Path, pythons: dict[str, str], *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    programs = checkout.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        (programs / name).write_text(f"#!/bin/sh\n{pythons.get(name, SHIM)}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.defpath}:/usr/bin:/bin"
    return subprocess.run(
        ["/bin/sh", str(checkout / ".ci" / "environment"), *arguments],
        env={"PATH": path, "HOME": str(checkout.parent), **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_a_python_that_is_new_enough_one_line_says_so(checkout: Path) -> None:
    done = set_up(checkout, {"python3": TOO_OLD})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "ktrio: no Python 3.11 or newer on the PATH; install one, or name it: make PYTHON=/path/to/python3 ..."
    ]


def test_without_venv_one_line_names_the_package_that_has_it(checkout: Path) -> None:
    done = set_up(checkout, {"python3.11": WITHOUT_VENV})
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("ktrio: python3.11 cannot make virtual environments")
    if shutil.which("apt-get"):
        assert line.endswith(f"apt-get install python3.{sys.version_info.minor}-venv")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [(TOO_OLD, "is Python 3.9; ktrio needs 3.11 or newer"), (SHIM, "does not run; name a Python 3.11 or newer")],
)
def test_a_python_that_was_asked_for_and_will_not_do_is_refused(checkout: Path, script: str, complaint: str) -> None:
    done = set_up(checkout, {"python3.12": script, "python3.11": REAL}, PYTHON="python3.12")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"ktrio: PYTHON=python3.12 {complaint}"]


def test_a_folder_that_is_no_virtual_environment_is_not_touched(checkout: Path) -> None:
    (checkout / "precious").mkdir()
    (checkout / "precious" / "file").touch()
    done = set_up(checkout, {"python3": REAL}, VENV="precious")
    assert done.returncode == 1
    assert "is no virtual environment" in done.stderr
    assert (checkout / "precious" / "file").exists()


# Stands for a Python >= 3.11 whose `-m venv` makes an environment whose pip only writes down what it is
# asked.
RECORDING = f"""
case "$1 $2" in
"-m venv") mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
"-m pip") shift 2; echo "$*" >>pip.txt; ! test -e pip-fails || {{ echo broken >&2; exit 1; }} ;;
*) {REAL} ;;
esac"""


def test_installs_happen_once_until_pyproject_changes_or_after_a_failure(checkout: Path) -> None:
    def calls() -> list[str]:
        log = checkout / "pip.txt"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.removeprefix("install --quiet ") for line in lines if "pip>=" not in line]

    pythons = {"python3.13": SHIM, "python3.12": RECORDING}
    (checkout / "pip-fails").touch()
    done = set_up(checkout, pythons)
    assert done.returncode == 1
    assert "broken" in done.stderr
    assert calls() == ["--editable ."]

    (checkout / "pip-fails").unlink()
    done = set_up(checkout, pythons)
    assert (done.returncode, done.stderr.splitlines()) == (0, ["ktrio: installing what ktrio needs to run"])
    assert calls() == ["--editable ."]

    assert set_up(checkout, pythons, "test", "docs").returncode == 0
    assert calls() == ["--group test", "--group docs"]
    (checkout / "pyproject.toml").touch()
    assert set_up(checkout, pythons, "test").stderr == ""
    assert calls() == []
    with (checkout / "pyproject.toml").open("a") as stream:
        stream.write("\n")
    assert set_up(checkout, pythons, "test").returncode == 0
    assert calls() == ["--editable .", "--group test"]

    # Moved, the environment's own scripts would point to where it was.
    moved = checkout.rename(checkout.with_name("moved"))
    assert "ktrio: making .venv with Python" in set_up(moved, pythons).stderr


def make(checkout: Path, *arguments: str) -> str:
    # The variables of a `make test` that runs this test would reach this make as well.
    inherited = {"PATH": os.environ["PATH"], "HOME": str(checkout)}
    command = ["make", *arguments]
    done = subprocess.run(command, cwd=checkout, env=inherited, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_make_help_lists_the_targets_that_contributors_use(checkout: Path) -> None:
    listed = make(checkout, "help")
    for target in ("serve", "test", "check", "docs", "bench", "format", "clean"):
        assert re.search(rf"^  {target} ", listed, re.MULTILINE), target


def test_make_serve_hands_folder_and_port_to_the_server_as_they_are(checkout: Path) -> None:
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "ktrio").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (programs / "ktrio").chmod(0o755)
    (checkout / ".ci" / "environment").write_text("")
    assert make(checkout, "serve") == "<serve><examples/site><--port><8081>"
    assert make(checkout, "serve", 'DIR=/a b/"c', "PORT=9000") == '<serve></a b/"c><--port><9000>'
