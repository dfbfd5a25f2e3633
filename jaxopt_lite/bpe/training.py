"""Training a tokenizer: from text to merges, with checkpoints of the run.

`train` counts words (`corpus.py`), takes them apart into base symbols, and learns merges (`merges.py`).
"""

import hashlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from jaxopt_lite import files
from jaxopt_lite.arguments import flag, one_of, path_of, whole_number
from jaxopt_lite.bpe.arguments import all_to_bytes, jax_device, texts, to_bytes
from jaxopt_lite.bpe.around import Around
from jaxopt_lite.bpe.corpus import count_words
from jaxopt_lite.bpe.encode_words import merge_word
from jaxopt_lite.bpe.letters import byte_order
from jaxopt_lite.bpe.merges import TIES, Learner, Tie
from jaxopt_lite.bpe.pairs import Words
from jaxopt_lite.bpe.patterns import Finder, Splitter, splitter
from jaxopt_lite.bpe.readers import Errors
from jaxopt_lite.bpe.tokenizer import Tokenizer
from jaxopt_lite.bpe.vocabulary import BYTE_NAMES, LEVELS, Level, Symbols, Vocabulary
from jaxopt_lite.progress import interruptible, progress_bar

__all__ = [
    "check_checkpoint",
    "fingerprint",
    "read_checkpoint",
    "saved_at_sigterm",
    "train",
    "words_of",
    "write_checkpoint",
]

Rows = list[tuple[int, int, int]]
_CHECKPOINT_SECONDS = 30.0
_MOST_SYMBOLS = 2**62  # half of what int64 holds, because the sum is rounded


