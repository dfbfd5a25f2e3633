"""`adapter_config.json`, the settings of an adapter of PEFT: which modules it changes, and by how much.

PEFT (Hugging Face, 0.21) chooses modules by rules, and writes numbers that differ between them as patterns:

    target_modules        a list: the module, or what ends in `.` and it; a string: a pattern for the whole name
    exclude_modules       the same, of those that are left out
    layers_to_transform   numbers: of what a list chooses by its end, only the modules within these layers
    feedforward_modules   a list: whatever ends in it; a string: a pattern for the whole name
    modules_to_save       a list: whatever ends in it
    rank_pattern, alpha_pattern    {pattern: value}: the first that fits the whole name, or what follows a `.`

The functions here read and write such rules so that PEFT comes to the same modules and numbers.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any, TypeVar

import regex

from jaxopt_lite.arguments import whole_number
from jaxopt_lite.specialists.arguments import POSITIVE, number, text

__all__ = ["Config", "ends_in", "is_chosen", "parse", "pattern_of", "rule_for", "written"]

Rule = str | Sequence[str]
Value = TypeVar("Value", int, float)

_COMMON: dict[str, Any] = {"auto_mapping": None, "inference_mode": True, "revision": None}
_WRITTEN: dict[str, dict[str, Any]] = {  # besides what is given; as PEFT writes them for a trained adapter
    "LORA": _COMMON | {"init_lora_weights": True, "lora_dropout": 0.0, "use_dora": False, "use_rslora": False},
    "IA3": _COMMON | {"init_ia3_weights": True},
}
_TAKEN = {  # what is read, or makes no difference to what a trained adapter computes
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config",
    "exclude_modules", "fan_in_fan_out", "feedforward_modules", "inference_mode", "init_ia3_weights",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout",
    "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type",
    "use_rslora", "velora_config",
}  # fmt: skip
_REFUSED = {
    "alora_invocation_tokens": "an adapter that begins at certain tokens",
    "arrow_config": "a router among adapters; here it is Arrow",
    "ensure_weight_tying": "an adapter that two modules share",
    "kasa_config": "an adapter of a truncated base",
    "layer_replication": "a base whose layers are repeated",
    "lora_bias": "a bias within the change",
    "monteclora_config": "random changes",
    "target_parameters": "changes of parameters that are not the weight of a module",
    "trainable_token_indices": "changes of single tokens",
    "use_bdlora": "block-diagonal factors",
    "use_dora": "DoRA: the size of each row is learned beside the product",
    "use_qalora": "QALoRA: inputs are pooled before the product",
}
_STARTS = True, False, "gaussian", "eva", "orthogonal"  # that leave the base as it is
_SECONDS = 1.0  # for one pattern; some would take forever


@dataclass(frozen=True)
class Config:
    """An adapter's settings, checked.

    Attributes:
        kind: "LORA" or "IA3".
        entries: all that the file holds.
        unknown: the settings that have a value and are not known here.
    """

    kind: str
    entries: Mapping[str, Any]
    unknown: Sequence[str]

    def rank(self, module: str) -> int:
        """The rank of a module's LoRA."""
        return whole_number("r", self._value(module, "r", "rank_pattern"), least=1)

    def alpha(self, module: str) -> float:
        """The alpha with which `alpha / rank` is the scale of a module's LoRA, even if PEFT divides by √rank."""
        alpha = self._value(module, "lora_alpha", "alpha_pattern")
        known = number("lora_alpha", alpha, POSITIVE)
        return known * sqrt(self.rank(module)) if self.entries.get("use_rslora") else known

    def is_feedforward(self, module: str) -> bool:
        """Whether IA3 scales a module's inputs rather than its outputs."""
        rule = self.entries.get("feedforward_modules") or []
        return _fits(rule, module) if isinstance(rule, str) else ends_in(rule, module)

    def check_target(self, module: str) -> None:
        """Refuse the arrays of a module that PEFT would leave as it is.

        Raises:
            ValueError: such a module.
        """
        reason = None
        rule, excluded = self.entries.get("target_modules"), self.entries.get("exclude_modules")
        if rule is not None and str(rule).lower() != "all-linear":
            if not is_chosen(rule, module):
                reason = f"target_modules={rule!r} does not choose"
            elif not (isinstance(rule, str) or module in rule or self._is_in_layers(module)):
                layers, patterns = self.entries.get("layers_to_transform"), self.entries.get("layers_pattern")
                reason = f"layers_to_transform={layers!r} with layers_pattern={patterns!r} does not choose"
        if excluded and is_chosen(excluded, module):
            reason = f"exclude_modules={excluded!r} excludes"
        if reason:
            raise ValueError(
                f"{reason} {module!r}, which the file has arrays for; PEFT would leave that module unchanged."
            )

    def _is_in_layers(self, module: str) -> bool:
        """Whether a module that a list of `target_modules` chooses by its end is in the layers to transform.

        Of several numbers in a name some versions of PEFT take the first and some the last; here any counts.
        """
        layers, patterns = self.entries.get("layers_to_transform"), self.entries.get("layers_pattern")
        if layers is None or layers == []:
            return True
        pattern = patterns if isinstance(patterns, str) else "|".join(patterns or [])
        start = r"(?:^|\.)" if pattern else r"\."
        by = partial(regex.findall, overlapped=True)  # a number may follow another
        numbers = _searched(by, rf"{start}(?:{pattern or '[^.]*'})\.(\d+)(?=\.)", module)
        return any(int(number) in (layers if isinstance(layers, list) else [layers]) for number in numbers)

    def _value(self, module: str, name: str, patterns: str) -> Any:
        if name not in self.entries:
            raise ValueError(f"it has no {name!r}, which LoRA needs.")
        return _value_by(self.entries.get(patterns) or {}, module, self.entries[name])


