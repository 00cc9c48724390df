"""Redirects, fields and caching where requests are answered; CORS as the Fetch standard has it."""

from __future__ import annotations

from urllib.parse import urlsplit

import hypothesis
import pytest
from hypothesis import strategies as st

from ktrio.handlers.files import files
from ktrio.handlers.mounts import mount
from ktrio.handlers.options import SiteOptions
from ktrio.handlers.site import IMMUTABLE, is_hashed, site
from ktrio.http.headers import Headers
from ktrio.testing import SampleRequest, check_handler


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "app.3f9c2b7d.js").write_text("js")
    (tmp_path / "assets" / "app.js").write_text("js")
    return tmp_path


def redirects(*rules):
    return {"redirect": [dict(zip(("from", "to", "status"), rule, strict=False)) for rule in rules]}


def test_a_folder_without_any_of_it_is_served_by_the_same_handler_as_ever(folder):
    handler = files(folder)
    assert repr(handler).startswith("<files")
    assert site(handler, SiteOptions()) is handler


# --- redirects


@pytest.mark.parametrize(
    ("rule", "target", "location"),
    [
        (("/old", "/new"), "/old", "/new"),
        (("/old", "/new"), "/old/?a=b", "/new?a=b"),
        (("/old", "/new?c=d"), "/old?a=b", "/new?c=d"),
        (("/old", "/new#part"), "/old?a=b", "/new?a=b#part"),
        (("/old/**", "/new/$1"), "/old/x/y%20z", "/new/x/y%20z"),
        (("/old/**", "/new/$1"), "/old/x/", "/new/x/"),
        (("/old/**", "/new/$1"), "/old", "/new/"),
        (("/*/to/*", "/$2/of/$1"), "/a/to/b", "/b/of/a"),
        (("*.htm", "/pages/$1.html"), "/deep/in/a.htm", "/pages/a.html"),
        (("/out/**", "https://example.org/$1"), "/out/x", "https://example.org/x"),
        (("/old", "https://example.org"), "/old?a", "https://example.org?a"),
        (("/search/*", "/find?q=$1"), "/search/a&b=c", "/find?q=a%26b%3Dc"),
    ],
)
async def test_a_redirect_leads_where_its_rule_says(folder, ask, rule, target, location):
    answer = await ask(files(folder, rules=redirects(rule)), target)
    assert (answer.status, answer["location"], answer.body) == (302, location, b"")


@pytest.mark.parametrize(
    "target",
    ["/go/evil.example", "/go//evil.example", "/go/%09/evil.example", "/go/%0d%0aset-cookie:a", "/go/@evil.example",
     "/go/?x=%0d%0a", "/go/%3f%23"],
)  # fmt: skip
@pytest.mark.parametrize("rule", [("/go/**", "/$1"), ("/go/**", "/x/../$1"), ("/go/**", "https://good.example/$1")])
async def test_no_request_chooses_the_host_or_adds_a_line(folder, ask, rule, target):
    answer = await ask(files(folder, rules=redirects(rule)), target)
    location = answer["location"]
    assert answer.status == 302
    if rule[1].startswith("h"):
        assert location.startswith("https://good.example/")
    else:
        assert location[:1] == "/" != location[1:2]
    assert all("\x21" <= each <= "\x7e" for each in location)
    assert len(answer.headers) == 1


async def test_the_first_redirect_that_matches_is_taken(folder, ask):
    rules = redirects(("/a/*", "/first"), ("/a/b", "/second"), ("/c", "/third", 301), ("/c", "/fourth"), ("/*", "/x/y"))
    handler = files(folder, rules=rules)
    for target, status, location in (("/a/b", 302, "/first"), ("/c", 301, "/third"), ("/d", 302, "/x/y")):
        answer = await ask(handler, target)
        assert (answer.status, answer["location"]) == (status, location)


async def test_a_redirect_comes_before_a_file_and_only_for_get_and_head(folder, ask):
    handler = files(folder, rules=redirects(("/a.txt", "/b.txt")))
    assert (await ask(handler, "/a.txt", "HEAD")).status == 302
    assert (await ask(handler, "/a.txt", "POST")).status == 405


