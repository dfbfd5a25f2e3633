#!/usr/bin/env bash
# tokenizers 0.23.3 (Oniguruma): the pattern `(?=\d).+~` is not found in "a0~", and is in "0~" and behind a line end.
#
# A pattern that begins with `.*` or `.+` need not be tried again within a line in which it has failed, so the engine
# tries it at the starts of lines alone. A lookahead in front makes that wrong, and it does so all the same once
# something stands behind the `.+`. So a Split by it leaves "a0~" whole, though "0~" is what it describes; `[^\n]+` in
# place of `.+`, which means the same, is found. Python's `re`, and Rust's fancy-regex in tiktoken, find both.
#
# Seen: pieces of "a0~" with `.+~`: ['a0~'], with `[^\n]+~`: ['a', '0~'], with `.+`: ['a', '0~'].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tokenizers==0.23.3' 'tiktoken==0.14.0'
cat >"$folder/ahead.py" <<'PYTHON'
import re

import tiktoken
import tokenizers
from tokenizers import pre_tokenizers


def pieces(pattern, text):
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


found = {
    ".+~ in a0~": pieces(r"(?=\d).+~", "a0~"),
    r"[^\n]+~ in a0~": pieces(r"(?=\d)[^\n]+~", "a0~"),
    ".+ in a0~": pieces(r"(?=\d).+", "a0~"),
    ".+~ at a line": pieces(r"(?=\d).+~", "a\n0~"),
}
ranks = {bytes([k]): k for k in range(256)} | {b"0~": 256}
rust = tiktoken.Encoding("digits", pat_str=r"(?=\d).+~", mergeable_ranks=ranks, special_tokens={}).encode("a0~")
print("tokenizers", tokenizers.__version__, found, "re:", re.findall(r"(?=\d).+~", "a0~"), "tiktoken:", rust)
expected = dict(zip(found, (["a0~"], ["a", "0~"], ["a", "0~"], ["a\n", "0~"])))
as_seen = found == expected and re.findall(r"(?=\d).+~", "a0~") == ["0~"] and rust == [256]
raise SystemExit(0 if as_seen else "the pattern is found now, or elsewhere: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/ahead.py"
