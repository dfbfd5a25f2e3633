"""What PEFT itself makes of a folder that was written here, and what is made here of one that it wrote.

The models have random weights and no download. Both the changed weights and the outputs have to agree.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lite.specialists import IA3, LoRA, Shift, load_peft, save_peft
from jaxopt_lite.specialists.adapters import as_adapter
from tests.specialists.models import moved
from tests.specialists.peft.transformer import base_of, is_turned, leaf_of
from tests.specialists.small import library_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of PyTorch and transformers

SIZES = {"vocab_size": 13, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}
TOKENS = np.random.default_rng(0).integers(0, 13, size=(3, 6))
CONV1D = "c_attn", "c_proj", "c_fc"


@pytest.fixture(scope="module")
def outside():
    """PEFT, PyTorch and transformers, which never look for a network."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    names = "peft", "torch", "transformers"
    yield tuple(pytest.importorskip(name, reason=f"{name} is not installed; pip install peft torch") for name in names)
    patch.undo()


@pytest.fixture(params=["Conv1D", "Linear"])
def both(outside, request):
    """A model in PyTorch whose layers are of this class, made anew by a function, and the same in JAX."""
    _, torch, transformers = outside
    if request.param == "Conv1D":
        settings = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, n_positions=6, **SIZES)
    else:
        kinds = [[["global"], 2]]
        settings = transformers.GPTNeoConfig(
            num_layers=2, num_heads=2, hidden_size=8, max_position_embeddings=6, attention_types=kinds, **SIZES
        )

    def make():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(settings).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model

    conv1d = CONV1D if request.param == "Conv1D" else ()
    return make, *base_of({name: p.detach().numpy() for name, p in make().named_parameters()}, conv1d)


def assert_agree(outside, model, library, conv1d):
    """Of a model with an adapter in PEFT, and a specialist."""
    _, torch, _ = outside
    with torch.no_grad():
        logits = model(torch.as_tensor(TOKENS)).logits.numpy()
        merged = {name: p.numpy() for name, p in model.merge_and_unload().named_parameters()}
    ours = library.apply(jnp.asarray(TOKENS), jnp.zeros(len(TOKENS), int))
    np.testing.assert_allclose(ours, logits, rtol=2e-4, atol=2e-5)
    base_logits = library.apply(jnp.asarray(TOKENS), jnp.full(len(TOKENS), -1))
    assert np.abs(base_logits - logits).max() > 0.1  # the adapter does something
    params = library.adapter.apply(library.base.params, library.adapter_of(library.names[0]))
    for name, array in merged.items():
        leaf = params
        for key in leaf_of(name).split("/"):
            leaf = leaf[key]
        np.testing.assert_allclose(leaf.T if is_turned(name, conv1d) else leaf, array, rtol=1e-5, atol=1e-6)


def adapter_for(kind, is_conv1d):
    attention = "transformer/h/*/attn/c_attn" if is_conv1d else "transformer/h/*/attn/attention/v_proj"
    if kind == "ia3":
        outputs = IA3(f"{attention}/kernel") + IA3(f"{attention}/bias") if is_conv1d else IA3(f"{attention}/kernel")
        return outputs + IA3("transformer/h/*/mlp/c_proj/kernel", axis=0) + Shift("transformer/ln_f/bias")
    return (
        LoRA(f"{attention}/kernel", rank=2, alpha=3.5)
        + LoRA("transformer/h/0/mlp/c_fc/kernel", rank=3)
        + LoRA("transformer/h/1/mlp/c_fc/kernel", rank=1, alpha=2)
        + LoRA("transformer/wte/embedding", rank=2)
        + Shift("transformer/h/*/mlp/c_fc/bias")
        + Shift("transformer/ln_f/*")
        + Shift("lm_head/kernel")
    )


