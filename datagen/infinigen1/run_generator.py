"""Run a module of an Infinigen 1 as `python -m` would: run by its interpreter, never imported.

    python run_generator.py MODULE ARGUMENT...

One of 29 small things on shelves is a rock of Blender's extension Extra Mesh Objects. Without the
extension a seed that draws one fails, after minutes of solving. There a boulder, another rock of
Infinigen's own, stands in its place; all that a seed draws besides stays as it is.
"""

import os
import runpy
import sys

import bpy  # noqa: F401  (it brings addon_utils)

EXTENSION = "extra_mesh_objects"


def put_boulders_for_rocks() -> None:
    """Let shelves draw boulders where they would draw Blender's rocks."""
    try:
        from infinigen.assets.objects import rocks
        from infinigen.assets.objects.elements import NatureShelfTrinketsFactory
    except ImportError:  # another version, where they lie elsewhere
        return
    stands_for = {rocks.BlenderRockFactory: rocks.BoulderFactory}
    NatureShelfTrinketsFactory.factories = [
        stands_for.get(factory, factory) for factory in NatureShelfTrinketsFactory.factories
    ]


def main() -> None:
    """Run the module that the command line names, with what follows it."""
    import addon_utils

    sys.path[0] = os.getcwd()  # as -m has it: this file's folder holds modules of other names
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    there = {addon.__name__.rpartition(".")[2] for addon in addon_utils.modules(refresh=True)}
    if EXTENSION not in there:
        put_boulders_for_rocks()
        print(f"{EXTENSION} is not there: boulders stand for its rocks on shelves", flush=True)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
