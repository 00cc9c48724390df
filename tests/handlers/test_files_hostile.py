"""Nothing outside the root, ever: hand-made attacks, every single and double swap of a race, and whatever comes."""

from __future__ import annotations

import os
import re
import shutil
from itertools import combinations
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers._folder import read_slice, scan_folder
from ktrio.handlers._tree import Kind, PathError, Tree, open_by_handle, open_by_name
from ktrio.handlers.files import files
from ktrio.http.errors import BadRequest

ESCAPES = [
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/sub/../a.txt",
    "/./a.txt",
    "/.",
    "/..",
    "/%2e%2e/secret.txt",
    "/%2E%2e%2fsecret.txt",
    "/..%2fsecret.txt",
    "/.%2e/secret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/sub%2fb.txt",
    "/sub\\b.txt",
    "/a.txt%00",
    "/a.txt%00.html",
    "/%00",
    "/..%00/secret.txt",
    "/%",
    "/%2",
    "/%zz",
    "/a.txt%0",
]

# Decoded once these are odd names, and there is no such file.
ODD_NAMES = [
    "/%252e%252e/secret.txt",
    "/%25%32%65%25%32%65/secret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%e0%80%ae%e0%80%ae/secret.txt",
    "/%ef%bc%8e%ef%bc%8e/secret.txt",
    "/..%c0%afsecret.txt",
    "/...",
    "/.../secret.txt",
    "/..;/secret.txt",
    "/%20../secret.txt",
    "/~root/secret.txt",
    "/a.txt ",
    "/a.txt.",
    "/a.txt::$DATA",
    "/C:/secret.txt",
    "/file:/etc/passwd",
    "/%ed%a0%80",
]

LINKS_OUT = [
    "/out",
    "/out-absolute",
    "/out-chain",
    "/out-dir",
    "/out-dir/",
    "/out-dir/secret.txt",
    "/out-sibling/secret.txt",
    "/out-root",
    "/out-root/",
    "/out-root/etc/passwd",
    "/sub/up/secret.txt",
    "/sub/up/served/a.txt/../../secret.txt",
    "/sub/up",
    "/in-dir/up/secret.txt",
]

LINKS_IN = [
    "/in",
    "/in-absolute",
    "/in-around",
    "/in-dir/b.txt",
    "/sub/up/served/a.txt",
    "/%61.txt",
]


@pytest.mark.parametrize("target", ESCAPES)
async def test_a_path_that_tries_to_leave_or_to_deceive_is_400(served, ask, target):
    assert (await ask(files(served), path=target)).status == 400


@pytest.mark.parametrize("target", ODD_NAMES)
async def test_a_path_is_decoded_exactly_once(served, ask, way_to_open, target):
    assert (await ask(files(served), path=target)).status == 404


async def test_a_percent_encoded_percent_sign_names_a_percent_sign(served, ask):
    (served / "%2e%2e").write_text("a name like any other")
    assert (await ask(files(served), "/%252e%252e")).text == "a name like any other"


@pytest.mark.parametrize("target", LINKS_OUT)
async def test_a_link_that_leads_out_is_not_there(served, ask, way_to_open, target):
    answer = await ask(files(served), path=target)
    assert answer.status in (400, 404)
    assert "secret" not in answer.text.lower()


@pytest.mark.parametrize("target", LINKS_IN)
async def test_a_link_that_stays_inside_is_followed(served, ask, way_to_open, target):
    assert (await ask(files(served), target)).text == "inside"


@pytest.mark.parametrize("target", ["http://evil/a.txt", "http://127.0.0.1:1/a.txt", "HTTPS://evil/a.txt?x"])
async def test_an_absolute_target_names_the_same_file_whatever_its_host(served, ask, target):
    assert (await ask(files(served), target)).text == "inside"


@pytest.mark.parametrize("target", ["ftp://x/a.txt", "file:///etc/passwd", "evil:80", "a.txt", "", "*"])
def test_other_targets_have_no_path(request_for, target):
    with pytest.raises(BadRequest):
        request_for(target)