@pytest.mark.parametrize("kind", ["lora", "ia3"])
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_peft_computes_what_was_saved_here(outside, both, tmp_path, kind, dtype):
    make, base, names = both
    adapter = as_adapter(adapter_for(kind, bool(names.conv1d)))
    a = moved(adapter, base.params)
    for layer in "01" if kind == "ia3" and names.conv1d else "":  # as PEFT has it
        at = f"transformer/h/{layer}/attn/c_attn"
        a[f"scale:{at}/bias"] = a[f"scale:{at}/kernel"]
    library = library_of(base, adapter, "a", jax.tree.map(lambda leaf: leaf[None], a))
    save_peft(library, tmp_path, names, dtype=dtype, task_type="CAUSAL_LM")
    again = load_peft(tmp_path, library, names, name="a")
    if dtype is None:
        for key, value in library.parameters.items():
            np.testing.assert_allclose(again.parameters[key], value, rtol=1e-6, atol=1e-6)
    model = outside[0].PeftModel.from_pretrained(make(), tmp_path)
    assert_agree(outside, model, again, names.conv1d)


def configs(peft, is_conv1d):
    attention = "c_attn" if is_conv1d else "v_proj"
    lora = {"task_type": "CAUSAL_LM", "fan_in_fan_out": is_conv1d}
    return {
        "lora": peft.LoraConfig(r=3, lora_alpha=5, target_modules=[attention, "c_fc"], **lora),
        "rslora": peft.LoraConfig(
            r=2,
            use_rslora=True,
            target_modules=r".*\.(c_fc|c_proj)",
            rank_pattern={"h.0.mlp.c_fc": 4, "c_proj": 3},
            alpha_pattern={"^transformer.h.1.mlp.c_fc": 7},
            **lora,
        ),
        "biases": peft.LoraConfig(target_modules=["c_fc"], bias="all", modules_to_save=["lm_head"], **lora),
        "embeddings": peft.LoraConfig(target_modules=["wte", "c_proj"], bias="lora_only", lora_alpha=2.5, **lora),
        "ia3": peft.IA3Config(
            target_modules=[attention, "c_proj"],
            feedforward_modules=["mlp.c_proj"] if is_conv1d else ["c_proj"],
            fan_in_fan_out=is_conv1d,
            modules_to_save=["ln_f"],
        )
        if not is_conv1d
        else peft.IA3Config(
            target_modules=r".*\.(attn\.c_attn|mlp\.c_proj)", feedforward_modules=r".*mlp\.c_proj", fan_in_fan_out=True
        ),
    }


@pytest.mark.parametrize("case", ["lora", "rslora", "biases", "embeddings", "ia3"])
def test_what_peft_saved_is_computed_here(outside, both, tmp_path, case):
    peft, torch, _ = outside
    make, base, names = both
    model = peft.get_peft_model(make(), configs(peft, bool(names.conv1d))[case])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(1.0 if "ia3" in name else 0.0, 0.3)
    model.eval().save_pretrained(tmp_path)
    library = load_peft(tmp_path, base, names)
    assert library.cards[0].name == tmp_path.name and f"peft_version={peft.__version__}" in library.cards[0].notes
    assert_agree(outside, model, library, names.conv1d)

    # And from there to PEFT again: with the same adapter, and from it.
    save_peft(library, tmp_path / "again", names)
    again = peft.PeftModel.from_pretrained(make(), tmp_path / "again")
    assert_agree(outside, again, library, names.conv1d)


def test_a_variant_that_peft_saved_is_refused(outside, both, tmp_path):
    peft = outside[0]
    make, base, names = both
    config = peft.LoraConfig(target_modules=["c_fc"], use_dora=True)
    peft.get_peft_model(make(), config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="use_dora=True, DoRA"):
        load_peft(tmp_path, base, names)


def test_every_setting_of_this_version_is_known(outside, both, tmp_path):
    """None of PEFT's own settings, where they have their defaults, is new to what reads them."""
    peft = outside[0]
    make, base, names = both
    for config in (
        peft.LoraConfig(target_modules=["c_fc"], init_lora_weights=False),
        peft.IA3Config(target_modules=["c_proj"], feedforward_modules=["c_proj"], init_ia3_weights=False),
    ):
        peft.get_peft_model(make(), config).save_pretrained(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(importlib.import_module("warnings"), "warn", pytest.fail)
            load_peft(tmp_path, base, names)
