"""A memory stays within its bounds and keeps what is asked for again and again."""

from jaxopt_lite.bpe.cache import Cache


def remember(memory, *wanted):
    missed = set()

    def make(keys):
        missed.update(keys)
        return [(len(key),) for key in keys]

    memory.fill(set(wanted), make)
    assert all(memory[key] == (len(key),) for key in wanted)
    return missed


def test_what_is_missing():
    """What is not there is missing once."""
    memory = Cache(10_000)
    assert remember(memory, "a", "b") == {"a", "b"}
    assert remember(memory, "b", "c") == {"c"}


def test_bounds():
    """New keys push old ones out, but not those that are used all the time."""
    memory, missed = Cache(10_000), 0
    for k in range(1000):
        missed += "often" in remember(memory, "often", f"once {k}")
        assert len(memory) <= 70
    assert missed == 1
    assert remember(memory, "once 3") == {"once 3"}


def test_more_than_there_is_room_for():
    """All that is wanted at once is there, however much it is."""
    memory = Cache(1000)
    assert len(remember(memory, *map(str, range(100)))) == 100


def test_long_keys_are_not_kept():
    """They are there until the next call."""
    memory = Cache(10_000)
    remember(memory, "x" * 300, "y")
    assert remember(memory, "y") == set() and list(memory) == ["y"]
