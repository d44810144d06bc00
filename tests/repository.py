"""Where the repository is: the one place where tests count folders upwards."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
