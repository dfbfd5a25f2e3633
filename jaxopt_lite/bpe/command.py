"""`python -m jaxopt_lite bpe`: train, encode, decode and inspect from the command line.

Results go to standard output, everything else to standard error. A command exits with status 0, with 1 and one line on
standard error if it fails, with 2 for wrong arguments, and with 130 after Ctrl-C.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.progress import track

from jaxopt_lite.bpe.arguments import existing_file
from jaxopt_lite.bpe.formats import FORMATS
from jaxopt_lite.bpe.merges import TIES
from jaxopt_lite.bpe.patterns import STOCK
from jaxopt_lite.bpe.readers import ERRORS, check_head, check_text, files_of
from jaxopt_lite.bpe.report import compression, first_merges, frequent_tokens
from jaxopt_lite.bpe.tokenizer import SPECIAL_MODES, Tokenizer, load, raise_named
from jaxopt_lite.bpe.training import train
from jaxopt_lite.bpe.vocabulary import LEVELS

__all__ = ["INTERRUPTED", "add_commands", "count"]

INTERRUPTED = 130  # as in the shell: 128 + SIGINT
_STANDARD = "-"  # the name of standard input or output
_LINES = 1 << 20  # bytes of lines that are encoded together


class _Anywhere(argparse.ArgumentParser):
    """A parser that takes options anywhere, even between file names; after `--` everything is a file name."""

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        if getattr(self, "_is_inside", False):
            return super().parse_known_args(args, namespace)
        self._is_inside = True
        try:
            return self.parse_known_intermixed_args(_without_dashes(sys.argv[1:] if args is None else args), namespace)
        finally:
            self._is_inside = False


def _without_dashes(words: Sequence[str]) -> list[str]:
    """The words without `--`; names after it that look like options become paths that do not.

    `parse_known_intermixed_args` parses twice, and the `--` is gone by the second time.
    """
    if "--" not in words:
        return list(words)
    at = list(words).index("--")
    names = (f"./{word}" if word.startswith("-") and word != _STANDARD else word for word in words[at + 1 :])
    return [*words[:at], *names]


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser of `bpe`; `options.run(options, console)` runs one and returns its exit status."""
    parser.add_argument("--version", action="version", version=f"jaxopt_lite {version('jaxopt-lite')}")
    commands = parser.add_subparsers(required=True, parser_class=_Anywhere)
    _train_parser(commands.add_parser("train", help="learn a tokenizer from files"))
    encode = _parser(commands, "encode", "print the ids of texts, one line per text", _encode)
    encode.add_argument("files", nargs="*", metavar="FILE", help="one text each (default: standard input, '-')")
    encode.add_argument("--lines", action="store_true", help="each line is one text, without its line end")
    encode.add_argument(
        "--special", choices=SPECIAL_MODES, default="raise",
        help="for special tokens in the text: refuse, encode as that token, or take as plain text (default raise)",
    )  # fmt: skip
    _add_errors(encode, "surrogateescape")
    decode = _parser(commands, "decode", "write the bytes of ids, one text after another", _decode)
    decode.add_argument("file", nargs="?", default=_STANDARD, metavar="FILE", help="the ids (default: standard input)")
    decode.add_argument("--lines", action="store_true", help="write a line end after the text of each line of ids")
    decode.add_argument("--skip-special", action="store_true", help="leave out special tokens")
    inspect = _parser(commands, "inspect", "show first merges; compression and frequent tokens of files", _inspect)
    inspect.add_argument("files", nargs="*", metavar="FILE", help="texts to try the tokenizer on")
    inspect.add_argument("--top", type=count, default=20, help="how many merges and tokens to show (default 20)")
    _add_errors(inspect, "surrogateescape")


def _parser(commands, name: str, description: str, command: Callable) -> argparse.ArgumentParser:
    """The parser of a command that takes a tokenizer."""
    parser = commands.add_parser(name, help=description, description=f"{name.capitalize()}: {description}.")
    parser.add_argument("tokenizer", metavar="TOKENIZER", help="tokenizer.json, tekken.json, .tiktoken, or a folder")
    parser.add_argument("--pattern", help="what a word is, if the tokenizer's file does not say (.tiktoken, GPT-2)")
    parser.set_defaults(run=_guarded(command), parser=parser)
    return parser


