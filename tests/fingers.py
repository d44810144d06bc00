"""Fingers on a page that was opened with `touch=True`: through the browser's own input, so that
scrolling, pinching and the events of pointers are what they are on a tablet.
"""

from collections.abc import Sequence

from browser import Tab

Point = tuple[float, float]


class Fingers:
    """Up to two of them on one tab; places are CSS pixels of the window."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self._devtools = tab.page.context.new_cdp_session(tab.page)

    def _send(self, kind: str, points: Sequence[Point]) -> None:
        touched = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        self._devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})
        self._tab.page.wait_for_timeout(20)

    def tap(self, x: float, y: float) -> None:
        """Touch and let go."""
        self._send("touchStart", [(x, y)])
        self._send("touchEnd", [])

    def move(self, *ways: tuple[Point, Point], steps: int = 12) -> None:
        """Put a finger down at the first place of each way, move all to the second, let go."""
        down: list[Point] = []
        for start, _ in ways:  # one after the other, as hands do
            down.append(start)
            self._send("touchStart", down)
        for k in range(1, steps + 1):
            share = k / steps
            self._send(
                "touchMove",
                [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for (x0, y0), (x1, y1) in ways],
            )
        while len(down) > 1:
            down.pop()
            self._send("touchEnd", [end for _, end in ways[: len(down)]])
        self._send("touchEnd", [])
