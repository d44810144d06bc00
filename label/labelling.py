"""One picture or video from its file to staged samples and a record, in any process.

Teachers are made where the work is done: what travels is a `FileTask`, names and settings. A
file is begun anew if it is not done; what was staged of it before is taken away first.
"""

import contextlib
import hashlib
import resource
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from panoforge.core import __version__
from panoforge.core.errors import ConfigError, DataError, StorageError, first_line, nearest
from panoforge.core.names import is_litter
from panoforge.core.progress import Progress
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Rgb
from panoforge.eval.interactive.following import Following
from panoforge.eval.interactive.frames import Frames
from panoforge.label.blur import hidden
from panoforge.label.by_file import ITEMS, STAGED, FileDone, FileTask
from panoforge.label.config import AnnotateConfig
from panoforge.label.inputs import Footage, OpenFootage, items_of
from panoforge.label.loading import following_of, panel_of
from panoforge.label.records import FootageRecord, read_record
from panoforge.label.video.annotate import VideoLabeller
from panoforge.label.video.asking import TeacherPanel
from panoforge.label.video.output import stage_labels
from panoforge.label.video.revise import revisions_of
from panoforge.label.video.runs import KeptFrames
from panoforge.label.vocabulary import spelling


def record_path(out: Path, footage: Footage) -> Path:
    """Where the record of a file lies."""
    return out / ITEMS / f"{footage.scene}.json"


def fingerprint_of(opened: OpenFootage, config: AnnotateConfig) -> str:
    """What labels depend on: the file's digest, the config, our version."""
    said = f"{opened.frames.sha256} {config.model_dump_json()} {__version__}"
    return hashlib.sha256(said.encode()).hexdigest()


def label_footage(task: FileTask[AnnotateConfig]) -> FileDone[FootageRecord]:
    """Label one file, if it is not labelled already.

    Returns:
        Its record; the failure where its data or a teacher's answer are at fault: others go on.

    Raises:
        StorageError: what is written cannot be written; nothing that was done is lost.
    """
    footage = next(
        one for one in items_of(task.place, video=task.config.video) if one.name == task.name
    )
    try:
        return FileDone(task.name, _labelled(task, footage))
    except DataError as error:
        clear_staged(task.out, footage)
        return FileDone(task.name, None, first_line(error))


def _labelled(task: FileTask[AnnotateConfig], footage: Footage) -> FootageRecord:
    opened = footage.open()
    try:
        path, fingerprint = record_path(task.out, footage), fingerprint_of(opened, task.config)
        known = read_record(path)
        if known is not None and known.fingerprint == fingerprint:
            return known
        with storage_errors(path):
            path.unlink(missing_ok=True)
        clear_staged(task.out, footage)
        require_space(task.out, task.config.least_free_mb)
        record = _label(task, footage, opened, fingerprint)
        record.write(path)
        return record
    finally:
        opened.frames.close()


def _label(
    task: FileTask[AnnotateConfig], footage: Footage, opened: OpenFootage, fingerprint: str
) -> FootageRecord:
    config, clock = task.config, NestedClock()
    frames = KeptFrames(opened.frames)
    panel = panel_of(config.entities, config.panoptic, task.place, config)
    following = following_of(config.follow)
    hide = Hiding.of(config, task.place)  # what is wrong with it is said before hours of work
    with _frames_shown(footage, len(frames.names)) as on_frame:
        state = VideoLabeller(
            frames, panel, following, config.rules, opened.seen, on_frame, clock.phase
        ).label()
    with clock.phase("writing"):
        written = stage_labels(
            task.out / STAGED,
            footage,
            frames,
            state,
            fps=frames.fps or config.fps,
            config_sha256=hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
            notes=_notes(panel, following, state.ended),
            shown=lambda number, rgb: hide(frames, number, rgb),
        )
    width, height = frames.size
    changes: dict[str, Counter[str]] = defaultdict(Counter)
    for change in state.changes:
        changes[change.phase][change.kind] += 1
    return FootageRecord(
        fingerprint=fingerprint,
        name=footage.name,
        scene=footage.scene,
        is_video=footage.is_video,
        frames=len(written.keys),
        width=width,
        height=height,
        objects=len(written.things),
        keys=written.keys,
        coverage=state.coverage,
        changes={phase: dict(kinds) for phase, kinds in changes.items()},
        named=dict(panel.asked),
        asked=panel.checker.asked,
        answered=panel.checker.answered,
        checker_failure=panel.checker.last_failure,
        seconds={phase: round(s, 3) for phase, s in clock.seconds.items()},
        peak_memory_mb=clock.peak_mb,
        ended=state.ended,
        revise=tuple(revisions_of(footage.name, state, written.number_of, written.things)),
    )


