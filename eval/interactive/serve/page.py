"""The page of `pano serve`: its HTML, and the files that it loads from this server.

The script is a graph of ES modules, as written: what each is for stands in `static/app.js`. The
page names all of them, so that they come at once and not one layer after the other. Their address
holds a digest of them, so a browser that has them keeps them, and a newer version is never mixed
with an older one. The script carries a nonce, and nothing else may run. Nothing is fetched from
anywhere but this server, and no other page may frame this one.
"""

import hashlib
import html
import json
from functools import lru_cache
from pathlib import Path

from panoforge.core import __version__

_HERE = Path(__file__).parent / "static"
_KINDS = {".js": "text/javascript", ".css": "text/css"}
STATIC = {
    path.name: (_KINDS[path.suffix], path.read_bytes())
    for path in sorted(_HERE.iterdir())
    if path.suffix in _KINDS
}
PROGRAM = hashlib.sha256(repr(sorted(STATIC.items())).encode()).hexdigest()[:16]


def render_page(nonce: str, token: str, max_bytes: int, place: str) -> bytes:
    """The page. Its script sends `token` and `place` back with every request.

    Args:
        nonce: what its script may run by.
        token: what must be known to be answered; empty where none is asked for.
        max_bytes: of a file that is dropped.
        place: whose pictures these are.
    """
    said = {"token": token, "maxBytes": max_bytes, "place": place}
    settings = json.dumps(said).replace("<", "\\u003c")
    modules = [name for name in STATIC if name.endswith(".js")]
    link = '<link rel="modulepreload" nonce="{{nonce}}" href="static/{{program}}/%s">'
    parts = {
        "{{modules}}": "\n".join(link % name for name in modules),
        "{{program}}": PROGRAM,
        "{{nonce}}": html.escape(nonce),
        "{{settings}}": settings,
        "{{version}}": html.escape(__version__),
    }
    page = _template()
    for name, value in parts.items():
        page = page.replace(name, value)
    return page.encode()


def security_policy(nonce: str) -> str:
    """Content-Security-Policy of the page; modules inherit the nonce of the one that loads them."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src data: blob:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@lru_cache(maxsize=1)
def _template() -> str:
    return (_HERE / "page.html").read_text(encoding="utf-8")