async def test_what_would_be_redirected_to_itself_is_served(folder, ask):
    (folder / "y").mkdir()
    (folder / "y" / "y").write_text("here")
    handler = files(folder, rules=redirects(("/*/y", "/$1/$1")))
    assert (await ask(handler, "/x/y"))["location"] == "/x/x"
    assert (await ask(handler, "/y/y")).text == "here"


async def test_a_path_that_cannot_be_decoded_is_no_redirect(folder, ask):
    handler = files(folder, rules=redirects(("/**", "https://example.org/$1")))
    assert (await ask(handler, path="/%2e%2e/x")).status == 400
    assert (await ask(handler, "*", "OPTIONS")).status == 204


# --- fields


async def test_fields_of_every_rule_that_matches_are_set_the_later_over_the_earlier(folder, ask):
    rules = {
        "header": [
            {"path": "/**", "set": {"X-One": "1", "X-Two": "2"}},
            {"path": "*.txt", "set": {"x-two": "two", "X-Content-Type-Options": ""}},
        ]
    }
    handler = files(folder, rules=rules)
    text = await ask(handler, "/a.txt")
    assert (text["x-one"], text.headers.get_all("x-two"), text["x-content-type-options"]) == ("1", ["two"], None)
    listing, missing = await ask(handler, "/"), await ask(handler, "/none")
    for answer in (listing, missing):
        assert (answer["x-two"], answer["x-content-type-options"]) == ("2", "nosniff")


async def test_redirects_have_the_fields_too(folder, ask):
    handler = files(folder, rules={**redirects(("/old", "/new")), "header": [{"path": "/**", "set": {"X-One": "1"}}]})
    assert (await ask(handler, "/old"))["x-one"] == "1"


# --- caching


async def test_cache_control_is_for_files_and_never_for_errors_listings_or_redirects(folder, ask):
    rules = {**redirects(("/old", "/new")), "cache": [{"path": "/**", "control": "max-age=60"}]}
    handler = files(folder, rules=rules)
    file = await ask(handler, "/a.txt")
    assert file["cache-control"] == "max-age=60"
    again = await ask(handler, "/a.txt", headers=[("if-none-match", file["etag"])])
    part = await ask(handler, "/a.txt", headers=[("range", "bytes=0-1")])
    # RFC 9110 section 15.4.5: what a 200 would have had.
    assert [(each.status, each["cache-control"]) for each in (again, part)] == [
        (304, "max-age=60"),
        (206, "max-age=60"),
    ]
    for target in ("/none", "/", "/.env", "/old", "/assets"):
        assert (await ask(handler, target))["cache-control"] in (None, "no-cache")
    too_far = await ask(handler, "/a.txt", headers=[("range", "bytes=9-")])
    assert (too_far.status, too_far["cache-control"]) == (416, "no-cache")


async def test_the_last_cache_rule_that_matches_is_taken(folder, ask):
    rules = {"cache": [{"path": "/**", "control": "no-cache"}, {"path": "*.js", "control": "max-age=60"}]}
    handler = files(folder, rules=rules, immutable=True)
    assert (await ask(handler, "/a.txt"))["cache-control"] == "no-cache"
    # A rule is more than a guess by the name.
    assert (await ask(handler, "/assets/app.3f9c2b7d.js"))["cache-control"] == "max-age=60"


async def test_files_with_a_hash_in_their_name_are_immutable_if_asked_for(folder, ask):
    assert (await ask(files(folder), "/assets/app.3f9c2b7d.js"))["cache-control"] is None
    handler = files(folder, immutable=True)
    assert (await ask(handler, "/assets/app.3f9c2b7d.js"))["cache-control"] == IMMUTABLE
    assert (await ask(handler, "/assets/app.js"))["cache-control"] is None
    missing = await ask(handler, "/assets/gone.3f9c2b7d.js")
    assert (missing.status, missing["cache-control"]) == (404, "no-cache")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app.3f9c2b7d.js", True),
        ("app-3f9c2b7d.css", True),
        ("index-BKd3fJ2a.js", True),
        ("logo.7c6f0d9e8b1a2c3d4e5f.svg", True),
        ("app.3f9c2b7d.min.js", True),
        ("vendor.3f9c2b7d.chunk.js", True),
        ("app.3f9c2b7d.js.map", False),
        ("app.js", False),
        ("report-20240101.js", False),
        ("my-Calendar.js", False),
        ("my-calendar.js", False),
        ("deadbeef.js", False),
        ("app.deadbeef.js", False),
        ("app.3f9c2b7.js", False),
        ("app.3f9c2b7d.html", False),
        ("app.3f9c2b7d", False),
        ("a-version1.png", False),
        ("3f9c2b7d.js", False),
    ],
)
def test_a_hash_is_one_only_if_it_cannot_well_be_anything_else(name, expected):
    assert is_hashed(name) is expected


