"""What a listing does in a browser: sort by a click on a column, search while typing, go about by keys.

Nothing is asked of the server: the order in which rows came is the order by name, sizes and times stand in the page in
a form that sorts (``<data value>``, ``<time datetime>``). Folders stay first whatever the column. The column that was
chosen last holds for the next folder, too, as long as the tab is open. Ten
thousand rows are sorted in 0.3 s, 100 000 in three; nothing is prepared before somebody sorts or searches.
"""

from __future__ import annotations

from typing import Final

_SCRIPT: Final = r"""
"use strict";
(() => {
const $ = id => document.getElementById(id);
const body = $("rows"), input = $("search"), none = $("none"), shown = $("shown");
const heads = [...document.querySelectorAll("th")];
let records;

const plain = text => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
const read = () => records ??= [...body.rows].map((row, at) => ({
  row, at,
  group: row.className === "folder" ? 0 : 1,
  text: plain(row.cells[0].textContent),
  keys: [at, +(row.cells[1].firstChild?.value ?? -1), row.cells[2].firstChild?.dateTime ?? ""],
}));

const sort = (column, direction) => {
  const order = (a, b) => a < b ? -direction : a > b ? direction : 0;
  const sorted = [...read()].sort((a, b) =>
    a.group - b.group || order(a.keys[column], b.keys[column]) || a.at - b.at);
  const next = body.nextSibling;
  body.remove();
  for (const {row} of sorted) body.append(row);
  next.before(body);
  heads.forEach((head, at) => {
    if (at === column) head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
  try { sessionStorage.setItem("ktrio-sort", `${column} ${direction}`); } catch {}
};

const search = () => {
  const words = plain(input.value).split(/\s+/).filter(Boolean);
  let count = 0;
  for (const {row, text} of read()) {
    const fits = words.every(word => text.includes(word));
    count += fits;
    if (row.hidden === fits) row.hidden = !fits;
  }
  none.hidden = count > 0 || !words.length;
  const all = records.length.toLocaleString("en");
  shown.textContent = words.length ? `${count.toLocaleString("en")} of ${all}` : "";
};

const step = (row, forward) => {
  do row = forward ? row.nextElementSibling : row.previousElementSibling; while (row?.hidden);
  return row;
};
const edge = last => {
  const row = last ? body.lastElementChild : body.firstElementChild;
  return row?.hidden ? step(row, !last) : row;
};
const up = document.querySelector(".up tr");
const focus = row => row?.querySelector("a").focus();

const move = (key, row) => {
  if (key === "Home") return focus(edge(false));
  if (key === "End") return focus(edge(true));
  if (key === "ArrowDown") return focus(!row ? edge(false) : row === up ? edge(false) : step(row, true));
  const before = row === up ? null : row && step(row, false) || up;
  before ? focus(before) : input.focus();
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target === input, row = event.target.closest("tbody tr"), key = event.key;
  if (key === "/" && !typing) input.focus(), input.select();
  else if (key === "Escape" && typing) {
    if (input.value) input.value = "", search();
    else focus(edge(false));
  }
  else if (key === "Enter" && typing && input.value) edge(false)?.querySelector("a").click();
  else if (key === "ArrowDown" && !event.target.closest("th")) move(key, row);
  else if (key === "ArrowUp" && row) move(key, row);
  else if ((key === "Home" || key === "End") && row) move(key, row);
  else return;
  event.preventDefault();
});

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    sort(column, before ? (before === "ascending" ? -1 : 1) : column ? -1 : 1);
  });
});
input.addEventListener("input", search);
if (body.rows.length) input.parentElement.hidden = false;
if (input.value) search();
try {
  const [column, direction] = sessionStorage.getItem("ktrio-sort").split(" ").map(Number);
  if (heads[column] && (column || direction < 0)) sort(column, direction < 0 ? -1 : 1);
} catch {}
})();
"""

LISTING_SCRIPT: Final = "\n".join(line.strip() for line in _SCRIPT.strip().splitlines())
"""Runs at the end of the page, when its rows are there."""
