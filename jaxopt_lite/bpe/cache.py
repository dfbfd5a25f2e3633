"""A bounded cache of the ids of texts. Used by `encode.py`."""

from collections.abc import Callable, Set

__all__ = ["Cache"]

_ENTRY, _CHARACTER = 140, 3  # measured bytes of an entry without its characters, and for each character
_LONG = 200  # keys longer than this are not kept: they will hardly come again


class Cache(dict[str, tuple[int, ...]]):
    """Ids of pieces of text, in two generations: when the newer one is full, it replaces the older one.

    Pieces that are asked for again move from the older generation to the newer, so frequent pieces are always there.
    Lookups are those of `dict` and see only the newer generation; `fill` makes sure that all wanted pieces are in it.

    Entries are right even if a call is interrupted. Sizes are added before entries, so they are never too small.

    Args:
        limit: the approximate size of a generation, in bytes.
    """

    def __init__(self, limit: int):
        super().__init__()
        self._limit = limit
        self._older: dict[str, tuple[int, ...]] = {}
        self._long: list[str] = []
        self._size = 0

    def fill(self, wanted: Set[str], make: Callable[[list[str]], list[tuple[int, ...]]]) -> None:
        """Make sure that all wanted pieces are here.

        Args:
            wanted: pieces of text.
            make: computes the ids of pieces that are not known.
        """
        for key in self._long:
            self.pop(key, None)
        new = [key for key in wanted if key not in self]  # `difference` would walk the whole cache
        if not new:
            return
        size = _ENTRY * len(new) + _CHARACTER * sum(map(len, new))
        if self._size + size > self._limit and self:
            self._older = dict(self)
            self.clear()
            self._size = 0
            self.fill(wanted, make)
            return
        older = self._older
        missing = [key for key in new if key not in older]
        made = make(missing)
        self._long = [key for key in new if len(key) > _LONG]
        self._size += size
        self.update(zip(missing, made, strict=True))
        self.update((key, older[key]) for key in new if key in older)
