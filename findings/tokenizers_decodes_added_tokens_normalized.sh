#!/usr/bin/env bash
# tokenizers 0.23.3: an added token with `normalized: true` is decoded as what the normalizer makes of it.
#
# With a Lowercase normalizer the added token "Qa" has one id, is found in "Qa" and in "qa", and that id decodes to "qa";
# `id_to_token` says "qa" too, while the list of added tokens and the saved file say "Qa". One that is
# `normalized: false` decodes to what it is. So a text that holds nothing but such a token does not come back.
#
# Seen: True: ids [1], decoded 'qa', id_to_token 'qa', in the file 'Qa'; False: 'Qa' everywhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tokenizers==0.23.3'
cat >"$folder/added.py" <<'PYTHON'
import json

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers


def decoded(normalized):
    tokenizer = Tokenizer(models.BPE(vocab={"x": 0}, merges=[]))
    tokenizer.normalizer, tokenizer.decoder = normalizers.Lowercase(), decoders.Fuse()
    tokenizer.add_tokens([AddedToken("Qa", normalized=normalized)])
    ids = tokenizer.encode("Qa").ids
    listed = json.loads(tokenizer.to_str())["added_tokens"][0]["content"]
    return ids, tokenizer.decode(ids), tokenizer.id_to_token(1), listed


found = {normalized: decoded(normalized) for normalized in (True, False)}
print("tokenizers", tokenizers.__version__, found)
as_seen = found == {True: ([1], "qa", "qa", "Qa"), False: ([1], "Qa", "Qa", "Qa")}
raise SystemExit(0 if as_seen else "it decodes otherwise now: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/added.py"
