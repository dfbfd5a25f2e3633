"""Django's message catalogs: the same program's texts in about a hundred languages, some to train on, others to test.

The catalogs come compiled with the installed package (BSD license). A specialist learns from other catalogs than it is
tested on; a message that is in both is left out of the test.
"""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["FAMILY_OF", "Language", "languages"]

TRAINING = ("conf", "contrib/admin")  # folders of catalogs to train on; all others are for the test
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{\w*\}|<[^<>]*>|&\w+;")

# Language families and branches as Glottolog 5 has them (Hammarström et al., glottolog.org), at the level that speakers
# would call one group. The codes are those of Django's catalogs.
_FAMILIES = {
    "Germanic": "af da de fy is lb nb nl nn sv",
    "Romance": "ast ca es es_AR es_CO es_MX es_VE fr gl it pt pt_BR ro",
    "Slavic": "be bg bs cs dsb hr hsb mk pl ru sk sl sr sr_Latn uk",
    "Baltic": "lt lv",
    "Celtic": "br cy ga gd",
    "Iranian": "ckb fa os tg",
    "Indo-Aryan": "bn hi mr ne pa ur",
    "Dravidian": "kn ml ta te",
    "Turkic": "az kk ky tk tr tt ug uz",
    "Uralic": "et fi hu udm",
    "Semitic": "am ar ar_DZ he",
    "Chinese": "zh_Hans zh_Hant",
    "Austronesian": "id ms",
    "Kartvelian": "ka",
    "Constructed": "eo ia io",
    "Albanian": "sq",
    "Armenian": "hy",
    "Greek": "el",
    "Basque": "eu",
    "Japonic": "ja",
    "Koreanic": "ko",
    "Mongolic": "mn",
    "Austroasiatic": "km vi",
    "Kra-Dai": "th",
    "Bantu": "sw",
    "Igboid": "ig",
    "Berber": "kab",
    "Sino-Tibetan, Burmese": "my",
}
FAMILY_OF = {code: family for family, codes in _FAMILIES.items() for code in codes.split()}


class Language(NamedTuple):
    """The texts of one language."""

    code: str
    family: str
    train: list[str]
    test: list[str]


def languages(least: int = 4_000) -> list[Language]:
    """The languages with at least `least` bytes to train on and a quarter of that to test, ordered by code.

    Raises:
        ModuleNotFoundError: without Django.
    """
    root = _django()
    catalogs: dict[str, list[Path]] = {}
    for path in sorted(root.glob("**/locale/*/LC_MESSAGES/*.mo")):
        catalogs.setdefault(path.parts[-3], []).append(path)
    found = []
    for code in sorted(code for code in catalogs if code in FAMILY_OF):
        train, test = _texts(root, catalogs[code])
        if _size(train) >= least and _size(test) >= least // 4:
            found.append(Language(code, FAMILY_OF[code], train, test))
    return found


def _django() -> Path:
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the texts are Django's message catalogs; install the extra: pip install '.[bench]'")
    return Path(spec.origin).parent


def _texts(root: Path, catalogs: list[Path]) -> tuple[list[str], list[str]]:
    train: dict[str, None] = {}
    test: dict[str, None] = {}
    for path in catalogs:
        folder = path.relative_to(root).as_posix().split("/locale/")[0]
        texts = train if folder in TRAINING else test
        texts |= dict.fromkeys(_cleaned(_translations(path.read_bytes())))
    return list(train), [text for text in test if text not in train]


def _size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _translations(data: bytes) -> Iterable[str]:
    """The translations in a compiled catalog; the format is in the manual of GNU gettext, section 10.3."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, originals, translations = np.frombuffer(data, f"{order}u4", 3, 8)
    table = np.frombuffer(data, f"{order}u4", 2 * count, originals).reshape(-1, 2)
    translated = np.frombuffer(data, f"{order}u4", 2 * count, translations).reshape(-1, 2)
    for (length, _), (size, start) in zip(table, translated, strict=True):
        if length:  # the empty message holds the catalog's own data
            yield from data[start : start + size].decode().split("\0")  # plural forms


def _cleaned(texts: Iterable[str]) -> Iterable[str]:
    """Texts without placeholders and tags, in one line; those with too few letters for two words are left out."""
    for text in texts:
        clean = " ".join(_PLACEHOLDER.sub(" ", text).split())
        if sum(character.isalpha() for character in clean) >= 8:
            yield clean