def train(
    corpus: Any,
    vocab_size: int | None = None,
    *,
    merges: int | None = None,
    pattern: str = "gpt4",
    end_of_word: str | None = None,
    level: Level = "byte",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    special_tokens: Sequence[str] = (),
    initial_alphabet: str | Sequence[str] | None = None,
    byte_fallback: bool = False,
    unknown: str | None = None,
    tie: Tie = "id",
    errors: Errors = "strict",
    field: str = "text",
    extend: Tokenizer | None = None,
    processes: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    device: Any = None,
) -> Tokenizer:
    """Learn a byte-pair encoding: merge the most frequent pair of neighboring symbols, again and again.

    The merges are exactly those of the sequential algorithm (Sennrich, Haddow and Birch, ACL 2016, algorithm 1), with
    counts weighted by word frequency and overlapping pairs counted; ties go to the smallest (left, right). They are the
    same on every machine and device.

    Args:
        corpus: a path or several (`pathlib.Path`) of files or folders, an iterable of texts, or ready-made counts, word
            -> count; see `count_words`.
        vocab_size: how many tokens in all. Give either this or `merges`.
        merges: how many merges.
        pattern: what a word is: "gpt4" (the default), or anything that `splitter` takes.
        end_of_word: with "whitespace", a mark after every word, such as "_"; it is a separate symbol.
        level: "byte" (the default): base symbols are bytes. "char": they are characters.
        min_frequency: pairs that occur less often are not merged. Default 1.
        max_token_length: the longest token, in bytes or characters as `level` says. Default: no limit.
        special_tokens: a list of strings that are one token each; never split, merged or counted. They get the first
            ids, in order, or with `extend` the first free ones.
        initial_alphabet: at byte level, the order of the 256 bytes: "bytes" (by value, the default) or "gpt2" (as
            Hugging Face numbers them). At character level, characters that get a symbol even if the corpus lacks them.
        byte_fallback: at character level, whether to add 256 tokens for the bytes of characters without a symbol.
        unknown: at character level, the token for characters without a symbol. Default: encoding them raises.
        tie: which of equally frequent pairs comes first: "id", the smallest (left, right); "subword-nmt" or
            "sentencepiece", the one that these libraries choose.
        errors: what to do about bytes in files that are not UTF-8: "strict" (raise), "surrogateescape" (keep them),
            "replace", or "ignore".
        field: the field of JSON Lines and Parquet records that holds the text.
        extend: a tokenizer to learn more merges for. It decides the pattern, alphabet, level and marks; its ids do not
            change.
        processes: how many processes count words. Default: one per core.
        progress: whether to show a progress bar. Default: on a terminal and in a notebook.
        checkpoint: a file to save the merges in every half minute and at the end. If it exists the run continues from
            it, with the same result as an uninterrupted run. If the disk is full, or another run has begun to write
            the file, the run warns and goes on.
        device: a JAX device to merge on, with the same result. Default: NumPy on the host, which is faster for the few
            million symbols that the distinct words of most corpora have, and compiles nothing.

    Returns:
        A `Tokenizer`; `vocabulary.counts` says how often each pair occurred when it was merged. It has fewer tokens
        than asked for if nothing is left to merge; after Ctrl-C it has those learned so far. Both cases warn.

    Raises:
        ValueError: settings that contradict each other, text that cannot be read, or counts beyond 64 bits.
        TypeError: a corpus or a device of the wrong type.

    Example:
        >>> from jaxopt_lite import bpe
        >>> texts = ["low low low lower newest newest"]
        >>> tokenizer = bpe.train(texts, merges=4, pattern="whitespace", end_of_word="_")
        >>> tokenizer.decode(tokenizer.encode("lower low"))
        'lower low'
    """
    settings = dict(pattern=pattern, end_of_word=end_of_word, level=level, byte_fallback=byte_fallback, unknown=unknown)
    vocab_size, merges, max_token_length = _sizes(vocab_size, merges, max_token_length)
    min_frequency = whole_number("min_frequency", min_frequency, least=0)
    special_tokens = texts("special_tokens", special_tokens, ordered=True)
    _check(settings | dict(initial_alphabet=initial_alphabet), tie, extend)
    device = None if device is None else jax_device(device)
    extend = None if extend is None else _with_special(extend, special_tokens)
    split = splitter(pattern, end_of_word) if extend is None else extend.splitter
    special = Finder(_with_unknown(special_tokens, unknown)) if extend is None else extend.finder
    check_checkpoint(checkpoint)

    def base_of(counts: Mapping[str, int]) -> Vocabulary:
        return _base(counts, split, special.tokens, initial_alphabet, settings) if extend is None else extend.vocabulary

    _goal(vocab_size, merges, base_of({}))  # refuses wrong arguments before the work, as far as possible
    counts = count_words(
        corpus, split, special_tokens=special, errors=errors, field=field, processes=processes, progress=progress
    )
    base = base_of(counts)
    run = _Run(base, counts, min_frequency, max_token_length, tie, device, checkpoint)
    run.go(_goal(vocab_size, merges, base), progress)
    return Tokenizer(run.vocabulary(), split, Around() if extend is None else extend.around)


def _warn_of_equals(v: Vocabulary, first: int) -> None:
    """Warn of tokens from `first` on whose text is that of an earlier token which no merge makes."""
    names = list(zip(v.tokens, v.ends_word.tolist(), strict=True))  # a letter may look like the mark
    known = {name: k for k, name in reversed(list(enumerate(names[:first])))}
    equal = [k for k in range(first, len(names)) if names[k] in known]
    if equal:
        one, other = known[names[equal[0]]], equal[0]
        warnings.warn(
            f"{len(equal)} new tokens have the same text as an older token that no merge makes, such as "
            f"{v.tokens[one]!r:.80} with ids {one} and {other}. Text is encoded with the newer id, except that a whole "
            "word may get the older one; only format='jaxopt_lite' can save both.",
            stacklevel=4,
        )


def _sizes(vocab_size, merges, max_token_length) -> list[int | None]:
    if (vocab_size is None) == (merges is None):
        raise ValueError(f"vocab_size={vocab_size} and merges={merges}: expected exactly one of them to be given.")
    wanted = dict(vocab_size=vocab_size, merges=merges, max_token_length=max_token_length)
    return [None if size is None else whole_number(name, size, least=0) for name, size in wanted.items()]


