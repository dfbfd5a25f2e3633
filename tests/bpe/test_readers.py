"""Corpora as people have them: folders, patterns, records by a field, packed files."""

import bz2
import gzip
import json
import lzma
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe import readers
from jaxopt_lite.bpe.corpus import count_words
from jaxopt_lite.bpe.patterns import splitter

SPLIT = splitter("gpt4")
RECORDS = [{"text": "one two", "n": 1}, {"text": 'a "line"\nand more', "n": 2}, {"text": None, "n": 3}]
COUNTS = Counter(word for record in RECORDS if record["text"] for word in SPLIT.words(record["text"]))
OPENED = {"": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def zstd_open(path, mode, **settings):
    return pytest.importorskip("zstandard").open(path, mode, **settings)


def write_lines(path, opened=open, field="text"):
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({field: record["text"], "n": record["n"]}) + "\n" for record in RECORDS)
        file.write("\n")
    return path


@pytest.mark.parametrize("packed", [*OPENED, ".zst"])
def test_records_and_texts_packed_or_not(tmp_path, packed):
    opened = OPENED.get(packed, zstd_open)
    for suffix in (".jsonl", ".NDJSON"):
        assert count_words(write_lines(tmp_path / f"a{suffix}{packed}", opened), SPLIT) == COUNTS
    path = write_lines(tmp_path / f"b.jsonl{packed}", opened, "content")
    assert count_words(path, SPLIT, field="content") == COUNTS
    with pytest.raises(ValueError, match=r"b\.jsonl.*, line 1: expected a record with 'text'; there is 'content', 'n'"):
        count_words(path, SPLIT)
    with pytest.raises(ValueError, match="line 1: 'n' is 1 .*expected a string"):
        count_words(path, SPLIT, field="n")
    for name in ("c.txt", "c.md", "c"):
        with opened(tmp_path / f"{name}{packed}", "wt", encoding="utf-8") as file:
            file.write("one two\none")
        assert count_words(tmp_path / f"{name}{packed}", SPLIT) == {"one": 2, " two": 1, "\n": 1}


