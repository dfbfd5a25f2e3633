#!/usr/bin/env bash
# rustbpe 0.1.0, tokenizers 0.23.3, sentencepiece 0.2.3 and subword-nmt 0.3.8 make the merges of one corpus in four
# orders wherever two pairs are equally frequent.
#
# All four count the same pairs of the same words and merge the most frequent one. Between equals rustbpe takes the
# smallest pair of ids, where an id is a byte or the number of a merge. tokenizers takes the smallest ids too, but numbers
# the bytes by the letters that stand for them in its byte level, and these are not in the order of the bytes.
# sentencepiece takes the shortest merged string, then the smallest; subword-nmt the largest pair of strings. Rare pairs
# are tied by the thousand, so vocabularies of one text part company long before their end. None of the four says so.
#
# Seen: rustbpe bc abc gh zy à é; tokenizers bc abc gh zy é à; sentencepiece bc gh zy abc; subword-nmt bc zy gh abc.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'rustbpe==0.1.0' 'tokenizers==0.23.3' 'sentencepiece==0.2.3' 'subword-nmt==0.3.8'
cat >"$folder/ties.py" <<'PYTHON'
import io
import json
import sys

import rustbpe
import sentencepiece
from subword_nmt.learn_bpe import learn_bpe
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

folder = sys.argv[1]
words = ["bc", "abc", "gh", "zy", "é", "à"] * 10
text = "\n".join(words) + "\n"


def of_rustbpe():
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(words, 256 + 6, pattern=r"\w+")
    return [bytes(token).decode() for token, rank in tokenizer.get_mergeable_ranks() if rank >= 256]


def of_tokenizers():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + 6, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [decoders.ByteLevel().decode(["".join(merge)]) for merge in merges]


def of_sentencepiece():
    model = io.BytesIO()
    letters = len(set("".join(words)))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, model_type="bpe", vocab_size=3 + letters + 4,
        add_dummy_prefix=False, character_coverage=1.0, hard_vocab_limit=False, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(k) for k in range(3, processor.get_piece_size())]
    return [piece for piece in pieces if len(piece) > 1]


def of_subword_nmt():
    codes = io.StringIO()
    learn_bpe(io.StringIO(text), codes, 4)
    return [line.replace(" ", "").removesuffix("</w>") for line in codes.getvalue().splitlines()[1:]]


found = {"rustbpe": of_rustbpe(), "tokenizers": of_tokenizers(), "sentencepiece": of_sentencepiece(),
         "subword-nmt": of_subword_nmt()}
for name, merges in found.items():
    print(f"{name}:", *merges)
expected = {"rustbpe": "bc abc gh zy à é", "tokenizers": "bc abc gh zy é à", "sentencepiece": "bc gh zy abc",
            "subword-nmt": "bc zy gh abc"}
as_seen = {name: " ".join(merges) for name, merges in found.items()} == expected
raise SystemExit(0 if as_seen else "equal counts are ordered otherwise: the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/ties.py" "$folder" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
