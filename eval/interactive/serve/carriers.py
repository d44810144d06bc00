"""Propagations that are under way: begun, written as they go, and cancelled."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from panoforge.core.errors import UsageError, UserError
from panoforge.eval.interactive.serve.desks import Desks
from panoforge.eval.interactive.serve.document import Hand, Key
from panoforge.eval.interactive.serve.messages import PropagateRequest
from panoforge.eval.interactive.serve.predictors import Predictors
from panoforge.eval.interactive.serve.propagating import (
    Carried,
    Found,
    Propagation,
    carried_delta,
    frame_orders,
    masks_to_carry,
)
from panoforge.eval.interactive.serve.summaries import write_summary
from panoforge.eval.interactive.serve.worker import Worker


class Carriers:
    """Safe for threads; `carry` waits for its end."""

    def __init__(self, desks: Desks, worker: Worker, predictors: Predictors) -> None:
        self._desks, self._worker, self._predictors = desks, worker, predictors
        self._running: dict[tuple[str, str], Propagation] = {}
        self._guard = threading.Lock()

    def carry(self, asked: PropagateRequest, hand: Hand) -> Carried:
        """Follow objects from a frame.

        Args:
            asked: what is to be followed, and how far.
            hand: whose change it is.

        Raises:
            Stale: an object is gone, or somebody has changed it meanwhile.
            UsageError: it is no video, or there is nothing to follow.
        """
        with self._desks.lock(asked.picture):
            desk = self._desks.held(asked.picture)
            if desk.frames is None:
                raise UsageError(f"{desk.listed.name} is no video: there is nothing to propagate")
            here: list[Key] = [(id_, asked.frame) for id_ in asked.objects]
            desk.document.check(asked.version, here, asked.session)
            orders = frame_orders(asked, len(desk.frames.names))
            masks = masks_to_carry(desk.document, asked)
        name, progress = (asked.session, asked.request), self._predictors.progress
        propagation = Propagation(
            self._worker,
            *name,
            lambda frame: self._desks.opened(asked.picture).document.keyed(frame),
            self._writer(asked, hand),
            lambda done, of: progress.update({asked.picture: (done, of)}),
        )
        frames = desk.frames.again()
        with self._guard:
            self._running[name] = propagation
        try:
            following = self._predictors.following
            ways = [(order, following.follow(frames, order, masks)) for order in orders]
            return propagation.run(ways, list(masks))
        finally:
            frames.close()
            progress.pop(asked.picture, None)
            with self._guard:
                self._running.pop(name, None)

    def _writer(self, asked: PropagateRequest, hand: Hand) -> Callable[[Mapping[int, Found]], int]:
        """What writes the frames of a propagation: all of them are one change to undo."""
        last: list[int] = []

        def write(found: Mapping[int, Found]) -> int:
            with self._desks.lock(asked.picture):
                document = self._desks.held(asked.picture).document
                delta = carried_delta(document, found)
                if not delta.looks:
                    return 0
                delta = replace(delta, continues=last[-1] if last else None)
                request = f"{asked.request[:52]}-{document.version}"
                document.commit(document.version, hand, request, delta)
                last.append(document.version)
                with contextlib.suppress(UserError):  # it is made again from the journal
                    write_summary(document)
                return len(delta.looks)

        return write

    def cancel(self, session: str, request: str) -> int:
        """Take a propagation back; gives how many there were."""
        with self._guard:
            running = self._running.get((session, request))
        if running is None:
            return 0
        running.cancel.set()
        return 1

    def cancel_all(self) -> None:
        """The server ends."""
        with self._guard:
            running = list(self._running.values())
        for one in running:
            one.cancel.set()
