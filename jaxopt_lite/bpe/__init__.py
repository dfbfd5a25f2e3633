"""Byte-pair encoding: training by vectorised pair counting, encoding, and the files of other tokenizers.

`train` learns a `Tokenizer` from text, `load` reads one from a file; `count_pairs` is the counting kernel itself.

Files, in reading order; each imports only from those above it:

- `reference`: the sequential algorithm, slowly: what byte-pair encoding is.
- `arguments`: what callers give, checked.
- `cuts`: where a text may be cut so that its words stay whole.
- `age`: one version of Unicode for all words.
- `oniguruma`: regular expressions as Hugging Face reads them.
- `steps`: normalizers and pre-tokenizers of files.
- `patterns`: what a word is, and which tokens are found before; `splitter`.
- `table`: numbers for very many byte strings: a hash table.
- `workers`: fresh interpreters that work beside this process.
- `vocabulary`: tokens, merges and base symbols.
- `around`: decoders and templates of files.

To encode:

- `encode_words`: from the symbols of words to ids.
- `pieces`: texts as rows of pieces, which are remembered.
- `cache`: what words were encoded as.
- `encode`: from texts to ids.
- `parallel`: the same in several processes.
- `formats/`: the files of Hugging Face, GPT-2, tiktoken, Mistral and CLIP, and our own.
- `tokenizer`: text to ids and back; `load`.

To train:

- `counting`: the words of texts, counted.
- `readers`: files of texts as people have them.
- `corpus`: files, texts or counts; `count_words`.
- `pairs`: pairs of neighbouring symbols, counted and merged.
- `merges`: which merges come next, and the proof that many at a time are exact.
- `training`: from text to merges; `train`.
- `report` and `command`: `python -m jaxopt_lite bpe`.
- `accelerator/`: the same on a device, by JAX; files above load it when a device is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
