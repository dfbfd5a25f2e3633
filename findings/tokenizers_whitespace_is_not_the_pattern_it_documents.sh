#!/usr/bin/env bash
# tokenizers 0.23.3: `Whitespace()` keeps a Persian or Hindi word whole that a Split by its documented pattern cuts in three.
#
# `Whitespace` is documented as splitting by `\w+|[^\w\s]+`. A Split by that very pattern gives other words, since there
# are two engines of regular expressions in one tokenizer file: Whitespace is compiled into the Rust engine, Split goes to
# Oniguruma. The joiners U+200C and U+200D, which Persian and the scripts of India write inside words, are word characters
# of the one and not of the other, and so are "½" and emoji the other way round. Who writes the pattern out, to change it
# a little, trains another vocabulary.
#
# Seen: می‌خواهم: 1 piece by Whitespace, 3 by Split; क्‍ष: 1 and 3; a½: 2 and 1; naïve: 1 and 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tokenizers==0.23.3'
cat >"$folder/joined.py" <<'PYTHON'
import tokenizers
from tokenizers import pre_tokenizers

whitespace = pre_tokenizers.Whitespace()
split = pre_tokenizers.Split(tokenizers.Regex(r"\w+|[^\w\s]+"), "removed", invert=True)
words = ["می\u200cخواهم", "क्\u200dष", "a½", "naïve"]
found = {word: tuple(len(way.pre_tokenize_str(word)) for way in (whitespace, split)) for word in words}
print("tokenizers", tokenizers.__version__, "pieces by Whitespace and by Split:", found)
as_seen = list(found.values()) == [(1, 3), (1, 3), (2, 1), (1, 1)]
raise SystemExit(0 if as_seen else "they cut alike now, or otherwise: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/joined.py"
