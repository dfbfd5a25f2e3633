"""What is saved changes a PyTorch model as the specialist changes the base; what PEFT cannot say is refused."""

import json
import os
import re
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from jaxopt_lite.files import write
from jaxopt_lite.specialists import IA3, Base, LoRA, Shift, TorchNames, compress, load_peft, merge, save_peft
from jaxopt_lite.specialists.adapters import as_adapter
from jaxopt_lite.specialists.peft import saving
from tests.oracles import peft as oracle
from tests.specialists.small import library_of

pytestmark = pytest.mark.hardly_optimized

D, H = 3, 4
CONV1D = ("c_fc",)  # whose matrix PyTorch holds as [in, out]
# Some modules end in another's name, and two are in another.
NAMES = {
    "wte/embedding": "wte.weight",
    "fc/kernel": "fc.weight",
    "fc/bias": "fc.bias",
    "h/0/fc/kernel": "h.0.c_fc.weight",
    "h/0/fc/bias": "h.0.c_fc.bias",
    "h/0/up/kernel": "h.0.up.weight",
    "norm/scale": "norm.weight",
    "norm/bias": "norm.bias",
    "head/kernel": "head.weight",
}


def shape_of(leaf, matrices):
    if leaf.endswith("kernel"):
        return (D, H) if matrices == "in_out" else (H, D)
    return (H, D) if leaf.endswith("embedding") else (H,)


def base_of(matrices="in_out", dtype=jnp.float32):
    numbers = np.random.default_rng(0)
    params = {}
    for leaf in NAMES:
        *keys, last = leaf.split("/")
        place = params
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = jax.device_put(numbers.normal(size=shape_of(leaf, matrices)).astype(dtype))
    return Base(params, lambda params, x: x)


def names_of(matrices="in_out"):
    return TorchNames(NAMES, matrices, conv1d=CONV1D)


def state_of(params, matrices="in_out"):
    """The `state_dict` of the PyTorch model with these parameters."""
    state = {}
    for leaf, name in NAMES.items():
        array = params
        for key in leaf.split("/"):
            array = array[key]
        lies_as_in_jax = (matrices == "out_in") != (name.split(".")[-2] in CONV1D) or not leaf.endswith("kernel")
        state[name] = np.asarray(array if lies_as_in_jax else array.T)
    return state


BASES = {matrices: base_of(matrices) for matrices in ("in_out", "out_in")}
KERNELS = ["fc/kernel", "h/0/fc/kernel", "h/0/up/kernel", "head/kernel"]


def specialist(base, adapter, seed=1, tied=()):
    adapter, numbers = as_adapter(adapter), np.random.default_rng(seed)
    shapes = jax.eval_shape(adapter.identity, base.params)  # which compiles nothing
    a = {key: (0.3 * numbers.normal(size=leaf.shape)).astype(leaf.dtype) for key, leaf in shapes.items()}
    a |= {f"scale:{bias}": a[f"scale:{kernel}"] for kernel, bias in tied}
    return library_of(base, adapter, "a", jax.device_put(jax.tree.map(lambda leaf: leaf[None], a)))


def assert_says(folder, library, matrices="in_out", **close):
    """That a folder does to the PyTorch model what the specialist does to the base."""
    changed = library.adapter.apply(library.base.params, library.adapter_of("a"))
    expected = state_of(changed, matrices)
    found = oracle.weights(folder, state_of(library.base.params, matrices), CONV1D)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, **({"rtol": 1e-5, "atol": 1e-6} | close), err_msg=name)


@st.composite
def loras(draw):
    where = draw(st.lists(st.sampled_from([*KERNELS, "wte/embedding"]), min_size=1, unique=True))
    parts = [LoRA(leaf, draw(st.sampled_from([1, 2])), draw(st.sampled_from([None, 2, 0.5]))) for leaf in where]
    biases = [f"{leaf.removesuffix('kernel')}bias" for leaf in where if leaf in ("fc/kernel", "h/0/fc/kernel")]
    shifts = draw(st.lists(st.sampled_from([*biases, "norm/scale", "norm/bias"]), unique=True))
    return as_adapter(sum(map(Shift, shifts), sum(parts[1:], parts[0])))


