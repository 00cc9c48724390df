"""The demonstration folder holds what it promises: every link works, and nothing comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from ktrio.handlers.files import files

SITE = Path(__file__).parents[2] / "examples" / "site"

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the examples are not beside these tests")


def references(text):
    found = re.findall(r'(?:src|href|srcset)="([^"]+)"', text) + re.findall(r"url\(([^)]+)\)", text)
    return [each for each in found if not each.startswith(("data:", '"data:'))]


async def test_every_link_of_the_site_leads_somewhere(ask):
    handler = files(SITE)
    todo, seen = ["http://server/"], {}
    while todo:
        url = todo.pop()
        if url in seen:
            continue
        answer = await ask(handler, url)
        if answer.status == 301:
            todo.append(urljoin(url, answer["location"]))
        seen[url] = answer.status
        if answer.status == 200 and answer["content-type"].startswith(("text/html", "text/css", "image/svg")):
            found = [urljoin(url, each) for each in references(answer.text)]
            todo += [each for each in found if urlsplit(each).netloc == "server"]
    missing = {url for url, status in seen.items() if status == 404}
    assert missing == {"http://server/nothing-here"}
    assert set(seen.values()) == {200, 301, 404}
    everything = {path for path in SITE.rglob("*") if path.is_file()}
    assert len([url for url in seen if not url.endswith("/") and seen[url] == 200]) == len(everything) - 1


async def test_the_site_loads_nothing_from_elsewhere_and_runs_nothing(ask):
    for path in SITE.rglob("*"):
        if path.suffix in (".html", ".css", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert "<script" not in text
            assert not re.search(r'(?:src|srcset)="https?:|<link[^>]+href="https?:|url\(["\']?https?:|@import', text)


async def test_the_shelf_shows_many_types_sorted(ask):
    page = (await ask(files(SITE), "/shelf/")).text
    for icon in ("folder", "text", "image", "media"):
        assert f'<tr class="{icon}">' in page
    assert page.index("note%202.txt") < page.index("note%2010.txt")
    assert "gr%C3%BC%C3%9Fe.txt" in page
