#!/usr/bin/env bash
# tokenizers 0.23.3 (Oniguruma): `\w` by itself has six characters that `[\w]` has not: ² ³ ¹ ¼ ½ ¾.
#
# A Split by `\w` cuts out "½", a Split by `[\w]` does not, and `[^\w]` matches it though `\w` does too. So a pattern such
# as `\w+|[^\w\s]+`, which is meant to leave nothing over, divides the text otherwise than `[\w]+|[^\w\s]+`: behind a
# letter "½" belongs to the word by the one and to the signs by the other. Only these six, which are in Latin-1, differ;
# other digits that are numbers in name only, such as "⁴", are letters in neither.
#
# Seen: characters of \w and not of [\w]: ['²', '³', '¹', '¼', '½', '¾']; the other way round: [].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tokenizers==0.23.3'
cat >"$folder/words.py" <<'PYTHON'
import tokenizers
from tokenizers import normalizers

text = "".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000)


def found(pattern):
    return set(text) - set(normalizers.Replace(tokenizers.Regex(pattern), "").normalize_str(text))


alone, inside = found(r"\w"), found(r"[\w]")
print("tokenizers", tokenizers.__version__, r"of \w and not of [\w]:", sorted(alone - inside), "the other way round:",
      sorted(inside - alone))
as_seen = alone - inside == set("²³¹¼½¾") and not inside - alone and set("²½") <= found(r"[^\w]")
raise SystemExit(0 if as_seen else r"\w and [\w] have other characters now: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/words.py"