# --- security headers


async def test_basic_is_nosniff_off_is_nothing_and_strict_is_more(folder, ask):
    basic, off, strict = [
        await ask(files(folder, security_headers=each), "/a.txt") for each in ("basic", "off", "strict")
    ]
    assert [each["x-content-type-options"] for each in (basic, off, strict)] == ["nosniff", None, "nosniff"]
    assert basic["referrer-policy"] is basic["x-frame-options"] is None
    assert (strict["referrer-policy"], strict["x-frame-options"]) == ("no-referrer", "SAMEORIGIN")
    assert strict["cross-origin-resource-policy"] == "same-origin"
    shared = await ask(files(folder, security_headers="strict", cors="*"), "/a.txt")
    assert shared["cross-origin-resource-policy"] == "cross-origin"


async def test_a_rule_is_over_a_security_header(folder, ask):
    rules = {"header": [{"path": "/**", "set": {"X-Frame-Options": "DENY", "Referrer-Policy": ""}}]}
    answer = await ask(files(folder, security_headers="strict", rules=rules), "/a.txt")
    assert (answer["x-frame-options"], answer["referrer-policy"]) == ("DENY", None)


async def test_security_headers_are_on_every_answer(folder, ask):
    handler = files(folder, security_headers="strict")
    for raw, method in (("/", "GET"), ("/none", "GET"), ("/a.txt", "POST"), ("/assets", "GET")):
        assert (await ask(handler, raw, method))["x-frame-options"] == "SAMEORIGIN"
    assert (await ask(handler, path="/%2f"))["x-frame-options"] == "SAMEORIGIN"


def test_a_level_there_is_not_is_an_error(folder):
    with pytest.raises(ValueError, match="strict"):
        files(folder, security_headers="paranoid")


# --- CORS (fetch.spec.whatwg.org, 3.3)

ORIGIN = "https://app.example"


def asked_by(origin, *more):
    return [("origin", origin), *more]


PREFLIGHT = ("access-control-request-method", "GET"), ("access-control-request-headers", "range")


async def test_any_origin_may_read_and_nothing_varies(folder, ask):
    handler = files(folder, cors="*", compress=False, precompressed=False)
    for headers in ([], asked_by(ORIGIN)):
        answer = await ask(handler, "/a.txt", headers=headers)
        assert (answer["access-control-allow-origin"], answer["vary"]) == ("*", None)
        assert "Content-Range" in answer["access-control-expose-headers"]


async def test_an_origin_that_is_allowed_is_named_and_another_is_not(folder, ask):
    handler = files(folder, cors=[ORIGIN, "http://localhost:5173"])
    allowed = await ask(handler, "/a.txt", headers=asked_by(ORIGIN))
    assert (allowed.status, allowed["access-control-allow-origin"]) == (200, ORIGIN)
    for origin in ("https://evil.example", "null", ORIGIN.upper(), f"{ORIGIN}:444", f"{ORIGIN}.evil.example", ""):
        refused = await ask(handler, "/a.txt", headers=asked_by(origin))
        assert (refused.status, refused.text) == (200, "hello")
        assert refused["access-control-allow-origin"] is refused["access-control-expose-headers"] is None
    twice = await ask(handler, "/a.txt", headers=[*asked_by(ORIGIN), *asked_by(ORIGIN)])
    assert twice["access-control-allow-origin"] is None


async def test_every_answer_varies_by_origin_where_only_some_may_read(folder, ask):
    handler = files(folder, cors=ORIGIN)
    for headers in ([], asked_by(ORIGIN), asked_by("https://evil.example")):
        for target in ("/a.txt", "/none", "/"):
            vary = (await ask(handler, target, headers=headers)).headers.tokens("vary")
            assert vary.count("origin") == 1
    text = await ask(handler, "/a.txt")
    assert text.headers.get_all("vary") == ["accept-encoding, origin"]
    same = await ask(handler, "/a.txt", headers=asked_by(ORIGIN, ("if-none-match", text["etag"])))
    assert (same.status, same["access-control-allow-origin"]) == (304, ORIGIN)


