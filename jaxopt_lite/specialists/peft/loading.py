"""An adapter of PEFT, a folder with its two files, as a specialist; `saving.py` says what its arrays mean."""

import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import regex

from jaxopt_lite.specialists.adapters import IA3, Adapter, LoRA, Parameters, Part, Shift
from jaxopt_lite.specialists.arguments import some, text
from jaxopt_lite.specialists.base import Base
from jaxopt_lite.specialists.library import Card, Library, Profile, unknown_fisher
from jaxopt_lite.specialists.peft.names import Place, TorchNames
from jaxopt_lite.specialists.peft.saving import CONFIG, PREFIX, SUFFIXES, TENSORS
from jaxopt_lite.specialists.peft.settings import Config, parse
from jaxopt_lite.specialists.tensor_files import check_exists, read_any

__all__ = ["load_peft"]

_IN_WRAPPER = regex.compile(r"\.base_layer(?=\.\w+$)")  # holds the bias of a module with an adapter


def load_peft(
    folder: str | Path, base: Base | Library, torch: TorchNames | None = None, *, name: str | None = None
) -> Library:
    """An adapter that PEFT has saved, as a library of one.

    Args:
        folder: a folder with `adapter_config.json` and `adapter_model.safetensors`.
        base: the model that it belongs to, with the weights that the adapter was made for. Or a library: then the
            specialist has the library's adapter, and can be added to it; LoRA of a lower rank, and what the file does
            not change, is padded, which does not alter the change.
        torch: the names of the base's leaves in the PyTorch model.
        name: the name of the specialist; by default that of the folder.

    Returns:
        The specialist. Its numbers have the dtype of the leaves that they change. Nothing is known of its examples: its
        profile is zero, so that `LDA` never chooses it. The notes of its card say for which model PEFT saved it.

    Raises:
        FileNotFoundError: no such folder, or one without these files.
        OSError: they cannot be accessed.
        TypeError, ValueError: names in `torch` that do not fit the base.
        ValueError: a damaged file; an adapter that is neither LoRA nor IA3, or a variant of them, such as DoRA; arrays
            that are unknown, missing, of other shapes or out of range in the dtype of their leaf; leaves of integers;
            what the library's adapter cannot express.

    Warns:
        UserWarning: settings that are not known here were left out.
    """
    folder, torch = Path(folder), torch or TorchNames()
    library, base = (base, base.base) if isinstance(base, Library) else (None, base)
    name = folder.resolve().name if name is None else text("name", name)
    config = _settings(folder)
    path = folder / TENSORS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise FileNotFoundError(f"{path} does not exist; save the adapter by PEFT again, as safetensors, not as .bin.")
    check_exists(path, "PEFT or `save_peft`")
    places = torch.places(base)
    try:
        tensors, _ = read_any(path)
        while (now := _settings(folder)) != config:  # a save has replaced both meanwhile
            config, (tensors, _) = now, read_any(path)
        _warn_of_unknown(folder / CONFIG, config)
        with np.errstate(over="ignore"):  # what is out of range in the dtype of its leaf is refused by name
            found = _changes(config, tensors, places)
            adapter = library.adapter if library is not None else Adapter(tuple(part for part, _ in found.values()))
            a = _parameters(base, adapter, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    parameters = {key: jnp.asarray(value)[None] for key, value in a.items()}
    features = jnp.zeros((1, 0))
    if library is not None:
        features = jnp.zeros((1, library.profile.mean.shape[-1]), library.profile.mean.dtype)
    profile = Profile(jnp.zeros_like(features, shape=1), features, unknown_fisher(parameters), features)
    return Library(base, parameters, profile, adapter, (Card(name, notes=_notes(config)),))


def _settings(folder: Path) -> Config:
    path = folder / CONFIG
    check_exists(path, "PEFT or `save_peft`")
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _warn_of_unknown(path: Path, config: Config) -> None:
    if config.unknown:
        known = {name: config.entries[name] for name in config.unknown}
        warnings.warn(
            f"{path}: settings that are not known here were left out: {known}. If one of them changes what a trained "
            "adapter computes, the specialist computes something else.",
            stacklevel=3,
        )


def _notes(config: Config) -> str:
    """For which model the adapter is."""
    names = "base_model_name_or_path", "revision", "task_type", "peft_version"
    known = [f"{name}={config.entries[name]}" for name in names if config.entries.get(name)]
    return ", ".join(["an adapter of PEFT", *known])


class _Found(NamedTuple):
    """What a file does to a leaf."""

    part: Part
    parameters: list[np.ndarray]


def _changes(config: Config, tensors: Mapping[str, np.ndarray], places: Mapping[str, Place]) -> dict[str, _Found]:
    """The changes of all leaves, in the order of the leaves."""
    by_name = {place.name: place for place in places.values()}
    adapted, whole = _divided(tensors, by_name)
    found: dict[str, _Found] = {}
    for module, arrays in adapted.items():
        place = by_name.get(f"{module}.weight")
        if place is None:
            raise ValueError(f"the module {module!r} is not one of the base's: {_expected(by_name)}.")
        config.check_target(module)
        if config.kind == "LORA":
            found[place.leaf] = _lora(config, place, arrays)
        else:
            found |= _ia3(config, place, arrays, by_name.get(f"{module}.bias"))
    for inner, (key, array) in whole.items():
        shift, leaf = _shift(by_name[inner], key, array), by_name[inner].leaf
        if not np.any(shift):
            continue  # saved along, and unchanged
        if leaf in found:
            raise ValueError(
                f"{key!r} differs from the base, and {leaf!r} is also changed by {found[leaf].part}; expected one."
            )
        found[leaf] = _Found(Shift(leaf), [shift])
    if not found:
        raise ValueError("it changes nothing of the base.")
    return {leaf: found[leaf] for leaf in places if leaf in found}


Arrays = dict[str, np.ndarray]


def _divided(
    tensors: Mapping[str, np.ndarray], by_name: Mapping[str, Place]
) -> tuple[dict[str, Arrays], dict[str, tuple[str, np.ndarray]]]:
    """The arrays of each adapted module, by what follows its name; and the parameters that are saved whole."""
    adapted: dict[str, Arrays] = defaultdict(dict)
    whole: dict[str, tuple[str, np.ndarray]] = {}
    for key, array in tensors.items():
        if not (jnp.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()):
            raise ValueError(f"{key!r}, of {array.dtype.name}, holds other values than finite floating-point numbers.")
        name = key.removeprefix(PREFIX)
        suffix = next((each for each in SUFFIXES if name.endswith(each)), None)
        inner = _IN_WRAPPER.sub("", name)
        if suffix is not None and name != key:
            adapted[name.removesuffix(suffix)][suffix] = array
        elif name != key and inner in by_name and inner not in whole:
            whole[inner] = key, array
        else:
            raise ValueError(f"{key!r} is not a known array: {_expected(by_name)}.")
    return adapted, whole


def _expected(by_name: Mapping[str, Place]) -> str:
    return (
        f"expected {PREFIX!r} and an array of LoRA or IA3 for {some(by_name)}. If the PyTorch model "
        "calls them otherwise, give TorchNames(names=...)"
    )


def _lora(config: Config, place: Place, arrays: Arrays) -> _Found:
    place.check_matrix("LoRA")
    _check_arrays(place, arrays, place.lora_names)
    rank, alpha = config.rank(place.module), config.alpha(place.module)
    inputs, outputs = place.array.shape[place.input], place.array.shape[1 - place.input]
    why = f"rank {rank}, {inputs} inputs, {outputs} outputs"
    first, second = (
        _checked(place, name, arrays[name], shape, why)
        for name, shape in zip(place.lora_names, ((rank, inputs), (outputs, rank)), strict=True)
    )
    down, up = (first.T, second.T) if place.input == 0 else (second, first)
    alpha = int(alpha) if alpha == int(alpha) else alpha
    return _Found(LoRA(place.leaf, rank, None if alpha == rank else alpha), [down, up])


def _ia3(config: Config, place: Place, arrays: Arrays, bias: Place | None) -> dict[str, _Found]:
    place.check_matrix("IA3")
    _check_arrays(place, arrays, (".ia3_l",))
    inputs, outputs = place.array.shape[place.input], place.array.shape[1 - place.input]
    feedforward = config.is_feedforward(place.module)
    shape = (1, inputs) if feedforward else (outputs, 1)
    why = f"{inputs} inputs of a feed-forward module" if feedforward else f"{outputs} outputs"
    s = _checked(place, ".ia3_l", arrays[".ia3_l"], shape, why).reshape(-1) - 1
    axis = place.input if feedforward else 1 - place.input
    found = {place.leaf: _Found(IA3(place.leaf, -1 if axis else 0), [s])}
    if bias is not None and not feedforward:
        found[bias.leaf] = _Found(IA3(bias.leaf), [s])
    return found


def _check_arrays(place: Place, arrays: Arrays, names: tuple[str, ...]) -> None:
    if arrays.keys() != set(names):
        as_embedding = "" if place.is_embedding else " If it is an embedding, give TorchNames(embeddings=...)."
        raise ValueError(
            f"the module {place.module!r} has {', '.join(sorted(arrays))}; expected {', '.join(names)}.{as_embedding}"
        )


def _checked(place: Place, name: str, array: np.ndarray, shape: tuple[int, ...], why: str) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"{place.module + name!r} has shape {array.shape}; expected {shape}: {why}.")
    return array.astype(place.array.dtype)  # what is computed from it then loses nothing more