def check_both_ways(folder, adapter, matrices, tied=()):
    library, torch = specialist(BASES[matrices], adapter, tied=tied), names_of(matrices)
    save_peft(library, folder, torch)
    assert_says(folder, library, matrices)
    again = load_peft(folder, library, torch, name="a")
    assert_says(folder, again, matrices)
    for key, array in library.parameters.items():
        np.testing.assert_allclose(again.parameters[key], array, atol=1e-6)
    assert library.rename({"a": "b"}).add(again).names == ("b", "a")
    alone = load_peft(folder, library.base, torch, name="a")
    assert_says(folder, alone, matrices)
    save_peft(alone, folder, torch)
    assert_says(folder, library, matrices)


@settings(max_examples=15, deadline=None)
@given(loras(), st.sampled_from(["in_out", "out_in"]))
def test_lora_both_ways(tmp_path_factory, adapter, matrices):
    check_both_ways(tmp_path_factory.mktemp("lora"), adapter, matrices)


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KERNELS), st.booleans(), min_size=1),
    st.lists(st.sampled_from(["norm/scale", "norm/bias"]), unique=True),
    st.sampled_from(["in_out", "out_in"]),
)
def test_ia3_both_ways(tmp_path_factory, where, shifts, matrices):
    """Of the inputs of a layer; or of its outputs, and then of its bias too."""
    inputs = 0 if matrices == "in_out" else 1
    parts = [IA3(leaf, axis=inputs if feedforward else 1 - inputs) for leaf, feedforward in where.items()]
    biases = {
        k: b for k, b in {"fc/kernel": "fc/bias", "h/0/fc/kernel": "h/0/fc/bias"}.items() if where.get(k) is False
    }
    adapter = sum([*map(IA3, biases.values()), *map(Shift, shifts)], sum(parts[1:], parts[0]))
    check_both_ways(tmp_path_factory.mktemp("ia3"), as_adapter(adapter), matrices, tied=biases.items())


