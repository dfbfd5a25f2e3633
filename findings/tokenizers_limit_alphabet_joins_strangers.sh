#!/usr/bin/env bash
# tokenizers 0.23.3: a BpeTrainer with `limit_alphabet` learns tokens that occur nowhere in its text, "nave" from "naïve".
#
# The option keeps only the most frequent letters. The trainer takes the others out of each word before it counts pairs,
# so the letters on both sides of a rare one become neighbors. When text is encoded, the rare letter is the unknown token
# and keeps them apart: the word that "nave" was learned from never gets it. Such tokens take places in the vocabulary,
# and their counts can put them ahead of real ones. WordPieceTrainer does the same. sentencepiece drops rare letters by
# `character_coverage`, and no token of its reaches across one. The documentation says only how many letters are kept.
#
# Seen, tokens that are not in the text: BPE: ['ave', 'faade', 'nave']; WordPiece: ['faade', 'nave'], in some runs 'faad'
# as well; sentencepiece: []. "naïve" is encoded as ['n', 'a', '?', 've'].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tokenizers==0.23.3' 'sentencepiece==0.2.3'
cat >"$folder/letters.py" <<'PYTHON'
import io

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, models, trainers

words = ["nova", "face", "deed", "vein"] * 40 + ["naïve", "façade"] * 4
text = " ".join(words)
letters = sorted(set(text) - set(" ïç"))


def of_tokenizers(model, trainer):
    tokenizer = Tokenizer(model(unk_token="?"))
    settings = dict(vocab_size=60, limit_alphabet=len(letters), special_tokens=["?"], show_progress=False)
    tokenizer.train_from_iterator(words, trainer(**settings))
    return tokenizer, [token.removeprefix("##") for token in tokenizer.get_vocab()]


def of_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, model_type="bpe", vocab_size=60, hard_vocab_limit=False,
        add_dummy_prefix=False, character_coverage=0.985, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(k) for k in range(3, processor.get_piece_size())]


tokenizer, of_bpe = of_tokenizers(models.BPE, trainers.BpeTrainer)
_, of_wordpiece = of_tokenizers(models.WordPiece, trainers.WordPieceTrainer)
vocabularies = {"BPE": of_bpe, "WordPiece": of_wordpiece, "sentencepiece": of_sentencepiece()}
strangers = {name: sorted(token for token in tokens if token not in text and token != "?")
             for name, tokens in vocabularies.items()}
kept = {name: sorted(token for token in set(tokens) if len(token) == 1 and token != "?")
        for name, tokens in vocabularies.items()}
encoded = tokenizer.encode("naïve").tokens
print("tokenizers", tokenizers.__version__, "tokens that are not in the text:", strangers, "naïve:", encoded)
as_seen = {"nave", "faade"} <= set(strangers["BPE"]) & set(strangers["WordPiece"]) and not strangers["sentencepiece"]
as_seen &= all(alphabet == letters for alphabet in kept.values()) and encoded == ["n", "a", "?", "ve"]
raise SystemExit(0 if as_seen else "other tokens are learned: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/letters.py"
