# SPDX-License-Identifier: Apache-2.0
"""The demo as one HTML file that needs nothing else: pictures, a film strip, the table."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.sheet import Row

Rgb = npt.NDArray[np.uint8]

QUALITY = 88
PICTURE_WIDTH = 320


@dataclass(frozen=True)
class Table:
    """A heading, column titles and rows of text; a note under it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """paragraphs: what ran and what to think of it. rows, columns: as in the sheet. film: by column
    the frames of the moving camera, all of one length.
    """

    title: str
    paragraphs: Sequence[str]
    rows: Sequence[Row]
    columns: Sequence[str]
    film: Mapping[str, Sequence[Rgb]]
    tables: Sequence[Table]


def write_page(path: Path, page: Page) -> None:
    """Writes the page, pictures inside as JPEG; no script or style comes from anywhere else."""
    body = [f"<h1>{escape(page.title)}</h1>"]
    body += [f'<p class="lead">{escape(text)}</p>' for text in page.paragraphs]
    body += [_film(page.film)] if page.film else []
    body += [_table(table) for table in page.tables]
    body += ["<h2>Every image, every answer</h2>", _grid(page.rows, page.columns)]
    text = _PAGE.replace("@title@", escape(page.title)).replace("@body@", "\n".join(body))
    path.write_text(text, encoding="utf-8")


def _film(film: Mapping[str, Sequence[Rgb]]) -> str:
    """Side by side, one slider for all; plays by itself."""
    strips = []
    for name, frames in film.items():
        pictures = "".join(f'<img src="{inline(frame)}" alt="">' for frame in frames)
        strips.append(
            f'<figure class="strip">{pictures}<figcaption>{escape(name)}</figcaption></figure>'
        )
    count = max(len(frames) for frames in film.values())
    return (
        "<h2>The moving camera</h2>"
        f'<div class="film">{"".join(strips)}</div>'
        f'<p><button id="play">pause</button> <input id="time" type="range" min="0" '
        f'max="{count - 1}" value="0" aria-label="frame"></p>{_SCRIPT}'
    )


def _grid(rows: Sequence[Row], columns: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = []
        for column in columns:
            picture = row.pictures.get(column)
            alt = escape(f"{column} of {row.title}", quote=True)
            cells.append(
                '<td class="none">none</td>'
                if picture is None
                else f'<td><img src="{inline(picture)}" alt="{alt}"></td>'
            )
        name = f"<th>{escape(row.title)}<small>{escape(row.subtitle)}</small></th>"
        lines.append(f"<tr>{name}{''.join(cells)}</tr>")
    table = f'<table class="grid"><tr><th></th>{head}</tr>{"".join(lines)}</table>'
    return f'<div class="wide">{table}</div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><table class="figures"><tr>{head}</tr>{rows}</table>{note}'
    )


def inline(picture: Rgb, widest: int = PICTURE_WIDTH) -> str:
    """A data URL (JPEG), at most `widest` pixels wide."""
    height, width = picture.shape[:2]
    if width > widest:
        size = (widest, max(1, round(height * widest / width)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert encoded, "OpenCV writes no JPEG"
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@title@</title>
<style>
:root { --ink: #1b1f24; --muted: #6b7280; --line: #e5e7eb; --soft: #f6f7f9; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2rem auto; padding: 0 1rem;
  max-width: 1500px; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p { max-width: 60rem; margin: .4rem 0; }
.lead { color: #374151; }
table { border-collapse: collapse; }
.figures td, .figures th { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  text-align: left; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.grid th { font-size: .85rem; padding: .3rem; text-align: left; vertical-align: middle; }
.grid th small { display: block; font-weight: normal; color: var(--muted); max-width: 9rem; }
.grid td { padding: 3px; }
.grid img { display: block; width: 170px; border-radius: 4px; }
.none { color: #9ca3af; text-align: center; background: var(--soft); border-radius: 4px; }
.film { display: flex; flex-wrap: wrap; gap: 8px; }
.strip { margin: 0; width: 270px; }
.strip img { width: 100%; border-radius: 6px; display: none; }
.strip img:first-child, .strip img.on { display: block; }
.strip.live img:first-child:not(.on) { display: none; }
figcaption { color: var(--muted); font-size: .85rem; }
#time { width: min(28rem, 60vw); vertical-align: middle; }
</style>
</head>
<body>
@body@
</body>
</html>
"""

_SCRIPT = """<script>
const time = document.getElementById("time"), play = document.getElementById("play");
const strips = [...document.querySelectorAll(".strip")];
const show = () => strips.forEach(strip => {
  strip.classList.add("live");
  strip.querySelectorAll("img").forEach((img, i) => img.classList.toggle("on", i === +time.value));
});
let timer = null;
const run = on => {
  clearInterval(timer);
  timer = on ? setInterval(() => {
    time.value = (+time.value + 1) % (+time.max + 1); show();
  }, 200) : null;
  play.textContent = on ? "pause" : "play";
};
play.onclick = () => run(timer === null);
time.oninput = () => { run(false); show(); };
show(); run(true);
</script>"""
