"""Files of specialists with a mistake in them: each loads whole, or is refused by an error that names it.

    python -m tests.stress.specialists_mutations [--count 6000] [--seed 0]

Valid files are made: a folder, one of an earlier version with its index, a specialist's own file, a base, a geometry, a
save of which not all is done. Then
bytes are flipped, cut, doubled or spliced; values in their JSON are replaced by values of every type, keys dropped,
renamed or doubled; and numbers are replaced by NaN. Half of the time the checksums, and the id, are made right again,
so that the checks behind them are reached. An error that is no ValueError and no OSError, a load that takes long, or a
file that was changed elsewhere, is a fault.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lite.specialists import (
    IA3,
    Base,
    Geometry,
    Library,
    LoRA,
    Shift,
    load,
    load_base,
    save,
    save_base,
    save_one,
)
from jaxopt_lite.specialists.adapters import from_spec
from jaxopt_lite.specialists.leaves import digest
from jaxopt_lite.specialists.tensor_files import canonical
from tests.specialists.store_cases import base_of, library_of

__all__ = ["run"]

_MARKS: dict[str, bytes] = {}  # of what is valid
_LIMIT = 20  # seconds that one load may take; they take milliseconds
_BASE = base_of(tokenizer=True)
_ADAPTERS = [IA3("hidden") + Shift("bias"), LoRA("hidden", rank=2, alpha=3.0) + Shift("b*")]
_LAYERS = Base(
    {"layers": [{"w": jnp.ones((2, 3), jnp.bfloat16)}, {"w": np.arange(4)}], "on": np.array([True, False]), "s": 1.0},
    lambda params, x: x,
    name="layers",
)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.0, 1.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "1", "a" * 3000, "\ud800", "\0", "../x.safetensors", "/tmp/x.safetensors", "C:x.safetensors",
    "index.json", "license", "F32", "F64", "F4", "I64", "BOOL", "__metadata__", "0" * 64, [], {}, [[]], [0], [1, 2, 3],
    [None], ["x"], [-1], [2**62, 2**62], [0, 2**62], [1.0], {"a": 1}, {"": None}, {"kind": "Shift", "path": "*"},
    [{"kind": "LoRA", "path": "hidden", "rank": 10**9}], [{"kind": "IA3", "path": "*a" * 50 + "b"}], [{"kind": ["x"]}],
]  # fmt: skip
_BYTES = [b"", b"\0", b"\xff", b"{", b"}", b'"', b"[" * 5000, b'{"a":' * 5000, b"null", b"1e999", b"\xed\xa0\x80"]


class Fault(Exception):
    """What should not have happened."""


def run(count: int, seed: int, folder: Path) -> tuple[list[str], Counter[str]]:
    """Load files with mistakes; what went wrong, and how often what came of it."""
    rng, faults, outcomes = random.Random(seed), [], Counter()
    valid = _valid(folder / "valid")
    _MARKS.update(
        {name: _mark(call(valid / name)) for name, call in _KINDS.items() if name[:4] in ("base", "file", "geom")}
    )
    canary = folder / "x.safetensors"
    canary.write_text("untouched")
    for number in range(count):
        place = folder / "tried"
        shutil.rmtree(place, ignore_errors=True)
        name = rng.choice(list(_KINDS))
        shutil.copytree(valid / name, place)
        what = _spoil(rng, place, name, valid)
        try:
            outcomes[f"{name}: {_attempt(place, name, what)}"] += 1
            if canary.read_text() != "untouched":
                raise Fault("a file elsewhere was changed")
        except Exception as error:
            faults.append(f"seed {seed}, number {number}, {name}, {what}: {type(error).__name__}: {error}"[:2000])
            canary.write_text("untouched")
    return faults, outcomes


def _valid(folder: Path) -> Path:
    """One of each kind, each in a folder of its own."""
    for number, adapter in enumerate(_ADAPTERS):
        library = library_of("a", "b", "ü\ud800", base=_BASE, adapter=adapter)
        for name in ("folder", "pending", "save"):
            save(library, folder / f"{name} {number}")
        (folder / f"file {number}").mkdir()
        save_one(library["a"], folder / f"file {number}" / "one.safetensors")
        commit = folder / f"pending {number}" / ".saved-00000000"
        commit.mkdir()
        save_one(library_of("d", base=_BASE, adapter=adapter), commit / "d.safetensors")
        removed = {path.name: [0, 0, path.stat().st_size] for path in commit.parent.glob("*.safetensors")}
        _write_json(commit / "removed.json", removed, False)
    shutil.copytree(Path(__file__).parents[1] / "specialists" / "version_1" / "library", folder / "old")
    for name, base in (("base 0", _BASE), ("base 1", _LAYERS)):
        (folder / name).mkdir()
        save_base(base, folder / name / "one.safetensors")
    (folder / "geometry").mkdir()
    one = np.float32(1)
    geometry = Geometry(np.ones(3, "f4"), np.eye(3, dtype="f4"), one, one, _BASE.fingerprint)
    geometry.save(folder / "geometry" / "one.safetensors")
    return folder


def _again(number: int, place: Path) -> object:
    return save(library_of("a", "c", base=_BASE, adapter=_ADAPTERS[number]), place, others="remove")


_KINDS: dict[str, Callable[[Path], object]] = {
    "folder 0": lambda place: load(place, _BASE),
    "folder 1": lambda place: load(place, _BASE, errors="skip"),
    "old": lambda place: load(place, _BASE),
    "file 0": lambda place: load(place / "one.safetensors", _BASE),
    "file 1": lambda place: load(place / "one.safetensors", _BASE),
    "base 0": lambda place: load_base(place / "one.safetensors", _BASE),
    "base 1": lambda place: load_base(place / "one.safetensors", _LAYERS),
    "geometry": lambda place: Geometry.load(place / "one.safetensors", _BASE),
    "pending 0": lambda place: _again(0, place),
    "pending 1": lambda place: load(place, _BASE),
    "save 0": lambda place: _again(0, place),
    "save 1": lambda place: load(place, _BASE, errors="skip"),
}


def _attempt(place: Path, name: str, what: str) -> str:
    """Load, and say what came of it.

    Raises:
        Exception: a fault.
    """
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(action="ignore"), _limited():
            found = _KINDS[name](place)
    except (ValueError, OSError) as error:
        if str(place) not in str(error):
            raise Fault(f"the error names no file: {type(error).__name__}: {error}") from error
        return f"refused by {type(error).__name__}"
    if time.perf_counter() - start > _LIMIT / 4:
        raise Fault(f"it took {time.perf_counter() - start:.1f} s")
    mark = _mark(found)
    if "right" not in what and name in _MARKS and mark != _MARKS[name]:
        raise Fault("what was loaded is another than was saved, and its checksum does not say so")
    if isinstance(found, Library) and len(found):
        if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((found.parameters, found.profile))):
            raise Fault("what was loaded is not finite")
        save(found, place / "again")  # what is loaded can be saved
        if load(place / "again", _BASE).ids != found.ids:
            raise Fault("what was loaded is saved as something else")
    return "loaded"


def _mark(found: Any) -> bytes:
    """What is loaded, down to the bit."""
    leaves = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found))
    return leaves + repr(getattr(found, "cards", "")).encode("utf-8", "surrogatepass")


@contextmanager
def _limited() -> Iterator[None]:
    """A fault where it takes too long; where the system can tell."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _stop(*_: object) -> None:
    raise Fault(f"it took more than {_LIMIT} s")


