"""The demonstration of byte-pair encoding, on small texts."""

import io
import warnings

import pytest
from rich.console import Console

from jaxopt_lite import bpe
from jaxopt_lite.demo import encoding


def files(folder, number):
    """Files of a few words, the last with bytes that are not UTF-8."""
    paths = [folder / f"{k}.txt" for k in range(number)]
    for k, path in enumerate(paths):
        path.write_bytes(f"def value_{k}(self):\r\n    return self.value\n".encode() + b"\xff" * (k == number - 1))
    return paths


def run(paths):
    console = Console(file=io.StringIO(), width=120)
    tallies = []
    encoding.run(paths, console, tallies)
    return tallies, console.file.getvalue()


def test_every_file_is_encoded_and_verified(tmp_path):
    (tally,), text = run(files(tmp_path, 12))
    assert tally.is_complete and tally.size == tally.reached == 12
    assert "12 files. Up to 8,192 tokens, learned from 11 of them (0.0 MB); the others are held out." in text
    for line in ("encoding", "verified", "learned from", "held out", "counting", "merging"):
        assert f"\n{line} " in text
    assert "bytes per token" in text and "' '" in text


def test_what_decodes_to_something_else_is_not_verified(tmp_path, monkeypatch):
    decode = bpe.Tokenizer.decode_bytes
    monkeypatch.setattr(bpe.Tokenizer, "decode_bytes", lambda self, ids: decode(self, ids).replace(b"_7", b"_8"))
    (tally,), _ = run(files(tmp_path, 12))
    assert (tally.solved, tally.verified, tally.is_complete) == (12, 11, False)


@pytest.mark.parametrize("content", [b"", b"one"])
def test_one_small_file_is_enough(tmp_path, content):
    path = tmp_path / "one.txt"
    path.write_bytes(content)
    (tally,), text = run([path])
    assert tally.is_complete and "held out " not in text.split("The first merges")[1]


def test_ctrl_c_while_learning_is_passed_on(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        warnings.warn("interrupted after 3 of 9 merges", stacklevel=1)

    monkeypatch.setattr(bpe, "train", interrupted)
    tallies = []
    with pytest.raises(KeyboardInterrupt):
        encoding.run(files(tmp_path, 3), Console(file=io.StringIO()), tallies)
    assert (tallies[0].size, tallies[0].reached) == (3, 0)


def test_without_sources_it_says_so(monkeypatch):
    monkeypatch.setattr(encoding, "library_sources", list)
    tallies, text = run(None)
    assert tallies == [] and "--text FILE" in text


def test_the_library_has_sources_without_tests():
    paths = encoding.library_sources()
    assert len(paths) > 300 and "argparse.py" in {path.name for path in paths}
    assert not any({"test", "site-packages"} & set(path.parts) for path in paths)