def test_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    category = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), category):
        texts = pyarrow.array([record["text"] for record in RECORDS], kind)
        parquet.write_table(pyarrow.table({"text": texts, "n": [1, 2, 3]}), tmp_path / "a.parquet")
        assert count_words(tmp_path / "a.parquet", SPLIT) == COUNTS
        assert count_words(tmp_path, SPLIT) == COUNTS
    with pytest.raises(ValueError, match=r"a\.parquet: expected a column 'body'; there are \['text', 'n'\]"):
        count_words(tmp_path / "a.parquet", SPLIT, field="body")
    with pytest.raises(ValueError, match="the column 'n' is of type int64; expected strings"):
        count_words(tmp_path / "a.parquet", SPLIT, field="n")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"b\.parquet: expected Parquet"):
        count_words(tmp_path / "b.parquet", SPLIT)
    parquet.write_table(pyarrow.table({"text": list(map(str, range(10_000)))}), tmp_path / "c.parquet")
    data = bytearray((tmp_path / "c.parquet").read_bytes())
    data[200:400] = bytes(value ^ 255 for value in data[200:400])
    (tmp_path / "c.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"c\.parquet: cannot be read to its end \("):
        count_words(tmp_path / "c.parquet", SPLIT)
    parquet.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=r"d\.parquet: 2 columns are called 'text'"):
        count_words(tmp_path / "d.parquet", SPLIT)


def test_parquet_that_is_not_utf8(tmp_path):
    """Not all who write it look; `errors` decides, as for other files."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, data = tmp_path / "a.parquet", pyarrow.array([b"one", b"tw\xffo"], pyarrow.binary())
    texts = pyarrow.Array.from_buffers(pyarrow.string(), 2, data.buffers())
    category = pyarrow.DictionaryArray.from_arrays(pyarrow.array([*[0] * 2001, None, 1], pyarrow.int32()), texts)
    plain = category.cast(pyarrow.string())
    for column in (category, plain, plain.cast(pyarrow.large_string()), plain.cast(pyarrow.string_view())):
        parquet.write_table(pyarrow.table({"text": column}), path)
        assert parquet.read_schema(path).field("text").type == column.type
        with pytest.raises(ValueError, match=r"a\.parquet, row 2002: byte 2 is 'ff', expected UTF-8"):
            count_words(path, SPLIT)
        assert count_words(path, SPLIT, errors="ignore") == {"one": 2001, "two": 1}
        assert count_words(path, SPLIT, errors="surrogateescape") == {"one": 2001, "tw": 1, "\udcffo": 1}


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match="pip install pyarrow"):
        count_words(tmp_path / "a.parquet", SPLIT)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.txt.zst").write_bytes(b"(\xb5/\xfd")
    with pytest.raises(ImportError, match="pip install zstandard"):
        count_words(tmp_path / "a.txt.zst", SPLIT)


def test_folders_and_patterns(tmp_path, monkeypatch):
    """All texts of a folder by their names; what a pattern matches; as paths, never as text."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_lines(tmp_path / "in" / "a.jsonl")
    (tmp_path / "in" / "deep" / "b.txt").write_text("one")
    (tmp_path / "in" / "deep" / "c.md").write_text("three")
    (tmp_path / "in" / ".hidden.txt").write_text("four")
    both = COUNTS + Counter({"one": 1})
    for given in (tmp_path / "in", [tmp_path / "in"], iter([tmp_path / "in"])):
        assert count_words(given, SPLIT) == both
    assert count_words(tmp_path / "in" / "**" / "*.md", SPLIT) == {"three": 1}
    assert count_words([tmp_path / "in" / "deep" / "*", tmp_path / "in" / "a.jsonl"], SPLIT) == both + Counter(
        ["three"]
    )
    monkeypatch.chdir(tmp_path)
    assert count_words(Path("in/*/*.txt"), SPLIT) == {"one": 1}
    (tmp_path / "in" / "later.txt").symlink_to(tmp_path / "blobs" / "lost")  # as in a cache that was cleared
    for given in (tmp_path / "in", tmp_path / "in" / "*.txt"):
        with pytest.raises(FileNotFoundError, match="later.txt: there is no such file"):
            count_words(given, SPLIT)
    (tmp_path / "in" / "later.txt").unlink()
    assert bpe.train(Path("in"), merges=0).vocab_size == 256
    (tmp_path / "[odd].txt").write_text("odd")  # a name that looks like a pattern
    assert count_words(tmp_path / "[odd].txt", SPLIT) == {"odd": 1}


def test_folders_that_are_links(tmp_path, monkeypatch):
    """Data is often on another disk. What leads back is looked into once."""
    for name in ("in/a", "disk/deep/.hidden", "other"):
        (tmp_path / name).mkdir(parents=True)
    texts = {"in/1": "one", "in/a/2": "two", "disk/3": "three", "disk/deep/4": "four", "other/5": "five"}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "disk" / "deep" / ".hidden" / "6.txt").write_text("six")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "other").symlink_to(tmp_path / "other")
    for link, to in {"in/up": "..", "in/a/in": "../../in", "disk/deep/self": ".", "other/back": "../disk"}.items():
        (tmp_path / link).symlink_to(to)
    every = Counter("one two three four five".split())
    monkeypatch.chdir(tmp_path)
    for given in (tmp_path / "in", Path("in"), Path("in/**/*.txt"), Path("in/**/**/*"), Path("i*/**/*.txt")):
        assert count_words(given, SPLIT) == every, given
    assert count_words(Path("in/**/deep/*.txt"), SPLIT) == {"four": 1}
    monkeypatch.chdir("in")
    assert count_words(Path("**/*.txt"), SPLIT) == count_words(Path("."), SPLIT) == every


def test_folders_and_patterns_without_texts(tmp_path):
    (tmp_path / "a.py").write_text("one")
    for given in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(ValueError, match=r"there are none, and [01] others.*give a pattern"):
            count_words(given, SPLIT)
    (tmp_path / "b.pdf").write_text("one")
    with pytest.raises(ValueError, match=r"b\.pdf: a \.pdf file is not plain text"):
        count_words(tmp_path / "*", SPLIT)


