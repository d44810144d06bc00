"""The names that Infinigen 2 uses of the extension A.N.T. Landscape, for tests: the real one is
fetched online.
"""

from . import add_mesh_ant_landscape


def register() -> None:
    add_mesh_ant_landscape.register()


def unregister() -> None:
    add_mesh_ant_landscape.unregister()
