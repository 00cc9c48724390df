"""The shell of every page ktrio writes itself: colours, letters, nothing fetched.

Every page carries only the rules it needs, so that an error stays small. It allows its own style sheet and its own
script, if it has one, by hash, and refuses everything else (Content Security Policy Level 3 section 2.3.1), so a file
name that slipped through the escaping could still not run anything. Icons are CSS masks filled with a colour of the
page; that is why they follow the dark colours without a second set.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final
from urllib.parse import quote

_PLAIN_IN_DATA_URL: Final = " ='/:(),"

SHELL: Final = """
:root{color-scheme:light dark;--paper:#fff;--back:#f6f4f0;--ink:#1f2328;--soft:#626a73;--line:#e6e2da;
--link:#0b57a4;--accent:#b4631d;--hover:#faf5ec;--ring:#c9762b;
--folder:#c9862b;--image:#2e8b6f;--media:#8a5bb5;--code:#3b78b8;--archive:#a2663c;--file:#808790}
@media(prefers-color-scheme:dark){:root{--paper:#1c1f24;--back:#131518;--ink:#e8e5df;--soft:#9ba2ab;--line:#2d3138;
--link:#9cc4f7;--accent:#e5a063;--hover:#252a31;--ring:#e5a063;
--folder:#e5a850;--image:#5cc4a2;--media:#bb93e3;--code:#78afe8;--archive:#d69a6d;--file:#8f97a1}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",sans-serif}
main,header,footer{max-width:60rem;margin:0 auto;padding:0 1.5rem}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--ring);outline-offset:2px;border-radius:5px}
"""

_NOTE: Final = """
main{padding-top:12vh;max-width:38rem}
b{display:block;font-size:3.4rem;line-height:1.1;font-weight:650;color:var(--accent);letter-spacing:-.02em}
h1{margin:.3rem 0 .5rem;font-size:1.5rem;line-height:1.4;font-weight:600}
p{margin:0 0 1.4rem;color:var(--soft)}
"""


def data_url(drawing: str, attributes: str = "") -> str:
    """A picture (SVG elements on a 24 x 24 grid) that need not be fetched."""
    picture = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'{attributes}>{drawing}</svg>"
    return "data:image/svg+xml," + quote(picture, safe=_PLAIN_IN_DATA_URL)


def style_of(*rules: str) -> str:
    """A style sheet of some rules, on one line."""
    return "".join(rules).replace("\n", "")


NOTE_STYLE: Final = style_of(SHELL, _NOTE)
"""For a few words in the middle of the page."""

# An icon of our own keeps browsers from asking for /favicon.ico, which most folders do not have.
_FAVICON: Final = data_url(
    "<rect width='24' height='24' rx='6' fill='#b4631d'/><path d='M5 8h5l2 2h7v8H5z' fill='#fff'/>"
)


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy_for(style: str, script: str = "") -> str:
    """The Content-Security-Policy of a page: it may show its own style and icons, run its own script, nothing else."""
    scripts = f"script-src {_hash_of(script)}; " if script else ""
    return (
        f"default-src 'none'; {scripts}style-src {_hash_of(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


NOTE_POLICY: Final = policy_for(NOTE_STYLE)
"""The Content-Security-Policy of a page with `NOTE_STYLE`."""


def begin_page(title: str, style: str) -> str:
    """An HTML document up to the inside of its body; `title` is text and escaped here."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="{_FAVICON}">\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
    )


def end_page(script: str = "") -> str:
    """The rest of the document, with its `script`, if it has one."""
    scripts = f"<script>{script}</script>\n" if script else ""
    return f"{scripts}</body>\n</html>\n"
