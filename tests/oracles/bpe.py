"""Encoding as the textbook has it: merge the first pair of the order, the leftmost of equals, and look again."""

from itertools import pairwise


def encode_word_slowly(symbols, merges, merged):
    """The ids of a word: `merges` are pairs in order, `merged` what they make."""
    ids = list(symbols)
    ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
    while True:
        found = [(ranks[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in ranks]
        if not found:
            return ids
        rank, place = min(found)
        ids[place : place + 2] = [merged[rank]]


def encode_words_slowly(words, vocabulary):
    """The ids of words at byte level, whose bytes all have tokens, one word after the other."""
    others = {vocabulary.end_of_word, *vocabulary.special_tokens.values()}
    symbol_of = {token: k for k, token in enumerate(vocabulary.tokens) if len(token) == 1 and k not in others}
    mark = [] if vocabulary.end_of_word is None else [vocabulary.end_of_word]
    merges, merged = vocabulary.merges.tolist(), vocabulary.merged.tolist()
    ids = []
    for word in words:
        symbols = [symbol_of[bytes([byte])] for byte in word.encode("utf-8", "surrogateescape")]
        ids += encode_word_slowly(symbols + mark, merges, merged)
    return ids
