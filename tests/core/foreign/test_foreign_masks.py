"""COCO, LabelMe, id maps, CSV and folders: small files made as other tools make them, and what
pycocotools and labelme make of them.
"""

import base64
import io
import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_pictures import scans_jpeg
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from panoforge.core.errors import DataError
from panoforge.core.export.palette import palette_png
from panoforge.core.foreign.coco import read_coco
from panoforge.core.foreign.csv_rows import read_csv
from panoforge.core.foreign.files import inside
from panoforge.core.foreign.idmaps import read_idmap, read_labels, stack_masks
from panoforge.core.foreign.labelme import read_labelme
from panoforge.core.foreign.left_out import NOTHING, LeftOut
from panoforge.core.foreign.listing import list_pictures
from panoforge.core.foreign.masks import fill_polygons

HEIGHT, WIDTH = 48, 96
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def document(*annotations: dict, images: list | None = None) -> dict:
    return {
        "images": images or [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"image_id": 1, "category_id": 1, "iscrowd": 0} | a for a in annotations],
        "categories": [{"id": 1, "name": "lamp"}],
    }


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


# ---------------------------------------------------------------- COCO


def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path: Path) -> None:
    """Case 04: a 10×10 square has 100 pixels. Every mask equals COCO's own annToMask."""
    triangle, two = [5.5, 3, 60.25, 40.5, 30, 44], [SQUARE, [40, 5, 50, 5, 50, 15]]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 70:90] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))
    plain = {"size": [HEIGHT, WIDTH], "counts": [100, 20, HEIGHT * WIDTH - 120]}
    segmentations = [
        [SQUARE], [triangle], two,
        {"size": packed["size"], "counts": packed["counts"].decode()}, plain,
    ]  # fmt: skip
    content = document(*({"id": k, "segmentation": s} for k, s in enumerate(segmentations, 1)))
    path = written(tmp_path / "c.json", content)
    (image,) = read_coco(path).images
    official = COCO(str(path))
    for k, found in enumerate(image.objects, start=1):
        expected = official.annToMask(official.anns[k])
        np.testing.assert_array_equal(found.mask(HEIGHT, WIDTH), expected.astype(bool))
        assert found.category == "lamp"
    assert image.objects[0].mask(HEIGHT, WIDTH).sum() == 100


def test_crowds_boxes_and_bare_images_are_left_out_and_counted(tmp_path: Path) -> None:
    """Case 15, boxes only: the rest of the file is read, and what is not is said."""
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in (1, 2, 3)]
    content = document(
        {"id": 1, "segmentation": [SQUARE]},
        {"id": 2, "segmentation": [], "bbox": [1, 1, 5, 5]},
        {"id": 3, "bbox": [1, 1, 5, 5]},
        {"id": 4, "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": []}},
        {"id": 5, "image_id": 2, "segmentation": None},
        images=images,
    )
    coco = read_coco(written(tmp_path / "c.json", content))
    assert [image.file_name for image in coco.images] == ["1.jpg"]
    assert str(coco.left_out) == (
        "3 × object with a box and no mask (first: annotation 2); 1 × crowd (first: annotation 4);"
        " 2 × image without objects (first: 2.jpg)"
    )
    content["annotations"] = content["annotations"][1:]
    with pytest.raises(DataError, match="none of its 3 images has an object with a mask"):
        read_coco(written(tmp_path / "c.json", content))


