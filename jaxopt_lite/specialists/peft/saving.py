"""A specialist as an adapter of PEFT: a folder with `adapter_config.json` and `adapter_model.safetensors`.

With a matrix W `[in, out]` of the base, and PEFT's arrays for the module that W is the weight of:

    LoRA     W + (α / r) D U      lora_A.weight = Dᵀ [r, in], lora_B.weight = Uᵀ [out, r]
    IA3      W ⊙ (1 + s)          ia3_l = 1 + s: [1, in] of a feed-forward module, else [out, 1], for its bias too
    Shift    W + s                the whole module, in `modules_to_save`; or the bias of a module that LoRA changes

The factors for an embedding `[tokens, d]`, `lora_embedding_A` and `lora_embedding_B`, have the same shapes. PEFT:
Mangrulkar et al., https://github.com/huggingface/peft; tested with version 0.21.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike
from safetensors.numpy import save

from jaxopt_lite.files import flush_folder, put
from jaxopt_lite.specialists.activations import dense
from jaxopt_lite.specialists.adapters import IA3, LoRA, Shift
from jaxopt_lite.specialists.arguments import text
from jaxopt_lite.specialists.files.folder import clear, locked, staged
from jaxopt_lite.specialists.library import Library
from jaxopt_lite.specialists.peft.names import Place, TorchNames
from jaxopt_lite.specialists.peft.settings import ends_in, pattern_of, rule_for, written
from jaxopt_lite.specialists.tensor_files import naming

__all__ = ["CONFIG", "PREFIX", "SUFFIXES", "TENSORS", "save_peft"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of every array: a PeftModel holds a tuner, which holds the model
SUFFIXES = ".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", ".ia3_l"


def save_peft(
    library: Library,
    folder: str | Path,
    torch: TorchNames | None = None,
    *,
    dtype: DTypeLike | None = None,
    base_model: str | None = None,
    task_type: str | None = None,
) -> None:
    """Save a specialist as an adapter that `PeftModel.from_pretrained(model, folder)` loads.

    LoRA and IA3 become PEFT's own. A Shift of the bias of a module that LoRA changes becomes that bias; any other
    module with a Shift is saved whole. PEFT's IA3 of a layer's outputs scales its bias too, so the specialist must as
    well.

    Args:
        library: a library of one specialist, such as `library["name"]`, with LoRA or IA3, and Shift. A merged LoRA
            holds dense matrices; `compress` makes LoRA of it again.
        folder: where to save; made if it does not exist. An adapter in it is replaced, other files stay.
        torch: the names of the base's leaves in the PyTorch model.
        dtype: the dtype of LoRA and IA3 in the file; by default that of the specialist. What is saved whole keeps its
            own, for most of it is the base's.
        base_model: the settings' `base_model_name_or_path`, for those that load model and adapter at once.
        task_type: the settings' `task_type`, such as `"CAUSAL_LM"`.

    Raises:
        OSError: it cannot be written. An adapter that was there stays, or lacks its settings, so that nothing loads it:
            arrays never stand beside other settings, also if several save to one folder.
        TypeError: names that are not strings.
        ValueError: another number of specialists than one; an adapter that PEFT does not have; NaN or infinity.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxopt_lite.specialists import Base, LoRA, fit, load_peft, save_peft
        >>> apply = lambda params, x: x @ params["dense"]["kernel"]
        >>> base = Base({"dense": {"kernel": jnp.ones((2, 3))}}, apply)
        >>> tasks = {"zeros": (jnp.eye(2), jnp.zeros((2, 3)))}
        >>> loss = lambda output, y: jnp.sum((output - y) ** 2)
        >>> library = fit(base, LoRA("dense/kernel", rank=1), tasks, loss, progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_peft(library["zeros"], folder)  # for a model with a Linear called `dense`
        ...     again = load_peft(folder, library, name="zeros")
        >>> again.ids == library.ids
        True
    """
    if len(library) != 1:
        raise ValueError(f"a library of {len(library)}; expected one, such as library[name]. PEFT has one in a folder.")
    changes = _Changes(library, torch or TorchNames())
    kind, settings, tensors = changes.translated()
    kept = {
        name: _kept(name, tensor, dtype if name.endswith(SUFFIXES) else None)
        for name, tensor in sorted(tensors.items())
    }
    names = {"base_model_name_or_path": base_model, "task_type": task_type}
    names = {name: value if value is None else text(name, value) for name, value in names.items()}
    _write(Path(folder), {TENSORS: save(kept, {"format": "pt"}), CONFIG: written(kind, settings | names)})


def _kept(name: str, tensor: np.ndarray, dtype: DTypeLike | None) -> np.ndarray:
    """A tensor as the file holds it."""
    with np.errstate(over="ignore"):
        kept = np.asarray(tensor, None if dtype is None else jnp.dtype(dtype), order="C")
    if not jnp.issubdtype(kept.dtype, np.floating):
        raise ValueError(f"{name!r} is {kept.dtype.name}; expected floating-point numbers.")
    if not np.isfinite(kept).all():
        raise ValueError(f"{name!r} holds NaN or infinity as {kept.dtype.name}; fit it again, or take a wider dtype.")
    return kept


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace the files of a folder together: all are written first, and the last is absent meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        clear(folder)
        with naming(folder), staged(folder) as stage:
            for name, data in files.items():
                if (folder / name).exists() and not (folder / name).is_file():
                    raise FileExistsError(f"{folder / name} exists, and is not a file; choose another folder.")
                put(stage / name, data)
            *_, last = files
            (folder / last).unlink(missing_ok=True)
            for name in files:
                (stage / name).replace(folder / name)
        flush_folder(folder)


Translated = tuple[dict[str, Any], dict[str, np.ndarray]]  # settings, and arrays by their names in the file


class _Change(NamedTuple):
    """What a specialist does to one leaf: a part, its parameters, and the place of the leaf in the PyTorch model."""

    part: Any
    parameters: list[np.ndarray]
    place: Place

    @property
    def is_adapted(self) -> bool:
        """Whether PEFT has arrays for the change, and not only for the changed leaf."""
        return isinstance(self.part, LoRA) or (isinstance(self.part, IA3) and self.place.array.ndim > 1)

    @property
    def value(self) -> np.ndarray:
        """The changed leaf."""
        return np.asarray(dense(self.part.change(self.place.array, *self.parameters)))


class _Changes:
    """All that a specialist does, and how PEFT says it."""

    def __init__(self, library: Library, torch: TorchNames):
        self.torch, self.places = torch, torch.places(library.base)
        self.modules = {place.module for place in self.places.values()}
        self.adapted: dict[str, _Change] = {}  # by module
        self.rest: dict[str, _Change] = {}  # by leaf
        a = jax.device_get(library.parameters)
        for part, leaf, _ in library.adapter.matches(library.base.params):
            if not isinstance(part, LoRA | IA3 | Shift):
                raise ValueError(f"{part} is none of LoRA, IA3 and Shift; no counterpart in PEFT is known.")
            if leaf not in self.places:
                raise ValueError(f"{part} changes {leaf!r}, which the PyTorch model does not have: its name is None.")
            place = self.places[leaf]
            change = _Change(part, [np.asarray(a[f"{key}:{leaf}"][0]) for key in part.keys], place)
            if change.is_adapted:
                place.check_matrix(type(part).__name__)
                self.adapted[place.module] = change
            else:
                self.rest[leaf] = change

    def translated(self) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
        """The kind of adapter that this is in PEFT, its settings, and its arrays by their names."""
        kinds = {type(change.part) for change in self.adapted.values()}
        if len(kinds) != 1:
            raise ValueError(
                f"this adapter has {'both LoRA and IA3' if kinds else 'neither LoRA nor IA3'} on matrices; one of PEFT "
                "has exactly one of them. A merged LoRA is a Shift: `compress` makes LoRA of it again."
            )
        kind, own = ("LORA", self._lora()) if kinds == {LoRA} else ("IA3", self._ia3())
        settings, tensors = self._whole()
        return kind, settings | own[0], tensors | own[1]

    def _lora(self) -> Translated:
        tensors, ranks, alphas = {}, {}, {}
        for module, (part, (down, up), place) in self.adapted.items():
            first, second = (down.T, up.T) if place.input == 0 else (up, down)
            for name, factor in zip(place.lora_names, (first, second), strict=True):
                tensors[f"{PREFIX}{module}{name}"] = factor
            ranks[module], alphas[module] = part.rank, part.rank if part.alpha is None else part.alpha
        bias = "none"
        for module in self.adapted:
            changed = self._take_bias(module)
            if changed is not None:
                tensors[f"{PREFIX}{module}.base_layer.bias"], bias = changed.value, "lora_only"
        (rank, rank_pattern), (alpha, alpha_pattern) = pattern_of(ranks), pattern_of(alphas)
        settings = {"r": rank, "rank_pattern": rank_pattern, "lora_alpha": alpha, "alpha_pattern": alpha_pattern}
        return settings | {"bias": bias}, tensors

    def _ia3(self) -> Translated:
        tensors, feedforward = {}, []
        for module, (part, (s,), place) in self.adapted.items():
            if place.is_embedding:
                raise ValueError(f"IA3 on {place.leaf!r}, an embedding, which PEFT's IA3 does not change; LoRA does.")
            if part.axis % 2 == place.input:
                feedforward.append(module)
            elif any(other.name == f"{module}.bias" for other in self.places.values()):
                _check_equal(place, s, self._take_bias(module))
            tensors[f"{PREFIX}{module}.ia3_l"] = np.expand_dims(1 + s, int(part.axis % 2 != place.input))
        return {"feedforward_modules": rule_for(feedforward, self.modules, ends_in)}, tensors

    def _take_bias(self, module: str) -> _Change | None:
        """The change of the bias of a module that is adapted, which is then no longer among the rest."""
        leaf = next((leaf for leaf, change in self.rest.items() if change.place.name == f"{module}.bias"), None)
        return None if leaf is None else self.rest.pop(leaf)

    def _whole(self) -> Translated:
        """The settings that name modules, and the arrays of those that are saved whole for what else is changed."""
        whole = {change.place.module for change in self.rest.values()}
        for module in sorted(whole):
            self._check_whole(module, whole)
        tensors = {
            f"{PREFIX}{place.name}": place.turned(self.rest[leaf].value if leaf in self.rest else place.array)
            for leaf, place in self.places.items()
            if any(f"{place.module}.".startswith(f"{module}.") for module in whole)
        }
        settings = {
            "fan_in_fan_out": any(self.torch.is_conv1d(module) for module in self.adapted),
            "modules_to_save": sorted(whole) or None,
            "target_modules": rule_for(self.adapted, self.modules),
        }
        return settings, tensors

    def _check_whole(self, module: str, whole: set[str]) -> None:
        """Refuse to save a module whole where PEFT, by its rules for names, would do more than that.

        Raises:
            ValueError: it, or one in it, is adapted; another module's name ends in its name.
        """
        inside = [name for name in self.adapted if f".{module}." in f".{name}."]
        if inside:
            raise ValueError(
                f"PEFT saves {module!r} whole, for a Shift or a scaled vector in it, and then does not adapt "
                f"{inside[0]!r}. In a module with LoRA only the bias may have a Shift."
            )
        others = [name for name in self.modules - whole if ends_in([module], name)]
        if others:
            raise ValueError(f"PEFT would save {others[0]!r} too, for its name ends in {module!r}, saved whole.")


def _check_equal(place: Place, s: np.ndarray, bias: _Change | None) -> None:
    """Refuse a scale of outputs that is not the one of the bias.

    Raises:
        ValueError: such a scale.
    """
    if bias is not None and isinstance(bias.part, IA3):
        difference = abs(bias.parameters[0] - s)
        if np.all(difference <= 4 * float(jnp.finfo(s.dtype).eps) * (1 + abs(s))):
            return
    raise ValueError(
        f"IA3 of the outputs of {place.leaf!r}: PEFT scales the bias of {place.module!r} by the same, and here the "
        f"bias has another change, or none. Scale the inputs, IA3({place.leaf!r}, axis={place.input}), or give LoRA."
    )
