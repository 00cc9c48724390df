"""What is not served, and roots that cannot be: each is said in one line, and nothing stays open."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from ktrio.handlers._tree import handles_work
from ktrio.handlers.files import RootError, files

# --- what is not served


async def test_dotfiles_are_not_there_but_for_well_known_at_the_root(served, ask, way_to_open):
    handler = files(served)
    for target in (
        "/.env",
        "/sub/.git/config",
        "/sub/.git/",
        "/sub/.well-known/acme",
        "/.well-known/.secret",
        "/%2eenv",
    ):
        assert (await ask(handler, target)).status == 404
    assert (await ask(handler, "/.well-known/acme")).text == "inside"


async def test_fifos_sockets_and_devices_are_refused_without_being_opened(served, ask, way_to_open, monkeypatch):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(served / "socket"))
    (served / "null").symlink_to("/dev/null")
    try:
        os.mknod(served / "node", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:  # only root may
        (served / "node").symlink_to("/dev/null")
    opened = []
    really_open = os.open

    def watch(path, flags, *args, **kwargs):
        if not flags & os.O_PATH:
            opened.append(path)
        return really_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", watch)
    handler = files(served)
    for name in ("fifo", "socket", "node", "null", "device"):
        assert (await ask(handler, f"/{name}")).status == 404
    assert opened == []


@pytest.mark.parametrize("target", ["/" + "x" * 300, "/" + "a/" * 3000 + "b", "/" + "x" * 5000, "/loop", "/dangling"])
async def test_names_that_are_too_long_or_lead_nowhere_are_404(served, ask, way_to_open, target):
    assert (await ask(files(served), target)).status == 404


@pytest.fixture
def unreadable():
    """A folder anybody may enter, as somebody who is not root: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "locked.txt").write_text("x")
        (root / "locked.txt").chmod(0)
        (root / "locked").mkdir()
        (root / "locked" / "a.txt").write_text("x")
        (root / "locked").chmod(0)
        (root / "blind").mkdir()
        (root / "blind" / "a.txt").write_text("x")
        (root / "blind").chmod(0o711)
        if is_root := os.geteuid() == 0:
            os.seteuid(65534)
        try:
            yield root
        finally:
            if is_root:
                os.seteuid(0)
            for folder in ("locked", "blind"):
                (root / folder).chmod(0o755)


async def test_what_may_not_be_read_is_403(unreadable, ask, way_to_open):
    handler = files(unreadable)
    assert (await ask(handler, "/locked.txt")).status == 403
    assert (await ask(handler, "/locked/a.txt")).status == 403
    assert (await ask(handler, "/locked/")).status == 403
    assert (await ask(handler, "/blind/")).status == 403
    assert (await ask(handler, "/blind/a.txt")).status == 200
    assert (await ask(handler)).status == 200


async def test_a_full_descriptor_table_is_503_with_retry_after(tmp_path, ask, monkeypatch):
    (tmp_path / "a.txt").touch()
    handler = files(tmp_path)

    def full(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        answer = await ask(handler, "/a.txt")
    assert (answer.status, answer["retry-after"]) == (503, "1")


async def test_an_error_of_the_disk_is_raised_and_leaves_nothing_open(tmp_path, ask, monkeypatch, way_to_open):
    (tmp_path / "a.txt").touch()
    handler = files(tmp_path)

    def broken(*args, **kwargs):
        raise OSError(5, "Input/output error")

    for call in ("fstat", "readlink"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, broken)
            if way_to_open == "by name" and call == "readlink":
                continue
            with pytest.raises(OSError, match="Input/output"):
                await ask(handler, "/a.txt")


async def test_a_failure_after_opening_closes_the_file(tmp_path, ask, monkeypatch):
    (tmp_path / "a.txt").touch()

    def fail(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("ktrio.handlers._representation.has_preconditions", fail)
    with pytest.raises(ZeroDivisionError):
        await ask(files(tmp_path), "/a.txt")


async def test_errors_are_small_pages_that_reflect_nothing(tmp_path, ask):
    answer = await ask(files(tmp_path), "/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status == 404
    assert answer["content-type"] == "text/html; charset=utf-8"
    assert answer["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer["content-security-policy"]
    assert "script" not in answer.text
    assert len(answer.body) < 3000


# --- the root


def test_a_root_that_cannot_be_served_is_one_line_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in [
        ("missing", "there is no such folder"),
        ("file", "it is not a folder"),
        ("file/below", "it is not a folder"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "this cannot be a path"),
    ]:
        with pytest.raises(RootError) as caught:
            files(tmp_path / path)
        assert str(caught.value) == f"cannot serve {str(tmp_path / path)!r}: {reason}"


async def test_the_root_may_be_relative_and_a_link_and_stays_where_it_was(tmp_path, ask, monkeypatch, way_to_open):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("one")
    (tmp_path / "two").mkdir()
    (tmp_path / "link").symlink_to("one")
    monkeypatch.chdir(tmp_path)
    handler = files("link")
    monkeypatch.chdir("/")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    assert (await ask(handler, "/a.txt")).text == "one"
    assert repr(handler) == f"<files {str(tmp_path / 'one')!r}>"


async def test_the_root_may_be_the_root_of_all(ask, way_to_open):
    assert (await ask(files("/", listing=False), "/proc/self/")).status == 404
    assert (await ask(files("/"), "/proc")).status == 301


def test_a_root_that_may_not_be_read_is_refused(unreadable):
    with pytest.raises(RootError, match="no permission to read it"):
        files(unreadable / "locked")


def test_a_system_without_proc_opens_by_name(tmp_path, monkeypatch):
    assert handles_work(os.fsencode(tmp_path))

    def no_proc(path, *args, **kwargs):
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", no_proc)
    assert not handles_work(os.fsencode(tmp_path))
    monkeypatch.delattr(os, "O_PATH")
    assert not handles_work(os.fsencode(tmp_path))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_an_index_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="index file"):
        files(tmp_path, index=(name,))


async def test_a_root_that_vanished_is_404(tmp_path, ask, way_to_open):
    (tmp_path / "gone").mkdir()
    handler = files(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert (await ask(handler)).status == 404
