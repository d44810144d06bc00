"""panoforge: synthetic data for 360° vision.

The folders `core`, `datagen`, `train`, `eval` and `cluster` of the repository are its subpackages,
by links beside this file.
"""

from panoforge.core import __version__

__all__ = ["__version__"]
