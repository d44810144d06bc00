"""`python -m panoforge` is the `pano` command."""

from panoforge.core.cli import main

main()
