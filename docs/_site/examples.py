"""Our docstrings have a section `Example:`; the site's reader of docstrings knows `Examples:`."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Reads the one as the other."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every function and class that is read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