def _check(settings: Mapping[str, Any], tie: str, extend: Tokenizer | None) -> None:
    one_of("tie", tie, TIES)
    one_of("level", settings["level"], LEVELS)
    flag("byte_fallback", settings["byte_fallback"])
    unknown = settings["unknown"]
    if unknown is not None and (not isinstance(unknown, str) or not unknown):
        raise ValueError(f"unknown={unknown!r}: expected a string such as '<unk>', or None.")
    if settings["level"] == "byte" and (settings["byte_fallback"] or unknown is not None):
        raise ValueError("byte_fallback and unknown are for level='char'; at byte level every text has symbols.")
    if extend is not None and not isinstance(extend, Tokenizer):
        raise ValueError(f"extend={extend!r:.80}: expected a Tokenizer; `bpe.load` reads one from a file.")
    defaults: dict[str, Any] = dict.fromkeys(settings) | dict(pattern="gpt4", level="byte", byte_fallback=False)
    given = {name: value for name, value in settings.items() if value is not None}
    changed = [name for name, value in given.items() if not np.array_equal(value, defaults[name])]
    if extend is not None and changed:
        raise ValueError(f"{', '.join(changed)} cannot be given with extend=: the tokenizer to extend decides.")


def _with_special(tokenizer: Tokenizer, more: Sequence[str]) -> Tokenizer:
    """The tokenizer with more special tokens, after all its tokens."""
    v = tokenizer.vocabulary
    if v.is_marked or v.by_token:
        raise ValueError(
            "extend= is a tokenizer whose symbols depend on their place in a word, or whose tokens can be made in "
            "several ways; more merges cannot be learned for it. Train a new one."
        )
    new = [text for text in more if text not in v.special_tokens]
    if taken := [text for text in new if tokenizer.token_to_id(text) is not None]:
        raise ValueError(f"special_tokens has {taken[0]!r:.80}, which is a token of extend=; expected new ones.")
    first = len(v.tokens)
    special = {**v.special_tokens, **{text: first + k for k, text in enumerate(new)}}
    tokens = (*v.tokens, *map(to_bytes, new))
    return Tokenizer(replace(v, tokens=tokens, special_tokens=special), tokenizer.splitter, tokenizer.around)


def _with_unknown(specials: Sequence[str], unknown: str | None) -> tuple[str, ...]:
    """The special tokens of a new vocabulary; the unknown token is last unless it is among those given."""
    return (*specials, *([] if unknown is None or unknown in specials else [unknown]))


def _goal(vocab_size: int | None, merges: int | None, base: Vocabulary) -> int:
    """How many merges to learn."""
    if vocab_size is None:
        return merges or 0
    if vocab_size < len(base.tokens):
        raise ValueError(
            f"vocab_size={vocab_size}: expected at least {len(base.tokens)}, the number of special tokens and symbols "
            "before the first merge. Or pass merges=."
        )
    return vocab_size - len(base.tokens)


def _base(counts: Mapping[str, int], split: Splitter, specials: Sequence[str], initial, settings) -> Vocabulary:
    """The vocabulary before the first merge: special tokens (and the unknown), fallback bytes, alphabet, mark."""
    unknown, found = settings["unknown"], list(specials)
    tokens = list(map(to_bytes, found))
    fallback = None
    if settings["byte_fallback"]:
        fallback = np.arange(len(tokens), len(tokens) + 256, dtype=np.int32)
        tokens += [name.encode() for name in BYTE_NAMES]
    if settings["level"] == "byte":
        tokens += byte_order("bytes" if initial is None else initial)
    else:
        tokens += map(to_bytes, _characters(counts, () if initial is None else initial))
    mark = None
    if split.end_of_word is not None:
        mark = len(tokens)
        tokens.append(to_bytes(split.end_of_word))
    return Vocabulary(
        tokens=tuple(tokens), merges=np.zeros((0, 2), np.int32), merged=np.zeros(0, np.int32),
        counts=np.zeros(0, np.int64), special_tokens={text: k for k, text in enumerate(found)},
        level=settings["level"], end_of_word=mark, unknown=None if unknown is None else found.index(unknown),
        byte_fallback=bool(settings["byte_fallback"]), fallback=fallback,
    )  # fmt: skip


