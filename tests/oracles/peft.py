"""What an adapter of PEFT does to the weights of a PyTorch model, read from its two files, in plain NumPy."""

import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def is_target(rule, module: str) -> bool:
    """By `target_modules`."""
    if isinstance(rule, str):
        return re.fullmatch(rule, module) is not None
    return any(module == name or module.endswith("." + name) for name in rule)


def is_feedforward(rule, module: str) -> bool:
    """By `feedforward_modules`; `modules_to_save` does the same with a list."""
    return re.fullmatch(rule, module) is not None if isinstance(rule, str) else any(map(module.endswith, rule))


def by_pattern(patterns: dict, module: str, default):
    """By `rank_pattern` or `alpha_pattern`."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def weights(folder: Path, state: dict[str, np.ndarray], conv1d=()) -> dict[str, np.ndarray]:
    """The parameters of a model, `{name: array}` as in its `state_dict()`, with the adapter of a folder."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = {
        k.removeprefix("base_model.model."): v for k, v in load_file(folder / "adapter_model.safetensors").items()
    }
    modules = {name.rpartition(".")[0] for name in state}
    saved = {m for m in modules if any(map(m.endswith, config["modules_to_save"] or []))}
    targets = {m for m in modules - saved if is_target(config["target_modules"], m)}
    changed = dict(state)
    for module in targets:
        names, weight = [f"{module}.{what}" for what in ("weight", "bias")], state[f"{module}.weight"]
        turn = (lambda delta: delta.T) if module.rpartition(".")[2] in conv1d else (lambda delta: delta)
        if config["peft_type"] == "IA3":
            scale = turn(tensors.pop(f"{module}.ia3_l"))
            changed[names[0]] = weight * scale
            if names[1] in state and not is_feedforward(config["feedforward_modules"], module):
                changed[names[1]] = state[names[1]] * scale.ravel()
            continue
        rank, alpha = (by_pattern(config[f"{what}_pattern"], module, config[name]) for what, name in PATTERNS.items())
        scale = alpha / (rank**0.5 if config["use_rslora"] else rank)
        if f"{module}.lora_embedding_A" in tensors:
            a, b = (tensors.pop(f"{module}.lora_embedding_{each}") for each in "AB")
            changed[names[0]] = weight + scale * (b @ a).T
        else:
            a, b = (tensors.pop(f"{module}.lora_{each}.weight") for each in "AB")
            changed[names[0]] = weight + turn(scale * (b @ a))
        assert len(a) == rank
        if f"{module}.base_layer.bias" in tensors:
            changed[names[1]] = tensors.pop(f"{module}.base_layer.bias")
    for module in saved:
        changed |= {name: tensors.pop(name) for name in state if name.startswith(f"{module}.")}
    assert not tensors, "what PEFT would pass over in silence"
    return changed


PATTERNS = {"rank": "r", "alpha": "lora_alpha"}