def test_ids_may_be_strings_and_one_id_is_one_image(tmp_path: Path) -> None:
    """Case 15, string ids and duplicate ids."""
    content = document(
        {"id": "a1", "segmentation": [SQUARE], "image_id": 1},
        images=[{"id": "1", "file_name": "a"}],
    )
    assert len(read_coco(written(tmp_path / "c.json", content)).images[0].objects) == 1
    content["images"].append({"id": 1, "file_name": "b.jpg"})
    with pytest.raises(DataError, match=r"a and b\.jpg have one id, 1"):
        read_coco(written(tmp_path / "c.json", content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["annotations"][0].update(image_id=7), "image 7, which is not listed"),
        (lambda d: d["annotations"][0].update(category_id=7), "category 7, which is not listed"),
        (lambda d: d["annotations"][0].update(image_id=1.5), "expected a whole number or a string"),
        (lambda d: d["images"][0].pop("file_name"), "has no file_name"),
        (lambda d: d["images"][0].update(width=-3), "is -3×48 pixels"),
        (lambda d: d.update(annotations={}), "expected a list of annotations"),
        (lambda d: d["categories"].append({"id": 1, "name": "x"}), "lamp and x have one id, 1"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change, said: str) -> None:
    content = document({"id": 1, "segmentation": [SQUARE]})
    change(content)
    with pytest.raises(DataError, match=said):
        read_coco(written(tmp_path / "c.json", content))


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """Case 05: half the size, and a picture that its EXIF turns."""
    (image,) = read_coco(
        written(tmp_path / "c.json", document({"id": 1, "segmentation": [SQUARE]}))
    ).images
    image.check_size(HEIGHT, WIDTH, Path("a.jpg"))
    with pytest.raises(DataError, match=r"say 96×48: resize the pictures, or multiply .* by 0\.5"):
        image.check_size(HEIGHT // 2, WIDTH // 2, Path("a.jpg"))
    with pytest.raises(DataError, match="turned by its EXIF orientation"):
        image.check_size(WIDTH, HEIGHT, Path("a.jpg"))


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3]], [[1, 2, 3, 4]], [["a"] * 6], [[float("nan")] * 6], [[1e9] * 6], "x", 5,
        [SQUARE, None], {"size": [HEIGHT, WIDTH], "counts": [1.5, 2.5, HEIGHT * WIDTH - 4]},
        {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}, {"counts": "0"},
    ],
)  # fmt: skip
def test_damaged_masks_are_refused(tmp_path: Path, segmentation: object) -> None:
    content = document({"id": 1, "segmentation": segmentation})
    (image,) = read_coco(written(tmp_path / "c.json", content)).images
    with pytest.raises(DataError, match="annotation 1"):
        image.objects[0].mask(HEIGHT, WIDTH)


def test_an_outline_that_goes_round_for_ever_is_refused() -> None:
    jump = [[0, 0], [2000, 1000]] * 3000
    with pytest.raises(DataError, match="its outline is over"):
        fill_polygons([jump], 1024, 2048, "x")


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "a/../../b", "", "x\0y", "..\\a", "."])
def test_file_names_stay_below_their_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leads out of"):
        inside(tmp_path, name)
    assert inside(tmp_path, "night\\0001.jpg") == tmp_path / "night/0001.jpg"


# ---------------------------------------------------------------- id maps


