"""Mistakes in byte-pair encoding."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    # A pair of equal symbols no longer ends a round, so that the pair it makes may come too late.
    Mutant("jaxopt_lite/bpe/choose.py", "return pairs.of(slice(k + 1))", "pass", ("tests/bpe/test_learn.py",)),
    # Of equally frequent pairs the one with the largest left symbol comes first.
    Mutant(
        "jaxopt_lite/bpe/choose.py",
        "np.lexsort((pairs.right, pairs.left, -pairs.counts))",
        "np.lexsort((pairs.right, -pairs.left, -pairs.counts))",
        ("tests/bpe/test_learn.py",),
    ),
    # What stands between two merges of one round counts twice.
    Mutant(
        "jaxopt_lite/bpe/rounds.py", " & ~merged_after])", "])", ("tests/bpe/test_learn.py", "tests/bpe/test_rounds.py")
    ),
    # Runs of one symbol are merged from the second.
    Mutant(
        "jaxopt_lite/bpe/together.py",
        "np.where(begin, order, 0))) % 2 == 0]",
        "np.where(begin, order, 0))) % 2 == 1]",
        ("tests/bpe/test_together.py",),
    ),
    # Of a long word, pairs are merged whose symbols have been merged with others meanwhile.
    Mutant(
        "jaxopt_lite/bpe/merging.py",
        "if ids[i] < 0 or j == count or find(ids[i] * size + ids[j]) != rank:",
        "if ids[i] < 0 or j == count:",
        ("tests/bpe/test_merging.py",),
    ),
    # On a device, all pairs of a run are merged, which overlap.
    Mutant(
        "jaxopt_lite/bpe/encode.py", "there &= since % 2 == 1", "there &= since % 2 >= 0", ("tests/bpe/test_encode.py",)
    ),
    # A file is written where it is to be, and may end up in part.
    Mutant(
        "jaxopt_lite/files.py",
        "os.replace(beside, path)",
        "path.write_bytes(b''), path.write_bytes(data), beside.unlink()",
        ("tests/bpe/test_files.py", "tests/bpe/test_train.py"),
    ),
    # Texts are cut before an apostrophe that belongs to the letters behind it.
    Mutant(
        "jaxopt_lite/bpe/cuts.py",
        "cut[places[(behind != LETTER) & (behind != WIDE)]] = True",
        "cut[places] = True",
        ("tests/bpe/test_cuts.py", "tests/bpe/test_words.py"),
    ),
    # A checkpoint whose checksum is of other merges is taken.
    Mutant(
        "jaxopt_lite/bpe/checkpoint.py",
        "if checksum is not None and not np.array_equal(checksum, _checksum(merges, counts)):",
        "if False:",
        ("tests/bpe/test_train.py",),
    ),
    # The child of a fork waits for ever for a thread that it does not have.
    Mutant("jaxopt_lite/bpe/cache.py", "encoder._lock = Lock()", "pass", ("tests/bpe/test_cache.py",)),
)