def _characters(words: Iterable[str], initial: Iterable[str] = ()) -> tuple[str, ...]:
    """The characters of the words and the initial ones, ordered by code point."""
    try:
        first = set(initial)
    except TypeError:  # not iterable, or with unhashable entries
        raise ValueError(f"initial_alphabet={initial!r:.80}: expected characters, such as 'abc'.") from None
    if wrong := [character for character in first if not isinstance(character, str) or len(character) != 1]:
        raise ValueError(f"initial_alphabet has {wrong[0]!r:.80}: expected single characters at character level.")
    return tuple(sorted(first.union(*words)))


def words_of(counts: Mapping[str, int], vocabulary: Vocabulary) -> Words:
    """Words as rows of base symbols, each followed by the mark if there is one; merged if the merges are not in order.

    Raises:
        ValueError: a byte or character that has no token in the vocabulary.
    """
    v = vocabulary
    if v.whole_words:  # a word that is a token has no pairs
        texts = zip(counts.items(), all_to_bytes(counts), strict=True)
        counts = dict(item for item, text in texts if text not in v.words)
    if v.level == "byte" and len(v.symbol_of) == 256 and v.is_ordered:
        return _of_bytes(counts, v)
    symbols_of = Symbols(v).of if v.is_ordered else _merged_of(v)
    instead = {v.unknown, *(() if v.fallback is None else v.fallback.tolist())} - {None}
    rows = [(part, count) for word, count in counts.items() for part in _known(symbols_of(word), instead)]
    symbols = np.fromiter(chain.from_iterable(row for row, _ in rows), np.int32)
    return _in_a_row(symbols, [len(row) for row, _ in rows], [count for _, count in rows])


def _merged_of(v: Vocabulary) -> Callable[[str], list[int]]:
    """The ids of a word. Replaying merges that are not in order would miss pairs that come up later."""
    symbols_of, made, size = Symbols(v).of, v.merged.tolist(), len(v.tokens)
    return lambda word: merge_word(symbols_of(word), v.ranks, made, size)


def _of_bytes(counts: Mapping[str, int], vocabulary: Vocabulary) -> Words:
    encoded = all_to_bytes(counts)
    symbol_of = np.array([vocabulary.symbol_of[value] for value in range(256)], np.int32)
    symbols = symbol_of[np.frombuffer(b"".join(encoded), np.uint8)]
    lengths = np.array([len(word) for word in encoded], np.int64)
    if vocabulary.end_of_word is not None:
        symbols = np.insert(symbols, np.cumsum(lengths), vocabulary.end_of_word)
        lengths = lengths + 1
    return _in_a_row(symbols, lengths, list(counts.values()))


def _known(symbols: list[int], instead: Set[int]) -> list[list[int]]:
    """A word cut at the unknown token and fallback bytes, about which nothing is learned."""
    if not instead or instead.isdisjoint(symbols):
        return [symbols]
    return [list(run) for is_unknown, run in groupby(symbols, instead.__contains__) if not is_unknown]


def _in_a_row(symbols, lengths, counts) -> Words:
    """Concatenated words, without those that are empty or never occur."""
    lengths = np.asarray(lengths, np.int64)
    total = float(np.dot(lengths, np.asarray(counts, float)))
    if total > _MOST_SYMBOLS:
        raise ValueError(
            f"the words hold {total:.3g} symbols, each as often as the counts say; expected at most "
            f"{float(_MOST_SYMBOLS):.3g}, whose pairs 64 bits can count. Divide all counts by some number."
        )
    counts = np.asarray(counts, np.int64)
    wanted = (lengths > 0) & (counts > 0)
    symbols = symbols[np.repeat(wanted, lengths)]
    lengths, counts = lengths[wanted], counts[wanted]
    last = np.zeros(symbols.size, bool)
    last[np.cumsum(lengths) - 1] = True
    return Words(symbols, last, np.repeat(counts, lengths))


