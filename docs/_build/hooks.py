"""What the site's builder does beyond its theme: nothing on a page is fetched from elsewhere."""

import re
from typing import Any

FOREIGN = re.compile(r'<script src="https?://[^"]*"></script>')


def on_post_template(output_content: str, **_: Any) -> str:
    """The same of pages that no text stands behind, such as 404."""
    return FOREIGN.sub("", output_content)


def on_post_page(output: str, **_: Any) -> str:
    """A page without scripts of other hosts: the theme asks one for search on file:// alone."""
    return FOREIGN.sub("", output)
