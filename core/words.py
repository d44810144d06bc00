"""Words of strangers."""

import re

# Controls but for line ends and tabs, and those that turn the direction of writing.
_OBEYED = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)


def visible(text: str) -> str:
    """`text` with the characters written out that a terminal would obey.

    A log, a reason or a name may come from a stranger. Such characters clear the screen, retitle
    the window or hide what was said. A carriage return ends the line.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], lines)
