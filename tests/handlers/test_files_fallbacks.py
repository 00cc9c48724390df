"""An app's page for its own routes and never for its assets; error pages of the folder's own with the right status."""

from __future__ import annotations

import os

import pytest

from ktrio.handlers.files import files
from ktrio.http.negotiation import accepts_by_name

# What a browser sends when somebody goes to an address.
BROWSER = [("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")]


@pytest.fixture
def app(tmp_path):
    (tmp_path / "index.html").write_text("the app")
    (tmp_path / "about.html").write_text("about")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "app.js").write_text("js")
    return tmp_path


# --- --spa


@pytest.mark.parametrize(
    "target", ["/users", "/users/", "/users/7", "/assets/", "/a%20b", "/users?next=/x", "/users?download"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_navigation_to_an_unknown_path_gets_the_app(app, ask, target, method):
    answer = await ask(files(app, spa=True), target, method, BROWSER)
    assert (answer.status, answer.text) == (200, "the app")
    assert answer["cache-control"] == "no-cache"
    assert "accept" in answer.headers.tokens("vary")
    assert answer["content-disposition"] is None


@pytest.mark.parametrize(
    "target", ["/assets/gone.js", "/gone.png", "/favicon.ico", "/.env", "/.git/config", "/.git/x", "/app.3f9c.css"]
)
async def test_an_asset_that_is_missing_is_missing_even_for_a_navigation(app, ask, target):
    assert (await ask(files(app, spa=True), target, headers=BROWSER)).status == 404


@pytest.mark.parametrize(
    "accept", [[], [("accept", "*/*")], [("accept", "application/json")], [("accept", "text/html;q=0")]]
)
async def test_what_a_script_or_a_program_asks_for_is_missing(app, ask, accept):
    answer = await ask(files(app, spa=True), "/api/users", headers=accept)
    assert answer.status == 404
    assert "accept" in answer.headers.tokens("vary")


async def test_what_is_there_is_served_as_ever(app, ask):
    handler = files(app, spa=True)
    assert (await ask(handler, "/about.html", headers=BROWSER)).text == "about"
    assert (await ask(handler, "/assets", headers=BROWSER))["location"] == "./assets/"
    for target, status in (("/../x", 400), ("/%2f", 400)):
        assert (await ask(handler, path=target, headers=BROWSER)).status == status
    assert (await ask(handler, "/users", "POST", BROWSER)).status == 405


async def test_the_app_is_not_sent_again_to_who_has_it(app, ask):
    handler = files(app, spa=True)
    first = await ask(handler, "/users", headers=BROWSER)
    again = await ask(handler, "/others", headers=[*BROWSER, ("if-none-match", first["etag"])])
    assert (again.status, again["cache-control"]) == (304, "no-cache")


async def test_a_cache_rule_does_not_keep_the_app_at_an_address_of_its_own(app, ask):
    rules = {"cache": [{"path": "/**", "control": "max-age=60"}]}
    handler = files(app, spa=True, rules=rules)
    assert (await ask(handler, "/users", headers=BROWSER))["cache-control"] == "no-cache"
    assert (await ask(handler, "/about.html", headers=BROWSER))["cache-control"] == "max-age=60"


async def test_an_app_without_its_page_is_404(tmp_path, ask):
    assert (await ask(files(tmp_path, spa=True), "/users", headers=BROWSER)).status == 404
    assert (await ask(files(tmp_path, spa=True), "/", headers=BROWSER)).status == 404


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["text/html"], True),
        (["TEXT/HTML; q=0.1"], True),
        (["*/*", "text/html"], True),
        ([], False),
        (["*/*"], False),
        (["text/*"], False),
        (["text/html;q=0"], False),
        (["text/htmlx"], False),
    ],
)
def test_a_type_is_accepted_by_name(values, expected):
    assert accepts_by_name(values, "text/html") is expected


# --- error pages


async def test_an_error_page_of_the_folders_own_has_the_status_and_no_validators(app, ask):
    (app / "404.html").write_text("<p>nothing here")
    handler = files(app, error_pages=True)
    for method in ("GET", "HEAD"):
        answer = await ask(handler, "/gone", method)
        assert (answer.status, answer.text) == (404, "<p>nothing here")
        assert answer["content-type"] == "text/html; charset=utf-8"
        assert answer["content-length"] == "15"
        assert answer["cache-control"] == "no-cache"
        assert answer["etag"] is answer["last-modified"] is answer["content-security-policy"] is None
    assert (await ask(handler, "/404.html")).status == 200


@pytest.mark.parametrize("field", [("if-none-match", "*"), ("if-modified-since", "Fri, 01 Jan 2038 00:00:00 GMT"),
                                   ("if-match", '"x"'), ("range", "bytes=0-1")])  # fmt: skip
async def test_preconditions_and_ranges_are_not_for_errors(app, ask, field):
    (app / "404.html").write_text("nothing here")
    answer = await ask(files(app, error_pages=True), "/gone", headers=[field])
    assert (answer.status, answer.text) == (404, "nothing here")


async def test_an_error_page_keeps_what_its_status_asks_for(app, ask):
    (app / "40x.html").write_text("no")
    (app / "416.html").write_text("too far")
    handler = files(app, error_pages=True)
    assert (await ask(handler, "/about.html", "POST"))["allow"] is not None
    assert (await ask(handler, "/about.html", "POST")).text == "no"
    assert (await ask(handler, "/gone")).text == "no"
    too_far = await ask(handler, "/about.html", headers=[("range", "bytes=99-")])
    assert (too_far.status, too_far.text, too_far["content-range"]) == (416, "too far", "bytes */5")


async def test_the_page_of_a_server_without_descriptors_was_read_before(app, ask, monkeypatch):
    (app / "50x.html").write_text("later")
    handler = files(app, error_pages=True)

    def full(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        answer = await ask(handler, "/about.html")
    assert (answer.status, answer.text, answer["retry-after"]) == (503, "later", "1")


async def test_a_page_that_is_not_served_is_no_error_page(served, ask):
    (served / "404.html").symlink_to("../secret.txt")
    (served / "40x.html").mkdir()
    (served / "50x.html").write_bytes(bytes(100_000))
    answer = await ask(files(served, error_pages=True), "/gone")
    assert answer.status == 404
    assert "SECRET" not in answer.text
    assert "There is nothing at this address" in answer.text


async def test_an_app_comes_before_an_error_page(app, ask):
    (app / "404.html").write_text("nothing here")
    handler = files(app, spa=True, error_pages=True)
    assert (await ask(handler, "/users", headers=BROWSER)).text == "the app"
    missing = await ask(handler, "/users")
    assert (missing.status, missing.text) == (404, "nothing here")
    assert "accept" in missing.headers.tokens("vary")


async def test_error_pages_are_not_looked_for_unless_asked_for(app, ask):
    (app / "404.html").write_text("nothing here")
    assert "nothing here" not in (await ask(files(app), "/gone")).text
