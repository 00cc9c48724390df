"""What a browser makes of a page, as far as it can be told without one."""

from __future__ import annotations

from html.parser import HTMLParser

from ktrio.handlers.listing import Entry


class Page(HTMLParser):
    """What a browser makes of a page: its rows, links and whatever would be fetched or run."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.links = []
        self.tags = set()
        self.fetched = []
        self.script = ""
        self._open = []
        self.cells = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        assert not any(name.startswith("on") for name in found)
        if tag == "a":
            self.links.append([found["href"], ""])
        elif tag == "tr":
            self.cells.append([])
        elif tag == "td":
            self.cells[-1].append("")
        self.fetched += [value for name, value in attrs if name in ("src", "href") and tag != "a"]
        if tag not in ("meta", "link", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "script" in self._open:
            self.script += data
        if "a" in self._open:
            self.links[-1][1] += data
        if "td" in self._open:
            self.cells[-1][-1] += data


def entry(name, *, is_folder=False, size=0, changed=0.0):
    return Entry(name=name, is_folder=is_folder, size=size, changed=changed)


def whole(listing, *entries, left_out=0):
    """A listing of these entries."""
    return listing.begin() + listing.rows(entries) + listing.end(left_out)
