"""Settings mean to PEFT what they were written for, and those that mean something else are refused."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lite.specialists.peft import settings as module
from jaxopt_lite.specialists.peft.settings import ends_in, parse, pattern_of, rule_for, written
from tests.oracles import peft as oracle

# Names of which some end in others, with and without a dot before it.
NAMES = st.lists(st.sampled_from(["a", "b", "ba", "a+"]), min_size=1, max_size=3).map(".".join)
MODULES = st.lists(NAMES, min_size=1, max_size=8, unique=True)


@given(MODULES, st.data())
def test_a_rule_chooses_what_it_was_written_for(modules, data):
    wanted = data.draw(st.lists(st.sampled_from(modules), unique=True))
    rule = rule_for(wanted, modules)
    assert {m for m in modules if oracle.is_target(rule, m)} == set(wanted)
    rule = rule_for(wanted, modules, ends_in)
    assert {m for m in modules if oracle.is_feedforward(rule, m)} == set(wanted)


def test_a_rule_is_a_list_where_it_can_be():
    assert rule_for(["h.1.a", "h.0.a"], ["h.0.a", "h.1.a", "h.0.b"]) == ["h.0.a", "h.1.a"]
    assert rule_for(["a"], ["a", "h.a"]) == "a" and rule_for(["h.a"], ["a", "h.a"]) == ["h.a"]


@given(MODULES, st.data())
def test_patterns_give_the_values_that_they_were_written_for(modules, data):
    values = {module: data.draw(st.sampled_from([1, 2, 3])) for module in modules}
    common, patterns = pattern_of(values)
    assert {m: oracle.by_pattern(patterns, m, common) for m in modules} == values
    assert len(patterns) < len(modules)
    config = parse(written("LORA", {"r": common, "rank_pattern": patterns, "lora_alpha": 3}))
    assert {m: config.rank(m) for m in modules} == values and config.alpha(modules[0]) == 3


def test_the_scale_of_rslora():
    config = parse(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": True}).encode())
    assert config.alpha("any") / 4 == 6 / 4**0.5


def settings(**entries):
    known = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["a"]}
    return json.dumps(known | entries).encode()


REFUSED = {
    "no JSON": (b"{", "it is not JSON"),
    "another encoding": (b"\xff\xfe{}", "it is not JSON"),
    "deep": (b"[" * 100_000, "it is not JSON"),
    "a list": (b"[]", "it has no 'peft_type'"),
    "no kind": (b"{}", "it has no 'peft_type'"),
    "another kind": (settings(peft_type="LOHA"), "its peft_type is 'LOHA'; expected 'LORA' or 'IA3'"),
    "DoRA": (settings(use_dora=True), "it sets use_dora=True, DoRA"),
    "a bias within": (settings(lora_bias=True), "it sets lora_bias=True"),
    "single tokens": (settings(trainable_token_indices=[1]), r"trainable_token_indices=\[1\]"),
    "PiSSA": (settings(init_lora_weights="pissa_niter_4"), "init_lora_weights='pissa_niter_4', which changes the base"),
    "targets": (settings(target_modules=3), "its target_modules is 3; expected names"),
    "targets of numbers": (settings(target_modules=[3]), r"its target_modules is \[3\]; expected names"),
    "patterns": (settings(rank_pattern=[1]), r"its rank_pattern is \[1\]"),
    "rank": (settings(r=0), "r=0: expected a whole number of at least 1"),
    "rank of a pattern": (settings(rank_pattern={"a": "2"}), "r='2': expected a whole number"),
    "no rank": (b'{"peft_type": "LORA"}', "it has no 'r', which LoRA needs"),
    "alpha": (settings(lora_alpha=0), "lora_alpha=0: expected a positive number"),
    "no pattern": (settings(alpha_pattern={"(": 1}), r"the pattern .* is not valid"),
    "not chosen": (settings(target_modules=["b"]), r"target_modules=\['b'\] does not choose"),
    "excluded": (settings(exclude_modules=["a"]), r"exclude_modules=\['a'\] excludes 'a'"),
    "excluded of all": (settings(target_modules="all-linear", exclude_modules="a|b"), "exclude_modules='a|b' excludes"),
    "exclusions of numbers": (settings(exclude_modules=[3]), r"its exclude_modules is \[3\]; expected names"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        config = parse(content)
        config.rank("a"), config.alpha("a"), config.check_target("a")


LAYERS = ["m.layers.0.a", "m.layers.1.a", "m.blocks.1.a", "m.layers.1.b.7.a", "m.blocks.0.1.a", "layers.1.a", "a"]


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ({"layers_to_transform": 1}, [*LAYERS[1:5], "a"]),
        ({"layers_to_transform": [0, 7]}, [LAYERS[0], *LAYERS[3:5], "a"]),
        ({"layers_to_transform": [1], "layers_pattern": "layers"}, [LAYERS[1], LAYERS[3], "layers.1.a", "a"]),
        ({"layers_to_transform": [1], "layers_pattern": ["h", "blocks"]}, [LAYERS[2], "a"]),
        ({"layers_to_transform": [], "layers_pattern": []}, LAYERS),
        ({"layers_to_transform": [5], "target_modules": r"(.*\.)?a"}, LAYERS),
        ({"exclude_modules": ["layers.1.a", "m.layers.0.a"]}, [*LAYERS[2:5], "a"]),
        ({"exclude_modules": r".*\d\.a"}, ["a"]),
        ({"target_modules": "ALL-linear"}, LAYERS),
    ],
)
def test_modules_that_peft_would_leave_as_they_are(rules, chosen):
    """A list chooses what is in the layers, and a whole name anyway; a pattern chooses whatever fits it."""
    config = parse(settings(**rules))
    for name in LAYERS:
        with contextlib.nullcontext() if name in chosen else pytest.raises(ValueError, match="module unchanged"):
            config.check_target(name)


def test_the_rule_of_layers_is_named():
    config = parse(settings(layers_to_transform=[1], layers_pattern="h"))
    with pytest.raises(ValueError, match=r"layers_to_transform=\[1\] with layers_pattern='h' does not choose 'h.2.a'"):
        config.check_target("h.2.a")


def test_a_pattern_may_not_take_for_ever(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    config = parse(settings(alpha_pattern={"(a|aa)+b": 1}))
    with pytest.raises(ValueError, match=r"the pattern .*\(a\|aa\)\+b.* takes more than 0.01 s"):
        config.alpha("a" * 40 + "cb")


def test_what_is_not_known_is_said():
    config = parse(settings(use_new=True, new_config={}, new_list=[], new=None, off=False, use_dora=False))
    assert config.unknown == ["use_new"]