def _train_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="texts to learn from: plain, .jsonl or .parquet, compressed or not; folders; '-' for standard input",
    )  # fmt: skip
    parser.add_argument("--field", default="text", help="the field of a record that holds the text (default text)")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--vocab-size", type=count, metavar="N", help="how many tokens in all")
    size.add_argument("--merges", type=count, metavar="N", help="or how many merges")
    parser.add_argument("--output", "-o", required=True, metavar="PATH", help="the tokenizer; '-' for standard output")
    parser.add_argument("--format", choices=FORMATS, help="the output format (default: by the name of the output)")
    names = ", ".join(name for name in (*STOCK, "whitespace") if name != "gpt4")
    parser.add_argument("--pattern", help=f"gpt4 (default), {names}, or a regular expression")
    parser.add_argument("--end-of-word", metavar="MARK", help="with whitespace: a mark after every word, such as _")
    parser.add_argument("--level", choices=LEVELS, default="byte", help="what the base symbols are (default byte)")
    parser.add_argument("--byte-fallback", action="store_true", help="at char level: bytes for unseen characters")
    parser.add_argument("--unknown", metavar="TEXT", help="at char level: the token for unseen characters")
    parser.add_argument("--min-frequency", type=count, default=1, metavar="N", help="least count of a pair (default 1)")
    parser.add_argument("--max-token-length", type=count, metavar="N", help="in bytes or characters, as --level says")
    parser.add_argument("--special-token", action="append", default=[], metavar="TEXT", help="may be repeated")
    parser.add_argument("--tie", choices=tuple(TIES), default="id", help="order of equally frequent pairs (default id)")
    parser.add_argument("--extend", metavar="TOKENIZER", help="a tokenizer to learn more merges for")
    parser.add_argument("--checkpoint", metavar="PATH", help="where to save merges during the run, and resume from")
    parser.add_argument("--processes", type=count, metavar="N", help="how many count words (default: one per core)")
    _add_errors(parser, "strict")
    parser.set_defaults(run=_guarded(_train), parser=parser)


def _add_errors(parser: argparse.ArgumentParser, default: str) -> None:
    text = f"what to do about bytes that are not UTF-8 (default {default})"
    parser.add_argument("--errors", choices=ERRORS, default=default, help=text)


def count(word: str) -> int:
    """A whole number above zero; a `type=` for argparse."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above zero, got {word!r}")
    return int(word)


def _guarded(command: Callable[[argparse.Namespace, Console], None]) -> Callable[[argparse.Namespace, Console], int]:
    """The command as a function that returns its exit status and prints one line instead of a traceback."""

    def run(options: argparse.Namespace, console: Console) -> int:
        _occupy()
        try:
            command(options, console)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            if sys.stderr is not None:
                print("\nStopped.", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # the reader has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), _open("stdout").fileno())  # for what Python flushes at exit
            return 1
        except (OSError, ValueError, TypeError, RuntimeError, MemoryError, ImportError) as error:
            _say(options, "error", error)
            return 1
        return 0

    return run


def _say(options: argparse.Namespace, kind: str, message: object) -> None:
    line = " ".join(str(message).split()) or type(message).__name__
    if sys.stderr is not None:
        print(f"{options.parser.prog}: {kind}: {line}", file=sys.stderr)


def _occupy() -> None:
    """Occupy the file descriptors of closed standard streams, so that no opened file gets one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _open(name: str) -> TextIO:
    """A standard stream, "stdin" or "stdout".

    Raises:
        OSError: it is closed.
    """
    stream = getattr(sys, name)
    if stream is None:
        raise OSError(f"standard {'input' if name == 'stdin' else 'output'} is closed")
    return stream


