"""What `files` can be asked for: dotfiles, media types, index names, and a file to save rather than to show."""

from __future__ import annotations

import pytest

from ktrio.handlers.files import disposition_of, files
from ktrio.http.media_types import media_types_with

# --- dotfiles


async def test_dotfiles_that_are_allowed_are_served_and_listed(served, ask, way_to_open):
    handler = files(served, dotfiles="allow")
    assert (await ask(handler, "/.env")).text == "HIDDEN"
    assert (await ask(handler, "/sub/.git/config")).text == "HIDDEN"
    assert 'href=".env"' in (await ask(handler)).text
    assert 'href="config"' in (await ask(handler, "/sub/.git/")).text


async def test_dotfiles_that_are_unlisted_are_served_to_who_knows_the_name(served, ask):
    handler = files(served, dotfiles="unlisted")
    assert (await ask(handler, "/.env")).text == "HIDDEN"
    assert ".env" not in (await ask(handler)).text


@pytest.mark.parametrize("target", ["/.", "/..", "/%2e%2e/secret.txt", "/sub/../.env"])
async def test_dot_segments_are_no_dotfiles(served, ask, target):
    assert (await ask(files(served, dotfiles="allow"), path=target)).status == 400


# --- media types


async def test_media_types_of_the_users_own_come_before_the_table(tmp_path, ask):
    for name in ("a.glsl", "a.md", "A.MD", "a.html", "md", ".glsl"):
        (tmp_path / name).write_text("x")
    handler = files(tmp_path, media_types={".glsl": "text/plain", "md": "text/plain; charset=latin1"})
    expected = {
        "a.glsl": "text/plain; charset=utf-8",
        "a.md": "text/plain; charset=latin1",
        "A.MD": "text/plain; charset=latin1",
        "a.html": "text/html; charset=utf-8",
        "md": "application/octet-stream",
    }
    for name, media_type in expected.items():
        assert (await ask(handler, f"/{name}"))["content-type"] == media_type


async def test_a_type_made_text_is_compressed_and_one_made_binary_is_not(tmp_path, ask):
    (tmp_path / "a.glsl").write_text("x" * 2000)
    (tmp_path / "a.txt").write_text("x" * 2000)
    handler = files(tmp_path, media_types={"glsl": "text/plain", "txt": "application/octet-stream"})
    accept = [("accept-encoding", "gzip")]
    shader = await ask(handler, "/a.glsl", headers=accept)
    assert (shader["content-encoding"], shader["vary"]) == ("gzip", "accept-encoding")
    text = await ask(handler, "/a.txt", headers=accept)
    assert (text["content-encoding"], text["vary"]) == (None, None)


@pytest.mark.parametrize(
    "additions",
    [
        {"": "text/plain"},
        {".": "text/plain"},
        {"a/b": "text/plain"},
        {"tar.gz": "application/gzip"},
        {"a\n": "text/plain"},
        {"a": "text"},
        {"a": ""},
        {"a": "text/plain\r\nset-cookie: a=b"},
        {"a": "text/plain; charset"},
        {"a": "text/pl ain"},
        {"a": "text/\u00e9"},
    ],
)
def test_what_is_no_suffix_or_no_media_type_is_refused_at_the_start(tmp_path, additions):
    with pytest.raises(ValueError, match="is not"):
        files(tmp_path, media_types=additions)


def test_a_name_is_looked_up_by_its_last_suffix_as_in_the_table():
    type_of = media_types_with({"gz": "application/x-own"})
    assert type_of("a.tar.gz") == "application/x-own"
    assert type_of("gz") == "application/octet-stream"


# --- index names and no listing


async def test_index_names_are_tried_in_their_order(tmp_path, ask):
    handler = files(tmp_path, index=["home.html", "index.html"], listing=False)
    assert (await ask(handler)).status == 404
    (tmp_path / "index.html").write_text("second")
    assert (await ask(handler)).text == "second"
    (tmp_path / "home.html").write_text("first")
    assert (await ask(handler)).text == "first"


# --- ?download (RFC 6266)


async def test_download_asks_the_browser_to_save_the_file(tmp_path, ask):
    (tmp_path / "a.txt").write_text("x")
    answer = await ask(files(tmp_path), "/a.txt?download")
    assert (answer.status, answer.text) == (200, "x")
    assert answer["content-disposition"] == "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"
    part = await ask(files(tmp_path), "/a.txt?download", headers=[("range", "bytes=0-0")])
    assert part.status == 206
    assert part["content-disposition"] is not None


@pytest.mark.parametrize("target", ["/a.txt", "/a.txt?download=1", "/a.txt?x&download", "/?download", "/b?download"])
async def test_nothing_else_does(tmp_path, ask, target):
    (tmp_path / "a.txt").write_text("x")
    assert (await ask(files(tmp_path), target))["content-disposition"] is None


async def test_a_download_that_is_refused_is_no_attachment(tmp_path, ask):
    (tmp_path / "a.txt").write_text("x")
    answer = await ask(files(tmp_path), "/a.txt?download", headers=[("range", "bytes=9-")])
    assert (answer.status, answer["content-disposition"]) == (416, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "a b (1).pdf",
            "attachment; filename=\"a b (1).pdf\"; filename*=UTF-8''a%20b%20%281%29.pdf",
        ),
        ('a"b\\c', "attachment; filename=\"a_b_c\"; filename*=UTF-8''a%22b%5Cc"),
        ("a\r\nset-cookie: x", "attachment; filename=\"a__set-cookie_ x\"; filename*=UTF-8''a%0D%0Aset-cookie%3A%20x"),
        ("\u00fcber.txt", "attachment; filename=\"_ber.txt\"; filename*=UTF-8''%C3%BCber.txt"),
        ("\udcff", "attachment; filename=\"_\"; filename*=UTF-8''%FF"),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
    ],
)
def test_no_name_can_end_its_field(name, expected):
    assert disposition_of(name) == expected
