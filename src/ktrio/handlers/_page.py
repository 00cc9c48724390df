"""The look of every page ktrio writes itself: one shell, one style sheet, no script, nothing fetched.

Every page carries only the rules it needs, so that an error stays small. It allows its own style sheet by hash and
refuses everything else (Content Security Policy Level 3 section 2.3.1), so a file name that slipped through the
escaping could still not run anything. Icons are CSS masks filled with the colour of the text; that is why they follow
the dark colours without a second set.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final
from urllib.parse import quote


def _icon(drawing: str) -> str:
    """A `drawing` (SVG elements on a 24 x 24 grid) as a CSS url()."""
    picture = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='#000' "
        f"stroke-width='1.7' stroke-linecap='round' stroke-linejoin='round'>{drawing}</svg>"
    )
    return f'url("data:image/svg+xml,{quote(picture, safe=_PLAIN_IN_DATA_URL)}")'


_PLAIN_IN_DATA_URL: Final = " ='/:()"
_SHEET: Final = "<path d='M6 2.8h8l4.5 4.5v13.9H6z'/><path d='M14 2.8v4.5h4.5'/>"

_ICONS: Final = {
    "up": "<path d='M5 11l6-6 6 6M11 5v14h8'/>",
    "folder": "<path d='M3 6.2h6.2l2.2 2.4H21v10.6H3z'/>",
    "file": _SHEET,
    "text": _SHEET + "<path d='M9 12h6.5M9 15.5h6.5'/>",
    "image": "<rect x='3.5' y='4.5' width='17' height='15' rx='1.5'/><path d='M4 17l5-5 4 4 3-2.5 4.5 4'/>"
    "<circle cx='15.3' cy='9' r='1.4'/>",
    "media": "<rect x='3.5' y='4.5' width='17' height='15' rx='1.5'/><path d='M10 9v6l5-3z'/>",
    "archive": "<path d='M3.5 4.5h17v4h-17zM5 8.5v11h14v-11M10 12.5h4'/>",
}

_SHELL: Final = """
:root{color-scheme:light dark;--paper:#fff;--back:#f5f4f1;--ink:#1d2126;--soft:#5f6771;--line:#e4e2dc;
--link:#0b5cad;--accent:#b4631d;--hover:#faf6ef}
@media(prefers-color-scheme:dark){:root{--paper:#1b1e23;--back:#131519;--ink:#e6e4df;--soft:#9aa2ac;--line:#2c3036;
--link:#8ebcf5;--accent:#e5a063;--hover:#23272e}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif}
main,footer{max-width:58rem;margin:0 auto;padding:0 1.5rem}
main{padding-top:2.25rem}
h1{margin:0 0 1.1rem;font-size:1.35rem;line-height:1.4;font-weight:600;overflow-wrap:anywhere}
h1 i{color:var(--soft);font-style:normal;font-weight:400;margin:0 .3em}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--accent);outline-offset:-2px;border-radius:4px}
"""

_TABLE: Final = """
table{width:100%;border-collapse:separate;border-spacing:0;background:var(--paper);
border:1px solid var(--line);border-radius:10px;overflow:hidden}
th{font-size:.8rem;font-weight:500;color:var(--soft);text-align:left;padding:.6rem 1rem}
td{padding:0 1rem;border-top:1px solid var(--line)}
td:first-child{padding:0;width:100%;overflow-wrap:anywhere}
td+td,th+th{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td+td{color:var(--soft);font-size:.9rem}
tbody tr:hover{background:var(--hover)}
td a{display:flex;gap:.75rem;align-items:flex-start;padding:.55rem 1rem}
td a::before{content:"";flex:none;width:1.25rem;height:1.25rem;margin-top:.12rem;background:var(--soft);
-webkit-mask:var(--icon) center/contain no-repeat;mask:var(--icon) center/contain no-repeat}
.folder a::before,.up a::before{background:var(--accent)}
.folder a{font-weight:550}
.empty td{padding:1.6rem 1rem;color:var(--soft);text-align:center;font-size:1rem}
footer{padding-top:.9rem;padding-bottom:2.5rem;color:var(--soft);font-size:.85rem;display:flex;gap:1rem;
justify-content:space-between}
@media(max-width:40rem){
main,footer{padding-left:.75rem;padding-right:.75rem}
main{padding-top:1.1rem}
h1{font-size:1.15rem;margin-bottom:.8rem;padding:0 .25rem}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table,tbody{display:block}
tbody tr{display:flex;flex-wrap:wrap;position:relative;border-top:1px solid var(--line);padding-bottom:.6rem}
tbody tr:first-child{border-top:0}
td{border:0;padding:0}
td a{padding:.6rem .9rem 0}
td a::after{content:"";position:absolute;inset:0}
td+td{font-size:.8rem;line-height:1.3;text-align:left}
td:nth-child(2){padding-left:2.9rem}
time::after{content:" UTC"}
td:nth-child(2):not(:empty)+td:not(:empty)::before{content:"\\00a0\\00b7\\00a0"}
.empty{justify-content:center}
}
"""

_NOTE: Final = """
main{padding-top:12vh;max-width:38rem}
b{display:block;font-size:3.4rem;line-height:1.1;font-weight:650;color:var(--accent);letter-spacing:-.02em}
h1{margin:.3rem 0 .5rem;font-size:1.5rem}
p{margin:0 0 1.4rem;color:var(--soft)}
"""


def _style(*rules: str) -> str:
    return "".join(rules).replace("\n", "")


LISTING_STYLE: Final = _style(
    _SHELL, _TABLE, *(f".{name}{{--icon:{_icon(drawing)}}}" for name, drawing in _ICONS.items())
)
"""For a table of files; the class of a row chooses its icon."""

NOTE_STYLE: Final = _style(_SHELL, _NOTE)
"""For a few words in the middle of the page."""

# An icon of our own keeps browsers from asking for /favicon.ico, which most folders do not have.
_FAVICON: Final = "data:image/svg+xml," + quote(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
    "<rect width='24' height='24' rx='6' fill='#b4631d'/><path d='M5 8h5l2 2h7v8H5z' fill='#fff'/></svg>",
    safe=_PLAIN_IN_DATA_URL,
)


def _hash_of(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src {_hash_of(LISTING_STYLE)} {_hash_of(NOTE_STYLE)}; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""What a page made by `render_page` may do: show its own style and icons. Nothing else."""


def render_page(title: str, style: str, body: str) -> str:
    """A whole HTML document; `title` is text and escaped here, `style` one of the two above, `body` HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="{_FAVICON}">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
