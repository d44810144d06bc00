"""Tasks of Ray: a bounded number in flight, and their answers as they come.

Errors of a task come out as they were raised there. A task that Ray gave up is a `TaskLost`; what
that means (a scene to try again, a shard to build anew) is the caller's business.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from panoforge.cluster.ray.watch import ClusterError, require_living_ray
from panoforge.core.errors import UserError, first_line

Item = TypeVar("Item")
Answer = TypeVar("Answer")
RETRIES = 4  # of a task whose node or worker process died, where Ray is to try again
_LOOK_S = 5.0  # between two looks whether our private Ray is alive


class TaskLost(ClusterError):
    """Ray gave a task up: its node or worker went away."""


class TaskOutOfMemory(TaskLost):
    """Ray stopped a task because its node was short of memory."""


class TaskCancelled(TaskLost):
    """A task was cancelled by us. One that had begun may have ended properly all the same."""


class TaskWindow(Generic[Item, Answer]):
    """The tasks in flight: `function(item)` each. `resources` are options of `ray.remote`."""

    def __init__(self, function: Callable[[Item], Answer], **resources: Any) -> None:
        import ray

        self._remote = ray.remote(**resources)(function)
        self._running: dict[Any, Item] = {}

    def __len__(self) -> int:
        return len(self._running)

    def start(self, item: Item, **options: Any) -> None:
        """Hand one more task to Ray; `options` (say its `name`) are this task's alone."""
        self._running[self._remote.options(**options).remote(item)] = item

    def ended(self, timeout_s: float) -> list[tuple[Item, Callable[[], Answer]]]:
        """The tasks that have ended, as soon as there is one; none after `timeout_s`.

        Calling the second of each pair gives its answer, or raises what `answer_of` raises.
        """
        import ray

        if not self._running:
            return []
        require_living_ray()
        done, _ = ray.wait(list(self._running), num_returns=1, timeout=timeout_s)
        if done:  # those that ended meanwhile come along
            done, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(task), functools.partial(answer_of, task)) for task in done]

    def cancel(self, spare: Callable[[Item], bool] = lambda _: False) -> None:
        """Cancel what has not begun.

        Ray sends a SIGINT to what has, and may drop its answer: both are a `TaskCancelled`.

        Args:
            spare: Says of an item that Ray is to leave it alone, since it is known to have begun.
        """
        import ray

        for task, item in self._running.items():
            if not spare(item):
                ray.cancel(task, force=False, recursive=False)


def run_tasks(
    function: Callable[[Item], Answer],
    items: Iterable[Item],
    *,
    at_once: int,
    name: Callable[[Item], str],
    **resources: Any,
) -> Iterator[tuple[Item, Answer]]:
    """Run `function(item)` for all items, `at_once` of them in flight.

    Args:
        function: Of one item; runs on any node, `RETRIES` times more if its node dies.
        items: What there is to do, in the order of its start.
        at_once: Tasks in flight.
        name: What Ray calls the task of an item.
        resources: `num_cpus`, `num_gpus`: what a task holds.

    Yields:
        Each item with its answer, in whatever order they end.

    Raises:
        UserError: What the task raised; a `TaskLost` if Ray gave it up.
        ClusterError: Our private Ray died.
    """
    window = TaskWindow[Item, Answer](function, max_retries=RETRIES, **resources)
    waiting = iter(items)
    while True:
        for item in itertools.islice(waiting, at_once - len(window)):
            window.start(item, name=name(item))
        if not window:
            return
        for item, answer in window.ended(_LOOK_S):
            yield item, answer()


def answer_of(task: Any) -> Any:
    """The answer of a task that has ended.

    Raises:
        UserError: The one that the task raised.
        TaskLost: Ray gave the task up.
        ray.exceptions.RayTaskError: The task raised something else: a defect, with its traceback.
    """
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.TaskCancelledError:
        raise TaskCancelled("it was cancelled") from None
    except ray.exceptions.OutOfMemoryError as error:
        raise TaskOutOfMemory(
            f"Ray stopped it to save its node's memory: {first_line(error)}"
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, UserError) else error) from None
    except ray.exceptions.RayError as error:
        raise TaskLost(f"its node or Ray worker was lost ({type(error).__name__})") from None
