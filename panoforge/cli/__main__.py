"""`python -m panoforge.cli`, the same as `pano`."""

from panoforge.cli import main

main()