def _train(options: argparse.Namespace, console: Console) -> None:
    settings = dict(
        end_of_word=options.end_of_word, level=options.level, byte_fallback=options.byte_fallback,
        unknown=options.unknown, min_frequency=options.min_frequency, max_token_length=options.max_token_length,
        special_tokens=options.special_token, tie=options.tie, errors=options.errors, field=options.field,
    )  # fmt: skip
    if options.extend is None:
        settings["pattern"] = "gpt4" if options.pattern is None else options.pattern
    else:
        settings["extend"] = load(options.extend, pattern=options.pattern)
    _rehearse(options, settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokenizer = train(
            _corpus(options), options.vocab_size, merges=options.merges, processes=options.processes,
            checkpoint=options.checkpoint, **settings,
        )  # fmt: skip
    for warning in caught:
        _say(options, "warning", warning.message)
    if any(str(warning.message).startswith("interrupted after") for warning in caught):
        raise KeyboardInterrupt  # `train` caught it to return what was learned, which is in the checkpoint too
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _save(tokenizer, options)
    for warning in caught:
        _say(options, "warning", warning.message)
    if options.output != _STANDARD:
        console.print(f"{options.output}: {tokenizer}", markup=False, soft_wrap=True)


def _rehearse(options: argparse.Namespace, settings: dict) -> None:
    """Find wrong arguments before the work: train on nothing, and save the result elsewhere in the same format."""
    if options.output in ("/dev/stdout", "/dev/fd/1"):
        options.output = _STANDARD
    output = Path("tokenizer.json" if options.output == _STANDARD else os.path.abspath(options.output))
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: there is no such folder to write {output.name} to")
    if options.output != _STANDARD and (output.is_dir() or output.is_file() or not output.exists()):
        _check_writable(output if output.is_dir() else Path(os.path.realpath(output)).parent)
    if options.output == _STANDARD and options.format == "gpt2":
        options.parser.error("--format gpt2 writes a folder, which cannot go to standard output")
    others = [*options.files, *([options.checkpoint] if options.checkpoint else [])]
    if not options.output or any(_is_same(options.output, other) for other in others):
        options.parser.error(f"--output {options.output}: expected another name than that of a text or checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder, output.name)
        if output.is_dir():
            twin.mkdir()
        elif output.exists() and options.output != _STANDARD:
            twin.touch()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they are shown when the result is saved
                train({}, merges=0, **settings).save(twin, options.format)
        except (ValueError, TypeError) as error:
            options.parser.error(str(error).replace(str(twin), options.output))


def _check_writable(folder: Path) -> None:
    """Make a file in a folder, and delete it: permissions alone do not say whether that is possible.

    Raises:
        OSError: it is not.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: nothing can be written to this folder", str(folder)) from error


def _is_same(one: str, other: str) -> bool:
    """Whether two names are of the same file, which need not exist yet."""
    if _STANDARD in (one, other):
        return False
    return os.path.realpath(one) == os.path.realpath(other) or (
        os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
    )


def _corpus(options: argparse.Namespace) -> list[Path | str]:
    """The files; standard input is one of them if it has a path and is unread, so that it is read in parts."""
    if options.files.count(_STANDARD) > 1:
        options.parser.error("'-' is given twice; there is only one standard input")
    if _STANDARD in options.files:
        _open("stdin")
    name = Path("/dev/stdin")
    in_parts = _STANDARD not in options.files or (name.exists() and not _is_begun(_open("stdin")))
    standard = name if in_parts else _text(_STANDARD, options.errors)
    named = ([standard] if file == _STANDARD else files_of(Path(file)) for file in options.files)
    return list(chain.from_iterable(named))


def _is_begun(stream: TextIO) -> bool:
    """Whether part of a file has been read already; opening it by its path would start over."""
    try:
        return os.lseek(stream.fileno(), 0, os.SEEK_CUR) > 0
    except OSError:  # a pipe, or a terminal
        return False


def _save(tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    if options.output != _STANDARD:
        tokenizer.save(options.output, options.format)  # written next to it, then renamed
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.json")
        tokenizer.save(path, options.format)
        _open("stdout").buffer.write(path.read_bytes())


def _encode(options: argparse.Namespace, console: Console) -> None:
    tokenizer = load(options.tokenizer, pattern=options.pattern)
    numerals = [str(k) for k in range(tokenizer.vocab_size)]
    for name in _tracked(options.files or [_STANDARD]):
        done = 0
        for texts in _lines(name, options.errors) if options.lines else [[_text(name, options.errors)]]:
            try:
                rows = tokenizer.encode_batch(texts, special=options.special)
            except ValueError as error:
                if options.lines:
                    encode = partial(tokenizer.encode, special=options.special)
                    raise_named(encode, texts, lambda k, name=name, first=done + 1: f"{name}, line {first + k}")
                raise ValueError(f"{name}: {error}") from error
            done += len(texts)
            _open("stdout").writelines(" ".join(map(numerals.__getitem__, ids)) + "\n" for ids in rows)


def _decode(options: argparse.Namespace, console: Console) -> None:
    tokenizer = load(options.tokenizer, pattern=options.pattern)
    end = b"\n" if options.lines else b""
    source = _open("stdin").buffer if options.file == _STANDARD else existing_file(Path(options.file)).open("rb")
    with source:
        for number, line in enumerate(source, 1):
            words = line.split()
            if wrong := [word for word in words if not word.isdigit()]:  # `int` also takes "1_0" and "+1"
                shown = wrong[0].decode("utf-8", "backslashreplace")
                raise ValueError(f"{options.file}, line {number}: expected ids, whole numbers; got {shown!r:.80}")
            try:
                data = tokenizer.decode_bytes(list(map(int, words)), skip_special=options.skip_special)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{options.file}, line {number}: {error}") from error
            _open("stdout").buffer.write(data + end)


def _inspect(options: argparse.Namespace, console: Console) -> None:
    tokenizer = load(options.tokenizer, pattern=options.pattern)
    console.print(repr(tokenizer), markup=False, soft_wrap=True)
    if len(tokenizer.vocabulary.merges):
        console.print(first_merges(tokenizer, options.top))
    sizes, times = [], np.zeros(tokenizer.vocab_size, np.int64)
    for name in _tracked(options.files):
        text = _text(name, options.errors)
        ids = tokenizer.encode(text, special="encode")
        times += np.bincount(np.asarray(ids, np.int64), minlength=times.size)
        sizes.append((name, len(text.encode("utf-8", "surrogateescape")), len(ids)))
    if sizes:
        console.print(compression(sizes))
        console.print(frequent_tokens(tokenizer, times, options.top))


def _tracked(names: list[str]) -> Iterator[str]:
    """The names, with a progress bar on standard error unless results go to a terminal."""
    hidden = len(names) < 2 or not _is_terminal(sys.stderr) or _is_terminal(sys.stdout)
    yield from track(names, "files", console=Console(stderr=True), transient=True, disable=hidden)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _text(name: str, errors: str) -> str:
    """The whole of a file or of standard input."""
    if name == _STANDARD:
        data = _open("stdin").buffer.read()
    else:
        data = check_text(Path(name)).read_bytes()
        check_head(data, Path(name))
    return _decoded(data, name, errors)


def _lines(name: str, errors: str) -> Iterator[list[str]]:
    """Lines without line ends, about a megabyte at a time; one by one from a terminal."""
    with _open("stdin").buffer if name == _STANDARD else check_text(Path(name)).open("rb") as source:
        is_first = name != _STANDARD
        while lines := source.readlines(1 if source.isatty() else _LINES):
            if is_first:
                check_head(lines[0], Path(name))
                is_first = False
            yield [_decoded(line.removesuffix(b"\n"), name, errors) for line in lines]


def _decoded(data: bytes, name: str, errors: str) -> str:
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: expected UTF-8, got the bytes {data[error.start : error.end].hex(' ')} ({error.reason}); "
            "--errors surrogateescape keeps them"
        ) from error
