"""What is saved runs in tokenizers 1.0 and in transformers, each in an environment of its own; with the same ids.

The environments are made from the package registry, once a run. Without it the tests are skipped.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from jaxopt_lite import bpe
from jaxopt_lite.bpe.formats.huggingface import ServingWarning
from tests.bpe.texts import odd_texts, sources

TEXTS = [
    *sources()[:2],
    *odd_texts(60, seed=3),
    "The cat's 12345 hats;\n\n  don't STOP 東京 naïve\t",
    "x\n  ",
    "a\x1cb c",
]
SERVED = ("gpt2", "llama3", "qwen2", "o200k", "whitespace", "tekken")
CHAT = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"


def environment(folder, *packages):
    """The interpreter of a new environment with these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{packages} cannot be installed here: {done.stderr[-200:]}")
    return python


def served(python, kind, paths):
    command = [python, Path(__file__).with_name("serving.py"), kind, *paths]
    done = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def trained(pattern, size=700, **settings):
    return bpe.train(
        sources()[:5], size, pattern=pattern, special_tokens=["<|end|>", "<pad>"], progress=False, **settings
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's folders are others")
def test_tokenizers_1_0(tmp_path):
    python = environment(tmp_path / "venv", "--pre", "tokenizers>=1.0.0rc3")
    tokenizers = {name: trained(name) for name in SERVED}
    tokenizers["characters"] = trained("whitespace", level="char", byte_fallback=True)
    paths = []
    for name, tokenizer in tokenizers.items():
        paths.append(tmp_path / f"{name}.json")
        tokenizer.save(paths[-1])
    for (name, tokenizer), found in zip(tokenizers.items(), served(python, "tokenizers", paths), strict=True):
        assert found.get("ids") == tokenizer.encode_batch(TEXTS), (name, found.get("error"))


@pytest.mark.slow
def test_tokenizers_1_0_refuses_what_is_said_when_it_is_saved(tmp_path):
    """Should it take more one day, there is less to say."""
    python = environment(tmp_path / "venv", "--pre", "tokenizers>=1.0.0rc3")
    paths = []
    for number, (pattern, size) in enumerate({"gpt4": 700, r"\d+|\D": 300}.items()):  # of digits few merges are made
        paths.append(tmp_path / f"{number}.json")
        with pytest.warns(ServingWarning, match=r"tokenizers 1\.0 does not take the pattern"):
            trained(pattern, size).save(paths[-1])
    assert all("backend" in found["error"] for found in served(python, "tokenizers", paths))


def test_what_1_0_takes_is_saved_without_a_word(tmp_path, recwarn):
    for name in SERVED:
        bpe.train(["a b"], merges=0, pattern=name).save(tmp_path / "a.json")
    assert not recwarn.list


@pytest.mark.slow
def test_transformers(tmp_path):
    python = environment(tmp_path / "venv", "transformers", "jinja2")
    plain, characters = trained("llama3"), trained("whitespace", level="char", byte_fallback=True)
    plain.save(tmp_path / "plain", eos="<|end|>", pad="<pad>", chat_template=CHAT)
    characters.save(tmp_path / "characters", eos="<|end|>")
    trained("gpt2").save(tmp_path / "bare")
    first, second, bare = served(python, "transformers", [tmp_path / name for name in ("plain", "characters", "bare")])
    assert first["ids"] == plain.encode_batch(TEXTS) and second["ids"] == characters.encode_batch(TEXTS)
    assert bare["eos"] is None and bare["chat"] is None and bare["ids"] == trained("gpt2").encode_batch(TEXTS)
    assert (first["eos"], first["pad"], second["eos"]) == ("<|end|>", plain.token_to_id("<pad>"), "<|end|>")
    assert first["chat"] == "<|user|>Hello<|end|><|assistant|>Hi<|end|>"
    assert len({len(row) for row in first["padded"]}) == 1
