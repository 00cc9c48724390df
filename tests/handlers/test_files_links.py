"""Which links are followed: each policy against each kind of link, and whatever is swapped at any moment."""

from __future__ import annotations

import os
import re
from itertools import combinations

import pytest

from ktrio.handlers import _links
from ktrio.handlers._links import open_by_owner, tree_of
from ktrio.handlers._tree import Kind, PathError, RootError, Tree
from ktrio.handlers.files import files
from tests.handlers.test_files_hostile import (
    LINKS_IN,
    LINKS_OUT,
    act_before_calls,
    remove_file,
    restore,
    swap_file_for_fifo,
    swap_file_for_folder,
    swap_file_for_link_out,
    swap_folder_for_link_out,
)

WITHOUT_A_LINK = ["/a.txt", "/%61.txt"]
OVER_A_LINK = [target for target in LINKS_IN if target not in WITHOUT_A_LINK]


@pytest.mark.parametrize("target", WITHOUT_A_LINK)
@pytest.mark.parametrize("links", ["inside", "never", "all"])
async def test_what_lies_at_its_own_path_is_served_under_every_policy(served, ask, way_to_open, links, target):
    assert (await ask(files(served, links=links), target)).text == "inside"


@pytest.mark.parametrize("target", OVER_A_LINK)
async def test_never_follows_no_link_at_all(served, ask, way_to_open, target):
    assert (await ask(files(served, links="never"), target)).status == 404


@pytest.mark.parametrize("target", LINKS_OUT)
@pytest.mark.parametrize("links", ["never", "owner"])
async def test_a_link_that_leads_out_is_not_there_under_the_stricter_policies(served, ask, links, target):
    answer = await ask(files(served, links=links), path=target)
    assert answer.status in (400, 404)
    assert "secret" not in answer.text.lower()


async def test_never_serves_a_root_that_is_a_link_itself(served, ask, way_to_open):
    (served.parent / "alias").symlink_to(served)
    handler = files(served.parent / "alias", links="never")
    assert (await ask(handler, "/a.txt")).text == "inside"
    assert (await ask(handler, "/in")).status == 404


async def test_all_follows_links_out_of_the_root(served, ask, way_to_open):
    handler = files(served, links="all")
    assert (await ask(handler, "/out")).text == "SECRET"
    assert (await ask(handler, "/out-dir/")).text == "SECRET"  # its index.html
    assert (await ask(handler, "/in")).text == "inside"
    for target in ("/fifo", "/device", "/loop", "/dangling", "/.env"):
        assert (await ask(handler, target)).status == 404


async def test_all_does_not_let_a_path_itself_climb(served, ask, way_to_open):
    for target in ("/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt"):
        assert (await ask(files(served, links="all"), path=target)).status == 400


async def test_a_listing_shows_the_links_that_are_followed_and_no_others(served, ask, way_to_open):
    async def links_shown(links):
        page = (await ask(files(served, links=links))).text
        return {name.rstrip("/") for name in re.findall('href="([^"]*)"', page)}

    inside = {"in", "in-absolute", "in-around", "in-dir"}
    assert not await links_shown("never") & (inside | {"out"})
    shown = await links_shown("all")
    assert shown >= inside | {"out", "out-dir"}


async def test_owner_follows_links_inside_whose_target_has_their_owner(served, ask):
    handler = files(served, links="owner")
    # "in-around" goes up over the root and down again: no step may leave it.
    around = {"/in-around", "/sub/up/served/a.txt"}
    for target in LINKS_IN:
        answer = await ask(handler, target)
        assert answer.status == (404 if target in around else 200), target
    for target in ("/fifo", "/device", "/loop", "/dangling", "/.env", "/missing", "/a.txt/x"):
        assert (await ask(handler, target)).status == 404


