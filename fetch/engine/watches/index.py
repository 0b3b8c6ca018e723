"""Which of many ranges hold a key: a treap by their beginnings, where each node knows how far its subtree reaches.

Adding, removing and looking up cost O(log n) for n ranges, and a look-up O(log n) more for each range that it finds.
As etcd's interval tree for watchers (`pkg/adt/interval_tree.go`); a treap since it needs a third of the code.
"""

import random
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    """A range and what it stands for. `reach` is the farthest end in the subtree."""

    __slots__ = ("begin", "end", "left", "priority", "reach", "right", "value")

    def __init__(self, begin: bytes, end: bytes, value: T) -> None:
        self.begin = begin
        self.end = end
        self.value = value
        # not to be foreseen, so that nobody can choose ranges that make the tree deep
        self.priority = random.random()  # noqa: S311
        self.reach = end
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None

    def is_before(self, begin: bytes, end: bytes) -> bool:
        return self.begin < begin or (self.begin == begin and self.end < end)

    def measure(self) -> None:
        """Finds out how far the subtree reaches, from its children."""
        reach = self.end
        if self.left is not None and self.left.reach > reach:
            reach = self.left.reach
        if self.right is not None and self.right.reach > reach:
            reach = self.right.reach
        self.reach = reach


class Index(Generic[T]):
    """Values by range [begin, end); one for each range."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[T] | None = None

    def __bool__(self) -> bool:
        return self._root is not None

    def add(self, begin: bytes, end: bytes, value: T) -> None:
        """Adds a range that is not there yet."""
        self._root = _add(self._root, _Node(begin, end, value))

    def remove(self, begin: bytes, end: bytes) -> None:
        """Removes a range that is there."""
        self._root = _remove(self._root, begin, end)

    def at(self, key: bytes) -> Iterator[T]:
        """The values of the ranges that hold the key. No range may come or go meanwhile."""
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            while node is not None and node.reach > key:
                if node.begin <= key:
                    if key < node.end:
                        yield node.value
                    waiting.append(node.right)
                node = node.left


def _add(node: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    if node is None:
        return new
    if new.priority > node.priority:
        new.left, new.right = _split(node, new)
        new.measure()
        return new
    if node.is_before(new.begin, new.end):
        node.right = _add(node.right, new)
    else:
        node.left = _add(node.left, new)
    node.reach = max(node.reach, new.reach)
    return node


def _split(node: _Node[T] | None, at: _Node[T]) -> tuple[_Node[T] | None, _Node[T] | None]:
    """The part of a subtree before a range, and the part behind it."""
    if node is None:
        return None, None
    if node.is_before(at.begin, at.end):
        node.right, behind = _split(node.right, at)
        node.measure()
        return node, behind
    before, node.left = _split(node.left, at)
    node.measure()
    return before, node


def _remove(node: _Node[T] | None, begin: bytes, end: bytes) -> _Node[T] | None:
    assert node is not None, "the range is not there"  # noqa: S101
    if node.begin == begin and node.end == end:
        return _joined(node.left, node.right)
    if node.is_before(begin, end):
        node.right = _remove(node.right, begin, end)
    else:
        node.left = _remove(node.left, begin, end)
    node.measure()
    return node


def _joined(before: _Node[T] | None, behind: _Node[T] | None) -> _Node[T] | None:
    if before is None or behind is None:
        return before or behind
    if before.priority > behind.priority:
        before.right = _joined(before.right, behind)
        before.measure()
        return before
    behind.left = _joined(before, behind.left)
    behind.measure()
    return behind
