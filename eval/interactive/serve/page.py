"""The page of `pano serve`: one self-contained HTML, with the 360° viewer of our reports in it.

Scripts carry a nonce and nothing else may run, nothing is fetched from anywhere but this server,
and no other page may frame this one.
"""

import html
import json
from functools import lru_cache
from pathlib import Path

from panoforge.core import __version__
from panoforge.core.report.viewer import viewer_script, viewer_style

_HERE = Path(__file__).parent


def render_page(nonce: str, token: str, max_bytes: int, tab: str = "") -> bytes:
    """The page.

    Its script sends `token` (empty: none is asked for) and `tab`, the name of this very page, back
    with every request.
    """
    settings = json.dumps({"token": token, "maxBytes": max_bytes, "tab": tab}).replace(
        "<", "\\u003c"
    )
    parts = {
        "{{nonce}}": html.escape(nonce),
        "{{settings}}": settings,
        "{{version}}": html.escape(__version__),
        "{{style}}": str(viewer_style()) + _text("serve.css"),
        "{{script}}": str(viewer_script()) + "\n" + _text("serve.js"),
    }
    page = _text("page.html")
    for name, value in parts.items():
        page = page.replace(name, value, -1 if name == "{{nonce}}" else 1)
    return page.encode()


def security_policy(nonce: str) -> str:
    """Content-Security-Policy of the page. Inline styles are pannellum's own (it sets cursors and
    sizes).
    """
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data:"
        " blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@lru_cache(maxsize=8)
def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
