"""What each picture of the gallery is of, and the one command that makes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNS = Path("runs/gallery")  # below the repository, where the commands run


@dataclass(frozen=True)
class Data:
    """What pictures are taken of: the commands that make `made`, and how long they take."""

    name: str
    made: Path
    commands: tuple[str, ...]
    takes: str
    text: str


@dataclass(frozen=True)
class Picture:
    """One picture: `name` with its ending, what it shows, and the command that makes `file`.

    A page is opened, `size` pixels wide and high, at `selector`; `clicks` are pressed then. Where
    `file` holds a star, it is the largest that fits.
    """

    name: str
    alt: str
    data: str
    command: str
    file: str
    selector: str = ""
    clicks: tuple[str, ...] = ()
    size: tuple[int, int] = (1280, 800)
    dark: bool = False

    @property
    def is_page(self) -> bool:
        """Whether the command writes a page, or serves one."""
        return self.file.endswith(".html") or self.file == "served"


DATA = {
    one.name: one
    for one in (
        Data(
            "rooms",
            RUNS / "rooms/dataset",
            (
                "pano sources install infinigen1",
                "pano sources install infinigen1-assets",
                "pano render configs/gallery/rooms.yaml",
                "pano pack runs/gallery/rooms",
            ),
            "hours: each room is solved by Infinigen 1",
            "Eight rooms of all five kinds, furnished and dressed by Infinigen 1. One camera a"
            " room, the first that was chosen; all are shown. They have 23 to 63 ids, 33 in the"
            " middle, where SAP has 35 masks in the mean; 20,000 of 20,000 rays agree. We would"
            " train on these: cameras stand among the furniture, light falls through windows and"
            " from lamps, small things lie on shelves and tables. What is wrong: most rooms have an"
            " empty middle, tables are seldom laid, and outside the windows there is only a sky."
            " Both dining rooms are seen from above a table, which fills what is below. Ten"
            " rooms are wanted; these are eight.",
        ),
        Data(
            "landscapes",
            RUNS / "lands/dataset",
            (
                "python docs/_site/landscape.py lake runs/gallery/lake.blend",
                "python docs/_site/landscape.py autumn runs/gallery/autumn.blend",
                "python docs/_site/landscape.py snow runs/gallery/snow.blend",
                "pano render configs/gallery/lands.yaml",
                "pano pack runs/gallery/lands",
            ),
            "10 minutes",
            "Three .blend files that a script of 250 lines makes: [your own](start/your-blend.md)"
            " goes the same way. Every tree and every rock has an id of its own. What is wrong:"
            " trees are of few faces, and the ground is smooth. They show ids; for looks nobody"
            " would train on them. No landscape of Infinigen 1 is here: the only one was bare.",
        ),
        Data(
            "outdoor",
            RUNS / "outdoor/dataset",
            ("pano render configs/gallery/outdoor.yaml", "pano pack runs/gallery/outdoor"),
            "10 minutes",
            "Grounds of Infinigen 2, with its plants and rocks. What is wrong: they are deserts."
            " Leaves of plants stand close to the camera, and without Blender's extension for"
            " landscapes hills come from noise.",
        ),
        Data(
            "videos",
            RUNS / "video/dataset",
            (
                "pano render configs/video.yaml run=runs/gallery/video",
                "pano pack runs/gallery/video",
            ),
            "10 minutes",
            "Two rooms and things that fly, 24 frames each at 8 a second. The camera walks and"
            " shakes, chairs slide, things fall and fly. Frames go down; beside each stand its ids"
            " and the flow to the next frame. Hue is the direction in which a point moves, strength"
            " how far.",
        ),
        Data(
            "labels",
            RUNS / "labels/report.html",
            (
                "pano annotate runs/gallery/video/dataset --config configs/annotate_demo.yaml"
                " --out runs/gallery/labels",
            ),
            "a minute",
            "",
        ),
        Data(
            "stand-in",
            Path("runs/sap/scores/scan_mixed/a"),
            ("python -m bench.reproduce_sap --size medium --out runs/sap",),
            "hours: a small SAM2 is trained from nothing",
            "",
        ),
        Data("package", Path("core/room/dataset"), (), "nothing: the package brings it", ""),
    )
}


def _of(data: str, key: str, files: dict[str, tuple[str, str]]) -> Iterator[Picture]:
    """Pictures of one sample: name of the picture → ending of the file, and what it shows."""
    made = DATA[data].made.as_posix()
    for name, (ending, alt) in files.items():
        suffix = ".png" if ending.endswith(".png") else ".jpg"
        yield Picture(
            f"{name}{suffix}",
            alt,
            data,
            f"pano preview {made} {key} --out {RUNS}/look",
            f"{RUNS}/look/{key}.{ending}",
        )


ROOMS = (
    ("livingroom", 1, "Living room, 63 ids"),
    ("bedroom", 2, "Bedroom, 44 ids"),
    ("bathroom", 4, "Bathroom, 37 ids"),
    ("diningroom", 0, "Dining room, 35 ids"),
    ("kitchen", 3, "Kitchen, 27 ids"),
    ("livingroom", 6, "Living room, 31 ids"),
    ("diningroom", 5, "Dining room, 23 ids"),
    ("bedroom", 7, "Bedroom, 23 ids"),
)
LANDS = (
    ("lake", "blend-00000000-c0", "Pines around a lake"),
    ("autumn", "blend-00000001-c0", "An autumn wood"),
    ("snow", "blend-00000002-c0", "Pines in the snow"),
)
VIDEOS = (
    ("living-room", "rooms-livingroom-00000000-v0", "A living room"),
    ("dining-room", "rooms-diningroom-00000001-v0", "A dining room"),
    ("flying", "floating-00000002-v0", "Things that fly"),
)


def room_key(kind: str, number: int) -> str:
    """The key of one of the eight rooms."""
    return f"infinigen1-{kind}-{number:08d}-c0"


PARTS: dict[str, tuple[str, list[Picture]]] = {
    "rooms": (
        "Rooms",
        [
            picture
            for kind, number, alt in ROOMS
            for picture in _of("rooms", room_key(kind, number), {f"{kind}-{number}": ("jpg", alt)})
        ],
    ),
    "maps": (
        "Ids, depth and normals of the same render",
        [
            *_of(
                "rooms",
                room_key("livingroom", 1),
                {
                    "livingroom-ids": ("ids.png", "Ids of the first living room"),
                    "livingroom-depth": ("depth.jpg", "Depth of the living room, near is bright"),
                    "livingroom-normals": ("normals.jpg", "Normals of the living room"),
                },
            ),
            *_of(
                "rooms",
                room_key("kitchen", 3),
                {
                    "kitchen-over": ("over.jpg", "Ids of the kitchen, over the picture"),
                    "kitchen-depth": ("depth.jpg", "Depth of the kitchen"),
                    "kitchen-normals": ("normals.jpg", "Normals of the kitchen"),
                },
            ),
            *_of(
                "rooms",
                room_key("bathroom", 4),
                {"bathroom-ids": ("ids.png", "Ids of the bathroom")},
            ),
        ],
    ),
    "landscapes": (
        "Landscapes of .blend files",
        [
            *(
                picture
                for name, key, alt in LANDS
                for picture in _of("landscapes", key, {name: ("jpg", alt)})
            ),
            *_of(
                "landscapes",
                LANDS[0][1],
                {
                    "lake-ids": ("ids.png", "Ids of the pines, one each"),
                    "lake-depth": ("depth.jpg", "Depth around the lake"),
                },
            ),
        ],
    ),
    "outdoor": (
        "Landscapes of Infinigen 2",
        [
            *_of(
                "outdoor",
                "outdoor-hills-00000001-c0",
                {
                    "hills": ("jpg", "Hills, 83 ids"),
                    "hills-over": ("over.jpg", "Ids of the hills, over the picture"),
                },
            ),
        ],
    ),
    "videos": (
        "Videos, with flow",
        [
            *(
                picture
                for name, key, alt in VIDEOS
                for picture in _of(
                    "videos", key, {f"video-{name}": ("strip.jpg", f"{alt}: picture, ids, flow")}
                )
            ),
            *_of(
                "videos",
                f"{VIDEOS[2][1]}-f00008",
                {"flow-flying": ("flow.jpg", "Flow of things that fly, hidden points darker")},
            ),
        ],
    ),
    "space": (
        "Points in space",
        [
            Picture(
                "points-kitchen.jpg",
                "The kitchen as points, its ceiling taken off",
                "rooms",
                f"pano preview {RUNS}/rooms/dataset {room_key('kitchen', 3)} --out {RUNS}/look",
                f"{RUNS}/look/{room_key('kitchen', 3)}.html",
                ".points",
            ),
            Picture(
                "points-livingroom-ids.jpg",
                "The living room as points, in the colours of its ids",
                "rooms",
                f"pano preview {RUNS}/rooms/dataset {room_key('livingroom', 1)} --out {RUNS}/look",
                f"{RUNS}/look/{room_key('livingroom', 1)}.html",
                ".points",
                clicks=('.points button:has-text("ids")',),
            ),
        ],
    ),
    "segmentations": (
        "Segmentations",
        [
            Picture(
                "serve.jpg",
                "The annotation page on the sample room: four clicks, four masks",
                "package",
                "pano serve",
                "served",
            ),
            Picture(
                "segmented.jpg",
                "A small SAM2, fine-tuned on scans of another world, on a dressed room",
                "stand-in",
                "python -m bench.reproduce_sap --size medium --out runs/sap"
                f" --rooms {RUNS}/rooms/dataset",
                "runs/sap/scores/scan_mixed/c/eval/*/report.html",
                ".item >> nth=1",
            ),
            Picture(
                "labels.jpg",
                "A video labelled by teachers (here its own truth, spoiled on purpose)",
                "labels",
                DATA["labels"].commands[0],
                f"{RUNS}/labels/report.html",
                "#contact-sheet",
            ),
        ],
    ),
    "reports": (
        "Reports",
        [
            Picture(
                "report-stats.jpg",
                "What is in a dataset",
                "rooms",
                f"pano stats {RUNS}/rooms/dataset --out {RUNS}/stats",
                f"{RUNS}/stats/report.html",
            ),
            Picture(
                "report-sphere.jpg",
                "Where on the sphere things are, in the dark",
                "rooms",
                f"pano stats {RUNS}/rooms/dataset --out {RUNS}/stats",
                f"{RUNS}/stats/report.html",
                "#the-sphere",
                dark=True,
            ),
            Picture(
                "report-view.jpg",
                "A click opens a panorama to look around in, with what is under the pointer",
                "rooms",
                f"pano stats {RUNS}/rooms/dataset --out {RUNS}/stats",
                f"{RUNS}/stats/report.html",
                clicks=(".item >> nth=4 >> button >> nth=2",),
            ),
            Picture(
                "report-scores.jpg",
                "Scores of the small SAM2, beside their ceiling",
                "stand-in",
                "python -m bench.reproduce_sap --size medium --out runs/sap",
                "runs/sap/scores/scan_mixed/a/eval/*/report.html",
            ),
        ],
    ),
}
PICTURES = {picture.name: picture for _, part in PARTS.values() for picture in part}
