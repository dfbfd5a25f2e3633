"""Mistakes in byte-pair encoding."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    # A pair of equal symbols no longer ends a round, so that the pair it makes may come too late.
    Mutant("jaxopt_lite/bpe/merges.py", "return pairs.of(slice(k + 1))", "pass", ("tests/bpe/test_merges.py",)),
    # Of equally frequent pairs the one with the largest left symbol comes first.
    Mutant(
        "jaxopt_lite/bpe/merges.py",
        "np.lexsort((pairs.right, pairs.left, -pairs.counts))",
        "np.lexsort((pairs.right, -pairs.left, -pairs.counts))",
        ("tests/bpe/test_merges.py",),
    ),
    # What stands between two merges of one round counts twice.
    Mutant(
        "jaxopt_lite/bpe/pairs.py", " & ~merged_after])", "])", ("tests/bpe/test_merges.py", "tests/bpe/test_pairs.py")
    ),
    # Runs of one symbol are merged from the second.
    Mutant(
        "jaxopt_lite/bpe/encode_words.py",
        "np.where(begin, order, 0))) % 2 == 0]",
        "np.where(begin, order, 0))) % 2 == 1]",
        ("tests/bpe/test_encode_words.py",),
    ),
    # Of a long word, pairs are merged whose symbols have been merged with others meanwhile.
    Mutant(
        "jaxopt_lite/bpe/encode_words.py",
        "if ids[i] < 0 or j == count or find(ids[i] * size + ids[j]) != rank:",
        "if ids[i] < 0 or j == count:",
        ("tests/bpe/test_encode_words.py",),
    ),
    # On a device, all pairs of a run are merged, which overlap.
    Mutant(
        "jaxopt_lite/bpe/accelerator/encode.py",
        "there &= since % 2 == 1",
        "there &= since % 2 >= 0",
        ("tests/bpe/accelerator/test_encode.py",),
    ),
    # A file is written where it is to be, and may end up in part.
    Mutant(
        "jaxopt_lite/files.py",
        "os.replace(beside, path)",
        "path.write_bytes(b''), path.write_bytes(data), beside.unlink()",
        ("tests/bpe/formats/test_formats.py", "tests/bpe/test_training.py"),
    ),
    # Texts are cut before an apostrophe that belongs to the letters behind it.
    Mutant(
        "jaxopt_lite/bpe/cuts.py",
        "cut[at[quote_starts(kind[at + 2])]] = True",
        "cut[at] = True",
        ("tests/bpe/test_cuts.py", "tests/bpe/test_corpus.py"),
    ),
    # A text is cut behind a line end that whitespace follows, which may belong to one word with it.
    Mutant(
        "jaxopt_lite/bpe/cuts.py",
        r"(?<=\S\n)(?=[^\s/])",
        r"(?<=\S\n)(?=[^/])",
        ("tests/bpe/test_cuts.py", "tests/bpe/test_corpus.py"),
    ),
    # A special token that begins before what is looked through is cut.
    Mutant(
        "jaxopt_lite/bpe/corpus.py",
        "at = max(first - longest - _BEFORE, 0)",
        "at = max(first - _BEFORE, 0)",
        ("tests/bpe/test_corpus.py",),
    ),
    # New pairs take the numbers of the first.
    Mutant(
        "jaxopt_lite/bpe/pairs.py",
        "self._columns[k][self._number : end] = column",
        "self._columns[k][: column.size] = column",
        ("tests/bpe/test_merges.py", "tests/bpe/test_pairs.py"),
    ),
    # A checkpoint whose checksum is of other merges is taken.
    Mutant(
        "jaxopt_lite/bpe/training.py",
        "if checksum is not None and not np.array_equal(checksum, _checksum(merges, counts)):",
        "if False:",
        ("tests/bpe/test_training.py",),
    ),
    # Parts of texts come in the order in which they were done.
    Mutant(
        "jaxopt_lite/bpe/parallel.py",
        "in sorted(answers.items()):",
        "in answers.items():",
        ("tests/bpe/test_parallel.py",),
    ),
    # The child of a fork waits for ever for a thread that it does not have.
    Mutant("jaxopt_lite/bpe/encode.py", "encoder._lock = Lock()", "pass", ("tests/bpe/test_encode_state.py",)),
)
