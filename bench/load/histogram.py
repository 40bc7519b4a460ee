"""A histogram of waits that is small, exact to a hundredth, and can be added up over processes.

Log-linear: below 128 microseconds every microsecond has its own cell, above each doubling has 64. May not happen here:
losing a value; what is too long for anybody's patience is counted all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

_LINEAR: Final = 128  # microseconds, in cells of one
_HALF: Final = _LINEAR // 2


class Histogram:
    """Waits in seconds. `count` is how many, `largest` the largest of them, exactly; 0.0 where there are none."""

    __slots__ = ("_cells", "count", "largest", "total")

    def __init__(self) -> None:
        self._cells: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def note(self, seconds: float) -> None:
        """Take one in; what is below 0 (clocks of two processes) counts as 0."""
        self._cells[_cell(max(0, int(seconds * 1e6)))] += 1
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)

    def add(self, other: Histogram) -> None:
        """Take in all that another one holds."""
        self._cells.update(other._cells)
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    @property
    def mean(self) -> float:
        """The arithmetic mean in seconds, or nan."""
        return self.total / self.count if self.count else float("nan")

    def quantile(self, share: float) -> float:
        """The wait that `share` of all do not exceed, in seconds; at most 1.6 % too long, never too short. Or nan."""
        wanted, seen = share * self.count, 0
        for cell in sorted(self._cells):
            seen += self._cells[cell]
            if seen >= wanted:
                return min(_upper(cell) / 1e6, self.largest)
        return float("nan")

    def cells(self) -> Iterator[tuple[float, int]]:
        """Upper bound in seconds and count of every cell that holds anything, in order: what a drawing needs."""
        for cell in sorted(self._cells):
            yield _upper(cell) / 1e6, self._cells[cell]

    @classmethod
    def of(cls, waits: Sequence[float]) -> Histogram:
        """A histogram of these."""
        made = cls()
        for each in waits:
            made.note(each)
        return made


def _cell(microseconds: int) -> int:
    if microseconds < _LINEAR:
        return microseconds
    shift = microseconds.bit_length() - 7  # so that what is left has seven bits: 64 to 127
    return _LINEAR + (shift - 1) * _HALF + (microseconds >> shift) - _HALF


def _upper(cell: int) -> int:
    """The first microsecond behind a cell."""
    if cell < _LINEAR:
        return cell + 1
    doubling, rest = divmod(cell - _LINEAR, _HALF)
    return (rest + _HALF + 1) << (doubling + 1)
