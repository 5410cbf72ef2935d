"""S3-FIFO: three queues that keep what is asked for twice and let scans pass through (Yang et al., SOSP 2023).

New objects enter a small queue (a tenth of the bytes); those hit more than once there go on to the main queue, the
others leave and are remembered as ghosts, and a ghost that returns enters the main queue at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

USES_MAX = 3
SMALL_SHARE = 0.1
PROMOTED_ABOVE = 1
DEAD_MIN = 1024
DEAD_SHARE = 0.25  # of the capacity: what removed items that still wait for their turn may hold


class Item:
    """What the policy keeps order of. A hit adds one to `uses`, up to USES_MAX."""

    __slots__ = ("gone", "in_main", "key", "size_bytes", "uses")

    def __init__(self, key: Hashable, size_bytes: int) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.uses = 0
        self.in_main = False
        self.gone = False


class S3Fifo:
    """Decides what leaves. Sizes are in bytes; removed items are skipped when their turn comes."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.small_bytes = 0
        self.main_bytes = 0
        self._small: deque[Item] = deque()
        self._main: deque[Item] = deque()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._ghost_bytes = 0
        self._dead = 0  # removed items that are still in a queue
        self._dead_bytes = 0

    @property
    def used_bytes(self) -> int:
        """What all items take together."""
        return self.small_bytes + self.main_bytes

    def admit(self, item: Item, *, instead_of: Item | None = None) -> list[Item]:
        """Take an item in; returns those that had to leave for it. Larger than everything: it leaves itself.

        What comes `instead_of` a removed item of the same key takes over its rank.
        """
        if item.size_bytes > self.capacity_bytes:
            item.gone = True
            return [item]
        ghost = self._ghosts.pop(hash(item.key), None)
        self._ghost_bytes -= ghost or 0
        if ghost is not None or (instead_of is not None and instead_of.in_main):
            self._to_main(item)
        else:
            self._small.append(item)
            self.small_bytes += item.size_bytes
        if instead_of is not None:
            item.uses = instead_of.uses
        return self._make_room()

    def grow(self, item: Item, by_bytes: int) -> list[Item]:
        """An item takes more than it did; returns those that had to leave for it, itself perhaps among them."""
        if item.gone:
            return []
        item.size_bytes += by_bytes
        if item.in_main:
            self.main_bytes += by_bytes
        else:
            self.small_bytes += by_bytes
        return self._make_room()

    def _make_room(self) -> list[Item]:
        left: list[Item] = []
        while self.small_bytes + self.main_bytes > self.capacity_bytes:
            self._evict_one(left)
        return left

    def remove(self, item: Item) -> None:
        """Take an item out, whatever queue it is in."""
        if item.gone:
            return
        item.gone = True
        if item.in_main:
            self.main_bytes -= item.size_bytes
        else:
            self.small_bytes -= item.size_bytes
        self._dead += 1
        self._dead_bytes += item.size_bytes
        crowded = self._dead > DEAD_MIN and self._dead * 2 > len(self._small) + len(self._main)
        if crowded or self._dead_bytes > self.capacity_bytes * DEAD_SHARE:
            self._small = deque(each for each in self._small if not each.gone)
            self._main = deque(each for each in self._main if not each.gone)
            self._dead = self._dead_bytes = 0

    def _to_main(self, item: Item) -> None:
        item.in_main = True
        item.uses = 0
        self._main.append(item)
        self.main_bytes += item.size_bytes

    def _evict_one(self, left: list[Item]) -> None:
        if self.small_bytes > self.capacity_bytes * SMALL_SHARE or not self.main_bytes:
            item = self._small.popleft()
            if item.gone:
                self._dead -= 1
                self._dead_bytes -= item.size_bytes
                return
            self.small_bytes -= item.size_bytes
            if item.uses > PROMOTED_ABOVE:
                self._to_main(item)
                return
            self._remember(item)
        else:
            item = self._main.popleft()
            if item.gone:
                self._dead -= 1
                self._dead_bytes -= item.size_bytes
                return
            if item.uses > 0:
                item.uses -= 1
                self._main.append(item)
                return
            self.main_bytes -= item.size_bytes
        item.gone = True
        left.append(item)

    def _remember(self, item: Item) -> None:
        self._ghost_bytes -= self._ghosts.pop(hash(item.key), 0)
        self._ghosts[hash(item.key)] = item.size_bytes
        self._ghost_bytes += item.size_bytes
        while self._ghost_bytes > self.capacity_bytes * (1 - SMALL_SHARE):
            _, size_bytes = self._ghosts.popitem(last=False)
            self._ghost_bytes -= size_bytes
