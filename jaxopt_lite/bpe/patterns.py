"""Where words begin and end, and which tokens are found in a text before it is cut into words.

`splitter` makes a `Splitter` from a name or a regular expression. A `Finder` finds special and added tokens.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import regex

from jaxopt_lite.arguments import assign
from jaxopt_lite.bpe.age import of_unicode_16
from jaxopt_lite.bpe.arguments import texts
from jaxopt_lite.bpe.cuts import starts
from jaxopt_lite.bpe.steps import GPT2_WORDS, WHITE, normalizer, pre_tokenizer

__all__ = ["LITERAL", "Finder", "Splitter", "splitter"]

# Written so that `regex`, Rust's fancy-regex (tiktoken, rustbpe) and Oniguruma (tokenizers) read them alike: in
# Oniguruma `{1,3}+` is a repetition and `$` the end of a line, so tiktoken's own spelling would not work there.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s+(?!\S)|\s"
GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s++(?![\s\S])|\s*[\r\n]|\s+(?!\S)|\s"
)
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
STOCK = {"gpt2": GPT2, "gpt4": GPT4, "o200k": O200K, "llama3": LLAMA3, "qwen2": QWEN2, "tekken": TEKKEN}

# Other names in use: those of tiktoken's encodings, and of the models that use them.
_ALSO = {
    "gpt2": "gpt-2 gpt-3 r50k_base p50k_base p50k_edit davinci curie babbage ada text-davinci-001 text-davinci-002 "
    "text-davinci-003 code-davinci-002",
    "gpt4": "cl100k_base gpt-4 gpt-4-turbo gpt-3.5 gpt-3.5-turbo gpt-35-turbo davinci-002 babbage-002 "
    "text-embedding-ada-002 text-embedding-3-small text-embedding-3-large",
    "o200k": "o200k_base o200k_harmony gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-4.5 gpt-5 gpt-5-mini "
    "gpt-5-nano o1 o1-mini o3 o3-mini o4-mini gpt-oss gpt-oss-20b gpt-oss-120b",
    "llama3": "llama-3 llama3.1 llama-3.1 llama3.2 llama-3.2 llama3.3 llama-3.3",
    "qwen2": "qwen qwen-2 qwen2.5 qwen-2.5 qwen3 qwen-3",
    "tekken": "mistral-nemo mistral-small mistral-large pixtral",
}
NAMES = {name: scheme for scheme, others in _ALSO.items() for name in (scheme, *others.split())}
NAMES["whitespace"] = "whitespace"

# Other spellings and close relatives in use, for which the proof in `cuts.py` holds too.
RELATIVES = (
    # GPT-2 as released, and as tiktoken spells it.
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    GPT2_WORDS,
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    # cl100k in tiktoken, after and before whitespace at the end of a text became one word; the latter is rustbpe's.
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
)
LOCAL = frozenset({*STOCK.values(), *RELATIVES})
"""The patterns whose words can be found piece by piece; see `cuts.py`."""

ASCII_CLASSES = {
    "L": "A-Za-z", "N": "0-9", "Lu": "A-Z", "Ll": "a-z", "Lt": "", "Lm": "", "Lo": "", "M": "",
}  # fmt: skip


@dataclass(frozen=True)
class Splitter:
    """Cuts a text into words. Made by `splitter`, which checks what it is given.

    Attributes:
        name: "whitespace", "gpt2", "gpt4", "o200k", "llama3", "qwen2", "tekken", "custom", or "steps".
        pattern: the pattern, in the syntax of the `regex` library; None for "whitespace".
        end_of_word: a mark after every word of the whitespace scheme, such as "_"; None for no mark.
        normalizer: how a text is changed before words are found, as JSON of a `tokenizer.json` (see `steps.py`), or
            None.
        steps: a pre-tokenizer that finds the words instead of the pattern, likewise.
    """

    name: str
    pattern: str | None
    end_of_word: str | None = None
    normalizer: str | None = None
    steps: str | None = None

    @property
    def local(self) -> bool:
        """Whether the words of a text can be found piece by piece: so for "whitespace" and the patterns known here."""
        return self.pattern is None or self.pattern in LOCAL

    def normalize(self, text: str) -> str:
        """What a text becomes before words are found in it."""
        return text if self.normalizer is None else normalizer(self.normalizer)(text)

    def words(self, text: str, is_first: bool = True) -> list[str]:
        """The words of a normalized text, in order, without the end-of-word mark.

        Joined they give the text again, except for "whitespace", which leaves the whitespace out, and for "steps".
        Nothing is lost with a custom pattern: the stretches between its matches are words too.

        Args:
            text: the text, or a piece of one.
            is_first: whether nothing is before it; some steps depend on this.
        """
        if self.steps is not None:
            return pre_tokenizer(self.steps)(text, is_first)
        if self.pattern is None:
            return text.split()
        whole, plain = _compiled(self.pattern)
        if plain is not None and text.isascii():
            return plain.findall(text)
        aged = of_unicode_16(text)
        words = _isolated(whole, aged) if plain is None else whole.findall(aged)
        return words if aged is text or aged == text else _of_lengths(text, words)

    def chunks(self, text: str) -> list[str]:
        """Coarser pieces whose words, one after another, are the words of the text.

        In long texts the same chunks occur again and again, so that the words of most chunks are known already. With a
        custom pattern, about which nothing is known, the text is one chunk.
        """
        if self.pattern is None:
            return text.split()
        if not self.local:
            return [text] if text else []
        if not text:
            return []
        data = text.encode("utf-8", "surrogatepass")
        begins = starts(data, self.pattern)
        if not text.isascii():  # from bytes to characters: count the bytes that begin one
            begins = np.append(0, np.cumsum(np.frombuffer(data, np.uint8) & 0xC0 != 0x80))[begins]
        return [text[a:b] for a, b in pairwise([*begins.tolist(), len(text)])]


def splitter(pattern: str = "gpt4", end_of_word: str | None = None) -> Splitter:
    r"""The splitter for a stock pattern or for one of your own.

    Args:
        pattern: "whitespace" (words are what is between whitespace, which is dropped), "gpt2", "gpt4" (tiktoken's
            cl100k_base), "o200k" (tiktoken's o200k_base), "llama3", "qwen2", "tekken" (Mistral's), another name of
            these such as "cl100k_base" or "gpt-4o", ignoring case, or a pattern in the syntax of `regex`.
        end_of_word: a mark after every word of the whitespace scheme, such as "_" or "</w>". Default: none.

    Raises:
        ValueError: an unknown name, a pattern that does not compile, an empty mark, or a mark for a pattern other than
            "whitespace".

    Example:
        >>> from jaxopt_lite.bpe.patterns import splitter
        >>> splitter("gpt4").words("It's 12345 words.")
        ['It', "'s", ' ', '123', '45', ' words', '.']
        >>> splitter(r"\d+").words("a1b22")
        ['a', '1', 'b', '22']
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern={pattern!r}: expected a name ({_names()}) or a pattern as a str.")
    name = NAMES.get(pattern.lower())
    if end_of_word is not None and name != "whitespace":
        raise ValueError(
            f"end_of_word={end_of_word!r} with pattern={pattern!r}: words of this pattern include their spaces and "
            'need no mark. Leave end_of_word out, or use pattern="whitespace".'
        )
    if end_of_word is not None and (not isinstance(end_of_word, str) or not end_of_word or end_of_word.split() == []):
        raise ValueError(f"end_of_word={end_of_word!r}: expected some visible characters such as '_', or None.")
    if name is not None:
        return Splitter(name, STOCK.get(name), end_of_word)
    _check(pattern)
    names = {text: name for name, text in STOCK.items()}
    return Splitter(names.get(pattern, "custom"), pattern)