@dataclass
class _Run:
    """One training run: what it starts from, and how it stops."""

    base: Vocabulary
    word_counts: Mapping[str, int]
    min_frequency: int
    max_token_length: int | None
    tie: str
    device: Any
    checkpoint: str | Path | None

    def go(self, goal: int, progress: bool | None) -> None:
        """Learn up to `goal` merges."""
        self.learner = Learner(
            words_of(self.word_counts, self.base), self.base.tokens, tie=self.tie, min_frequency=self.min_frequency,
            max_length=self.max_token_length, lengths=self._lengths(), device=self.device,
        )  # fmt: skip
        if self.base.is_ordered:  # otherwise `words_of` has made the merges
            self.learner.replay(self.base.merges, self.base.merged)
        self._resume(goal)
        end = None
        with saved_at_sigterm(self._save):
            try:
                with interruptible(), progress_bar(progress) as bar:
                    self._learn(goal, bar)
            except KeyboardInterrupt:
                end = "interrupted"
            finally:
                self._save()
        done = len(self.learner.learned)
        if end or done < goal:
            warnings.warn(f"{end or 'nothing left to merge'} after {done} of {goal} merges", stacklevel=3)

    def _learn(self, goal: int, bar: Progress) -> None:
        task, saved = bar.add_task("merges", total=goal), time.monotonic()
        while (done := len(self.learner.learned)) < goal and self.learner.step(goal - done):
            bar.update(task, completed=len(self.learner.learned))
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()

    def _lengths(self) -> list[int]:
        """The length of every token, in bytes or characters, depending on the level."""
        is_bytes = self.base.level == "byte"
        return [len(token if is_bytes else token.decode("utf-8", "replace")) for token in self.base.tokens]

    def _resume(self, goal: int) -> None:
        """Continue from the checkpoint, if there is one."""
        if self.checkpoint is None:
            return
        settings = (self.base.tokens, self.base.level, self.min_frequency, self.max_token_length, self.tie)
        settings += (self.base.merges.tolist(),) if len(self.base.merges) else ()
        settings += () if self.base.end_of_word is None else (self.base.end_of_word,)  # a letter may have the same name
        settings += ("whole words",) if self.base.whole_words else ()  # of which nothing is learned
        self._mark = fingerprint(self.word_counts, settings)
        known = read_checkpoint(Path(self.checkpoint), self._mark)
        try:
            self._check_lengths(known)
            _grown(self.base, known)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"checkpoint={str(self.checkpoint)!r} does not fit together ({error}); delete it or give another path."
            ) from error
        self.learner.resume(known[:goal])

    def _check_lengths(self, known: Rows) -> None:
        """Raise ValueError if merges make a token longer than any word, which might not fit in memory."""
        sizes, longest = list(map(len, self.base.tokens)), max(map(len, self.base.tokens), default=0)
        most = longest * (1 + max(map(len, self.word_counts), default=0)) * 4
        for left, right, _ in known:
            sizes.append(sizes[left] + sizes[right])
        if max(sizes, default=0) > most:
            raise ValueError(f"a token of {max(sizes)} bytes is longer than any word")

    def _save(self) -> None:
        """Write the checkpoint, unless the existing one has more, or another run has begun to write it meanwhile.

        Like a full disk, the latter only leads to a warning.
        """
        if self.checkpoint is None:
            return
        path, learned = Path(self.checkpoint), self.learner.learned
        try:
            if len(read_checkpoint(path, self._mark)) <= len(learned):
                write_checkpoint(path, self._mark, learned)
        except ValueError as error:
            warnings.warn(f"{error} This run has not written it, and returns the result all the same.", stacklevel=2)
        except OSError as error:
            warnings.warn(
                f"checkpoint={str(path)!r} cannot be written ({error.strerror}). The result is returned "
                "all the same, but if this process is killed, what the checkpoint lacks is lost: free some space.",
                stacklevel=2,
            )

    def vocabulary(self) -> Vocabulary:
        """The vocabulary with what has been learned."""
        vocabulary = _grown(self.base, self.learner.learned)
        _warn_of_equals(vocabulary, len(self.base.tokens))
        return vocabulary


def _grown(base: Vocabulary, learned: Rows) -> Vocabulary:
    """A vocabulary with more merges: rows of left, right and count."""
    tokens = list(base.tokens)
    for left, right, _ in learned:
        tokens.append(tokens[left] + tokens[right])
    rows = np.array(learned, np.int64).reshape(-1, 3)
    return replace(
        base, tokens=tuple(tokens), merges=np.concatenate([base.merges, rows[:, :2]]),
        merged=np.concatenate([base.merged, np.arange(len(base.tokens), len(tokens))]),
        counts=None if base.counts is None else np.concatenate([base.counts, rows[:, 2]]),
    )  # fmt: skip