@pytest.mark.parametrize("path", ["", "a.txt", "*", "\u00e9", "/\u00e9"])
async def test_a_path_no_protocol_would_pass_on_is_400(served, ask, path):
    assert (await ask(files(served), path=path)).status == 400


async def test_links_that_lead_out_are_not_even_in_the_listing(served, ask, way_to_open):
    page = (await ask(files(served))).text
    links = re.findall('href="([^"]*)"', page)[1:]  # the first is the icon of the page
    assert links == ["in-dir/", "sub/", "a.txt", "in", "in-absolute", "in-around"]


@pytest.mark.parametrize("names", [("..",), (".",), ("",), ("a/b",), ("sub", "..", "a.txt"), ("a\0",), ("\ud800",)])
@pytest.mark.parametrize("opener", [open_by_handle, open_by_name])
def test_a_tree_refuses_segments_that_are_no_names_though_the_decoder_did_already(served, names, opener):
    with pytest.raises(PathError) as caught:
        Tree(served, opener=opener).open(names, Kind.FILE)
    assert caught.value.status == 404


# --- races: whatever we ask of the system, somebody swaps something right before it

ASKED = ("open", "stat", "lstat", "fstat", "readlink")


def swap_file_for_link_out(served: Path):
    (served / "sub" / "b.txt").unlink()
    (served / "sub" / "b.txt").symlink_to("../../outside/secret.txt")


def swap_folder_for_link_out(served: Path):
    (served / "sub").rename(served / "old")
    (served / "sub").symlink_to("../outside")
    (served.parent / "outside" / "b.txt").write_text("SECRET")


def swap_file_for_fifo(served: Path):
    (served / "sub" / "b.txt").unlink()
    os.mkfifo(served / "sub" / "b.txt")


def swap_file_for_folder(served: Path):
    (served / "sub" / "b.txt").unlink()
    (served / "sub" / "b.txt").mkdir()


def remove_file(served: Path):
    (served / "sub" / "b.txt").unlink()


def restore(served: Path):
    for path in (served / "sub", served / "old"):
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    (served / "sub").mkdir()
    (served / "sub" / "b.txt").write_text("inside")


def act_before_calls(patch: pytest.MonkeyPatch, actions: dict[int, object]) -> list[str]:
    """Call `actions[n]` right before the n-th call of the system; gives the list of calls as it grows."""
    calls: list[str] = []
    really = {name: getattr(os, name) for name in ASKED}

    def intercept(name):
        def call(*args, **kwargs):
            action = actions.pop(len(calls), None)
            calls.append(name)
            if action is not None:
                with pytest.MonkeyPatch.context() as undone:
                    for each, function in really.items():
                        undone.setattr(os, each, function)
                    action()
            return really[name](*args, **kwargs)

        return call

    for name in ASKED:
        patch.setattr(os, name, intercept(name))
    return calls


@pytest.mark.exhaustive
@pytest.mark.parametrize("opener", [open_by_handle, open_by_name])
@pytest.mark.parametrize(
    "swap",
    [swap_file_for_link_out, swap_folder_for_link_out, swap_file_for_fifo, swap_file_for_folder, remove_file],
)
def test_no_swap_at_any_moment_lets_the_secret_out(served, opener, swap):
    tree = Tree(served, opener=opener)

    def attempt(actions):
        restore(served)
        with pytest.MonkeyPatch.context() as patch:
            calls = act_before_calls(patch, actions)
            try:
                found = tree.open(("sub", "b.txt"), Kind.FILE)
            except PathError:
                return len(calls)
        if found.kind is Kind.FILE:
            assert os.read(found.descriptor, 100) == b"inside"
            found.close()
        return len(calls)

    undisturbed = attempt({})
    assert undisturbed >= 4
    for at in range(undisturbed):
        attempt({at: lambda: swap(served)})
    # ... and swapped back, to look innocent afterwards.
    for first, second in combinations(range(undisturbed + 2), 2):
        attempt({first: lambda: swap(served), second: lambda: restore(served)})


