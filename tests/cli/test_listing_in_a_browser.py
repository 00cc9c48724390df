"""The listing in a real browser: sorted by clicks, searched, walked by keys, looked at; and a download.

Its pictures are kept in ``build/screenshots``, and those in the documents are taken by ``make screenshots``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.cli.processes import Program

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "screenshots"
IN_DOCS = ROOT / "docs" / "_static"

MIB = 1 << 20
DAY = 86_400
NOW = 1_779_000_000
BYTES = bytes(range(256)) * 5000

# Names, and sizes; each is a day and an hour older than the one before it.
SITE = {
    "backups/": 0,
    "Music/": 0,
    "Photos 2026/": 0,
    "README.md": 4_211,
    "archive-2025.tar.zst": 52_428_800,
    "cover.svg": 9_421,
    "firmware.bin": len(BYTES),
    "gr\u00fc\u00dfe aus K\u00f6ln.txt": 1_317,
    "holiday film.mp4": 734_003_200,
    "index.json": 812,
    "mountain lake.jpg": 3_482_112,
    "notes.txt": 96,
    "report.pdf": 245_760,
    "setup.py": 1_904,
    "song 2.flac": 28_311_552,
    "song 10.flac": 31_457_280,
}
HOSTILE = (
    "<img src=x onerror=alert(1)>.txt",
    "\"quotes\" & 'more'.txt",
    "\u202etxt.exe",
    "new\nline",
    "\u05e9\u05dc\u05d5\u05dd.txt",
)
MANY = 10_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to look at; one with names nobody should meet; one with ten thousand files."""
    site = tmp_path_factory.mktemp("site")
    for name, size in SITE.items():
        if name.endswith("/"):
            (site / name).mkdir()
        else:
            (site / name).touch()
            os.truncate(site / name, size)
    (site / "firmware.bin").write_bytes(BYTES)
    for name in HOSTILE:
        (site / "backups" / name).write_text("x")
    for number in range(1, 4):
        (site / "Photos 2026" / f"IMG_{number}.jpg").touch()
    for number in range(1, MANY + 1):
        path = site / "Music" / f"track {number:05}.flac"
        path.touch()
        os.truncate(path, number * 7_919 % (40 * MIB))
        os.utime(path, (NOW - number * 977,) * 2)
    for age, name in enumerate(SITE):
        os.utime(site / name, (NOW - age * (DAY + 3_571),) * 2)
    return site


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    with closing(Program("serve", site, "--port", "0")) as program:
        yield f"http://127.0.0.1:{program.port}/"
        assert program.stop() == 0
        assert program.said == ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"), "about:blank")
    try:
        browser.attach()
        browser.call("Page.enable")
        browser.call("Log.enable")
        yield browser
        browser.close()
    finally:
        browser.end()


@pytest.fixture
def browser(running: Browser, url: str) -> Iterator[Browser]:
    """The root of the site on a wide screen, as a new visitor sees it; nothing it does may be refused by its policy."""
    running.look_like(1000, 800)
    running.go_to(url)
    running.evaluate("sessionStorage.clear()")
    running.go_to(url)
    running.events.clear()
    yield running
    complaints = [each["params"]["entry"]["text"] for each in running.events if each.get("method") == "Log.entryAdded"]
    assert complaints == []


def shown(browser: Browser) -> list[str]:
    """The names of the rows that are seen, in order."""
    return browser.evaluate(
        "[...document.querySelectorAll('#rows tr')].filter(row => row.checkVisibility())"
        ".map(row => row.cells[0].textContent)"
    )


def focused(browser: Browser) -> str:
    return browser.evaluate("document.activeElement.textContent || document.activeElement.id")


def by_size(names: list[str], *, largest_first: bool) -> list[str]:
    """Folders first, as they came."""
    return [each for each in names if each.endswith("/")] + sorted(
        (each for each in names if not each.endswith("/")), key=lambda each: SITE[each], reverse=largest_first
    )


def column(number: int) -> str:
    return f"document.querySelectorAll('th button')[{number}]"


def aria_sort(browser: Browser) -> list[str]:
    return browser.evaluate("[...document.querySelectorAll('th')].map(each => each.ariaSort)")


def test_a_click_on_a_column_sorts_and_another_turns_it_around(browser: Browser) -> None:
    names = shown(browser)
    folders, files = names[:3], names[3:]
    assert folders == ["backups/", "Music/", "Photos 2026/"]
    assert files.index("song 2.flac") < files.index("song 10.flac")
    assert aria_sort(browser) == ["ascending", None, None]

    browser.click(column(1))
    assert shown(browser) == by_size(names, largest_first=True)
    assert aria_sort(browser) == [None, "descending", None]
    browser.click(column(1))
    assert shown(browser) == by_size(names, largest_first=False)

    browser.click(column(2))
    assert shown(browser) == list(SITE)  # youngest first
    browser.click(column(2))
    assert shown(browser) == [*reversed(list(SITE)[:3]), *reversed(list(SITE)[3:])]
    assert aria_sort(browser) == [None, None, "ascending"]

    browser.click(column(0))
    assert shown(browser) == names
    browser.click(column(0))
    assert shown(browser) == [*reversed(folders), *reversed(files)]


def test_a_column_is_sorted_by_the_keyboard_too_and_stays_chosen_in_the_next_folder(browser: Browser, url: str) -> None:
    browser.evaluate(f"{column(2)}.focus()")
    browser.press("Enter")
    assert shown(browser) == list(SITE)
    browser.go_to(f"{url}Music/")
    assert aria_sort(browser) == [None, None, "descending"]
    assert shown(browser)[0] == "track 00001.flac"