@cache
def _compiled(pattern: str) -> tuple[regex.Pattern[str], re.Pattern[str] | None]:
    """The pattern and, if it is known here, its equivalent for ASCII texts, with which `re` is twice as fast."""
    if pattern in LOCAL:
        return regex.compile(pattern), re.compile(_in_ascii(pattern), re.ASCII)
    # `regex` searches for starts of matches as if an `(?i:…)` in one alternative held for all, and so finds no "B" for
    # `(?i:x)|[^bc]`. A lookahead for any character makes it try every position. (Seen in 2024.11.6 to 2026.11.19.)
    return regex.compile(rf"(?=[\s\S])(?:{pattern})" if "(?i:" in pattern else pattern), None


def _in_ascii(pattern: str) -> str:
    r"""The pattern with each \p{…}, which `re` lacks, replaced by its ASCII characters."""

    def replaced(match: re.Match[str]) -> str:
        inside = re.sub(r"\\p\{(\w+)\}", lambda name: ASCII_CLASSES[name[1]], match[0])
        return inside if match[0].startswith("[") else f"[{inside}]"

    return re.sub(r"\[[^\]]*\]|\\p\{\w+\}", replaced, pattern)


def _isolated(pattern: regex.Pattern[str], text: str) -> list[str]:
    """The matches and the stretches between them; empty ones are left out."""
    words, start = [], 0
    for match in pattern.finditer(text):
        if match.end() > match.start():
            words += text[start : match.start()], match.group()
            start = match.end()
    words.append(text[start:])
    return [word for word in words if word]


def _of_lengths(text: str, like: list[str]) -> list[str]:
    """The text cut into pieces as long as those of `like`."""
    ends = list(accumulate(map(len, like)))
    return [text[start:end] for start, end in pairwise([0, *ends])]


def _check(pattern: str) -> None:
    """Raise ValueError unless it is a regular expression, and meant to be one."""
    try:
        regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError, ValueError) as error:
        raise ValueError(
            f"pattern={pattern!r}: neither a name ({_names()}) nor a pattern that `regex` compiles: {error}."
        ) from error
    if not pattern or LITERAL.fullmatch(pattern):
        raise ValueError(
            f"pattern={pattern!r}: expected a name or a regular expression; this one matches only itself. If that is "
            f"what you mean, write '(?:{pattern})'. Names are {_names()}, and other names of these: "
            f"{', '.join(sorted(NAMES.keys() - STOCK.keys() - {'whitespace'}))}."
        )


