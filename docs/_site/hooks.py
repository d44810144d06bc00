"""What the site's builder does beyond its theme: nothing on a page is fetched from elsewhere."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numbers_tables

SEARCH = re.compile(r'(class="md-search"[^>]*role="dialog")')
DRAWN = re.compile("[─│▶▲]|<span")
OPTION = re.compile(r"(?<!\S)(--?[a-z][\w-]*(?:=[^\s<]{1,20})?|[\w.]+=[^\s<]{1,20})(?!\S)")
SHORT = re.compile(r"<code>([^<]{1,18})</code>")  # longer ones may be broken
NOTE = re.compile(r"(?<=\S)( +(?=# )|  +)(?=\S)")  # what goes before a remark at a line's end
TABLE = re.compile(r"<table>.*?</table>", re.S)
BLOCK = re.compile(r"<code>((?:(?!</code>).)*)</code></pre>", re.S)
FOREIGN = re.compile(r'<script src="https?://[^"]*"></script>')


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page of numbers with its tables, which are made from bench/RESULTS.md."""
    if numbers_tables.PLACE not in markdown:
        return markdown
    return markdown.replace(numbers_tables.PLACE, numbers_tables.tables())


def on_page_content(html: str, **_: Any) -> str:
    """Commands that are broken where they are long, and tables whose words stay whole.

    By classes and attributes, which site.css reads.
    """
    return TABLE.sub(with_labels, BLOCK.sub(with_lines, html))


def with_lines(block: re.Match[str]) -> str:
    """A block, each line of it in a span; options and remarks stay whole."""
    lines = block[1].rstrip("\n").split("\n")
    if DRAWN.search(block[1]) or any(len(NOTE.findall(line)) > 1 for line in lines):
        return block[0]  # a diagram, code in colours, or three columns
    spans = ""
    for line in lines:
        before, space, note = (*NOTE.split(line, maxsplit=1), "", "")[:3]
        before = OPTION.sub(r'<span class="whole">\1</span>', before)
        spans += f'<span>{before}{space}<span class="note">{note}</span>\n</span>'
    return f'<code class="lines">{spans}</code></pre>'


def with_labels(table: re.Match[str]) -> str:
    """A table whose short code stays whole; of many columns, cells have their column's head."""
    heads = re.findall(r"<th[^>]*>(.*?)</th>", table[0])
    if heads[0] not in ("key", "product") or len(heads) < 4:
        return SHORT.sub(r'<code class="whole">\1</code>', table[0])
    columns = itertools.cycle(heads)
    return re.sub(r"<td", lambda _: f'<td data-label="{next(columns)}"', table[0])


def on_post_template(output_content: str, **_: Any) -> str:
    """Pages that no text stands behind, such as 404, without scripts of other hosts."""
    return named(FOREIGN.sub("", output_content))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """A page on which site.js stands for the script that the theme would fetch for its search."""
    up = "../" * page.url.count("/")
    return named(FOREIGN.sub(f'<script src="{up}site.js"></script>', output))


def named(output: str) -> str:
    """A page whose search, a dialog to screen readers, has a name."""
    return SEARCH.sub(r'\1 aria-label="Search"', output)
