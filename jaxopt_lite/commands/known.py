"""Known problems of versions of other packages, and what this package does about them. Loads neither JAX nor them.

A record claims only versions in which the problem was seen. `findings/` has scripts that show most of the problems
without this package.
"""

from collections.abc import Mapping
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

__all__ = ["KNOWN", "KnownProblem", "known_problems"]

_JAX = ">=0.10,<=0.12.0.1"


class KnownProblem(NamedTuple):
    """One problem of some versions of one package.

    Attributes:
        package: its name in the registry.
        versions: those that have it, as a specifier (PEP 440).
        sentence: what happens, and what is done about it or what to do.
        platforms: those of JAX on which it happens; empty for all.
        finding: the script in `findings/` that shows it, if there is one.
    """

    package: str
    versions: str
    sentence: str
    platforms: tuple[str, ...] = ()
    finding: str = ""


KNOWN = (
    KnownProblem(
        "jax", _JAX,
        "Ctrl-C is lost when it arrives while Python collects garbage; long jobs of this package repeat it.",
        finding="jax_drops_an_interrupt_in_a_collection",
    ),
    KnownProblem(
        "jax", ">=0.12,<=0.12.0.1",
        "A jitted function that loads `jax.extend` while it is traced is compiled twice; import `jax` before "
        "`jaxopt_lite`, which then loads it in time.",
        finding="jax_extend_imported_in_a_trace_traces_twice",
    ),
    KnownProblem(
        "jax", _JAX,
        "The last rows of a vmapped batch may round differently from the rest; the tiles of this package are laid out "
        "so that all lanes round the same.",
        ("cpu",), "xla_cpu_last_rows_round_otherwise",
    ),
    KnownProblem(
        "jax", _JAX,
        "`jax.linear_transpose` fails on a function with an `optimization_barrier` around its argument and a constant; "
        "leave it out of functions that are solved.",
        finding="jax_cannot_transpose_a_barrier_beside_a_constant",
    ),
    KnownProblem(
        "jax", _JAX,
        "A process that reads the persistent compilation cache while another writes it may warn of a broken entry; it "
        "compiles again, and nothing is lost.",
    ),
    KnownProblem(
        "jax", ">=0.10,<0.12",
        "In vectors of 512 bits more functions round differently than in JAX 0.12, so they are not used.",
        ("cpu",),
    ),
    KnownProblem(
        "jax", _JAX,
        "Products of float32 matrices keep 10 bits of their factors or fewer; functions that are solved are computed "
        "in full precision unless you choose another.",
        ("gpu", "tpu"),
    ),
    KnownProblem(
        "jax", _JAX,
        'Pallas will drop its Triton backend, with which `backend="kernel"` makes kernels; loops do not need it.',
        ("gpu",),
    ),
    KnownProblem(
        "tokenizers", ">=1.0.0rc1,<=1.0.0rc3",
        "A file with any pattern loads, but fails at the first text unless the pattern is one of a few released ones; "
        "`Tokenizer.save` of this package warns of it.",
        finding="tokenizers_1_0_takes_patterns_by_their_text",
    ),
    KnownProblem(
        "tokenizers", ">=0.23,<=0.23.3",
        "An added token that is `normalized` decodes to what the normalizer makes of it; if text must round-trip, "
        "add it with `normalized=False`.",
        finding="tokenizers_decodes_added_tokens_normalized",
    ),
    KnownProblem(
        "tokenizers", ">=0.23,<=0.23.3",
        r"The class `\w` has six characters that `[\w]` lacks; patterns are translated so that words are the same.",
        finding="tokenizers_word_class_differs_in_brackets",
    ),
)  # fmt: skip


def known_problems(installed: Mapping[str, str], platform: str | None) -> list[KnownProblem]:
    """The known problems of exactly these versions.

    Args:
        installed: the version of each package that is installed.
        platform: JAX's, "cpu", "gpu" or "tpu"; None if unknown, which leaves out problems that depend on it.

    Example:
        >>> [each.package for each in known_problems({"tokenizers": "0.23.3"}, "cpu")]
        ['tokenizers', 'tokenizers']
    """
    return [
        each
        for each in KNOWN
        if each.package in installed
        and SpecifierSet(each.versions).contains(installed[each.package], prereleases=True)
        and (not each.platforms or platform in each.platforms)
    ]
