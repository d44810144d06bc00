"""What becomes of an error that nobody raised for the user.

A package of an extra that is not installed is named with its extra. Of anything else there is one
line for the user, and the traceback in a file.
"""

import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from panoforge.core import __version__

# Top-level modules that an extra brings: a render node and a training node have one extra each.
_EXTRAS = {
    "datagen": ("bpy", "infinigen2", "OpenEXR", "procfunc"),
    "train": ("torch", "torchvision", "sam2", "training", "omegaconf", "tensordict", "safetensors"),
}


def missing_extra(error: BaseException) -> str:
    """The line to show where a package of an extra is not installed; empty for other errors."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for extra, modules in _EXTRAS.items():
        if module in modules:
            return (
                f"{module} is not installed here, and this needs it: pip install"
                f" 'panoforge[{extra}]'. What was done before stays"
            )
    return ""


def keep_traceback(error: BaseException) -> str:
    """Write the traceback to a file of its own; gives the line to show, which names it."""
    first = (str(error).strip().splitlines() or [""])[0][:300]
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    text = "".join(traceback.format_exception(error))
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for folder in _folders():
        path = folder / f"error-{stamp}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(
                f"panoforge {__version__}\npano {' '.join(sys.argv[1:])}\n\n{text}",
                encoding="utf-8",
                errors="backslashreplace",
            )
        except OSError:
            continue
        return f"{said}. This is a fault of panoforge: the traceback is in {path}"
    return f"{said}. This is a fault of panoforge: -v shows the traceback"


def _folders() -> list[Path]:
    state = os.environ.get("XDG_STATE_HOME", "")
    home = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~/.local/state"))
    return [home / "panoforge", Path(tempfile.gettempdir()) / f"panoforge-errors-{os.getuid()}"]
