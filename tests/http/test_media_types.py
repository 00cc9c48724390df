"""Media types by the last suffix."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.http.media_types import _TABLE, BY_SUFFIX, DEFAULT, media_type_of


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTML", "text/html; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("README.md", "text/markdown; charset=utf-8"),
        ("data.csv", "text/csv; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("main.py", "text/plain; charset=utf-8"),
        ("pyproject.toml", "application/toml"),
        ("config.yaml", "application/yaml"),
        ("config.yml", "application/yaml"),
        ("data.json", "application/json"),
        ("app.webmanifest", "application/manifest+json"),
        ("data.parquet", "application/vnd.apache.parquet"),
        ("module.wasm", "application/wasm"),
        ("photo.jxl", "image/jxl"),
        ("photo.avif", "image/avif"),
        ("photo.webp", "image/webp"),
        ("drawing.svg", "image/svg+xml"),
        ("font.woff2", "font/woff2"),
        ("film.mp4", "video/mp4"),
        ("manual.pdf", "application/pdf"),
    ],
)
def test_media_type_of_a_known_suffix(name, media_type):
    assert media_type_of(name) == media_type


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("archive.TAR.GZ", "application/gzip"),  # the last suffix only
        ("page.html.bak", DEFAULT),
        ("v1.2/README", DEFAULT),  # a dot in the folder
        ("v1.html/data", DEFAULT),
        (".html", DEFAULT),  # a dotfile has no suffix
        ("a/.html", DEFAULT),
        ("..html", "text/html; charset=utf-8"),
        ("name.", DEFAULT),
        ("name", DEFAULT),
        ("", DEFAULT),
        ("x.unknown", DEFAULT),
    ],
)
def test_media_type_of_an_odd_name(name, media_type):
    assert media_type_of(name) == media_type


def test_every_text_type_and_no_other_has_a_charset():
    for media_type in BY_SUFFIX.values():
        assert media_type.startswith("text/") == media_type.endswith("; charset=utf-8")


def test_table_has_each_suffix_once_and_in_lower_case():
    suffixes = [suffix for row in _TABLE.strip().splitlines() for suffix in row.split()[1:]]
    assert len(suffixes) == len(set(suffixes))
    assert all(re.fullmatch("[a-z0-9]+", suffix) for suffix in suffixes)


def test_table_types_are_media_types():
    for media_type in BY_SUFFIX.values():
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", media_type)


@given(st.text())
def test_media_type_of_any_name_is_one_of_the_table(name):
    assert media_type_of(name) in {DEFAULT, *BY_SUFFIX.values()}
