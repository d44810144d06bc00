"""What the site's builder does beyond its theme: nothing on a page is fetched from elsewhere."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numbers_tables

SEARCH = re.compile(r'(class="md-search"[^>]*role="dialog")')
FOREIGN = re.compile(r'<script src="https?://[^"]*"></script>')


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page of numbers with its tables, which are made from bench/RESULTS.md."""
    if numbers_tables.PLACE not in markdown:
        return markdown
    return markdown.replace(numbers_tables.PLACE, numbers_tables.tables())


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