# Text without any construct, probably a name or a word; the dot in "4.1" does not count as one.
LITERAL = re.compile(r"(?=.*\w)(?:[^\\^$.*+?{}\[\]|()]|(?<=\w)\.(?=\w))+", re.DOTALL)


def _names() -> str:
    return ", ".join(f'"{name}"' for name in ("whitespace", *STOCK))


@dataclass(frozen=True)
class Finder:
    """Finds tokens literally in texts, from the left; of those that begin at the same position, the longest.

    Args:
        tokens: distinct strings, none of them empty.
        last: the tokens that are searched only in what is left between the others.
        flags: how their matches are restricted or extended, text -> some of `vocabulary.FLAGS`.
        splitter: its normalizer is applied to the text between tokens before those in `last` are searched.

    Example:
        >>> from jaxopt_lite.bpe.patterns import Finder
        >>> list(Finder(("<|end|>",)).cut("one<|end|>two"))
        [(None, 'one'), ('<|end|>', '<|end|>'), (None, 'two')]
    """

    tokens: tuple[str, ...] = ()
    last: Collection[str] = frozenset()
    flags: Mapping[str, Collection[str]] = field(default_factory=dict)
    splitter: Splitter | None = None
    # For each search, in order: a pattern, and the tokens by the texts that it finds.
    searches: list[tuple[re.Pattern[str], dict[str, str]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        assign(self, tokens=texts("special_tokens", self.tokens))
        searches = []
        for is_last in (False, True):
            group = [token for token in self.tokens if (token in self.last) == is_last]
            known = {self._sought(token, is_last): token for token in reversed(group)}
            longest_first = sorted(filter(None, known), key=len, reverse=True)
            # Tokens that normalization leaves empty are never found; `(?!)` matches nowhere.
            searches.append((re.compile("|".join(map(re.escape, longest_first)) or r"(?!)"), known))
        assign(self, searches=searches if searches[1][1] or self.normalizes else searches[:1])

    @property
    def normalizes(self) -> bool:
        """Whether texts are normalized."""
        return self.splitter is not None and self.splitter.normalizer is not None

    def _sought(self, token: str, is_last: bool) -> str:
        return self.splitter.normalize(token) if is_last and self.splitter is not None else token

    def finds(self, several: Collection[str]) -> bool:
        """Whether any of the texts may hold a token or be changed by normalization."""
        if self.normalizes:
            return True
        for pattern, known in self.searches:  # usually none is found, and this runs for every text
            if known and any(map(pattern.search, several)):
                return True
        return False

    def cut(self, text: str) -> Iterator[tuple[str | None, str]]:
        """The tokens in a text and the pieces between them, in order; no piece between tokens is empty.

        The text between tokens is normalized. Whitespace that `flags` strip belongs to the token found first. If
        another token is found within that whitespace, its piece, and the text after it, contain that whitespace again.

        Yields:
            The token, or None for text between tokens; and the piece.
        """
        yield from ((token, piece) for token, piece, _ in self.located(text))

    def located(self, text: str) -> Iterator[tuple[str | None, str, int]]:
        """As `cut`, with the position in `text` where each piece begins.

        Within a normalized piece, positions are counted as if it had kept its length.
        """
        pieces: list[tuple[str | None, str, int]] = [(None, text, 0)]
        for number, (pattern, known) in enumerate(self.searches):
            if number and self.splitter is not None and self.normalizes:
                normalize = self.splitter.normalize
                pieces = [(token, piece if token else normalize(piece), at) for token, piece, at in pieces]
            if known:
                pieces = [new for old in pieces for new in ([old] if old[0] else self._found(*old[1:], pattern, known))]
        yield from (piece for piece in pieces if piece[0] or piece[1])

    def _found(self, text: str, at: int, pattern: re.Pattern[str], known: Mapping[str, str]):
        end = 0
        for match in pattern.finditer(text):
            token, start, stop = known[match.group()], match.start(), match.end()
            if flags := self.flags.get(token):
                if "single_word" in flags and (
                    _is_of_word(text[max(start - 1, 0) : start]) or _is_of_word(text[stop : stop + 1])
                ):
                    continue
                if "lstrip" in flags:
                    start = max(len(text[:start].rstrip(WHITE)), end)
                if "rstrip" in flags:
                    stop += len(text[stop:]) - len(text[stop:].lstrip(WHITE))
                if start >= stop:  # all of it is white space that the previous token has taken
                    continue
            if start > end:
                yield None, text[end:start], at + end
            yield token, text[start:stop], at + start
            end = stop  # also if the previous token has taken more
        yield None, text[end:], at + end


def _is_of_word(character: str) -> bool:
    """Whether this is a word character, next to which a token is not a word by itself; false for no character."""
    return _WORD.match(of_unicode_16(character)) is not None


# Rust's \w.
_WORD = regex.compile(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]")
