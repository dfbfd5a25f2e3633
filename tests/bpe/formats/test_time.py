"""The checks of a file take time in proportion to it, whatever is in it: for one twice as large some twice as long."""

import base64
import json
import time

import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe.formats.content import read_json
from jaxopt_lite.bpe.formats.tiktoken import recover
from jaxopt_lite.bpe.letters import as_characters, from_characters
from jaxopt_lite.bpe.oniguruma import difference
from jaxopt_lite.bpe.patterns import Finder
from jaxopt_lite.bpe.vocabulary import Vocabulary
from tests.bpe.test_tokenizer import BYTES


def seconds(action, size):
    """The least of several times, for others use this machine too."""
    times = []
    for _ in range(2):
        start = time.process_time()
        action(size)
        times.append(time.process_time() - start)
    return min(times)


def in_proportion(action, size, most=3.2):
    """Whether something of double size takes little more than twice as long."""
    for _ in range(3):
        once, twice = seconds(action, size), seconds(action, 2 * size)
        if twice < most * once or twice < 0.02:
            return True
    return False


def chain(levels):
    """A mark with more and more letters before it, each token made of the one before; shorter ones of few letters."""
    tokens, merges = [*BYTES, b"_"], []
    letters = [97 + k % 26 for k in range(levels)]
    for k, letter in enumerate(letters):
        merges.append((letter, 256 + k))
        tokens.append(bytes([letter]) + tokens[-1])
    return Vocabulary(tuple(tokens), merges, range(257, 257 + levels), end_of_word=256)


def test_a_long_chain_of_merges_before_a_mark():
    """The tokens of such a chain hold the square of its length."""
    small, large = (chain(levels) for levels in (300, 1200))
    assert large.ends_word.sum() == 1201
    assert seconds(lambda _: chain(1200), 0) < 20 * seconds(lambda _: chain(300), 0) + 0.1
    assert small.texts[-1] == large.texts[-1][-300:]


def test_merges_that_disagree_about_the_mark_are_refused():
    """Whoever asks again until they agree asks for ever."""
    tokens = (b"a", b"_", b"_", b"a_")
    with pytest.raises(ValueError, match="end-of-word mark"):
        Vocabulary(tokens, [(0, 1), (0, 2)], [3, 3], end_of_word=2)


