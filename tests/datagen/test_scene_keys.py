"""What is one instance, what it is called, which share an id, and whose file a .blend is: all that
needs no Blender.
"""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import zstandard

from panoforge.core.geometry.sphere import row_area_sr
from panoforge.datagen.config.render import QualitySettings
from panoforge.datagen.depsgraph.instance_keys import InstanceKey, PartKey, instance_keys, name_of
from panoforge.datagen.geometry.rendered_things import RenderedThing, some, thing_table
from panoforge.datagen.geometry.scatter_ids import joined, numbered_scatters
from panoforge.datagen.rendering.quality import RejectedScene, RenderedPanorama, check_panorama
from panoforge.datagen.scene.foreign_names import category_of_foreign, words_of
from panoforge.datagen.scene.scene import Scene, Thing
from panoforge.datagen.sources.blend_header import saved_by


def part(owner: str, source: str, *ids: int, root: str = "", data: int = 0) -> PartKey:
    return PartKey(owner, source, root or source, ids, data or hash(source))


def test_an_object_is_one_thing_with_its_hair_and_further_components():
    keys = instance_keys([part("rug", "rug"), part("rug", "rug"), part("rug", "rug", 1, data=7)])
    assert set(keys) == {InstanceKey("rug")}


def test_points_of_a_scatter_are_things_and_parts_of_one_placing_are_one():
    points = [part("scatter", "rock", 0, number) for number in range(3)]
    assert len(set(instance_keys(points))) == 3
    chairs = [
        part("set", source, member, placing, root="seat")
        for placing in range(2)
        for member, source in enumerate(("seat", "back"))
    ]
    keys = instance_keys(chairs)
    assert keys[0] == keys[1] != keys[2] == keys[3]
    bunch = [part("lawn", one, number, 0) for number in range(2) for one in ("trunk", "crown")]
    assert len(set(instance_keys(bunch))) == 4  # nothing says that a crown hangs from a trunk


def test_a_hairy_prototype_of_one_placing_is_one():
    pet = [part("pets", "pet", 0), part("pets", "pet", 0)]  # itself and its hair
    assert set(instance_keys(pet)) == {InstanceKey("pets", "pet", ())}


def test_a_key_gives_the_name_back():
    assert name_of("Cube [props.blend]") == "Cube" and name_of("a [b] []") == "a [b]"
    assert name_of("Cube.001") == "Cube.001"


def test_things_keep_their_numbers_and_helpers_are_left_out():
    scene = Scene(
        (
            Thing("floor", "floor", ("floor",)),
            Thing("scatter:rocks", "unknown:rocks", ("scatter:rocks",), scatters=True),
            Thing("tree", "tree", ("tree", "twigs")),
        ),
        (),
    )
    keys = [
        InstanceKey("twigs", "leaf", (3,)),
        InstanceKey("scatter:rocks", "boulder_rock_01", (1,)),
        InstanceKey("scatter:rocks", "boulder_rock_01", (0,)),
        InstanceKey("cutter"),
    ]
    table = thing_table(scene, keys)
    assert [thing.source for thing in table.things[:3]] == ["floor", "scatter:rocks", "tree"]
    assert table.number[keys[0]] == 3  # a leaf of a tree is the tree
    assert [table.number[key] for key in (keys[2], keys[1])] == [4, 5]
    assert table.things[3].category == "rock" and table.left_out == ("cutter",)
    (scatter,) = table.scatters().values()
    assert (scatter.name, scatter.category) == ("rocks", "rock")


def test_instances_below_a_solid_angle_share_their_scatters_id():
    things = [RenderedThing(str(n), "rock", (), f"s/{n}", "s/*" if n < 2 else "") for n in range(3)]
    of, scatters = numbered_scatters(things, {"s/*": replace(things[0], source="s/*")})
    assert of.tolist() == [0, 4, 4, 0] and len(scatters) == 1
    index = np.zeros((32, 64), np.int32)
    index[16, :8], index[16, 20:22], index[16, 40] = 1, 2, 3
    row = float(row_area_sr(64, 32)[16])
    assert set(np.unique(joined(index, of, 4 * row))) == {0, 1, 3, 4}
    assert set(np.unique(joined(index, of, np.inf))) == {0, 3, 4}  # what stands alone stays
    assert (joined(index, of, 0.0) == index).all()


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("Wall_N", "wall"),
        ("wall.004", "wall"),
        ("Floor", "floor"),
        ("SM_KitchenChair_02", "chair"),
        ("Chairs", "chair"),
        ("floor lamp", "lamp"),
        ("Furry rug", "rug"),
        ("Wall gong", "unknown:wall_gong"),
        ("Cube.003", "unknown:cube"),
        ("Plane", "unknown:plane"),
        ("Big Cube", "unknown:big_cube"),
        ("Ico Sphere", "unknown:ico_sphere"),
        ("Monkey.012", "unknown:monkey"),
        ("012", "unknown:012"),
    ],
)
def test_names_of_people_are_words(name, category):
    assert category_of_foreign(name).name == category


def test_words_lose_sides_and_decorations():
    assert words_of("SM_WallLeft_02") == ["wall"] and words_of("N_W") == ["n", "w"]


@pytest.mark.parametrize(
    ("start", "version"),
    [
        (b"BLENDER-v402RENDH\0\0\0", (4, 2)),
        (b"BLENDER_v279", (2, 79)),
        (b"BLENDER17-01v0500", (5, 0)),
        (b"BLENDER nonsense", None),
        (b"", None),
    ],
)
def test_whose_file_it_is_is_read_before_blender_opens_it(tmp_path, start, version):
    packed = {
        "plain": start,
        "gzip": gzip.compress(start * 50),
        "zstd": zstandard.ZstdCompressor().compress(start * 50),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        assert saved_by(tmp_path / name) == version


def test_a_surface_without_an_id_rejects_the_panorama():
    labels, depth = np.ones((32, 64), np.uint16), np.ones((32, 64), np.float32)
    linear = np.ones((32, 64, 3), np.float32)
    labels[3, 5:9] = 0
    panorama = RenderedPanorama(linear, (255 * linear).astype(np.uint8), labels, depth)
    with pytest.raises(RejectedScene, match="unlabelled: 4 pixels show a surface"):
        check_panorama(panorama, QualitySettings())
    depth[3, 5:9] = np.inf
    with pytest.raises(RejectedScene, match="blown_out"):  # the next check
        check_panorama(panorama, QualitySettings())


def test_notes_name_a_few_and_count_the_rest():
    assert some(["a"]) == "'a'" and some(list("abcdefg")).endswith("and 2 more")
