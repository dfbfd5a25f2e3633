"""A bounded cache of what texts were encoded as. Used by `encode.py`."""

from collections.abc import Callable, Set

__all__ = ["Cache"]

_ENTRY, _CHARACTER = 140, 3  # bytes of an entry apart from its characters, and for each of them; as measured
_LONG = 200  # characters from which a key is not kept: it will hardly come again


class Cache(dict[str, tuple[int, ...]]):
    """Ids of pieces of text. Two generations are kept: when the newer is full, it becomes the older, which is dropped.

    What is asked for again moves from the older to the newer, so that frequent pieces are always there. A lookup is
    that of `dict` and finds what is in the newer one alone; `fill` makes sure that all wanted are in it.

    What is in it is right wherever a call was broken off. Sizes are counted before, so that they are never too small.

    Args:
        limit: bytes of a generation, about.
    """

    def __init__(self, limit: int):
        super().__init__()
        self._limit = limit
        self._older: dict[str, tuple[int, ...]] = {}
        self._long: list[str] = []
        self._size = 0

    def fill(self, wanted: Set[str], make: Callable[[list[str]], list[tuple[int, ...]]]) -> None:
        """Make sure that all these are here.

        Args:
            wanted: pieces of text.
            make: the ids of those that are not known.
        """
        for key in self._long:
            self.pop(key, None)
        new = [key for key in wanted if key not in self]  # `difference` would walk all that is remembered
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
