"""Writers of tokenizers and checkpoints that are killed: what is there loads, and one more write leaves nothing behind.

`python -m tests.stress.bpe_kills [--count 40]` kills a process that writes in a loop, so many times for each form.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jaxopt_lite import bpe
from jaxopt_lite.bpe.training import read_checkpoint, write_checkpoint

ROOT = Path(__file__).parents[2]
TEXT = [Path(bpe.__file__).with_name("tokenizer.py").read_text(encoding="utf-8") * 3]
FORMS = {
    "huggingface": "a.json",
    "gpt2": "folder",
    "tiktoken": "a.tiktoken",
    "jaxopt_lite": "own.json",
    "run": "run.npz",
}
ROWS = [(k % 256, (7 * k) % 256, 5000 - k) for k in range(5000)]  # as of a run, for the writer of checkpoints
MARK = "0" * 64
WRITER = """
import sys
from pathlib import Path
from tests.stress.bpe_kills import save, two_tokenizers
form, path = sys.argv[1], Path(sys.argv[2])
made = two_tokenizers()
print("writing", flush=True)
while True:
    for tokenizer in made:
        save(tokenizer, form, path)
"""


def two_tokenizers() -> list[bpe.Tokenizer]:
    """A smaller one and a larger one, each of which the other's files do not fit."""
    return [bpe.train(TEXT, size, pattern="gpt2", special_tokens=[f"<{size}>"], progress=False) for size in (400, 900)]


def save(tokenizer: bpe.Tokenizer, form: str, path: Path) -> None:
    """Write it in a form; as a checkpoint, rows of its number of merges."""
    if form == "run":
        write_checkpoint(path, MARK, ROWS[: len(tokenizer.vocabulary.merges)])
    else:
        tokenizer.save(path, form)


def read(form: str, path: Path) -> object:
    """What is there, as something to compare."""
    if form == "run":
        return read_checkpoint(path, MARK)
    tokenizer = bpe.load(path, **({"pattern": "gpt2"} if form == "tiktoken" else {}))
    return tokenizer.encode(TEXT[0][:2000]), len(tokenizer.vocabulary.merges), tokenizer.splitter


def killed(form: str, path: Path, wait: float) -> None:
    """Start a writer, and kill it after a while."""
    command = [sys.executable, "-c", WRITER, form, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def run(form: str, count: int, say: Callable[[str], None]) -> tuple[int, int]:
    """Kill writers of one form. Returns how often something was half written, and how much went wrong."""
    made, draw, wrong, left = two_tokenizers(), random.Random(form), 0, 0
    with tempfile.TemporaryDirectory() as place:
        path, known = Path(place, FORMS[form]), []
        for tokenizer in made:
            save(tokenizer, form, path)
            known.append(read(form, path))
        names = _names(place)
        for _ in range(count):
            killed(form, path, draw.random() * 0.15)
            left += len(_names(place)) > len(names)
            try:
                wrong += read(form, path) not in known
            except (ValueError, OSError) as error:
                say(f"{form}: {error}")
                wrong += 1
            if form == "gpt2":
                wrong += _reads_other_pairs(path, known, say)
            save(made[0], form, path)
            if _names(place) != names:
                say(f"{form}: left behind {sorted(set(_names(place)) ^ set(names))}")
                wrong += 1
    say(f"{form}: killed {count} times, {left} of them while something was half written; {wrong} wrong")
    return left, wrong


def _names(place: str) -> list[str]:
    return sorted(str(file) for file in Path(place).rglob("*"))


def _reads_other_pairs(folder: Path, known: list, say: Callable[[str], None]) -> int:
    """Whether the two files alone are one tokenizer, or are refused."""
    try:
        pair = bpe.load((folder / "vocab.json", folder / "merges.txt"))
    except ValueError as error:
        return "do not fit together" not in str(error)
    found = pair.encode(TEXT[0][:2000]), len(pair.vocabulary.merges), pair.splitter
    if found not in known:
        say("gpt2: the pair is of two tokenizers")
    return found not in known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    return any(run(form, options.count, lambda line: print(line, flush=True))[1] for form in FORMS)


if __name__ == "__main__":
    sys.exit(main())
