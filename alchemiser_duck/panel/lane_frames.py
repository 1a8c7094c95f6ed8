"""Put frames of rows together from lanes and blocks.

A frame is what it covers of its own block, whole blocks before that (of 1, 2, 4, 8, … blocks, each made of the one
before it and of that same one further back), and some lanes of the block in which it begins. With 4 lanes, the frame
of the last 11 rows that ends in lane 1 is lanes 0 and 1, the two blocks before, and lane 3 of the block before those.
Frames of all lengths share these parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alchemiser_duck.panel.execution import BEFORE, LANES


@dataclass(frozen=True, slots=True)
class Extent:
    """The rows of a window, and the first bar that matters."""

    rows: int | None
    """the last so many; None means all up to this one"""
    live_from: int = 1
    """the first bar of a symbol on which anything depends on the window"""

    def is_full(self, leading_nulls: int | None = 0, least: int = 0) -> bool:
        """Return whether it has all its rows wherever anything depends on it.

        Args:
            least: it must have more rows than that.
            leading_nulls: how many of a symbol's first rows do not count; None means that any may not.
        """
        if leading_nulls is None or self.rows is None:
            return False
        return self.rows > least and self.live_from >= self.rows + leading_nulls


@dataclass(frozen=True, slots=True)
class Frame:
    """Consecutive rows, and what is computed over them as SQL."""

    rows: int
    values: tuple[str, ...]


Combine = Callable[[Frame, Frame, int, str | None], tuple[str, ...]]
"""Computes the values over two frames: the later one, the one before it, the lane in which the later one ends, and the
condition that the earlier one exists (None means wherever it matters). Of the earlier one, only first rows can lack."""


@dataclass(frozen=True, slots=True)
class LaneFrames:
    """The frames that a window has on the rows of a block."""

    single: Sequence[tuple[str, ...]]
    """the values over each lane's own row"""
    combine: Combine
    far_back: Callable[[str, int], str]
    """the value of so many blocks back, whichever symbol's that is"""
    extent: Extent
    most_blocks: int
    """of a symbol, or a power of two above it"""

    def values(self) -> list[tuple[str, ...]]:
        """Return the values over each lane's frame."""
        return [self._ending_in(lane).values for lane in range(LANES)]

    def _ending_in(self, end: int) -> Frame:
        rows, own = self.extent.rows, end + 1
        if rows is not None and rows <= own:
            return self._within(own - rows, end)
        if rows is None or rows > self.most_blocks * LANES:
            blocks, rest = self.most_blocks - (own == LANES), 0
        else:
            blocks, rest = divmod(rows - own, LANES)
        if own == LANES:
            frame = self._whole(blocks + 1)
        else:
            frame = self._within(0, end)
            frame = self._joined(frame, self._whole(blocks), 1, end) if blocks else frame
        return self._joined(frame, self._within(LANES - rest, LANES - 1), blocks + 1, end) if rest else frame

    def _within(self, first: int, last: int) -> Frame:
        """Return the frame over lanes of one block, in few steps."""
        if first == last:
            return Frame(1, self.single[last])
        middle = last - last % (1 << ((first ^ last).bit_length() - 1))
        later, earlier = self._within(middle, last), self._within(first, middle - 1)
        return Frame(later.rows + earlier.rows, self.combine(later, earlier, last, None))

    def _whole(self, blocks: int) -> Frame:
        """Return the frame over the last blocks, this one included."""
        last = LANES - 1
        powers = [self._within(0, last)]
        while powers[-1].rows * 2 <= blocks * LANES:
            powers.append(self._joined(powers[-1], powers[-1], powers[-1].rows // LANES, last))
        frame = powers.pop()
        for power in reversed(powers):
            if frame.rows + power.rows <= blocks * LANES:
                frame = self._joined(frame, power, frame.rows // LANES, last)
        return frame

    def _joined(self, later: Frame, earlier: Frame, blocks: int, end: int) -> Frame:
        """Return one frame with another that ends so many blocks before."""
        exists = None if self.extent.is_full() else f"{BEFORE} >= {blocks * LANES}"
        moved = Frame(earlier.rows, tuple(self.far_back(value, blocks) for value in earlier.values))
        return Frame(later.rows + earlier.rows, self.combine(later, moved, end, exists))
