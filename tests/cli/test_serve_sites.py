"""`ktrio serve` with several folders, rules, an app's page and other origins: the options as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktrio.commands import handler_of
from ktrio.config import CommandSettings, FolderOptions, SiteOptions, TcpAddress
from tests.cli.conftest import Start
from tests.cli.peers import Peer

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("site", "docs", "docs/deep", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name.txt").write_text(name)
    (tmp_path / "docs" / ".env").write_text("SECRET")
    (tmp_path / "secret.txt").write_text("SECRET")
    (tmp_path / "docs" / "out").symlink_to("../secret.txt")
    (tmp_path / "rules.toml").write_text(
        '[[redirect]]\nfrom = "/gone/**"\nto = "/docs/$1"\n[[header]]\npath = "/**"\nset = { X-One = "1" }\n'
    )
    return tmp_path


def test_each_mount_is_below_its_path_and_the_longest_counts(start: Start, site: Path) -> None:
    program = start(
        *("serve", site / "site", "--port", "0", "--mount", f"/docs={site / 'docs'}"),
        *("--mount", f"/docs/old={site / 'old'}", "--mount", f"/\u00fcber uns={site / 'old'}"),
        *("--rules", site / "rules.toml", "--cors", "*", "--security-headers", "strict"),
    )
    assert f"serving {site / 'site'}, {site / 'docs'} at /docs" in program.out.wait_count(1)[0]
    peer = Peer(program.connect())
    bodies = {
        "name.txt": b"site",
        "docs/name.txt": b"docs",
        "docs/old/name.txt": b"old",
        "docs/deep/name.txt": b"docs/deep",
        "%C3%BCber%20uns/name.txt": b"old",
    }
    for target, body in bodies.items():
        answer = peer.get(target)
        assert (answer.status, answer.body) == (200, body), target
        assert (answer.headers["x-one"], answer.headers["access-control-allow-origin"]) == ("1", "*")
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    # To the slash: relative, so it keeps the prefix, whoever has put one before it.
    assert [peer.get(each).headers["location"] for each in ("docs", "docs/deep", "docs/old")] == [
        "./docs/",
        "./deep/",
        "./old/",
    ]
    # The policies of the one folder are those of all.
    assert [peer.get(each).status for each in ("docs/.env", "docs/out", "docs/none")] == [404, 404, 404]
    moved = peer.get("gone/name.txt")
    assert (moved.status, moved.headers["location"]) == (302, "/docs/name.txt")
    program.stop()
    assert program.said == ""


def test_without_a_folder_there_is_nothing_but_the_mounts(start: Start, site: Path) -> None:
    program = start("serve", "--port", "0", "--mount", f"/docs={site / 'docs'}", cwd=site)
    peer = Peer(program.connect())
    assert [peer.get(each).status for each in ("secret.txt", "", "docs/name.txt")] == [404, 404, 200]


def test_a_mount_at_the_root_is_the_folder_itself(site: Path) -> None:
    settings = CommandSettings(addresses=(TcpAddress("127.0.0.1", 0),), folders=(("/", str(site)),))
    assert repr(handler_of(settings)).startswith("<files")


def test_what_is_not_asked_for_is_around_no_handler(site: Path) -> None:
    def handler_with(files: FolderOptions, asked: SiteOptions) -> str:
        folders = (("/", str(site)),)
        settings = CommandSettings(addresses=(TcpAddress("127.0.0.1", 0),), folders=folders, files=files, site=asked)
        return repr(handler_of(settings))

    assert handler_with(FolderOptions(), SiteOptions()) == f"<files {str(site)!r}>"
    everything = handler_with(FolderOptions(spa=True), SiteOptions(immutable=True, cors=("*",)))
    assert everything == f"<cors <rules <fallbacks <files {str(site)!r}>>>>"
