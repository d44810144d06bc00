"""Names that come from a file: one check, made where they enter.

A name is a relative path: a sample's key, a shard, a member, a staged folder, an exported file. It
must mean the same place on Linux, macOS and Windows, in a tar and in a bucket, and never a place
outside the folder it is read from. `check_name` says so of any such name. Where we choose the
names, of keys, scenes, splits, shards and index files, their own checks ask for more.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator

from panoforge.core.errors import DataError

MAX_NAME_BYTES = 1024  # of an object in a bucket
MAX_PART_BYTES = 255  # of a file's name on every common file system
KEY_PATTERN = r"[a-z0-9][a-z0-9_-]{0,79}"  # with a suffix it fits the 100 bytes of a tar header
SPLIT_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
SHARD_PATTERN = rf"shards/{SPLIT_PATTERN}-[0-9]{{6,12}}-[0-9a-f]{{8}}\.tar"
INDEX_PATTERN = r"index/(samples|instances|videos)-[0-9a-f]{8}\.parquet"
MAX_FRAMES = 100_000  # of a video: its frames' keys have five digits

RESERVED_PATTERN = r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?"  # by Windows, for devices
_FORBIDDEN = frozenset('\\:*?"<>|')  # Windows refuses them; shells and globs read them otherwise
_RESERVED = re.compile(RESERVED_PATTERN, re.IGNORECASE)
_CONTROL = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # invisible: they hide or turn what is read
_LITTER = frozenset(
    name.lower()
    for name in (
        "lost+found",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir",
        "__MACOSX",
        "$RECYCLE.BIN",
        "System Volume Information",
    )
)


def check_name(name: object, what: str = "name") -> str:
    """`name`, if it is a relative path that every file system, a tar and a bucket take alike.

    Args:
        name: whatever stands in the file.
        what: what it names, for the message.

    Returns:
        The name.

    Raises:
        DataError: it is no such name; the message says why.
    """
    if why := name_fault(name):
        raise DataError(
            f"{what} {shown(name)} is refused: {why}. Names in data are relative paths that mean"
            " the same on every file system and stay in their folder"
        )
    assert isinstance(name, str)
    return name


def name_fault(name: object) -> str | None:
    """Why `name` cannot be the name of a file in a dataset; None if it can."""
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}, not text"
    if not name:
        return "it is empty"
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        return f"it has {size} bytes, at most {MAX_NAME_BYTES} are taken"
    if name.startswith("/"):
        return "it is an absolute path"
    return next((fault for part in name.split("/") if (fault := _part_fault(part))), None)


def _part_fault(part: str) -> str | None:
    """Why `part` cannot be the name of one file or folder."""
    if part == "..":
        return "it leaves its folder (..)"
    if part in ("", "."):
        return "it has an empty part"
    if len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES:
        return f"a part of it has more than {MAX_PART_BYTES} bytes"
    plain = part.isascii() and part.isprintable()  # nearly all are, and none of these is a control
    if not plain and any(unicodedata.category(letter) in _CONTROL for letter in part):
        return "it holds a control character"
    if found := _FORBIDDEN & set(part):
        return f"it holds {min(found)!r}"
    if part != part.strip() or part.endswith("."):
        return "a part of it begins or ends with a space, or ends with a dot"
    if _RESERVED.fullmatch(part):
        return "Windows keeps it for a device"
    return None


def check_key(key: object) -> str:
    """`key`, if it can be a sample's. DataError if not."""
    if not isinstance(key, str) or not re.fullmatch(KEY_PATTERN, key):
        raise DataError(
            f"sample key {shown(key)}: expected at most 80 lower-case letters, digits, - and _ (no"
            " dots: tar readers split there)"
        )
    return check_name(key, "sample key")


def check_scene(scene: object) -> str:
    """`scene`, if it can be a scene's name: keys begin with it. DataError if not."""
    if not isinstance(scene, str) or not re.fullmatch(KEY_PATTERN, scene):
        raise DataError(
            f"scene {shown(scene)}: expected at most 80 lower-case letters, digits, - and _"
        )
    return check_name(scene, "scene")


def check_split(split: object) -> str:
    """`split`, if it can be the name of a split. DataError if not."""
    if not isinstance(split, str) or not re.fullmatch(SPLIT_PATTERN, split):
        raise DataError(
            f"split {shown(split)}: expected at most 40 letters, digits, - and _, as in train"
        )
    return check_name(split, "split")


def check_shard(name: object) -> str:
    """`name`, if it is one that a packer gives a shard. DataError if not."""
    if not isinstance(name, str) or not re.fullmatch(SHARD_PATTERN, name):
        raise DataError(f"shard {shown(name)}: expected shards/SPLIT-NUMBER-DIGEST.tar")
    return check_name(name, "shard")


def check_index(name: object) -> str:
    """`name`, if it is one that a packer gives an index file. DataError if not."""
    if not isinstance(name, str) or not re.fullmatch(INDEX_PATTERN, name):
        raise DataError(
            f"index {shown(name)}: expected index/samples-DIGEST.parquet,"
            " index/instances-DIGEST.parquet or index/videos-DIGEST.parquet"
        )
    return name


_FRAME_KEY = re.compile(r"(?P<video>(?P<scene>.+)-v\d+)-f(?P<frame>\d{5})")


def frame_key(video: str, frame: int) -> str:
    """The key of a frame of a video, whose own key is `<scene>-v<number>`; frames count from 0."""
    return f"{video}-f{frame:05d}"


def frame_of(key: str) -> tuple[str, int] | None:
    """The video's key and the frame's number; None for the key of no frame."""
    match = _FRAME_KEY.fullmatch(key)
    return (match["video"], int(match["frame"])) if match else None


def is_litter(name: str) -> bool:
    """Whether a file or folder is none of ours.

    It is hidden, or what desktops and disks leave behind (`.DS_Store`, `lost+found`).
    """
    return name.startswith(".") or name.lower() in _LITTER


def slug(text: str) -> str:
    """`text` as the beginning of a key: at most 24 lower-case ASCII letters, digits and dashes.

    Accents are dropped, other letters and signs become dashes. Where nothing is left it is made of
    the text's digest.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:24].strip("-")
    return found or digest_digits(text)


def digest_digits(text: str) -> str:
    """Six hexadecimal digits that tell texts apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def scene_of_file(name: str) -> str:
    """The scene of a picture or video that was labelled: its name as a slug, and a digest of it."""
    return f"{slug(PurePath(name.rstrip('/')).stem)}-{digest_digits(name)}"


def shown(name: object) -> str:
    """A name for a message: quoted, escaped, cut."""
    text = ascii(name)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def _checked(check: Callable[[Any], str]) -> AfterValidator:
    """A check as pydantic calls it."""

    def validate(value: str) -> str:
        try:
            return check(value)
        except DataError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


# Fields of records that hold names.
SampleKey = Annotated[str, _checked(check_key)]
SceneName = Annotated[str, _checked(check_scene)]
SplitName = Annotated[str, _checked(check_split)]
ShardName = Annotated[str, _checked(check_shard)]
IndexName = Annotated[str, _checked(check_index)]
RelativeName = Annotated[str, _checked(check_name)]