def test_damage(tmp_path):
    """It is said where: a line that is no JSON, bytes that are no UTF-8, a packed file that was cut."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "b"\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: expected JSON"):
        count_words(path, SPLIT)
    path.write_bytes(b'\n{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"line 2: byte 10 is 'ff'"):
        count_words(path, SPLIT)
    assert count_words(path, SPLIT, errors="ignore") == {}
    path.write_text('["a"]\n')
    with pytest.raises(ValueError, match="expected a record with 'text'; there is list"):
        count_words(path, SPLIT)
    path.write_text('"a text"\n')
    assert count_words(path, SPLIT) == {"a": 1, " text": 1}
    for name, opened in (("a.txt.gz", gzip.open), ("a.txt.xz", lzma.open), ("a.txt.bz2", bz2.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(bytes(range(32, 120)) * 500)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
        with pytest.raises(ValueError, match=f"{name}: cannot be decompressed"):
            count_words(tmp_path / name, SPLIT)
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(ValueError, match=f"{name}: cannot be decompressed"):
            count_words(tmp_path / name, SPLIT)


def test_half_a_surrogate_pair_in_json(tmp_path):
    """It is said where at once, and `errors` decides, as for bytes that are not UTF-8; whole pairs are characters."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "a \\ud83d b"}\n')
    for errors in ("strict", "surrogateescape"):
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2: the text has the lone surrogate U\+D83D"):
            count_words(path, SPLIT, errors=errors)
    assert count_words(path, SPLIT, errors="replace") == {"😀": 1, "a": 1, " \ufffd": 1, " b": 1}
    assert count_words(path, SPLIT, errors="ignore") == {"😀": 1, "a": 1, " ": 1, " b": 1}
    path.write_bytes(b'{"text": "a\\udc80\xff"}\n')  # what stands for a byte, and a byte
    assert count_words(path, SPLIT, errors="surrogateescape") == {"a": 1, "\udc80\udcff": 1}
    with pytest.raises(ValueError, match="line 1: byte 17 is 'ff'"):
        count_words(path, SPLIT)


def test_a_mark_at_the_beginning_of_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one two"}\r\n{"text": "one"}', encoding="utf-8-sig")
    assert count_words(tmp_path / "a.jsonl", SPLIT) == {"one": 2, " two": 1}


def test_damage_within_gzip(tmp_path):
    """Also where the decompressor itself stops, before any checksum."""
    packed = bytearray(gzip.compress(" ".join(map(str, range(3000))).encode()))
    packed[30:60] = bytes(30)
    (tmp_path / "a.txt.gz").write_bytes(packed)
    with pytest.raises(zlib.error):
        gzip.decompress(packed)
    with pytest.raises(ValueError, match=r"a\.txt\.gz: cannot be decompressed"):
        count_words(tmp_path / "a.txt.gz", SPLIT)


@pytest.mark.parametrize("kind", [".gz", ".bz2", ".xz", ".zst"])
def test_frames(tmp_path, monkeypatch, kind):
    """Several frames, empty and skippable ones, are one text; what was cut or altered is refused, never shorter."""
    text = b"".join(b"word %d\n" % k for k in range(3000))
    if kind == ".zst":
        pack = pytest.importorskip("zstandard").ZstdCompressor(write_content_size=False).compress
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[kind]
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd" if kind == ".zst" else b""
    packed = pack(text[:7000]) + pack(b"") + skipped + bytes(8) + pack(text[7000:])
    path = tmp_path / f"a.txt{kind}"
    for block in (7, 1 << 14):
        monkeypatch.setattr(readers, "_PACKED_BLOCK", block)
        for whole in (packed, packed + bytes(4)):
            path.write_bytes(whole)
            assert count_words(path, SPLIT) == count_words([text.decode()], SPLIT)
        second = len(pack(text[:7000]))
        altered = packed[:second] + b"?" + packed[second + 1 :]
        for damaged in (packed[:-1], packed[:-50], packed[:5], altered, packed + b"more", b"no such thing", b""):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"a\.txt\{kind}: cannot be decompressed"):
                count_words(path, SPLIT)


def test_blocks_change_nothing(tmp_path, monkeypatch):
    """Long records and long lines in short blocks; sizes are known beforehand for plain files only."""
    text = "".join(f"word {k}\n" for k in range(300))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "end"}))
    (tmp_path / "b.txt").write_text(text)
    whole = count_words(tmp_path, SPLIT)
    monkeypatch.setattr(readers, "BLOCK", 50)
    assert count_words(tmp_path, SPLIT) == whole
    assert readers.size_of([tmp_path / "b.txt"]) == len(text)
    assert readers.size_of([tmp_path / "a.jsonl"]) is None


def test_a_long_record_takes_linear_time(tmp_path, monkeypatch):
    """Joined anew with every block it takes a quarter of a minute."""
    text = "word " * 500_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}))
    monkeypatch.setattr(readers, "BLOCK", 64)
    start = time.perf_counter()
    (part,) = readers.parts(tmp_path / "a.jsonl", "strict", "text")
    assert part.text == text and time.perf_counter() - start < 5


def test_plain_text_alone_where_that_is_asked_for(tmp_path):
    for name in ("a.jsonl", "a.parquet", "a.txt.gz"):
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match="is not plain text; it is read for training"):
            readers.check_text(tmp_path / name)
