"""How a listing looks: a table on wide screens, two lines for each entry on narrow ones."""

from __future__ import annotations

from typing import Final

from ktrio.handlers._page import SHELL, data_url, style_of

_SHEET: Final = "<path d='M6 2.8h8l4.5 4.5v13.9H6z'/><path d='M14 2.8v4.5h4.5'/>"
_PICTURE: Final = "<rect x='3.5' y='4.5' width='17' height='15' rx='2'/>"

_ICONS: Final = {
    "up": "<path d='M5 11l6-6 6 6M11 5v14h8'/>",
    "folder": "<path fill='#000' fill-opacity='.28' d='M3 7.4c0-.9.6-1.5 1.5-1.5h4.7l2.2 2.5h8.1c.9 0 1.5.6 1.5 "
    "1.5v7.9c0 .9-.6 1.5-1.5 1.5h-15c-.9 0-1.5-.6-1.5-1.5z'/>",
    "file": _SHEET,
    "text": _SHEET + "<path d='M9 12h6.5M9 15.5h6.5'/>",
    "code": _SHEET + "<path d='M10.5 11.5L8.5 14l2 2.5M14 11.5l2 2.5-2 2.5'/>",
    "image": _PICTURE + "<path d='M4 17l5-5 4 4 3-2.5 4.5 4'/><circle cx='15.3' cy='9' r='1.4'/>",
    "media": _PICTURE + "<path fill='#000' d='M10 9v6l5-3z'/>",
    "archive": "<path d='M3.5 4.5h17v4h-17zM5 8.5v11h14v-11M10 12.5h4'/>",
    "search": "<circle cx='10.5' cy='10.5' r='6'/><path d='M15 15l5 5'/>",
}
_STROKES: Final = " fill='none' stroke='#000' stroke-width='1.6' stroke-linecap='round' stroke-linejoin='round'"