def grey(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def test_sixteen_bit_colours_are_as_many_ids(tmp_path: Path) -> None:
    """Case 10: three ids that differ in the lower eight of sixteen bits only."""
    ids = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    for k in (1, 2, 3):
        ids[10 * k : 10 * k + 5] = (k, 0, 256 * k)
    found, old = read_idmap(grey(tmp_path / "a.png", ids))
    assert [int(found[10 * k, 0]) for k in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert old.tolist() == [k << 32 | 256 * k for k in (1, 2, 3)]


def test_alpha_says_where_nothing_is_or_is_refused(tmp_path: Path) -> None:
    ids = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    ids[..., 2], ids[:20, :, 3] = 9, 255
    ids[:10, :, 2] = 4
    Image.fromarray(ids).save(tmp_path / "a.png")
    found, old = read_idmap(tmp_path / "a.png")
    assert (
        old.tolist() == [4, 9] and found[0, 0] == 1 and found[15, 0] == 2 and not found[20:].any()
    )
    ids[..., 3] = 100
    Image.fromarray(ids).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="alpha channel of other values"):
        read_idmap(tmp_path / "a.png")


def test_our_own_mask_is_read_as_labels(tmp_path: Path) -> None:
    """Case 11: the palette PNG that `pano segment` writes."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[5:9], ids[20:30] = 2, 5
    (tmp_path / "a.mask.png").write_bytes(palette_png(ids))
    found, old = read_idmap(tmp_path / "a.mask.png")
    assert old.tolist() == [2, 5]
    np.testing.assert_array_equal(np.where(found > 0, old[found.astype(int) - 1], 0), ids)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.mask.png"), ids)


def test_label_pngs_of_sixteen_bits_keep_their_numbers(tmp_path: Path) -> None:
    ids = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 14
    np.testing.assert_array_equal(read_labels(grey(tmp_path / "a.png", ids)), ids)
    with pytest.raises(DataError, match="found one of colours"):
        read_labels(grey(tmp_path / "a.png", np.zeros((4, 8, 3), np.uint8)))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="is no PNG: id maps are PNGs"):
        read_idmap(tmp_path / "a.jpg")


def test_too_many_colours_are_a_photograph(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 512, 3)).astype(np.uint8)
    with pytest.raises(DataError, match="is it a photograph"):
        read_idmap(grey(tmp_path / "a.png", noise))


def test_hidden_and_empty_masks_are_counted() -> None:
    large, small = np.zeros((2, HEIGHT, WIDTH), bool)
    large[:10, :10], small[:10, :10] = True, True
    labels, old, lost = stack_masks(
        {0: large, 1: small, 2: np.zeros_like(large)}, HEIGHT, WIDTH, "a.json"
    )
    assert old == [1] and labels.max() == 1
    assert str(lost) == (
        "1 × object hidden whole by smaller ones (first: a.json, 0); 1 × object without a pixel"
        " (first: a.json, 2)"
    )


# ---------------------------------------------------------------- LabelMe


def labelme(path: Path, *shapes: dict) -> Path:
    base = {"group_id": None, "flags": {}}
    content = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": [base | s for s in shapes]}
    return written(path, content)


def test_every_shape_with_an_area_is_read_and_keeps_its_label(tmp_path: Path) -> None:
    small = np.zeros((6, 8), np.uint8)
    small[1:5, 2:7] = 255
    buffer = io.BytesIO()
    Image.fromarray(small > 0).save(buffer, "PNG")
    rle = coco_mask.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))
    packed = {"size": rle["size"], "counts": rle["counts"].decode()}
    path = labelme(
        tmp_path / "a.json",
        {"label": "a", "points": [[10, 10], [20, 10], [20, 20], [10, 20]], "shape_type": "polygon"},
        {"label": "b", "points": [[30, 5], [40, 15]], "shape_type": "rectangle"},
        {"label": "c", "points": [[60, 24], [70, 24]], "shape_type": "circle"},
        {"label": "d", "points": [[4, 30], [11, 35]], "shape_type": "mask",
         "mask": base64.b64encode(buffer.getvalue()).decode()},
        {"label": "e", "points": [], "shape_type": "rle", "mask": packed, "group_id": 3},
        {"label": "f", "points": [[1, 1], [9, 9]], "shape_type": "line"},
    )  # fmt: skip
    file = read_labelme(path)
    masks = {shape.label: file.mask(shape) for shape in file.shapes}
    assert list(masks) == ["a", "b", "c", "d", "e"]
    assert masks["a"].sum() == 100 and masks["b"].sum() == 100
    assert masks["c"].sum() == pytest.approx(np.pi * 100, rel=0.03)
    np.testing.assert_array_equal(masks["d"][30:36, 4:12], small > 0)
    np.testing.assert_array_equal(masks["e"], np.eye(HEIGHT, WIDTH, dtype=bool))
    assert file.shapes[4].group == "3"
    assert str(file.left_out) == "1 × line, which has no area (first: f)"


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"label": "a", "shape_type": "cuboid", "points": []}, "of the kind 'cuboid', known are"),
        ({"points": []}, "neither group_id nor label"),
        ({"label": {"x": 1}}, "expected a name or a number"),
    ],
)
def test_unknown_shapes_are_refused(tmp_path: Path, shape: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_labelme(labelme(tmp_path / "a.json", shape))


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "!!"},
        {"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": None},
        {"shape_type": "rectangle", "points": [[0, 0]]},
        {"shape_type": "circle", "points": None},
        {"shape_type": "polygon", "points": [[0, 0], [1, 1]]},
        {"shape_type": "rle", "points": []},
    ],
)
def test_damaged_shapes_are_refused(tmp_path: Path, shape: dict) -> None:
    file = read_labelme(labelme(tmp_path / "a.json", {"label": "a"} | shape))
    with pytest.raises(DataError, match=r", a: "):
        file.mask(file.shapes[0])


def test_a_mask_that_takes_hours_is_refused(tmp_path: Path) -> None:
    mask = base64.b64encode(scans_jpeg(3000)).decode()
    shape = {"label": "a", "shape_type": "mask", "points": [[0, 0], [63, 31]], "mask": mask}
    file = read_labelme(labelme(tmp_path / "a.json", shape))
    with pytest.raises(DataError, match="at most 64 are read"):
        file.mask(file.shapes[0])


# ---------------------------------------------------------------- CSV and folders


ROWS = [{"x_m": "0", "z_m": "1.5", "scene": "a b"}, {"x_m": "-2.25", "z_m": "1e3", "scene": ""}]
COMMAS = "x_m,z_m,scene\n0,1.5,a b\n-2.25,1e3,\n"


@pytest.mark.parametrize(
    "data",
    [
        COMMAS.encode(),
        COMMAS.encode("utf-8-sig"),
        COMMAS.replace("\n", "\r\n").encode("utf-8-sig"),
        COMMAS.encode("utf-16"),
        COMMAS.replace(",", "\t").encode(),
        b"x_m;z_m;scene\r\n0;1,5;a b\r\n-2,25;1e3;\r\n\r\n",
        b'"x_m";"z_m";"scene"\n0;"1,5";"a b"\n-2,25;1e3;\n',
    ],
)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, data: bytes) -> None:
    """Case 17: a byte order mark, semicolons with decimal commas, tabs."""
    (tmp_path / "t.csv").write_bytes(data)
    assert read_csv(tmp_path / "t.csv") == ROWS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"a,a\n1,2\n", "a name twice or none"),
        (b"a,b\n1,2,5,3\n", "row 2 has 4 cells, its header 2.*decimal commas"),
        (b"a\xff\xfe,b\n", "is no UTF-8 text"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_csv(tmp_path / "t.csv")


def test_a_folder_is_listed_whatever_packed_it(tmp_path: Path) -> None:
    """Case 13: hidden files, suffixes in capitals, decomposed names, and what is no picture."""
    decomposed = unicodedata.normalize("NFD", "salle_été")
    for name in ("b.JPG", "a.webp", "._a.jpg", ".DS_Store", "notes.txt", f"{decomposed}.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    found = list_pictures(tmp_path)
    assert list(found.pictures) == ["a", "b", "salle_été"]
    assert str(found.left_out) == "1 × file whose name is no picture's (first: notes.txt)"
    (tmp_path / "salle_été.png").write_bytes(b"")
    with pytest.raises(DataError, match="told apart by their names without suffix"):
        list_pictures(tmp_path)
    assert list_pictures(tmp_path / "gone").left_out == NOTHING


def test_what_is_left_out_adds_up() -> None:
    one, two = LeftOut.of([("x", "a"), ("x", "b")]), LeftOut.of([("y", "c"), ("x", "d")])
    assert str(one + two) == "3 × x (first: a); 1 × y (first: c)"
    assert not NOTHING and one and str(NOTHING) == ""