def test_a_search_finds_words_in_any_order_without_case_and_accents_and_asks_nobody(browser: Browser) -> None:
    browser.call("Network.enable")
    browser.press("/", *"KOLN gru")
    assert shown(browser) == ["gr\u00fc\u00dfe aus K\u00f6ln.txt"]
    browser.press("Escape", *"flac SONG")
    assert shown(browser) == ["song 2.flac", "song 10.flac"]
    assert browser.evaluate("document.querySelector('#shown').value") == f"2 of {len(SITE)}"
    browser.press(*" nothing")
    assert shown(browser) == []
    assert browser.evaluate("document.querySelector('#none').textContent") == "No name like that"
    browser.press("Escape")
    assert shown(browser)[3:] != []
    assert focused(browser) == "search"
    assert not [each for each in browser.events if each.get("method") == "Network.requestWillBeSent"]
    browser.call("Network.disable")


def test_keys_walk_through_what_is_seen_and_enter_goes_there(browser: Browser, url: str) -> None:
    browser.press("ArrowDown")
    assert focused(browser) == "backups/"
    browser.press("ArrowDown", "ArrowDown")
    assert focused(browser) == "Photos 2026/"
    browser.press("End")
    assert focused(browser) == "song 10.flac"
    browser.press("ArrowDown")
    assert focused(browser) == "song 10.flac"
    browser.press("Home", "ArrowUp")
    assert focused(browser) == "search"
    browser.press(*"pho", "ArrowDown")
    assert focused(browser) == "Photos 2026/"
    browser.press("Enter")
    browser.wait_for("Page.loadEventFired", lambda _: True)
    assert browser.evaluate("location.href") == f"{url}Photos%202026/"
    browser.press("ArrowDown", "ArrowUp")
    assert focused(browser) == "Up one folder"
    browser.press("ArrowUp")
    assert focused(browser) == "search"


def test_enter_in_the_search_opens_the_first_that_is_found(browser: Browser, url: str) -> None:
    browser.press("/", *"2026", "Enter")
    browser.wait_for("Page.loadEventFired", lambda _: True)
    assert browser.evaluate("location.href") == f"{url}Photos%202026/"


def test_a_download_has_the_right_bytes(browser: Browser, tmp_path: Path) -> None:
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
    browser.click("document.querySelector('a[href=\"firmware.bin\"]')")
    browser.wait_for("Browser.downloadProgress", lambda params: params["state"] == "completed")
    assert ((tmp_path / "firmware.bin").read_bytes() == BYTES) is True


def test_no_name_does_anything_but_stand_there(browser: Browser, url: str) -> None:
    browser.go_to(f"{url}backups/")
    assert sorted(shown(browser)) == sorted(
        [*HOSTILE[:2], "\u27e8U+202E\u27e9txt.exe", "new\u240aline", "\u05e9\u05dc\u05d5\u05dd.txt"]
    )
    assert browser.evaluate("document.querySelectorAll('img, script').length") == 1  # its own script
    # Its policy lets nothing be fetched.
    assert browser.evaluate("fetch('/').catch(error => error.name)") == "TypeError"
    browser.events.clear()


@pytest.mark.parametrize("script", [True, False], ids=["with-script", "without"])
def test_the_page_is_a_table_to_whoever_cannot_see_it(browser: Browser, url: str, script: bool) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=not script)
    try:
        for width in (1000, 360):
            browser.look_like(width, 800)
            browser.call("Page.navigate", url=f"{url}Photos%202026/")
            browser.events.clear()
            browser.wait_for("Page.loadEventFired", lambda _: True)
            nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
            roles = [each["role"]["value"] for each in nodes if not each.get("ignored")]
            names = {each["role"]["value"]: each.get("name", {}).get("value") for each in nodes}
            assert roles.count("table") == 1
            assert roles.count("columnheader") == 3
            assert roles.count("row") == 5
            assert names["heading"] == "Photos 2026"
            assert "navigation" in roles
            assert (roles.count("search"), roles.count("button")) == ((1, 3) if script else (0, 0))
            assert (names.get("searchbox") == "Search this folder") is script
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_a_narrow_screen_needs_no_scrolling_sideways(browser: Browser, url: str) -> None:
    for path in ("", "Music/", "backups/"):
        browser.look_like(360, 720)
        browser.go_to(url + path)
        assert browser.evaluate("document.documentElement.scrollWidth") == 360


def test_ten_thousand_rows_are_sorted_and_searched_while_somebody_waits(browser: Browser, url: str) -> None:
    browser.go_to(f"{url}Music/")
    assert browser.evaluate("document.querySelector('#rows').rows.length") == MANY
    browser.click(column(2))
    browser.press("/", *"09999")
    assert shown(browser) == ["track 09999.flac"]


PICTURES = {
    "light": ("", 1000, 820, False, 1),
    "dark": ("", 1000, 820, True, 1),
    "phone": ("", 360, 720, False, 2),
    "10000": ("Music/", 1000, 640, False, 1),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_taken(browser: Browser, url: str, name: str) -> None:
    path, width, height, dark, scale = PICTURES[name]
    browser.look_like(width, height, dark=dark, scale=scale)
    browser.go_to(url + path)
    if path:
        browser.click(column(1))
        browser.press("/", *"77")
    picture = browser.screenshot()
    folders = [KEPT, IN_DOCS] if os.environ.get("KTRIO_UPDATE_SCREENSHOTS") else [KEPT]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"listing-{name}.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
