"""`python -m pano.cli`, the same as `pano`."""

from pano.cli import main

main()
