"""How a frame of rows is put together from lanes and blocks (see side_by_side), whatever is computed over it.

It is what it covers of its own block, whole blocks before that (of 1, 2, 4, 8, … of them, each made of the one before
it and of that same one further back), and some lanes of the block in which it begins; frames of all lengths share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alchemiser_duck.panel.execution import BEFORE, LANES


@dataclass(frozen=True, slots=True)
class Extent:
    """Which rows a window goes over."""

    rows: int | None
    """the last so many; None: all there are"""
    first: int = 1
    """the first bar of a symbol on which anything depends on the window"""

    def is_full(self, missing: int | None = 0, least: int = 0) -> bool:
        """Whether it has all its rows, more than the least number, wherever anything depends on it.

        Args:
            missing: how many of a symbol's first rows do not count; None: any may not.
        """
        return missing is not None and self.rows is not None and self.rows > least and self.first >= self.rows + missing


@dataclass(frozen=True, slots=True)
class Frame:
    """So many rows, one after the other, and what is computed over them: SQL over the columns of a block."""

    rows: int
    values: tuple[str, ...]


Both = Callable[[Frame, Frame, int, str | None], tuple[str, ...]]
"""From a frame, the one before it, the lane in which the later one ends, and when the earlier one is there (None:
wherever it matters), to what is computed over both. Of the earlier one nothing but the first rows can be missing."""


@dataclass(frozen=True, slots=True)
class LaneFrames:
    """The frames that a window has on the rows of a block."""

    single: Sequence[tuple[str, ...]]
    """what is computed over each lane's own row"""
    both: Both
    far_back: Callable[[str, int], str]
    """the value of so many blocks back, whichever symbol's that is"""
    extent: Extent
    most_blocks: int
    """that a symbol has, or a power of two above it"""

    def values(self) -> list[tuple[str, ...]]:
        """What is computed over each lane's frame."""
        return [self._ending_in(lane).values for lane in range(LANES)]

    def _ending_in(self, end: int) -> Frame:
        rows = self.extent.rows
        if rows is None or rows > self.most_blocks * LANES:
            blocks, rest = self.most_blocks - (end == LANES - 1), 0
        elif rows <= end + 1:
            return self._within(end - rows + 1, end)
        else:
            blocks, rest = divmod(rows - end - 1, LANES)
        if end == LANES - 1:
            total = self._whole(blocks + 1)
        else:
            total = self._within(0, end)
            total = self._joined(total, self._whole(blocks), 1, end) if blocks else total
        return self._joined(total, self._within(LANES - rest, LANES - 1), blocks + 1, end) if rest else total

    def _within(self, first: int, last: int) -> Frame:
        """Over some lanes of one block; what begins or ends with it takes as few steps as there can be."""
        if first == last:
            return Frame(1, self.single[last])
        middle = last - last % (1 << ((first ^ last).bit_length() - 1))
        near, far = self._within(middle, last), self._within(first, middle - 1)
        return Frame(near.rows + far.rows, self.both(near, far, last, None))

    def _whole(self, blocks: int) -> Frame:
        """Over the last blocks, this one included."""
        last = LANES - 1
        powers = [self._within(0, last)]
        while powers[-1].rows * 2 <= blocks * LANES:
            powers.append(self._joined(powers[-1], powers[-1], powers[-1].rows // LANES, last))
        total = powers.pop()
        for power in reversed(powers):
            if total.rows + power.rows <= blocks * LANES:
                total = self._joined(total, power, total.rows // LANES, last)
        return total

    def _joined(self, near: Frame, far: Frame, blocks: int, end: int) -> Frame:
        """Over a frame and one that ends so many blocks back."""
        there = None if self.extent.is_full() else f"{BEFORE} >= {blocks * LANES}"
        moved = Frame(far.rows, tuple(self.far_back(value, blocks) for value in far.values))
        return Frame(near.rows + far.rows, self.both(near, moved, end, there))
