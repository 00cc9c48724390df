"""One handler of many, each below a path of its own."""

from __future__ import annotations

import pytest

from ktrio import Response
from ktrio.handlers.files import files
from ktrio.handlers.mounts import mount, path_below


def named(name):
    async def handler(request):
        return Response.text(f"{name} {request.path} {request.target}")

    return handler


@pytest.fixture
def site():
    return mount({"/": named("root"), "/api": named("api"), "/api/v2/": named("v2"), "/with space": named("space")})


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/", "root / /"),
        ("/x/y?q", "root /x/y /x/y?q"),
        ("/api/", "api / /api/"),
        ("/api/users", "api /users /api/users"),
        ("/api/users/", "api /users/ /api/users/"),
        ("/apiary", "root /apiary /apiary"),  # whole segments
        ("/api/v2/x", "v2 /x /api/v2/x"),
        ("/api/v20/x", "api /v20/x /api/v20/x"),
        ("/%61pi/x%20y", "api /x%20y /%61pi/x%20y"),  # compared decoded, handed on as it came
        ("/with%20space/x", "space /x /with%20space/x"),
        ("/api//x", "api //x /api//x"),
        ("//api/x", "root //api/x //api/x"),  # `files` redirects to where it belongs
    ],
)
async def test_longest_path_that_the_requests_begins_with_answers(site, ask, target, answer):
    assert (await ask(site, target)).text == answer


@pytest.mark.parametrize(
    ("target", "location"),
    [("/api", "./api/"), ("/api?x=1", "./api/?x=1"), ("/api/v2", "./v2/")],
)
async def test_mount_without_its_slash_is_redirected_relatively(site, ask, target, location):
    """So that it holds below another mount, and behind a proxy that cuts a prefix off; 308 keeps method and body."""
    answer = await ask(site, target, "POST")
    assert (answer.status, answer["location"]) == (308, location)


async def test_mounts_may_be_mounted(ask):
    inner = mount({"/b": named("inner")})
    assert (await ask(mount({"/a": inner}), "/a/b/c")).text == "inner /c /a/b/c"
    assert (await ask(mount({"/a": inner}), "/a/b"))["location"] == "./b/"


async def test_what_nobody_is_mounted_for_is_404(ask):
    handler = mount({"/a": named("a")})
    assert (await ask(handler, "/")).status == 404
    assert (await ask(handler, "/b/a/")).status == 404
    assert (await ask(handler, "//a/")).status == 404


async def test_options_of_the_whole_server_are_those_of_nobody_in_particular(ask):
    """RFC 9110 section 9.3.7: no more than a ping."""
    answer = await ask(mount({"/a": named("a")}), "*", "OPTIONS")
    assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("path", ["/a/../b", "/%2e%2e/a", "/%zz", "/a%2fb", "/a\\b"])
async def test_path_that_cannot_be_one_is_400_before_anybody_sees_it(site, ask, path):
    assert (await ask(site, path, path=path)).status == 400


async def test_folders_are_served_side_by_side(tmp_path, ask):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text(name)
    handler = mount({"/": files(tmp_path / "one"), "/two": files(tmp_path / "two")})
    assert (await ask(handler, "/a.txt")).text == "one"
    assert (await ask(handler, "/two/a.txt")).text == "two"
    assert (await ask(handler, "/two/sub"))["location"] == "./sub/"
    assert "a.txt" in (await ask(handler, "/two/")).text
    assert (await ask(handler, "/two//a.txt"))["location"] == "/two/a.txt"
    assert (await ask(handler, "//two/a.txt"))["location"] == "/two/a.txt"


@pytest.mark.parametrize(
    ("handlers", "message"),
    [
        ({}, "at least one handler"),
        ({"api": named("a")}, "cannot mount a handler at 'api'"),
        ({"/a/../b": named("a")}, "cannot mount a handler at '/a/../b'"),
        ({"/a": named("a"), "/%61/": named("b")}, "two handlers are mounted at '/%61/'"),
    ],
)
def test_mounts_that_make_no_sense_are_refused(handlers, message):
    with pytest.raises(ValueError, match=message):
        mount(handlers)


def test_rest_of_a_path_is_what_came_behind_its_segments():
    assert path_below("/a/b/c", 0) == "/a/b/c"
    assert path_below("/a/b/c", 2) == "/c"
    assert path_below("/a/b//c//", 2) == "//c//"
    assert path_below("/a", 1) == "/"
    assert repr(mount({"/b/c": named("x"), "/": named("y")})) == "<mount /, /b/c>"