def _spoil(rng: random.Random, place: Path, name: str, valid: Path) -> str:
    """Make a mistake in one of the files; what it was."""
    files = sorted(path for path in place.iterdir() if path.name[0] != ".")
    if name.startswith("pending"):
        files = [*[place / ".saved-00000000" / "removed.json"] * 3, place / ".saved-00000000" / "d.safetensors", *files]
    path = rng.choice(files)
    is_json, right = path.suffix == ".json", rng.random() < 0.5
    if rng.random() < 0.35:
        path.write_bytes(_spoilt_bytes(rng, path.read_bytes(), valid))
        return f"bytes of {path.name}"
    if is_json:
        content = json.loads(path.read_bytes())
        text = _spoil_json(rng, content)
        _write_json(path, content, right)
        return f"{text} of {path.name}, checksum {'right' if right else 'as it was'}"
    return f"{_spoil_tensors(rng, path, right)} of {path.name}, checksum {'right' if right else 'as it was'}"


def _spoilt_bytes(rng: random.Random, data: bytes, valid: Path) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        start = rng.randrange(len(out) + 1) if rng.random() < 0.5 else min(rng.randrange(40), len(out))
        end = min(len(out), start + rng.choice([0, 1, 1, 8, 100]))
        how = rng.randrange(6)
        if how == 0 and start < len(out):
            out[start] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[start:end] = rng.choice(_BYTES)
        elif how == 2:
            out[start:start] = out[start:end]
        elif how == 3:
            del out[rng.choice([start, end]) :]
        elif how == 4:
            other = rng.choice(sorted(path for path in valid.rglob("*.[sj]*") if path.is_file())).read_bytes()
            out[start:] = other[rng.randrange(len(other)) :]
        else:
            length = rng.choice([0, 1, 7, len(out), max(len(out) - 8, 0), 2**31, 2**63, 2**64 - 1])
            out[:8] = length.to_bytes(8, "little")
    return bytes(out)


