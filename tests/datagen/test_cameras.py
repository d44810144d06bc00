"""Which of the free places cameras take. What is free is tested in test_scene_sources.py."""

import numpy as np

from panoforge.datagen.cameras.choice import greedy_coverage
from panoforge.datagen.cameras.places import Place


def place(voxels: int, *rays: int, first: int = 1, start: int = 0) -> Place:
    """A place that sees so many voxels from number `start` on, and things from number `first` on by
    so many rays each.
    """
    seen = frozenset((number, 0, 0) for number in range(start, start + voxels))
    return Place(np.zeros(3), 1.0, seen, dict(enumerate(rays, start=first)))


def test_many_things_count_more_than_a_large_window_or_long_walls():
    corridor = place(600, 100, 25)  # two windows
    bedside = place(400, 30, 20, 9, 4, 4, 1, 1, 1)
    assert greedy_coverage([corridor, bedside], 1) == [1]
    assert greedy_coverage([place(600, 30), place(300, 36)], 1) == [0]  # about one thing: surface


def test_the_next_place_shows_what_was_not_shown_well():
    near, again, other = place(10, 100), place(10, 81), place(10, 25, first=7)
    assert greedy_coverage([near, again, other], 2) == [0, 2]
    far, nearer = place(10, 4, 36), place(10, 100, 1)
    assert greedy_coverage([far, nearer, place(10, 36, 1)], 3) == [1, 0, 2]


def test_where_there_is_nothing_but_walls_they_decide():
    assert greedy_coverage([place(40), place(90)], 1) == [1]
    assert greedy_coverage([place(90), place(80), place(70, start=100)], 2) == [0, 2]
