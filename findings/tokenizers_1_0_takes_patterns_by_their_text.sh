#!/usr/bin/env bash
# tokenizers 1.0.0rc3: a Split pattern is taken by its text. `a` in place of the released pattern of a model raises.
#
# `Tokenizer.from_file` loads any pattern; `encode` raises "this `Split` pattern needs a system-regex backend; enable the
# `fancy-regex` feature" for all but a handful, which are compared as texts: GPT-2's, Llama 3's and Qwen 2's as released
# run, and the same with a group around them, or `\d`, `\s+` and `a` do not. So a file that 0.23.3 serves fails at its
# first text, not when it is loaded. There is no such feature to enable in the package from the registry.
#
# Seen: {'gpt2': 'runs', 'llama3': 'runs', 'gpt2 in a group': 'ValueError', 'digits': 'ValueError', 'a': 'ValueError'}.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --pre 'tokenizers==1.0.0rc3'
cat >"$folder/patterns.py" <<'PYTHON'
import json
import sys

import tokenizers

gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
llama3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
patterns = {"gpt2": gpt2, "llama3": llama3, "gpt2 in a group": f"(?:{gpt2})", "digits": r"\d", "a": "a"}
order = [*range(33, 127), *range(161, 173), *range(174, 256)]
letters = [*map(chr, order), *(chr(256 + k) for k in range(256 - len(order)))]
level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
model = {"type": "BPE", "vocab": {letter: k for k, letter in enumerate(letters)}, "merges": []}
found = {}
for name, pattern in patterns.items():
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
               "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None,
               "decoder": level, "model": model}
    with open(sys.argv[1], "w") as file:
        json.dump(content, file)
    tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
    try:
        found[name] = "runs" if len(tokenizer.encode("a1 b").ids) == 4 else "other ids"
    except Exception as error:
        found[name] = type(error).__name__
print("tokenizers", tokenizers.__version__, found)
expected = {"gpt2": "runs", "llama3": "runs", "gpt2 in a group": "ValueError", "digits": "ValueError", "a": "ValueError"}
raise SystemExit(0 if found == expected else "other patterns run now: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/patterns.py" "$folder/tokenizer.json"