def _spoil_json(rng: random.Random, content: Any) -> str:
    """Change one value, or the keys, anywhere in it."""
    nodes = [content]
    for node in nodes:
        nodes += [v for v in (node.values() if isinstance(node, dict) else node) if isinstance(v, dict | list) and v]
    node = rng.choice(nodes)
    key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    how = rng.randrange(5)
    if how == 0:
        del node[key]
        return f"without {key!r}"
    if how == 1 and isinstance(node, dict):
        new = rng.choice([value for value in VALUES if isinstance(value, str)])
        node[new] = node.pop(key)
        return f"{key!r} renamed {new[:20]!r}"
    if how == 2:
        other = rng.choice(nodes)
        node[key] = json.loads(json.dumps(other))
        return f"{key!r} replaced by another part"
    if how == 3 and isinstance(node, list):
        node.append(node[key])
        return f"{key!r} there twice"
    node[key] = rng.choice(VALUES)
    return f"{key!r} = {str(node[key])[:40]!r}"


def _write_json(path: Path, content: Any, right: bool) -> None:
    """As JSON; with a checksum that fits, where it can have one."""
    if right and isinstance(content, dict):
        content = {key: value for key, value in content.items() if key != "checksum"}
        with suppress(ValueError):
            content["checksum"] = digest({}, canonical(content))
    path.write_text(json.dumps(content))


def _spoil_tensors(rng: random.Random, path: Path, right: bool) -> str:
    """A mistake in the header of a file of arrays, in the JSON within it, or in the numbers."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:end]), bytearray(data[end:])
    metadata = header["__metadata__"]
    inside = [key for key in ("card", "adapter") if key in metadata]
    if inside and rng.random() < 0.4:
        key = rng.choice(inside)
        within = [json.loads(metadata[key])]
        what = f"{key}: {_spoil_json(rng, within)}"
        metadata[key] = json.dumps(within[0] if within else None)
    elif rng.random() < 0.2:
        place = rng.randrange(len(body) // 4) * 4
        body[place : place + 4] = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 4, b"\0" * 4])
        what = "numbers"
    else:
        what = _spoil_json(rng, header)
    if right:
        _make_right(header, bytes(body))
    text = json.dumps(header).encode()
    if rng.random() < 0.05:
        text = text.replace(b'"dtype"', b'"dtype": "F32", "dtype"', 1)
        what += ", a key doubled"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(body))
    return what


def _make_right(header: Any, body: bytes) -> None:
    """The id and the checksum that fit, where what is there can have them."""
    with suppress(Exception):
        dtypes = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": bool, "BF16": jnp.bfloat16}
        arrays = {
            name: np.frombuffer(body[slice(*entry["data_offsets"])], dtypes[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
        metadata = header["__metadata__"]
        with suppress(Exception):
            own = {name.removeprefix("parameters/"): a for name, a in arrays.items() if name.startswith("parameters/")}
            spec = repr(from_spec(json.loads(metadata["adapter"])).spec())
            if "id" in metadata:
                metadata["id"] = digest(own, metadata["base"], metadata["tokenizer"], spec)
        rest = {key: value for key, value in metadata.items() if key != "checksum"}
        metadata["checksum"] = digest(arrays, canonical(rest))


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        faults, outcomes = run(options.count, options.seed, Path(folder))
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:6} {outcome}")
    print("\n".join(faults[:20]))
    print(f"{len(faults)} faults in {options.count} files, {time.perf_counter() - start:.0f} s, seed {options.seed}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