def parse(content: bytes) -> Config:
    """The settings that a file holds.

    Raises:
        ValueError: it is not valid, or for an adapter that is neither LoRA nor IA3, or changes a model in other ways.
    """
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error}).") from error
    if not isinstance(entries, dict) or "peft_type" not in entries:
        raise ValueError("it has no 'peft_type'; expected the settings of an adapter, as PEFT writes them.")
    kind = entries["peft_type"]
    if kind not in ("LORA", "IA3"):
        raise ValueError(f"its peft_type is {kind!r}; expected 'LORA' or 'IA3'. Others have no counterpart here.")
    for name, what in _REFUSED.items():
        if _has_value(entries.get(name)):
            raise ValueError(f"it sets {name}={entries[name]!r}, {what}, which has no counterpart here.")
    start = entries.get("init_lora_weights", True)
    if start not in _STARTS:
        raise ValueError(
            f"it sets init_lora_weights={start!r}, which changes the base too; save the adapter by PEFT's "
            "`save_pretrained(..., path_initial_model_for_weight_conversion=...)`."
        )
    _check_types(entries)
    return Config(kind, entries, sorted(k for k, v in entries.items() if k not in _TAKEN and _has_value(v)))


def _has_value(setting: Any) -> bool:
    return setting not in (None, False, "none") and setting != {} and setting != []


def _check_types(entries: Mapping[str, Any]) -> None:
    """Refuse malformed rules and patterns."""
    for name in ("target_modules", "exclude_modules", "feedforward_modules", "modules_to_save", "layers_pattern"):
        rule = entries.get(name)
        if not (rule is None or isinstance(rule, str) or _is_list_of_text(rule)):
            raise ValueError(f"its {name} is {rule!r}; expected names.")
    for name in ("rank_pattern", "alpha_pattern"):
        if not isinstance(entries.get(name) or {}, dict):
            raise ValueError(f"its {name} is {entries[name]!r}; expected {{pattern: value}}.")


def _is_list_of_text(rule: Any) -> bool:
    return isinstance(rule, list) and all(isinstance(name, str) for name in rule)


def is_chosen(rule: Rule, module: str) -> bool:
    """Whether `target_modules` chooses a module."""
    if isinstance(rule, str):
        return _fits(rule, module)
    return any(f".{module}".endswith(f".{name}") for name in rule)


def ends_in(names: Iterable[str], module: str) -> bool:
    """Whether `modules_to_save` or a list of `feedforward_modules` chooses a module."""
    return module.endswith(tuple(names))


def rule_for(wanted: Iterable[str], modules: Iterable[str], by: Callable[[list[str], str], bool] = is_chosen) -> Rule:
    """A rule that chooses these modules and no others: their names, or a pattern if names would choose more."""
    names = sorted(wanted)
    if all(by(names, module) == (module in names) for module in modules):
        return names
    return "|".join(map(regex.escape, names))


def _value_by(patterns: Mapping[str, Value], module: str, default: Value) -> Value:
    """The value that `rank_pattern` or `alpha_pattern` has for a module."""
    return next((value for key, value in patterns.items() if _fits(rf"(.*\.)?({key})", module)), default)


def pattern_of(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    """The value that most modules have, and a `rank_pattern` or `alpha_pattern` for the others."""
    common = Counter(values.values()).most_common(1)[0][0]
    patterns = {name: value for name, value in sorted(values.items()) if value != common}
    if any(_value_by(patterns, name, common) != value for name, value in values.items()):  # some end in another's name
        patterns = {f"^{regex.escape(name)}": value for name, value in patterns.items()}
    return common, patterns


def written(kind: str, settings: Mapping[str, Any]) -> bytes:
    """The file, for settings of an adapter of this kind."""
    return f"{json.dumps({'peft_type': kind} | _WRITTEN[kind] | dict(settings), indent=2, sort_keys=True)}\n".encode()


def _fits(pattern: str, name: str) -> bool:
    return _searched(regex.fullmatch, pattern, name) is not None


def _searched(by: Callable[..., Any], pattern: str, name: str) -> Any:
    try:
        return by(text("pattern", pattern), name, timeout=_SECONDS)
    except TimeoutError:
        raise ValueError(f"the pattern {pattern[:200]!r} takes more than {_SECONDS} s for {name!r}.") from None
    except regex.error as error:
        raise ValueError(f"the pattern {pattern[:200]!r} is not valid: {error}.") from error
