"""`python -m panoforge` is the `pano` command."""

from panoforge.cli import main

main()
