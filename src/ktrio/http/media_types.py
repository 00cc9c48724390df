"""Media types by a file's last suffix, from a table of our own: the same on every machine (RFC 9110 section 8.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

DEFAULT: Final = "application/octet-stream"

# One row a type, so that it can be read: the type, then its suffixes. Registered names where IANA has one, and
# text/plain for program sources, which browsers then show rather than download.
_TABLE: Final = """
text/html html htm
text/css css
text/javascript js mjs cjs
text/typescript ts mts cts
text/plain txt text log conf cfg ini env diff patch rst tex sh bash zsh fish py pyi rs go c h cc cpp cxx hpp java kt swift rb pl lua sql r jsx tsx vue svelte scss sass less
text/markdown md markdown
text/csv csv
text/tab-separated-values tsv
text/calendar ics
text/vcard vcf
text/vtt vtt
application/json json map ipynb
application/ld+json jsonld
application/geo+json geojson
application/manifest+json webmanifest
application/jsonl jsonl ndjson
application/toml toml
application/yaml yaml yml
application/xml xml xsl xsd
application/xhtml+xml xhtml xht
application/atom+xml atom
application/rss+xml rss
application/wasm wasm
application/pdf pdf
application/rtf rtf
application/postscript ps eps
application/epub+zip epub
application/zip zip
application/gzip gz tgz
application/zstd zst
application/x-bzip2 bz2
application/x-xz xz
application/x-tar tar
application/x-7z-compressed 7z
application/vnd.rar rar
application/java-archive jar
application/vnd.debian.binary-package deb
application/x-rpm rpm
application/vnd.android.package-archive apk
application/vnd.apache.parquet parquet
application/vnd.apache.arrow.file arrow feather
application/vnd.sqlite3 sqlite sqlite3 db
application/msword doc
application/vnd.ms-excel xls
application/vnd.ms-powerpoint ppt
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.oasis.opendocument.text odt
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.presentation odp
image/png png
image/apng apng
image/jpeg jpg jpeg jfif
image/gif gif
image/webp webp
image/avif avif
image/heic heic
image/jxl jxl
image/svg+xml svg
image/bmp bmp
image/tiff tif tiff
image/vnd.microsoft.icon ico cur
font/woff2 woff2
font/woff woff
font/ttf ttf
font/otf otf
font/collection ttc
audio/mpeg mp3
audio/mp4 m4a
audio/aac aac
audio/ogg ogg oga opus
audio/flac flac
audio/wav wav
audio/midi mid midi
audio/webm weba
video/mp4 mp4 m4v
video/webm webm
video/ogg ogv
video/quicktime mov
video/matroska mkv
video/mpeg mpeg mpg
video/x-msvideo avi
video/mp2t m2ts
application/vnd.apple.mpegurl m3u8
application/dash+xml mpd
model/gltf-binary glb
model/gltf+json gltf
model/stl stl
model/obj obj
"""  # noqa: E501 - a table


def _with_charset(media_type: str) -> str:
    """Every text type of the table says UTF-8; other types name their encoding themselves or have none."""
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


BY_SUFFIX: Final = {
    suffix: _with_charset(media_type)
    for media_type, *suffixes in (row.split() for row in _TABLE.strip().splitlines())
    for suffix in suffixes
}


@lru_cache(maxsize=1024)
def media_type_of(name: str) -> str:
    """The media type of a file called `name`, by its last suffix whatever its case; with a charset if it is text.

    No suffix, an unknown one, or a name that begins with its only dot: ``application/octet-stream``.
    """
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return BY_SUFFIX.get(suffix.lower(), DEFAULT) if dot and stem else DEFAULT


# RFC 9110 section 8.3.1, parameters with token values: all that a media type of a file needs.
_TOKEN: Final = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE: Final = re.compile(rf"{_TOKEN}/{_TOKEN}(?: ?; ?{_TOKEN}={_TOKEN})*")
_SUFFIX: Final = re.compile(r"\.?[^./\\\s\x00-\x1f\x7f]{1,64}")


def check_media_types(additions: Mapping[str, str]) -> None:
    """Are these suffixes and media types?

    Raises:
      ValueError: one is not; one line that names it.
    """
    for suffix, media_type in additions.items():
        if not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"{suffix!r} is not the last suffix of a file: give one such as '.glsl'")
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise ValueError(
                f"{media_type!r}, for files with the suffix {suffix!r}, is not a media type: "
                "give one such as 'text/plain'"
            )


def media_types_with(additions: Mapping[str, str]) -> Callable[[str], str]:
    """`media_type_of`, with `additions` (by suffix, with or without its dot, whatever its case) before the table.

    Text without a charset is UTF-8, as in the table. Ask only about additions that `check_media_types` has passed.
    """
    own = {
        suffix.removeprefix(".").lower(): media_type if ";" in media_type else _with_charset(media_type)
        for suffix, media_type in additions.items()
    }

    def media_type_with_additions(name: str) -> str:
        stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
        found = own.get(suffix.lower()) if dot and stem else None
        return media_type_of(name) if found is None else found

    return media_type_with_additions