def test_a_link_swapped_while_its_folder_is_listed_tells_nothing_about_what_lies_outside(served, ask, request_for):
    (served.parent / "big").write_bytes(bytes(7_654_321))
    (served / "link").symlink_to("a.txt")
    tree = Tree(served)

    def swap():
        (served / "link").unlink()
        (served / "link").symlink_to("../big")

    def read():
        found = scan_folder(tree, (), most_entries=100)
        return [entry for packed in found.slices for entry in read_slice(tree, (), found.identity, packed)]

    with pytest.MonkeyPatch.context() as patch:
        calls = act_before_calls(patch, {})
        assert [entry.size for entry in read() if entry.name == "link"] == [6]
    for at in range(len(calls)):
        with pytest.MonkeyPatch.context() as patch:
            act_before_calls(patch, {at: swap})
            entries = read()
        assert all(entry.size != 7_654_321 for entry in entries)
        (served / "link").unlink()
        (served / "link").symlink_to("a.txt")


# --- whatever comes

PIECES = st.sampled_from(
    [
        *(
            "/",
            "//",
            "..",
            ".",
            "\\",
            "%2e",
            "%2E%2e",
            "%2f",
            "%5c",
            "%00",
            "%25",
            "%",
            "%c0%ae",
            "?",
            "#",
            ";",
            " ",
            "*",
        ),
        *(
            "a.txt",
            "sub",
            "b.txt",
            "in",
            "in-dir",
            "in-absolute",
            "out",
            "out-dir",
            "out-root",
            "out-sibling",
            "out-chain",
        ),
        *("up", "served", "served-not", "secret.txt", "etc", "passwd", "loop", "fifo", "device", "index.html"),
        *(".env", ".git", "config", ".well-known", "acme", ".secret", "http://x", "http:", "file://"),
    ]
)
TARGETS = st.lists(PIECES, max_size=9).map("".join)
PATHS = st.lists(PIECES, max_size=9).map("/".join).map("/{}".format) | TARGETS | st.text(max_size=30)


def nothing_came_out(answer, root):
    assert answer.status in (200, 301, 400, 404)
    if answer.is_file:
        assert answer.body == b"inside"
        assert answer.path.startswith(f"{root}/")
    elif answer.status == 200:
        # A listing of a folder inside: it shows nothing of the tree's hidden or outer names.
        assert not any(word in answer.text for word in ("secret", "out-dir", "passwd", ".git"))
    assert b"SECRET" not in answer.body
    assert b"HIDDEN" not in answer.body


@pytest.mark.slow
@hypothesis.given(target=TARGETS | st.text(max_size=30))
async def test_no_target_whatsoever_yields_anything_outside_the_root(lasting_tree, ask, target):
    try:
        answer = await ask(files(lasting_tree), target)
    except BadRequest:  # the protocol answers that one
        return
    nothing_came_out(answer, lasting_tree)


@pytest.mark.slow
@hypothesis.given(path=PATHS)
async def test_no_path_whatsoever_yields_anything_outside_the_root(lasting_tree, ask, path):
    nothing_came_out(await ask(files(lasting_tree), path=path), lasting_tree)


NAMES = st.lists(PIECES | st.text(max_size=10), max_size=6).map(tuple)


@pytest.mark.parametrize("opener", [open_by_handle, open_by_name])
@hypothesis.given(names=NAMES, wanted=st.sampled_from([None, *Kind]))
def test_a_tree_opens_only_what_lies_inside(lasting_tree, opener, names, wanted):
    tree = Tree(lasting_tree, opener=opener)
    try:
        found = tree.open(names, wanted)
    except PathError:
        return
    if found.kind is wanted:
        place = os.readlink(f"/proc/self/fd/{found.descriptor}")
        assert place == str(lasting_tree) or place.startswith(f"{lasting_tree}/")
        found.close()
    else:
        with pytest.raises(ValueError, match="no descriptor"):
            _ = found.descriptor
