"""Stands in for the interpreter of an Infinigen 1 environment of a user's: same arguments, and a
real scene.blend laid out and named as Infinigen 1.x does. The real one is run by
infinigen1/test_infinigen1_real.py. `infinigen1_command.py -c CODE` says its version and folder;
`run_generator.py infinigen_examples.generate_indoors --seed N --task T... --output_folder DIR`
makes the scene.
"""

import json
import os
import sys
from pathlib import Path


def build(kind: str, options: dict[str, list[str]]) -> None:
    import bpy

    if options.get("--input_folder"):  # the fine step goes on from the coarse one
        bpy.ops.wm.open_mainfile(filepath=str(Path(options["--input_folder"][0]) / "scene.blend"))
    else:
        bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene["infinigen1_seed"] = f"{int(options['--seed'][0], 16)} {os.environ['PYTHONHASHSEED']}"
    scene["infinigen1_steps"] = (
        scene.get("infinigen1_steps", "") + "+".join(options["--task"]) + ";"
    )

    def mesh(
        name: str, location: tuple, size: float = 1.0, parent: object = None, hidden: bool = False
    ) -> object:
        bpy.ops.mesh.primitive_cube_add(size=size, location=location)
        obj = bpy.context.object
        obj.name, obj.hide_render, obj.parent = name, hidden, parent
        return obj

    def instancer(name: str, source: str, places: list[tuple]) -> None:
        collection = bpy.data.collections.new(f"{source}.collection")
        bpy.ops.mesh.primitive_ico_sphere_add(radius=0.2)
        bpy.context.object.name = source
        collection.objects.link(bpy.context.object)
        scene.collection.objects.unlink(bpy.context.object)
        for number, place in enumerate(places):
            empty = bpy.data.objects.new(f"{name}.{number}", None)
            empty.instance_type, empty.instance_collection, empty.location = (
                "COLLECTION",
                collection,
                place,
            )
            scene.collection.objects.link(empty)

    if "coarse" in options["--task"]:
        light = bpy.data.objects.new(
            "PointLampFactory(3).spawn_asset(4).lamp", bpy.data.lights.new("lamp", "POINT")
        )
        light.data.energy, light.location = 500, (0.0, 0.0, 2.3)
        scene.collection.objects.link(light)
    if kind == "indoors":
        for part, place, size in (
            ("floor", (0, 0, -0.05), (6, 6, 0.1)),
            ("ceiling", (0, 0, 2.75), (6, 6, 0.1)),
            ("wall", (0, 3, 1.3), (6, 0.1, 2.6)),
            ("exterior", (0, 3.3, 1.3), (6, 0.1, 2.6)),
        ):
            room = mesh(f"living-room_0/0.{part}", place)
            room.scale = size
        mesh("hallway_0/0.floor", (9, 0, -0.05)).scale = (2, 2, 0.1)
        cutters = bpy.data.collections.new("placeholders:room_shells")  # as its shells and cutters
        scene.collection.children.link(cutters)
        cutters.hide_render = True
        shell = mesh("living-room_0/0", (0, 0, 1.3), 7)
        scene.collection.objects.unlink(shell)
        cutters.objects.link(shell)
        sofa = mesh("SofaFactory(3098452).spawn_asset(17)", (1.5, 1.5, 0.4), 0.8)
        mesh("SofaFactory(3098452).spawn_asset(17).cushion", (0, 0, 0.5), 0.3, parent=sofa)
        mesh("SofaFactory(3098452).spawn_placeholder(17)", (1.5, 1.5, 0.4), 0.9, hidden=True)
        mesh("BookStackFactory(5).spawn_asset(6)", (-1.5, 1.5, 1.0), 0.4)
        mesh("CeilingLightFactory(7).spawn_asset(8)", (0, -1.5, 2.65), 0.1)  # up to the ceiling
    elif "coarse" in options["--task"]:
        bpy.ops.mesh.primitive_grid_add(size=40, x_subdivisions=20, y_subdivisions=20)
        bpy.context.object.name = "OpaqueTerrain"
        bpy.context.object.location.z = 3.0
        camera = bpy.data.objects.new("camera_0_0", bpy.data.cameras.new("camera"))
        camera.location = (5.0, 5.0, 7.0)
        scene.collection.objects.link(camera)
    else:
        coarse = bpy.data.objects["OpaqueTerrain"]  # stays, hidden, beside what the fine task makes
        fine = coarse.copy()
        fine.data, fine.name = coarse.data.copy(), "OpaqueTerrain_fine"
        scene.collection.objects.link(fine)
        coarse.hide_render = coarse.hide_viewport = True
        mesh("atmosphere_fine", (0, 0, 0), 60)
        mesh("KoleClouds", (0, 0, 0), 900)
        mesh("BoulderFactory(11).spawn_asset(2)", (2.0, 2.0, 0.5))
        instancer(
            "scatter:grass", "GrassTuftFactory(8).spawn_asset(1)", [(-2, 1, 0.3), (-2, -2, 0.3)]
        )
    bpy.context.view_layer.update()
    folder = Path(options["--output_folder"][0])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "solve_state.json").write_text(json.dumps({"objs": solver_state()}))
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))


def solver_state() -> dict:
    """A furnished living room and an empty hall, as its solver writes them."""

    def entry(room: bool, *targets: str) -> dict:
        return {
            "generator": None if room else "<not-serialized>",
            "relations": [{"target_name": target} for target in targets],
            "tags": ["Semantics(room)"] if room else ["Semantics(object)"],
        }

    return {
        "living-room_0/0": entry(True, "hallway_0/0"),
        "hallway_0/0": entry(True, "living-room_0/0"),
        "1_SofaFactory": entry(False, "living-room_0/0"),
        "2_SimpleBookcaseFactory": entry(False, "living-room_0/0"),
        "3_BookStackFactory": entry(False, "2_SimpleBookcaseFactory"),
    }


def main(arguments: list[str]) -> int:
    if arguments[0] == "-c":
        print(json.dumps(["1.19.1", os.environ["INFINIGEN1_FOLDER"]]))
        return 0
    assert arguments[0].endswith("/run_generator.py") and arguments[1].startswith(
        "infinigen_examples.generate_"
    ), arguments
    options: dict[str, list[str]] = {}
    for word in arguments[2:]:
        if word.startswith("-"):
            values = options.setdefault(word, [])
        else:
            values.append(word)
    assert os.getcwd() == os.environ["INFINIGEN1_FOLDER"], "its gin files are found from there only"
    if os.environ.get("INFINIGEN1_FAILS"):
        print("solving ...\nValueError: no valid floor plan\nsaving a log\n", flush=True)
        return 1
    build(arguments[1].rpartition("_")[2], options)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