# Rows are grids of columns with a fixed width: nothing moves while a long listing comes in, and rows out of sight are
# not laid out (`content-visibility`, which tables do not have). Ten thousand take a tenth of the time so. Browsers take
# it for a table all the same: a test asks one.
_TABLE: Final = """
header{display:flex;flex-wrap:wrap;gap:.75rem 1.5rem;align-items:center;justify-content:space-between;
padding-top:1.75rem;padding-bottom:1rem}
nav{flex:1 1 20rem;min-width:0}
ol{list-style:none;margin:0;padding:0;font-size:1.05rem;overflow-wrap:anywhere}
li,h1{display:inline}
li:not(:last-child)::after{content:"/";color:var(--soft);margin:0 .5em;opacity:.7}
h1{margin:0;font-size:1.25rem;line-height:1.35;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
bdi{white-space:pre-wrap;min-width:0}
[hidden]{display:none!important}
output{order:1;color:var(--soft);font-size:.85rem;font-variant-numeric:tabular-nums}
[role=search]{order:2}
[role=search]{position:relative;flex:0 1 17rem}
[role=search]::before,td a::before{content:"";background:var(--tint,var(--soft));
-webkit-mask:var(--icon) center/contain no-repeat;mask:var(--icon) center/contain no-repeat}
[role=search]::before{position:absolute;left:.7rem;top:.62rem;width:1.1rem;height:1.1rem;pointer-events:none}
input{width:100%;font:inherit;font-size:.95rem;color:inherit;background:var(--paper);border:1px solid var(--line);
border-radius:9px;padding:.42rem .8rem .42rem 2.2rem;appearance:none}
input::placeholder{color:var(--soft);opacity:1}
input:focus-visible{outline-offset:-1px;border-radius:9px}
kbd{position:absolute;right:.6rem;top:.5rem;font:inherit;font-size:.78rem;line-height:1.35rem;color:var(--soft);
border:1px solid var(--line);border-radius:5px;padding:0 .45rem;pointer-events:none}
input:focus~kbd,input:not(:placeholder-shown)~kbd{display:none}
table,thead,tbody{display:block}
table{background:var(--paper);border:1px solid var(--line);border-radius:12px;box-shadow:0 1px 2px rgb(0 0 0/.04)}
tr{display:grid;grid-template-columns:minmax(0,1fr) 7rem 11.5rem;align-items:center}
tbody tr{border-top:1px solid var(--line)}
#rows tr{content-visibility:auto;contain-intrinsic-block-size:auto 2.56rem}
thead{position:sticky;top:0;z-index:1;background:var(--paper);border-radius:12px 12px 0 0;
box-shadow:0 1px 0 var(--line)}
th{font-size:.8rem;font-weight:500;color:var(--soft);text-align:left;padding:.65rem 1.1rem}
th small{font-size:.72rem}
th button{all:unset;cursor:pointer;padding:.15rem .4rem;margin:-.15rem -.4rem;border-radius:5px}
th button:hover{color:var(--ink)}
th button:focus-visible{outline:2px solid var(--ring)}
th:first-child button::after,th+th button::before{content:"\\2191";opacity:0;margin:0 .35em}
[aria-sort] button{color:var(--ink)}
[aria-sort=descending]:first-child button::after,th+[aria-sort=descending] button::before{content:"\\2193"}
th[aria-sort] button::after,th[aria-sort] button::before{opacity:1}
td{padding:0 1.1rem}
td:first-child{padding:0;overflow-wrap:anywhere}
td+td,th+th{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td+td{color:var(--soft);font-size:.9rem}
tbody tr:hover{background:var(--hover)}
table>:last-child>tr:last-child,#rows:has(+[hidden])>tr:last-child{border-radius:0 0 12px 12px}
.note tr:hover{background:none}
td a{display:flex;gap:.8rem;align-items:flex-start;padding:.5rem 1.1rem;scroll-margin:3.5rem 0 1rem}
td a:hover{text-decoration:none}
td a:hover bdi{text-decoration:underline;text-underline-offset:.2em;text-decoration-thickness:1px}
td a:focus-visible{outline-offset:-3px;border-radius:8px}
td a::before{flex:none;width:1.3rem;height:1.3rem;margin-top:.1rem}
.folder a{font-weight:550;color:var(--ink)}
.up a{color:var(--soft)}
td[colspan]{grid-column:1/-1;padding:2rem 1.1rem;color:var(--soft);text-align:center}
footer{padding-top:.9rem;padding-bottom:2.5rem;color:var(--soft);font-size:.85rem;display:flex;gap:1rem}
footer span:last-child{margin-left:auto}
@media(forced-colors:active){[role=search]::before,td a::before{background:CanvasText;forced-color-adjust:none}}
@media(max-width:40rem){
main,header,footer{padding-left:.75rem;padding-right:.75rem}
header{padding-top:1rem;padding-bottom:.75rem}
[role=search]{flex:1 1 100%;order:0}
output{padding:0 .25rem}
output:empty{display:none}
input{font-size:1rem}
kbd{display:none}
thead tr{display:flex;gap:1.1rem;padding:.3rem .9rem}
th{padding:.3rem 0}
th small{display:none}
th button{padding:.3rem .4rem;margin:-.3rem -.4rem}
th:nth-child(n) button::after,th:nth-child(n) button::before{margin:0 .2em}
tbody tr{display:flex;flex-wrap:wrap;position:relative;padding-bottom:.55rem}
#rows tr{contain-intrinsic-block-size:auto 3.75rem}
tbody tr:hover{background:none}
td,td:first-child{padding:0}
td:first-child{flex:1 0 100%}
td a{padding:.55rem .9rem 0}
td a::after{content:"";position:absolute;inset:0}
td+td{font-size:.8rem;line-height:1.35;text-align:left}
td:nth-child(2){padding-left:3rem}
time::after{content:" UTC"}
td:nth-child(2):not(:empty)+td:not(:empty)::before{content:"\\00a0\\00b7\\00a0"}
td[colspan]{padding:1.6rem .9rem 1rem}
}
"""

_KINDS: Final = ("folder", "image", "media", "code", "archive")

LISTING_STYLE: Final = style_of(
    SHELL,
    _TABLE,
    *(
        f'{"[role=search]" if name == "search" else f".{name}"}{{--icon:url("{data_url(drawing, _STROKES)}")}}'
        for name, drawing in _ICONS.items()
    ),
    *(f".{name}{{--tint:var(--{name})}}" for name in _KINDS),
)
"""For a table of files; the class of a row chooses its icon and its colour."""
