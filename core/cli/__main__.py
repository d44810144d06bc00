"""`python -m panoforge.core.cli`, the same as `pano`."""

from panoforge.core.cli import main

main()
