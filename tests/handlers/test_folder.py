"""Reading a folder for its listing: names first, sorted and packed, then sizes and times slice by slice."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

import pytest

from ktrio.handlers._folder import SLICE, count_names, paced, read_slice, scan_folder
from ktrio.handlers._tree import Kind, PathError, Tree


def scan(root, names=(), **limits):
    return scan_folder(Tree(root), names, **{"most_entries": 100_000, **limits})


def read(root, names=(), **limits):
    """All entries there are to show, in order."""
    tree, found = Tree(root), scan(root, names, **limits)
    return [entry for packed in found.slices for entry in read_slice(tree, names, found.identity, packed)]


def names_of(root, **limits):
    return [each.name for each in read(root, **limits)]


def test_what_is_beyond_the_limit_is_counted(tmp_path):
    for number in range(5):
        (tmp_path / f"file {number}").touch()
    (tmp_path / "folder").mkdir()
    assert names_of(tmp_path, most_entries=3) == ["folder", "file 0", "file 1"]
    assert scan(tmp_path, most_entries=3).left_out == 3
    assert scan(tmp_path, most_entries=6).left_out == 0


def test_names_that_are_not_even_sorted_are_counted_too(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}").touch()
    (tmp_path / ".hidden").touch()
    found = scan(tmp_path, most_entries=3, most_names=4)
    assert sum(map(count_names, found.slices)) == 3
    assert found.left_out == 3


@pytest.mark.slow
def test_a_folder_of_many_slices_and_runs_is_in_order_all_the_same(tmp_path):
    for number in range(1, 2500):
        (tmp_path / f"{number}").touch()
    (tmp_path / "z").mkdir()
    found = scan(tmp_path, most_entries=2400)
    assert [count_names(each) for each in found.slices] == [SLICE] * 4 + [400]
    assert found.left_out == 100
    assert names_of(tmp_path) == ["z", *(str(number) for number in range(1, 2500))]


@pytest.mark.slow
def test_what_waits_for_a_slow_peer_is_little_more_than_the_names(tmp_path):
    names = [f"some name of a file {number}" for number in range(3000)]
    for name in names:
        (tmp_path / name).touch()
    found = scan(tmp_path)
    assert sum(map(sys.getsizeof, found.slices)) < sum(map(len, names)) + 3 * len(names)
    assert count_names(found.slices[0]) == SLICE


def test_equal_names_but_for_case_and_accents_have_one_order(tmp_path):
    for name in ("a", "A", "\u00e4", "01", "1"):
        (tmp_path / name).touch()
    assert names_of(tmp_path) == ["01", "1", "A", "a", "\u00e4"]


def test_an_empty_folder_has_no_slice(tmp_path):
    assert list(scan(tmp_path).slices) == []


def test_any_name_comes_back_as_it_was(tmp_path):
    raw = [b"\xff\xfe", b"new\nline", b"\x01", "\u202e".encode(), b"d", b"f"]
    for name in raw:
        open(os.path.join(os.fsencode(tmp_path), name), "w").close()
    assert sorted(name.encode("utf-8", "surrogateescape") for name in names_of(tmp_path)) == sorted(raw)


def test_pacing_changes_nothing_but_the_time():
    assert list(paced(range(5))) == [0, 1, 2, 3, 4]


def test_what_vanishes_or_becomes_something_else_before_it_is_looked_at_is_left_out(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    for name in ("d", "e"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "link2").symlink_to("a")
    tree, found = Tree(tmp_path), scan(tmp_path)
    (tmp_path / "b").unlink()
    (tmp_path / "c").unlink()
    (tmp_path / "c").mkdir()
    (tmp_path / "d").rmdir()
    (tmp_path / "d").symlink_to("e")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "link2").unlink()
    (tmp_path / "link2").symlink_to("e")
    assert [each.name for each in read_slice(tree, (), found.identity, found.slices[0])] == ["e", "a"]


def test_a_folder_that_has_gone_or_is_another_one_is_none(tmp_path):
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "a").touch()
    tree, found = Tree(tmp_path), scan(tmp_path, ("down",))
    (tmp_path / "down").rename(tmp_path / "moved")
    assert read_slice(tree, ("down",), found.identity, found.slices[0]) is None
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "a").touch()
    assert read_slice(tree, ("down",), found.identity, found.slices[0]) is None
    (tmp_path / "down" / "a").unlink()
    (tmp_path / "down").rmdir()
    (tmp_path / "down").touch()
    assert read_slice(tree, ("down",), found.identity, found.slices[0]) is None


def test_a_folder_that_may_not_be_looked_at_now_is_an_error_and_not_an_end(tmp_path):
    (tmp_path / "a").touch()
    found = scan(tmp_path)

    def busy(root, path, wanted):
        raise OSError(24, "Too many open files")

    with pytest.raises(PathError) as caught:
        read_slice(Tree(tmp_path, opener=busy), (), found.identity, found.slices[0])
    assert caught.value.status == 503


def test_what_may_not_be_looked_at_is_shown_without_size_and_time(tmp_path):
    """A folder that may be read and not entered gives names, and nothing of what they stand for."""
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut" / "a").write_text("x")
    (tmp_path / "shut" / "down").mkdir()
    (tmp_path / "shut").chmod(0o744)
    tmp_path.chmod(0o755)
    parents = [each for each in tmp_path.parents if not each.stat().st_mode & 0o001]
    if is_root := os.geteuid() == 0:
        if parents:
            for each in parents:
                each.chmod(each.stat().st_mode | 0o011)
        os.seteuid(65534)
    else:
        (tmp_path / "shut").chmod(0o644)
    try:
        shown = [(each.name, each.is_folder, each.size, each.changed) for each in read(tmp_path, ("shut",))]
    finally:
        if is_root:
            os.seteuid(0)
        (tmp_path / "shut").chmod(0o755)
    assert shown == [("down", True, None, None), ("a", False, None, None)]


def test_a_folder_that_became_a_file_is_404(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(PathError):
        scan(tmp_path, ("a",))


def test_sizes_and_times_of_links_are_those_of_what_they_lead_to(tmp_path):
    (tmp_path / "big").write_bytes(bytes(5000))
    (tmp_path / "link").symlink_to("big")
    (tmp_path / "down").mkdir()
    (tmp_path / "here").symlink_to(".")
    shown = {each.name: each for each in read(tmp_path)}
    assert shown["link"].size == 5000
    assert shown["link"].changed == shown["big"].changed
    assert [name for name, each in shown.items() if each.is_folder] == ["down", "here"]
    assert shown["down"].size is shown["here"].size is None
    assert Tree(tmp_path).open(("here",), None).kind is Kind.FOLDER
    assert datetime.fromtimestamp(shown["big"].changed, UTC).year >= 2024
