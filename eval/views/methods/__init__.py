"""Methods: how a panorama is shown to a model. One file each, one interface, found by `get_method`.

A method turns a panorama's size and the config into projections, in the order in which a video
model should see them. It says whether they are one video or so many single images. All the
rest (sampling, prompts, prediction, merging) is the same for all methods, in
`panoforge.eval.segmentation.segment`: what differs between two rows of the score table is this.
"""

from panoforge.eval.views.methods import direct, patches, scan
from panoforge.eval.views.methods.base import Method


def get_method(name: str) -> Method:
    """The method called `name` (config validation has already refused unknown names)."""
    return {method.name: method for module in (direct, patches, scan) for method in module.METHODS}[
        name
    ]