async def test_owner_does_not_follow_the_link_of_another(served, ask, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can give a link to somebody else")
    os.chown(served / "in", 12345, 12345, follow_symlinks=False)
    handler = files(served, links="owner")
    assert (await ask(handler, "/in")).status == 404
    os.chown(served / "a.txt", 12345, 12345)
    assert (await ask(handler, "/in")).text == "inside"
    # Each link of a chain is judged by where it ends.
    (served / "chain").symlink_to("in")
    assert (await ask(handler, "/chain")).status == 404
    os.chown(served / "chain", 12345, 12345, follow_symlinks=False)
    assert (await ask(handler, "/chain")).text == "inside"


async def test_owner_goes_up_within_the_root_and_no_further(served, ask):
    (served / "sub" / "level").symlink_to("../a.txt")
    (served / "sub" / "deep" / "climber").symlink_to("../../../served/a.txt")
    handler = files(served, links="owner")
    assert (await ask(handler, "/sub/level")).text == "inside"
    assert (await ask(handler, "/sub/deep/climber")).status == 404


async def test_owner_ends_a_circle_of_links(served, ask):
    (served / "one").symlink_to("two")
    (served / "two").symlink_to("one")
    assert (await ask(files(served, links="owner"), "/one")).status == 404


def test_owner_needs_handles_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_links, "handles_work", lambda root: False)
    with pytest.raises(RootError, match="Linux"):
        tree_of(tmp_path, "owner")


@pytest.mark.parametrize("option", [{"links": "some"}, {"dotfiles": "show"}])
def test_a_policy_there_is_not_is_an_error_that_names_those_there_are(tmp_path, option):
    with pytest.raises(ValueError, match="must be one of"):
        files(tmp_path, **option)


# --- races


def swap_file_for_link_inside(served):
    (served / "sub" / "b.txt").unlink()
    (served / "other.txt").write_text("NOT BY A LINK")
    (served / "sub" / "b.txt").symlink_to("../other.txt")


SWAPS = [
    swap_file_for_link_out,
    swap_folder_for_link_out,
    swap_file_for_fifo,
    swap_file_for_folder,
    swap_file_for_link_inside,
    remove_file,
]


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("links", ["never", "owner"])
def test_no_swap_at_any_moment_makes_a_stricter_policy_follow(served, links, swap):
    tree = tree_of(served, links)

    def attempt(actions):
        restore(served)
        with pytest.MonkeyPatch.context() as patch:
            calls = act_before_calls(patch, actions)
            try:
                found = tree.open(("sub", "b.txt"), Kind.FILE)
            except PathError:
                return len(calls)
        if found.kind is Kind.FILE:
            got = os.read(found.descriptor, 100)
            found.close()
            # `owner` may follow the link that stays inside; none lets the secret out.
            assert got == b"inside" or (links == "owner" and got == b"NOT BY A LINK")
        return len(calls)

    undisturbed = attempt({})
    assert undisturbed >= 4
    for at in range(undisturbed):
        attempt({at: lambda: swap(served)})
    for first, second in combinations(range(undisturbed + 2), 2):
        attempt({first: lambda: swap(served), second: lambda: restore(served)})


def test_a_folder_moved_out_of_the_root_during_the_walk_serves_nothing(served):
    tree = Tree(served, opener=open_by_owner)

    def move_out():
        (served / "sub").rename(served.parent / "moved")

    def move_back():
        if (served.parent / "moved").exists():
            (served.parent / "moved").rename(served / "sub")

    with pytest.MonkeyPatch.context() as patch:
        calls = act_before_calls(patch, {})
        tree.open(("sub", "b.txt"), Kind.FILE).close()
    for at in range(len(calls)):
        moved = at <= calls.index("readlink")  # an action comes before its call
        with pytest.MonkeyPatch.context() as patch:
            act_before_calls(patch, {at: move_out})
            if moved:
                with pytest.raises(PathError):
                    tree.open(("sub", "b.txt"), Kind.FILE)
            else:
                tree.open(("sub", "b.txt"), Kind.FILE).close()
        move_back()
