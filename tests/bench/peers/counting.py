"""Counting walks by hand, for libraries that can only follow them one by one."""

from collections.abc import Callable, Iterable

from peers import HOPS


def count_walks(starts: Iterable[int], successors: Callable[[int], Iterable[int]]) -> tuple[int, int]:
    """Return the number of walks and the sum of lengths: how many end at each node is all a step needs."""
    ending = dict.fromkeys(starts, 1)
    count = total = 0
    for length in range(1, HOPS + 1):
        following: dict[int, int] = {}
        for node, n in ending.items():
            for end in successors(node):
                following[end] = following.get(end, 0) + n
        ending = following
        count += sum(ending.values())
        total += length * sum(ending.values())
    return count, total