# --- Checkpoints: the merges so far on disk, and a fingerprint of what they were learned from -------------------------


def fingerprint(counts: Mapping[str, int], settings: tuple) -> str:
    """A hash of words, counts and settings that does not depend on the order of the words."""
    digest = hashlib.sha256(repr(settings).encode())
    for word in sorted(counts):
        name = str.__repr__(word)  # a NumPy str would have another repr
        digest.update(f"{name} {counts[word]}\n".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def write_checkpoint(path: Path, mark: str, learned: Rows) -> None:
    """Write a checkpoint, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    rows = np.array(learned, np.int64).reshape(-1, 3)
    merges, counts = rows[:, :2].astype(np.int32), rows[:, 2].copy()
    data = BytesIO()
    np.savez(data, fingerprint=np.array(mark), merges=merges, counts=counts, checksum=_checksum(merges, counts))
    files.write(path, data.getvalue())


def _checksum(merges: np.ndarray, counts: np.ndarray) -> np.ndarray:
    little = merges.astype("<i4").tobytes(), counts.astype("<i8").tobytes()
    return np.array(hashlib.sha256(b"".join(little)).hexdigest())


def check_checkpoint(checkpoint: str | Path | None) -> None:
    """Check before the work that a checkpoint, if wanted, can be written, and that an existing file is a checkpoint.

    Raises:
        ValueError: the file is something else.
        OSError: the folder does not exist or is not writable, or the file cannot be read.
    """
    if checkpoint is None:
        return
    path = path_of("checkpoint", checkpoint)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"checkpoint={str(path)!r}: there is no folder {path.parent} to write it to.")
    folder = Path(os.path.realpath(path)).parent  # for a link, the folder of its target
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"checkpoint={str(path)!r}: {folder} is not writable; give another path.")
    _content(path)


def read_checkpoint(path: Path, mark: str) -> Rows:
    """The merges of a checkpoint with their counts; empty if there is no checkpoint yet.

    Raises:
        ValueError: the file is something else, or of another run.
        OSError: it cannot be read.
    """
    found, rows = _content(path)
    if found not in (None, mark):
        raise ValueError(
            f"checkpoint={str(path)!r} is of another run: other text, other settings or another tokenizer to extend. "
            "Delete it to start over, or give another path."
        )
    return rows


def _content(path: Path) -> tuple[str | None, Rows]:
    """The fingerprint and the rows of a file; `None` and no rows if it does not exist."""
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint={str(path)!r} is a directory; expected the path of a file in it.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, []
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = file["fingerprint"], file["merges"], file["counts"]
            return _checked(*arrays, file["checksum"] if "checksum" in file else None)
    except Exception as error:  # NumPy and zipfile raise many kinds of errors for other files
        raise ValueError(
            f"checkpoint={str(path)!r} is not a checkpoint of `bpe.train`, or truncated ({error}); delete it or give "
            "another path."
        ) from error


def _checked(mark: np.ndarray, merges: np.ndarray, counts: np.ndarray, checksum: np.ndarray | None) -> tuple[str, Rows]:
    types, shapes = [array.dtype for array in (merges, counts)], [array.shape for array in (mark, merges, counts)]
    size = counts.size
    if mark.dtype.kind != "U" or types != [np.int32, np.int64] or shapes != [(), (size, 2), (size,)]:
        raise ValueError(f"{mark.dtype}, {types} of {shapes}; expected a string, int32 [M, 2] and int64 [M]")
    if checksum is not None and not np.array_equal(checksum, _checksum(merges, counts)):
        raise ValueError("the checksum does not match the merges")
    return str(mark), list(zip(*merges.T.tolist(), counts.tolist(), strict=True))


@contextmanager
def saved_at_sigterm(save: Callable[[], None]) -> Iterator[None]:
    """Save before SIGTERM, which schedulers send to end a job, ends this process.

    Works only in the main thread, the only one that can handle signals, and only if nothing else handles SIGTERM.
    """

    def handle(number, _):
        signal.signal(number, signal.SIG_DFL)
        try:
            save()
        finally:
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    try:
        signal.signal(signal.SIGTERM, handle)
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