async def test_a_preflight_is_answered_before_anything_is_looked_up(folder, ask):
    for cors, expected in (("*", "*"), (ORIGIN, ORIGIN)):
        handler = files(folder, cors=cors)
        for target in ("/a.txt", "/none"):
            answer = await ask(handler, target, "OPTIONS", asked_by(ORIGIN, *PREFLIGHT))
            assert (answer.status, answer.body) == (204, b"")
            assert answer["access-control-allow-origin"] == expected
            assert answer["access-control-allow-methods"] == "GET, HEAD"
            assert answer["access-control-allow-headers"] == "*"
            assert answer["access-control-allow-credentials"] is None
            assert answer.headers.tokens("vary") == ([] if cors == "*" else ["origin"])


async def test_a_preflight_of_another_origin_allows_nothing(folder, ask):
    answer = await ask(files(folder, cors=ORIGIN), "/a.txt", "OPTIONS", asked_by("https://evil.example", *PREFLIGHT))
    assert answer.status == 204
    assert [name for name, _ in answer.headers] == ["vary"]


async def test_an_options_that_is_no_preflight_is_the_handlers(folder, ask):
    for headers in ((), asked_by(ORIGIN)):
        answer = await ask(files(folder, cors="*"), "/a.txt", "OPTIONS", headers)
        assert (answer.status, answer["allow"]) == (204, "GET, HEAD, OPTIONS")
        assert answer["access-control-allow-methods"] is None


async def test_without_cors_no_answer_speaks_of_it(folder, ask):
    answer = await ask(files(folder), "/a.txt", headers=asked_by(ORIGIN))
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin",
    ["null", "https://a.example/", "a.example", "https://*.example", "HTTPS://a.example", "https://a\r\nb", ""],
)
def test_what_is_no_origin_is_refused_at_the_start(folder, origin):
    with pytest.raises(ValueError, match="origin"):
        files(folder, cors=[origin])


# --- mounted


async def test_rules_of_a_mounted_folder_are_about_paths_below_it(folder, ask):
    handler = mount({"/": files(folder), "/old": files(folder, rules=redirects(("/x", "https://example.org/x")))})
    assert (await ask(handler, "/old/x"))["location"] == "https://example.org/x"
    assert (await ask(handler, "/x")).status == 404


# --- what any handler must do


@pytest.mark.slow
async def test_everything_at_once_is_still_a_good_handler(folder, mock_clock):
    (folder / "index.html").write_text("the app" * 100)
    (folder / "404.html").write_text("nothing here")
    rules = {**redirects(("/old/*", "/$1")), "header": [{"path": "/**", "set": {"X-One": "1"}}]}
    browser = Headers({"accept": "text/html", "origin": "https://app.example"})
    await check_handler(
        lambda: files(
            folder, rules=rules, cors=ORIGIN, security_headers="strict", immutable=True, spa=True, error_pages=True,
            links="owner",
        ),
        "/a.txt",
        "/old/a.txt",
        "/none.txt",
        "/assets/app.3f9c2b7d.js",
        SampleRequest("GET", "/route", headers=browser),
        SampleRequest("OPTIONS", "/a.txt", headers=Headers({"origin": ORIGIN, "access-control-request-method": "GET"})),
    )  # fmt: skip


@hypothesis.given(
    target=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30),
    to=st.sampled_from(["/$1", "/a/$1?b=$2", "https://good.example/$2/$1", "/$2$1#x"]),
)
async def test_no_target_whatsoever_breaks_out_of_a_redirect(lasting_tree, ask, target, to):
    handler = files(lasting_tree, rules=redirects(("/go/*/**", to)))
    answer = await ask(handler, path=f"/go/{target}")
    if answer.status == 302:
        location = answer["location"]
        assert all("\x21" <= each <= "\x7e" and each != "\\" for each in location)
        assert urlsplit(location).netloc == ("good.example" if to.startswith("h") else "")
