"""A picture as one HTML file that answers the reader, works from disk and asks nothing of any server."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from featgraph.drawing.svg import escaped
from featgraph.drawing.text import visible

HINT = (
    "Point at a feature to light up its lineage; click to keep it lit. "
    "Keys: ← → ↑ ↓ walk, Enter keeps, Esc lets go, [ ] threshold."
)


def html_page(svg: str, title: str) -> str:
    """Return a picture as an interactive HTML document: tooltips, keyboard, threshold, table, SVG and PNG
    export.

    Only our own script can run, whatever a label contains: the content security policy names it by its hash.
    """
    script = "\n".join(read(name) for name in ("picture.js", "file.js"))
    css = read("file.css")
    styles = [css, *re.findall("<style>(.*?)</style>", svg)]
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {' '.join(map(_hash, styles))}; "
        "img-src blob:; base-uri 'none'; form-action 'none'"
    )
    name, hint = escaped(visible(title)), escaped(HINT, quoted=True)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{name}</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<label id="threshold" hidden>threshold
<input id="least" type="range" step="0.01"> <output id="shown"></output></label>
<button id="table" type="button" hidden>Table</button>
<button id="svg" type="button">SVG</button>
<button id="png" type="button">PNG</button>
</header>
<main id="picture">{svg.strip()}</main>
<section id="rows" hidden></section>
<p id="told" role="status" data-hint="{hint}">{hint}</p>
<script type="module">{script}</script>
</body>
</html>
"""


def read(name: str) -> str:
    """Return the text of a file in this folder."""
    return files("featgraph.drawing").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
