"""Ray's node is started again when it did not come up in time, and only then."""

import pytest

from cluster.ray_session import patiently

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


def test_a_slow_start_is_tried_three_times():
    slow = Exception(SLOW)
    answers: list[object] = [slow, slow, "a node", slow, slow, slow, Exception("no")]

    def start() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(start) == "a node"
    with pytest.raises(Exception, match="timed out during startup"):
        patiently(start)
    with pytest.raises(Exception, match="no"):
        patiently(start)
    assert answers == []