def longest_token(size):
    """Bytes and one token of very many that no merge makes."""
    token = bytes((k * k + k // 7) % 251 for k in range(size))
    return recover([*BYTES, token], {k: k for k in range(256)})


def runs(size):
    """Tokens of one letter of all lengths up to a root of the size, last the longest but one twice as long."""
    lengths = range(2, int(size**0.5))
    tokens = [*BYTES, *(b"a" * k for k in lengths), *(b"ab" * k for k in lengths), b"ba" * lengths[-1] + b"c" * 9]
    return recover(tokens, {k: k for k in range(256)})


def tiktoken_lines(size, path):
    path.write_bytes(b"".join(b"%s %d\n" % (base64.b64encode(b"%06d" % k), k + 256) for k in range(size)))
    with pytest.raises(ValueError, match="a byte that is not a token"):
        bpe.load(path, pattern="gpt4")


ACTIONS = {
    "a long token that no merge makes": (longest_token, 20_000),
    "tokens that begin with each other": (runs, 60_000),
    "very many tokens to be found": (lambda size: Finder(tuple(f"<{k}>" for k in range(size))).finds(["x<3"]), 4000),
    "a text twice among many": (lambda size: _refused(Finder, ("a", "a", *map(str, range(size)))), 20_000),
    "a pattern of dots": (lambda size: difference("." * size), 10_000),
    "a class of many characters": (lambda size: difference(f"[{'ab' * size}]"), 10_000),
    "a pattern of groups": (lambda size: difference("(?:a)" * size), 4000),
    "many alternatives": (lambda size: difference("|".join("ab" for _ in range(size))), 8000),
}


def _refused(action, *arguments):
    with pytest.raises(ValueError):
        action(*arguments)


@pytest.mark.parametrize(("action", "size"), ACTIONS.values(), ids=ACTIONS)
def test_in_proportion(action, size):
    assert in_proportion(action, size)


def test_files_in_proportion(tmp_path):
    """Lines of tiktoken; names of a mapping, one of them twice; a shape that fails at the end; a pair with a note."""
    assert in_proportion(lambda size: tiktoken_lines(size, tmp_path / "a.tiktoken"), 15_000)

    def twice(size):
        names = [f'"{k}": {k}' for k in range(size)]
        (tmp_path / "a.json").write_text("{" + ", ".join([*names, names[-1]]) + "}")
        _refused(read_json, tmp_path / "a.json")

    def shape(size):
        content = {"format": "jaxopt_lite.bpe", "version": 1, "merges": [[0, 1]] * size + [[0, 1.5]]}
        rest = dict(level="byte", end_of_word=None, unknown=None, whole_words=False, special_tokens={}, pattern="gpt4")
        rest |= dict(mark=None, fallback=None, tokens=[], merged=[], counts=None)
        (tmp_path / "b.json").write_text(json.dumps(content | rest))
        _refused(bpe.load, tmp_path / "b.json")

    def added(size):
        names = {f"<{k}>": 256 + k for k in range(size)}
        vocabulary = Vocabulary((*BYTES, *(name.encode() for name in names)), [], [], added_tokens=names)
        bpe.Tokenizer(vocabulary, bpe.splitter("gpt2")).save(tmp_path / "folder")
        bpe.load((tmp_path / "folder" / "vocab.json", tmp_path / "folder" / "merges.txt"))

    assert in_proportion(twice, 20_000) and in_proportion(shape, 20_000) and in_proportion(added, 3000)


@pytest.mark.parametrize("huge", [2**31, 2**60, 10**30])
def test_ids_far_away_take_no_memory(tmp_path, huge):
    """In every form."""
    for name, content in {
        "a.tiktoken": f"YQ== 0\nYg== {huge}\n",
        "a.json": json.dumps({"model": {"vocab": {"a": huge}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel",
                              "add_prefix_space": False}}),
        "b.json": json.dumps({"model": {"vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel",
                              "add_prefix_space": False}, "added_tokens": [{"id": huge, "content": "x", "special": True,
                              "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}]}),
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
        start = time.process_time()
        with pytest.raises(ValueError, match=name):
            bpe.load(tmp_path / name, **({"pattern": "gpt4"} if "tik" in name else {}))
        assert time.process_time() - start < 1
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": huge}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"vocab\.json"):
        bpe.load(tmp_path)


def letters(size):
    """As GPT-2 writes them: the bytes, then tokens of ever more of them, each made of the one before and a letter."""
    names = [as_characters(byte) for byte in BYTES]
    merges, last = [], "a"
    for k in range(int(10 * size**0.5)):
        merges.append((last, chr(97 + k % 26)))
        last = "".join(merges[-1])
        names.append(last)
    return names, merges


def words(size):
    """As GPT-2 writes them: the bytes, then words of their own, made of a letter and an older one."""
    names, merges = [as_characters(byte) for byte in BYTES], []
    for k in range(size):
        merges.append((chr(97 + k % 26), names[256 + k // 26 - 1] if k >= 26 else chr(97 + k)))
        names.append("".join(merges[-1]))
    return names, merges


def as_hf(path, names, merges, more=()):
    """A `tokenizer.json`."""
    flags = dict(special=False, normalized=False, lstrip=False, rstrip=False, single_word=False)
    added = [{"id": k, "content": text} | flags for k, text in enumerate(more, len(names))]
    model = {"vocab": {name: k for k, name in enumerate(names)}, "merges": [list(pair) for pair in merges]}
    step = {"type": "ByteLevel", "add_prefix_space": False}
    path.write_text(json.dumps({"model": model, "pre_tokenizer": step, "added_tokens": added}))


def as_pair(path, names, merges, more=()):
    """A `vocab.json`, and `merges.txt` beside it."""
    path.write_text(json.dumps({name: k for k, name in enumerate([*names, *more])}))
    path.with_name("merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def as_ranks(path, names, _):
    """A `.tiktoken`."""
    ranks = ((base64.b64encode(from_characters(name)).decode(), k) for k, name in enumerate(names))
    path.write_text("".join(f"{text} {k}\n" for text, k in ranks))


WHOLE = {
    "tokenizer.json of a chain": ("a.json", lambda path, size: as_hf(path, *letters(size))),
    "tokenizer.json of words": ("a.json", lambda path, size: as_hf(path, *words(size))),
    "tokenizer.json of added tokens": (
        "a.json", lambda path, size: as_hf(path, *words(9), [f"<{k}>" for k in range(size)]),
    ),
    "tokenizer.json of long added tokens": (
        "a.json", lambda path, size: as_hf(path, *words(9), ["<" * 99 + str(k) for k in range(size)]),
    ),
    "two files of a chain": ("vocab.json", lambda path, size: as_pair(path, *letters(size))),
    "two files of words": (
        "vocab.json", lambda path, size: as_pair(path, *words(size), [f"<{k}>" for k in range(size)]),
    ),
    "ranks of a chain": ("a.tiktoken", lambda path, size: as_ranks(path, *letters(size // 4))),
    "ranks of words": ("a.tiktoken", lambda path, size: as_ranks(path, *words(size))),
    "ranks of tokens that end alike": (
        "a.tiktoken",
        lambda path, size: as_ranks(path, [*words(0)[0], *(f"{k:06}" + "x" * 50 for k in range(size))], ()),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "write"), WHOLE.values(), ids=WHOLE)
def test_loading_in_proportion(tmp_path, name, write):
    """Of files as others write them, and of this package's own form for the same tokenizer."""
    settings = {"pattern": "gpt2"} if name.endswith("tiktoken") else {}
    files = {}
    for size in (2000, 4000):
        path, own = tmp_path / str(size) / name, tmp_path / str(size) / "own.json"
        path.parent.mkdir()
        write(path, size)
        files[size] = (path, path.with_name("merges.txt")) if name == "vocab.json" else path, own
        bpe.load(files[size][0], **settings).save(own, "jaxopt_lite")

    def load(size):
        bpe.load(files[size][0], **settings)
        bpe.load(files[size][1])

    assert in_proportion(load, 2000)