def _shift(place: Place, key: str, array: np.ndarray) -> np.ndarray:
    """What must be added to a leaf to make it that of the file."""
    place.check_floating(repr(key))
    leaf = np.asarray(place.array)
    expected = place.turned(leaf).shape
    if array.shape != expected:
        raise ValueError(f"{key!r} has shape {array.shape}; expected {expected}, as {place.leaf!r} has in PyTorch.")
    return place.turned(array).astype(leaf.dtype) - leaf


def _parameters(base: Base, adapter: Adapter, found: dict[str, _Found]) -> Parameters:
    """The parameters of an adapter that make these changes.

    Raises:
        ValueError: changes that it cannot make.
    """
    a: Parameters = {}
    left = dict(found)
    for part, leaf, array in adapter.matches(base.params):
        values: Any = part.identity(leaf, array)
        if leaf in left:
            values = _as(part, left.pop(leaf), leaf, array.ndim)
        for key, value in zip(part.keys, values, strict=True):
            a[f"{key}:{leaf}"] = known = np.asarray(value, array.dtype)
            if not np.isfinite(known).all():
                raise ValueError(
                    f"the {key} of {leaf!r} is out of range in {known.dtype.name}, the dtype of the leaf; give a base "
                    "in a wider one."
                )
    if left:
        leaf, (part, _) = next(iter(left.items()))
        raise ValueError(f"it changes {leaf!r}, by {part}, which the library's adapter does not: {adapter}.")
    return a


def _as(part: Part, found: _Found, leaf: str, ndim: int) -> list[np.ndarray]:
    """The parameters of a part that make a change that was found."""
    mine, values = found
    if isinstance(part, LoRA) and isinstance(mine, LoRA) and mine.rank <= part.rank:
        down, up = values
        unused = (0, part.rank - mine.rank)
        share = mine.scale / part.scale
        return [np.pad(down, ((0, 0), unused)), np.pad(up if share == 1 else up * share, (unused, (0, 0)))]
    if isinstance(part, IA3) and isinstance(mine, IA3) and part.axis % ndim == mine.axis % ndim:
        return values
    if isinstance(part, Shift) and isinstance(mine.linear, Shift):
        return [np.asarray(value) for value in mine.to_linear(*map(jnp.asarray, values))]
    raise ValueError(f"{leaf!r} is changed by {mine}, which the library's {part} cannot express; expected one like it.")
