"""Byte-pair encoding on plain lists with the settings of this package, by its own `reference` and nothing else."""

from functools import cache

from jaxopt_lite.bpe import reference


def learn_slowly(words, base, most, *, min_frequency=1, max_length=None, lengths=None, rank=None):
    """The merges (left, right, count) of words, (symbols, count) each; new symbols are numbered from `base`.

    `lengths` of the base symbols are 1 if they are left out. `rank` says which of equally frequent pairs comes first.
    """
    sizes = dict(enumerate(lengths or [1] * base))

    def choose(counts):
        allowed = {(a, b): n for (a, b), n in counts.items() if max_length is None or sizes[a] + sizes[b] <= max_length}
        best = min(allowed, key=lambda pair: (-counts[pair], rank(pair) if rank else pair), default=None)
        if best is None or counts[best] < max(1, min_frequency):
            return None
        sizes[max(sizes, default=-1) + 1] = sizes[best[0]] + sizes[best[1]]
        return best

    return reference.learn(words, base, most, choose)


def slow_encoder(vocabulary):
    """A function from words at byte level, whose bytes all have tokens, to the ids of one after the other."""
    others = {vocabulary.end_of_word, *vocabulary.special_tokens.values()}
    symbol_of = {token: k for k, token in enumerate(vocabulary.tokens) if len(token) == 1 and k not in others}
    mark = [] if vocabulary.end_of_word is None else [vocabulary.end_of_word]
    merges, merged = vocabulary.merges.tolist(), vocabulary.merged.tolist()

    @cache
    def one(word):
        symbols = [symbol_of[bytes([byte])] for byte in word.encode("utf-8", "surrogateescape")]
        return reference.encode(symbols + mark, merges, merged)

    return lambda words: [k for word in words for k in one(word)]