@contextlib.contextmanager
def _frames_shown(footage: Footage, frames: int) -> Iterator[Callable[[], None]]:
    """What to call after each frame; of a video how far it is comes as lines, below the bar."""
    if not footage.is_video:
        yield lambda: None
        return
    with Progress(footage.name, frames, unit="frames", plain=True) as progress:
        yield progress.advance


def _notes(panel: TeacherPanel, following: Following, ended: str) -> list[str]:
    teachers = [
        f"teacher {one.name}, {one.digest[:12]}" for one in (*panel.entity, *panel.panoptic)
    ]
    carried = f"carried along by {following.words}"
    return ["labels of teachers, not of a person", *teachers, carried, *([ended] if ended else [])]


def clear_staged(out: Path, footage: Footage) -> None:
    """Take away what is staged of a file."""
    staged = out / STAGED
    if not staged.is_dir():
        return
    with storage_errors(staged):
        for folder in sorted(staged.glob(f"{footage.scene}-[vc]0*")):
            if not is_litter(folder.name):
                shutil.rmtree(folder)


def require_space(out: Path, least_mb: int) -> None:
    """StorageError before hours of work that could not be written."""
    with storage_errors(out):
        (out / STAGED).mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(out).free / 1e6
    if free_mb < least_mb:
        raise StorageError(
            f"{out}: {free_mb:.0f} MB are free, and least_free_mb asks for {least_mb}: make room"
            " and give the same command again; what is labelled stays"
        )


@dataclass
class Hiding:
    """Makes what panoptic teachers find of some classes unreadable, frame by frame.

    `classes` are as `spelling` has them: "License Plate" hides what is called license_plate.
    """

    panel: TeacherPanel | None
    classes: frozenset[str]

    @classmethod
    def of(cls, config: AnnotateConfig, place: Path) -> "Hiding":
        """As a config asks for it.

        Raises:
            ConfigError: A class that no teacher has a word for: it would silently stay readable.
        """
        hide = config.hide
        if not hide.classes:
            return cls(None, frozenset())
        panel = panel_of((), hide.teachers, place, config)
        known = [dict(getattr(one, "classes", {})) for one in panel.panoptic]
        if all(known):  # others do not say beforehand which words they have
            said = {own for words in known for word in words.values() for own in _spellings(word)}
            for word in hide.classes:
                if spelling(word) not in said:
                    raise ConfigError(
                        f"hide.classes: no teacher of hide has the word {word!r}, and nothing would"
                        f" be hidden: give one of theirs.{nearest(spelling(word), said)}"
                    )
        return cls(panel, frozenset(map(spelling, hide.classes)))

    def __call__(self, frames: Frames, number: int, rgb: Rgb) -> Rgb:
        """The picture of a frame as it is to be written."""
        if self.panel is None:
            return rgb
        found = self.panel.named(frames, number)
        return hidden(
            rgb, [one.mask for one in found if self.classes & _spellings(one.label or "")]
        )


def _spellings(word: str) -> frozenset[str]:
    """A teacher's word and, where it is a list with commas, each of them."""
    return frozenset(map(spelling, (word, *word.split(","))))


@dataclass
class NestedClock:
    """Seconds by phase; a phase within a phase counts to the inner one alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    now: Callable[[], float] = time.monotonic
    _open: list[list[float]] = field(default_factory=list, repr=False)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done within to a phase."""
        begin, inner = self.now(), [0.0]
        self._open.append(inner)
        try:
            yield
        finally:
            self._open.pop()
            spent = self.now() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - inner[0]
            if self._open:
                self._open[-1][0] += spent

    @property
    def peak_mb(self) -> float:
        """The most memory that this process has had."""
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
