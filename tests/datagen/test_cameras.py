"""Which of the free places cameras take. What is free is tested in test_scene_sources.py."""

import numpy as np

from panoforge.datagen.cameras import Place, greedy_coverage


def place(shell: int, things: int, first: int = 0) -> Place:
    """A place that sees so many voxels of the shell, and so many of things from number `first`."""
    walls = frozenset((number, 0, 0) for number in range(shell))
    furniture = frozenset((number, 1, 0) for number in range(first, first + things))
    return Place(np.zeros(3), 1.0, walls | furniture, furniture)


def test_furniture_counts_ten_times_what_walls_count():
    corridor, sofa = place(shell=400, things=20), place(shell=100, things=60)
    assert greedy_coverage([corridor, sofa], 1) == [1]
    assert greedy_coverage([place(400, 20), place(100, 45)], 1) == [0]


def test_the_next_place_adds_what_is_new():
    seen, again, other = place(10, 50), place(10, 50), place(10, 20, first=100)
    assert greedy_coverage([seen, again, other], 2) == [0, 2]


def test_where_there_is_nothing_but_walls_they_decide():
    assert greedy_coverage([place(40, 0), place(90, 0)], 1) == [1]
