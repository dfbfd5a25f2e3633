"""Byte-pair encoding: training by vectorized pair counting, encoding, and the files of other tokenizers.

`train` learns a `Tokenizer` from text, `load` reads one from a file, and `count_pairs` is the counting kernel itself.

The modules in reading order; each imports only from those above it:

- `reference`: the sequential algorithm, slow and simple: the definition of byte-pair encoding.
- `arguments`: checks of what callers pass.
- `cuts`: where a text may be cut so that its words stay whole.
- `age`: one version of Unicode for all words.
- `oniguruma`: regular expressions as Hugging Face reads them.
- `letters`: bytes as characters, as in GPT-2's files.
- `steps`: normalizers and pre-tokenizers from tokenizer files.
- `patterns`: what a word is, and which tokens are found before words are; `splitter`.
- `table`: a hash table that numbers very many byte strings.
- `workers`: fresh interpreters that work alongside this process.
- `vocabulary`: tokens, merges and base symbols.
- `around`: decoders and templates from tokenizer files.

To encode:

- `encode_words`: from the symbols of words to ids.
- `pieces`: texts as rows of pieces, whose ids are cached.
- `cache`: the ids of words seen before.
- `encode`: from texts to ids.
- `parallel`: the same in several processes.
- `formats/`: the files of Hugging Face, GPT-2, tiktoken, Mistral and CLIP, and this package's own.
- `tokenizer`: text to ids and back; `load`.

To train:

- `counting`: counts the words of texts.
- `readers`: reads text files in the usual formats.
- `corpus`: files, texts or counts; `count_words`.
- `pairs`: pairs of neighboring symbols, counted and merged.
- `merges`: which merges come next, and the proof that making many at a time is exact.
- `training`: from text to merges; `train`.
- `report` and `command`: `python -m jaxopt_lite bpe`.
- `accelerator/`: the same on a device, with JAX; the modules above load it when a device is asked for.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