def test_the_files_are_as_peft_writes_them(tmp_path):
    adapter = LoRA("h/0/fc/kernel", rank=2, alpha=3) + LoRA("head/kernel", rank=1, alpha=3) + Shift("norm/bias")
    save_peft(
        specialist(BASES["in_out"], adapter),
        tmp_path / "new" / "folder",
        names_of(),
        base_model="gpt2",
        task_type="CAUSAL_LM",
    )
    with safe_open(tmp_path / "new" / "folder" / "adapter_model.safetensors", "numpy") as file:
        shapes = {name: file.get_tensor(name).shape for name in file.keys()}
        assert file.metadata() == {"format": "pt"}
    assert shapes == {
        "base_model.model.h.0.c_fc.lora_A.weight": (2, D),
        "base_model.model.h.0.c_fc.lora_B.weight": (H, 2),
        "base_model.model.head.lora_A.weight": (1, D),
        "base_model.model.head.lora_B.weight": (H, 1),
        "base_model.model.norm.weight": (H,),
        "base_model.model.norm.bias": (H,),
    }
    config = json.loads((tmp_path / "new" / "folder" / "adapter_config.json").read_text())
    assert config == {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": "gpt2", "bias": "none",
        "fan_in_fan_out": True, "inference_mode": True, "init_lora_weights": True, "lora_alpha": 3, "lora_dropout": 0.0,
        "modules_to_save": ["norm"], "peft_type": "LORA", "r": 2, "rank_pattern": {"head": 1}, "revision": None,
        "target_modules": ["h.0.c_fc", "head"], "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False,
    }  # fmt: skip
    assert set(os.listdir(tmp_path / "new" / "folder")) == {".lock", "adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("computed", ["float32", "bfloat16", "float16"])
def test_dtypes(tmp_path, kept, computed):
    """The file has the one that is asked for, and what is loaded that of the base."""
    base = base_of(dtype=computed)
    library = specialist(base, LoRA("fc/kernel", rank=2) + Shift("norm/bias"))
    save_peft(library, tmp_path, names_of(), dtype=kept)
    with safe_open(tmp_path / "adapter_model.safetensors", "numpy") as file:
        found = {str(file.get_tensor(name).dtype) for name in file.keys() if ".lora_" in name}
        assert found == {kept} and str(file.get_tensor("base_model.model.norm.bias").dtype) == computed
    again = load_peft(tmp_path, library, names_of())
    precision = max(float(jnp.finfo(dtype).eps) for dtype in (kept, computed))
    for key, array in library.parameters.items():
        assert again.parameters[key].dtype == array.dtype == computed
        np.testing.assert_allclose(
            np.asarray(again.parameters[key], np.float32), np.asarray(array, np.float32), atol=4 * precision
        )


def test_what_was_merged_is_saved_once_it_is_lora_again(tmp_path):
    one, other = (specialist(BASES["in_out"], LoRA("fc/kernel", rank=1), seed=seed) for seed in (1, 2))
    merged = merge(one.rename({"a": "b"}).add(other), name="a")
    with pytest.raises(ValueError, match="neither LoRA nor IA3 on matrices; .* `compress` makes LoRA of it again"):
        save_peft(merged, tmp_path, names_of())
    library = compress(merged, LoRA("fc/kernel", rank=2)).library
    save_peft(library, tmp_path, names_of())
    assert_says(tmp_path, merged, atol=1e-5)


def test_merged_ia3_is_ia3(tmp_path):
    parts, tied = IA3("fc/kernel") + IA3("fc/bias"), [("fc/kernel", "fc/bias")]
    one, other = (specialist(BASES["in_out"], parts, seed, tied) for seed in (1, 2))
    merged = merge(one.rename({"a": "b"}).add(other), name="a")
    save_peft(merged, tmp_path, names_of())
    assert_says(tmp_path, merged)


LORA = LoRA("fc/kernel", rank=1)
REFUSED = {
    "both": (LORA + IA3("head/kernel", axis=0), "this adapter has both LoRA and IA3 on matrices"),
    "none": (Shift("norm/*"), "this adapter has neither LoRA nor IA3 on matrices"),
    "a scaled vector alone": (IA3("norm/scale"), "this adapter has neither LoRA nor IA3 on matrices"),
    "an embedding": (IA3("wte/embedding"), "IA3 on 'wte/embedding', an embedding, which PEFT's IA3 does not change"),
    "outputs without the bias": (IA3("fc/kernel"), "PEFT scales the bias of 'fc' by the same"),
    "outputs and another bias": (IA3("fc/kernel") + IA3("fc/bias"), "has another change, or none. Scale the inputs"),
    "outputs and a shift": (IA3("fc/kernel") + Shift("fc/bias"), "has another change, or none"),
    "inputs and the bias": (
        IA3("fc/kernel", axis=0) + Shift("fc/bias"),
        "PEFT saves 'fc' whole, for a Shift or a scaled vector in it, and then does not adapt 'fc'",
    ),
    "another that ends so": (LoRA("head/kernel", rank=1) + Shift("fc/bias"), "would save 'h.0.c_fc' too, for its name"),
}  # fmt: skip


@pytest.mark.parametrize(("adapter", "message"), REFUSED.values(), ids=REFUSED)
def test_what_peft_cannot_say(tmp_path, adapter, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        save_peft(specialist(BASES["in_out"], adapter), tmp_path / "new", names_of())
    assert not (tmp_path / "new").exists()


def other(params, names, rest=None):
    adapter = LoRA("w", rank=1)
    library = specialist(Base(params, lambda params, x: x), adapter if rest is None else adapter + rest)
    return lambda folder: save_peft(library, folder, names)


W = np.ones((2, 3))
FOREIGN = {
    "not there": (other({"w": W}, TorchNames({"w": None})), "changes 'w', which the PyTorch model does not have"),
    "no weight": (other({"w": W}, TorchNames({"w": "a.in_proj_weight"})), "PEFT's is for a matrix that is the weight"),
    "a stack": (other({"w": W[None]}, None), "LoRA on 'w', of shape (1, 2, 3)"),
    "a kernel of a convolution": (
        other({"w": W, "c": {"w": W[None]}}, None, Shift("c/w")),
        "'c/w' has shape (1, 2, 3); expected vectors and matrices",
    ),
    "inside": (
        other({"w": W, "s": W}, TorchNames({"w": "h.a.weight", "s": "h.scale"}), Shift("s")),
        "PEFT saves 'h' whole, for a Shift or a scaled vector in it, and then does not adapt 'h.a'",
    ),
}


@pytest.mark.parametrize(("save", "message"), FOREIGN.values(), ids=FOREIGN)
def test_leaves_that_are_no_weight_of_a_module(tmp_path, save, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        save(tmp_path)


def test_a_scalar_comes_back_as_one(tmp_path):
    base = Base({"fc": {"kernel": W}, "temp": np.ones(())}, lambda params, x: x)
    library = specialist(base, LoRA("fc/kernel", rank=1) + Shift("temp"))
    save_peft(library, tmp_path)
    assert load_peft(tmp_path, library).parameters["shift:temp"].shape == (1,)


def test_numbers_and_names_that_no_file_can_hold(tmp_path):
    library = specialist(BASES["in_out"], LORA)
    with pytest.raises(ValueError, match="a library of 2; expected one, such as library"):
        save_peft(library.add(specialist(BASES["in_out"], LORA, seed=2).rename({"a": "b"})), tmp_path, names_of())
    wide = library_of(library.base, library.adapter, "a", jax.tree.map(lambda leaf: 1e6 * leaf, library.parameters))
    with pytest.raises(ValueError, match="holds NaN or infinity as float16; fit it again, or take a wider dtype"):
        save_peft(wide, tmp_path, names_of(), dtype="float16")
    with pytest.raises(ValueError, match=r"'base_model.model.fc.lora_A.weight' is int8; expected floating-point"):
        save_peft(library, tmp_path, names_of(), dtype="int8")
    with pytest.raises(TypeError, match="task_type=3: expected a string"):
        save_peft(library, tmp_path, names_of(), task_type=3)
    assert not os.listdir(tmp_path)


def test_an_adapter_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    library, changed = (specialist(BASES["in_out"], LORA, seed=seed) for seed in (1, 2))
    (tmp_path / "README.md").write_text("mine")
    save_peft(library, tmp_path, names_of())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path, data, put=saving.put, calls=[]):  # noqa: B006
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        put(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "put", full)
        with pytest.raises(OSError, match=re.escape(f"No space left on device: {str(tmp_path)!r}")):
            save_peft(changed, tmp_path, names_of())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_peft(changed, tmp_path, names_of())
    assert_says(tmp_path, changed)
    assert {path.name for path in tmp_path.iterdir()} == before.keys()
    assert (tmp_path / "README.md").read_text() == "mine"


def test_arrays_never_stand_beside_other_settings(tmp_path, monkeypatch):
    """One that is stopped between its two files leaves a folder that nothing loads, and the next save repairs it."""
    library, changed = (specialist(BASES["in_out"], LORA, seed=seed) for seed in (1, 2))
    save_peft(library, tmp_path, names_of())

    def stopped(part, path, replace=Path.replace):
        if path.name == "adapter_config.json":
            raise KeyboardInterrupt
        replace(part, path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            save_peft(changed, tmp_path, names_of())
    assert set(os.listdir(tmp_path)) == {".lock", "adapter_model.safetensors"}
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json does not exist"):
        load_peft(tmp_path, library, names_of())
    save_peft(changed, tmp_path, names_of())
    assert_says(tmp_path, changed)


def test_a_folder_in_the_place_of_a_file_stays(tmp_path):
    (tmp_path / "adapter_config.json").mkdir()
    with pytest.raises(OSError, match="exists, and is not a file; choose another folder"):
        save_peft(specialist(BASES["in_out"], LORA), tmp_path, names_of())
    assert set(os.listdir(tmp_path)) == {".lock", "adapter_config.json"}


def test_two_that_save_to_one_folder_take_turns(tmp_path, monkeypatch):
    """The second begins while the first has written its arrays and not its settings; the folder holds one of them."""
    first, second = (specialist(BASES["in_out"], LoRA("fc/kernel", rank=rank)) for rank in (1, 2))
    other = threading.Thread(target=lambda: save_peft(second, tmp_path, names_of()))

    def slow(part, path, replace=Path.replace):
        replace(part, path)
        if path.name == "adapter_model.safetensors" and threading.current_thread() is not other:
            other.start()
            other.join(0.3)
            assert json_rank(tmp_path / "adapter_config.json") is None  # it waits
            write(tmp_path / "README.md", b"a writer of another file, which clears what killed ones left")

    def json_rank(path):
        return json.loads(path.read_text())["r"] if path.exists() else None

    monkeypatch.setattr(Path, "replace", slow)
    save_peft(first, tmp_path, names_of())
    other.join(30)
    assert json_rank(tmp_path / "adapter_config.json") == 2
    assert_says(tmp_path, second)
    assert set(os.listdir(tmp_path)) == {".lock", "README.md", "adapter_config.json", "adapter_model.safetensors"}
