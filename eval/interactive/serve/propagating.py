"""Objects of a video carried from one frame to others, in the one thread that predicts.

A frame is a job of its own in the worker's queue, and never urgent: clicks of others come in
between. What is found is written to the journal every few frames, so a kill or a cancelling loses
seconds; all of it is one change to undo. Frames on which somebody has corrected an object end its
propagation: they are never painted over.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from panoforge.core.errors import UsageError
from panoforge.core.types import Mask
from panoforge.eval.interactive.serve.document import Delta, Document
from panoforge.eval.interactive.serve.messages import PropagateRequest
from panoforge.eval.interactive.serve.objects import FrameLook
from panoforge.eval.interactive.serve.packed import PackedMask
from panoforge.eval.interactive.serve.worker import Cancel, Cancelling, Worker

COMMIT_FRAMES, COMMIT_S = 8, 2.0
Found = dict[int, PackedMask]


@dataclass
class Carried:
    """How far a propagation has come.

    `frames` are done, `looks` written; `lost` says of objects that ended before the last frame on
    which one they were seen last.
    """

    frames: int = 0
    looks: int = 0
    lost: dict[int, int] = field(default_factory=dict)
    cancelled: bool = False


def frame_orders(asked: PropagateRequest, count: int) -> list[range]:
    """The frames that are walked, each way beginning with the one that is asked about.

    Raises:
        UsageError: there is no such frame, or none to go to.
    """
    if not 0 <= asked.frame < count:
        raise UsageError(f"there is no frame {asked.frame}: the video has {count}")
    reach = count if asked.frames is None else asked.frames
    forward = range(asked.frame, min(count, asked.frame + reach + 1))
    backward = range(asked.frame, max(-1, asked.frame - reach - 1), -1)
    ways = {"forward": [forward], "backward": [backward], "both": [forward, backward]}
    orders = [order for order in ways[asked.direction] if len(order) > 1]
    if not orders:
        raise UsageError("there is no frame in that direction")
    return orders


def masks_to_carry(document: Document, asked: PropagateRequest) -> dict[int, Mask]:
    """The masks that a propagation begins with.

    Raises:
        Stale: an object is gone.
        UsageError: it is locked, or not on that frame.
    """
    masks = {}
    for id_ in dict.fromkeys(asked.objects):
        one = document.get(id_)
        if one.locked:
            raise UsageError(f"{one.words} is locked: unlock it first (Q)")
        look = document.look(id_, asked.frame)
        packed = look and document.mask_of(look)
        if not packed or not packed.pixels:
            raise UsageError(
                f"{one.words} is not on frame {asked.frame}: draw it there, or go to a frame that"
                " shows it"
            )
        masks[id_] = packed.mask()
    return masks


def carried_delta(document: Document, found: Mapping[int, Found]) -> Delta:
    """What was found, by frame, as a change. What somebody made by hand stays."""
    looks, masks = [], []
    for frame, packed in found.items():
        for id_, mask in packed.items():
            old = document.look(id_, frame)
            if id_ not in document.objects or (old is not None and old.key):
                continue
            looks.append(FrameLook(object=id_, frame=frame, mask=mask.digest))
            masks.append(mask)
    return Delta("propagate", looks=tuple(looks), masks=tuple(masks))


class Propagation:
    """One walk through the frames in the worker; `commit` writes what was found, by frame."""

    def __init__(
        self,
        worker: Worker,
        session: str,
        request: str,
        keys: Callable[[int], set[int]],
        commit: Callable[[Mapping[int, Found]], int],
        progress: Callable[[int, int], None],
    ) -> None:
        self._worker, self._session, self._request = worker, session, request
        self._keys, self._commit, self._progress = keys, commit, progress
        self.cancel = Cancel()

    def run(
        self, ways: Sequence[tuple[range, Iterator[dict[int, Mask]]]], ids: Sequence[int]
    ) -> Carried:
        """Walk all ways; what was found before a cancelling or an error is kept."""
        carried = Carried()
        of = sum(len(order) - 1 for order, _ in ways)
        for order, following in ways:
            try:
                self._walk(order, following, set(ids), carried, of)
            except Cancelling:
                carried.cancelled = True
                return carried
        return carried

    def _walk(
        self,
        order: range,
        following: Iterator[dict[int, Mask]],
        alive: set[int],
        carried: Carried,
        of: int,
    ) -> None:
        pending: dict[int, Found] = {}
        since = time.monotonic()
        seen = dict.fromkeys(alive, order[0])
        try:
            for frame in order[1:]:
                alive -= self._keys(frame)  # somebody's own: here it ends
                if not alive:
                    break
                found = self._step(following, alive)
                seen |= dict.fromkeys(found, frame)
                pending[frame] = found
                carried.frames += 1
                self._progress(carried.frames, of)
                if len(pending) >= COMMIT_FRAMES or time.monotonic() - since > COMMIT_S:
                    carried.looks += self._commit(pending)
                    pending, since = {}, time.monotonic()
            carried.lost |= {id_: seen[id_] for id_ in alive if seen[id_] != order[-1]}
        finally:
            if pending:
                carried.looks += self._commit(pending)

    def _step(self, following: Iterator[dict[int, Mask]], alive: set[int]) -> Found:
        """The next frame, by the worker."""

        def step(cancel: Cancel) -> Found:
            self.cancel.check()
            found = next(following)
            return {id_: PackedMask.of(mask) for id_, mask in found.items() if id_ in alive}

        self.cancel.check()
        return self._worker.submit(self._session, self._request, step, urgent=False).result()
