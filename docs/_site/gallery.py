"""The gallery: what each picture is of, the one command that makes it, and the page about them.

    python docs/_site/gallery.py                      # make gallery: all, an hour on 2 cores
    python docs/_site/gallery.py kitchen-depth lake   # these only; or parts: rooms videos reports
    python docs/_site/gallery.py --page               # docs/gallery.md alone (make style)
    python docs/_site/gallery.py --room               # the sample room of the package

Data that is there is taken as it is, so what was stopped goes on. Pictures come out of the very
commands that the page shows: a file that they write, or a page that they write, opened.
"""

import argparse
import contextlib
import functools
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
# The last for browser.py: pages are opened as the tests do.
sys.path[:0] = [str(Path(__file__).parent), str(ROOT), str(ROOT / "tests")]
from gallery_pictures import DATA, PARTS, PICTURES, Picture, room_key  # noqa: E402

if TYPE_CHECKING:
    from browser import Tab

GALLERY, PAGE = ROOT / "docs" / "gallery", ROOT / "docs" / "gallery.md"
JPEG_QUALITY, MAX_BYTES = 82, 100_000


def page() -> str:
    """docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "What comes out, as it came out: nothing is retouched. Label colours are arbitrary. Below"
        " each picture stands the command that made it, on data whose commands stand at the head of"
        " its section. `make gallery` runs them all, `make gallery ONLY=lake` what one needs.",
        "",
    ]
    told: set[str] = set()
    for title, part in PARTS.values():
        lines += [f"## {title}", ""]
        for data in dict.fromkeys(DATA[picture.data] for picture in part):
            if data.name not in told and data.commands:
                lines += [data.text, ""] if data.text else []
                if data.text or len(data.commands) > 1:
                    lines += [*(f"    {command}" for command in data.commands), ""]
            told.add(data.name)
        for picture in part:
            lines += [f"![{picture.alt}](gallery/{picture.name})", ""]
            lines += [f"{picture.alt}: `{picture.command}`", ""]
    return "\n".join(lines).rstrip() + "\n"


@functools.cache
def run(command: str) -> None:
    """Run a command of the page in the repository, once. CalledProcessError where it fails."""
    words = shlex.split(command)
    program = {"pano": [sys.executable, "-m", "panoforge"], "python": [sys.executable]}[words[0]]
    print(f"$ {command}", flush=True)
    subprocess.run([*program, *words[1:]], cwd=ROOT, check=True)


def make(picture: Picture) -> None:
    """Make one picture, and the data that it needs where it is not there."""
    data = DATA[picture.data]
    if not (ROOT / data.made).exists():
        print(f"{data.name}: {data.takes}", flush=True)
        for command in data.commands:
            run(command)
    if picture.file != "served" and picture.command not in data.commands:
        run(picture.command)
    if picture.is_page:
        keep(opened(picture), picture.name)
    else:
        keep(file_of(picture).read_bytes(), picture.name)


def file_of(picture: Picture) -> Path:
    """What the command has written."""
    found = sorted(ROOT.glob(picture.file), key=lambda path: path.stat().st_size)
    if not found:
        raise FileNotFoundError(f"{picture.command} has not written {picture.file}")
    return found[-1]


def keep(data: bytes, name: str) -> None:
    """Take a picture into the gallery: PNG as it is, else as JPEG of at most 100 kB."""
    GALLERY.mkdir(exist_ok=True)
    if name.endswith(".png"):
        (GALLERY / name).write_bytes(data)
        return
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    for quality in range(JPEG_QUALITY, 30, -6):
        _, found = cv2.imencode(
            ".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        )
        if found.size <= MAX_BYTES:
            break
    (GALLERY / name).write_bytes(found.tobytes())


@contextlib.contextmanager
def served(command: str) -> Iterator[str]:
    """The address of `pano serve` while it runs."""
    with tempfile.TemporaryDirectory() as work:
        words = [*shlex.split(command)[1:], "--work", work, "--port", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "panoforge", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait()


def opened(picture: Picture) -> bytes:
    """A page in chromium, as PNG."""
    from browser import open_tab

    with contextlib.ExitStack() as stack:
        is_served = picture.file == "served"
        url = (
            stack.enter_context(served(picture.command))
            if is_served
            else file_of(picture).resolve().as_uri()
        )
        tab = stack.enter_context(open_tab(url, *picture.size, dark=picture.dark))
        if is_served:
            click_through(tab)
        if picture.selector:
            place = tab.page.locator(picture.selector).first
            place.evaluate("e => window.scrollTo(0, e.getBoundingClientRect().top + scrollY - 90)")
        for selector in picture.clicks:
            tab.page.locator(selector).first.click()
        tab.page.wait_for_timeout(2500)
        return tab.page.screenshot()


# A picture, a sideboard, books and a glass of the sample room, in degrees.
THINGS = ((15.0, 14.0), (50.0, -45.0), (21.0, -29.0), (74.0, -31.0))


def click_through(tab: "Tab") -> None:
    """An object by a click each, then look at them all."""
    tab.wait_for("document.body.dataset.settled === 'true'")
    tab.page.click('[data-tool="click"]')
    for number, (lon, lat) in enumerate(THINGS):
        if number:
            tab.page.keyboard.press("n")
        tab.page.evaluate(f"panoView.lookAt({lon}, {lat}, 90)")
        tab.page.wait_for_timeout(800)
        x, y, width, height = tab.box("#stage")
        tab.page.mouse.click(x + width / 2, y + height / 2)
        tab.wait_for(f"Number(document.body.dataset.version) >= {number + 1}")
    tab.page.evaluate("panoView.lookAt(40, -16, 100)")
    tab.page.wait_for_timeout(1500)


def make_room() -> None:
    """The sample room of the package: the kitchen's picture and ids, packed."""
    import shutil

    from panoforge.core.room import ROOM
    from panoforge.core.shards.read import Dataset
    from panoforge.core.shards.write import PackOptions, pack
    from panoforge.core.storage.staged import write_staged

    sample = Dataset.open(ROOT / DATA["rooms"].made).by_key(room_key("kitchen", 3))
    meta = sample.meta.model_copy(
        update={
            "key": "kitchen", "scene": "kitchen", "products": ("instance.zst", "rgb.jpg"),
            "hardware": {}, "timings_s": {}, "cpu_s": {}, "peak_memory_mb": None,
        }
    )  # fmt: skip
    arrays = {"rgb.jpg": sample.read("rgb"), "instance.zst": sample.read("instance")}
    with tempfile.TemporaryDirectory() as staged:
        write_staged(Path(staged), meta, arrays, jpeg_quality=90)
        shutil.rmtree(ROOM, ignore_errors=True)
        pack(Path(staged), ROOM, PackOptions(splits=(("train", 1.0),)))
    shutil.rmtree(ROOM / "lease", ignore_errors=True)


def main() -> None:
    """Make what is asked for."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("only", nargs="*", help="pictures or parts; all without")
    words.add_argument("--page", action="store_true", help="write docs/gallery.md alone")
    words.add_argument("--room", action="store_true", help="make the sample room of the package")
    asked = words.parse_args()
    if asked.room:
        return make_room()
    PAGE.write_text(page(), encoding="utf-8")
    if asked.page:
        return None
    known = {name.partition(".")[0]: [picture] for name, picture in PICTURES.items()}
    known |= {name: part for name, (_, part) in PARTS.items()}
    if strange := [name for name in asked.only if name not in known]:
        sys.exit(f"no picture {', '.join(strange)}: expected one of {', '.join(known)}")
    chosen = [p for name in asked.only for p in known[name]] or list(PICTURES.values())
    failed = []
    for picture in chosen:
        try:
            make(picture)
        except (subprocess.CalledProcessError, OSError) as error:
            failed.append(f"{picture.name}: {error}")
    for path in set(GALLERY.iterdir()) - {GALLERY / name for name in PICTURES}:
        path.unlink()  # of a picture that is no more
    sys.exit("\n".join(failed) or None)


if __name__ == "__main__":
    main()
