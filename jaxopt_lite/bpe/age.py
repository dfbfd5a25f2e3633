"""One version of Unicode for all words, whichever version the installed libraries have.

Each regular expression engine knows the characters of its own version: current `regex` those of Unicode 18, tokenizers
0.23 and tiktoken those of Unicode 16. With a letter that is too new for one of them, words would end in different
places here and there, or before and after an update. So words are found as if every character newer than Unicode 16
were unassigned.
"""

import re

__all__ = ["OLD_PUNCTUATION", "YOUNG_CAPITALS", "YOUNG_DIGITS", "YOUNG_MARKS", "YOUNG_PUNCTUATION", "of_unicode_16"]

# Characters assigned after Unicode 16, up to 18.
_AFTER_16 = re.compile(
    "["
    "\u0558\u058b-\u058c\u05c8-\u05c9\u088f\u0b53-\u0b54\u0c5c\u0cdc\u1acf-\u1af0\u208f\u209d-\u209f\u20c1-\u20c4"
    "\u2b96\u2e60-\u2e63\ua7ce-\ua7cf\ua7d2\ua7d4\ua7dd\ua7e2\ua7f1\uab6c-\uab6d\ufbc3-\ufbd2\ufd90-\ufd91"
    "\ufdc8-\ufdce"
    "]"
)
# The same beyond U+FFFF, where `re` tries the ranges one by one for every character.
_AFTER_16_BEYOND = re.compile(
    "["
    "\U000107bb-\U000107bf\U00010940-\U00010959\U00010ec5-\U00010ec7\U00010ec9-\U00010eee\U00010ef0-\U00010efb"
    "\U00011b0a\U00011b60-\U00011b67\U00011db0-\U00011ddb\U00011de0-\U00011de9\U00011df0-\U00011df1\U0001246f"
    "\U00012475-\U0001247f\U00012550-\U00012686\U00016ea0-\U00016eb8\U00016ebb-\U00016ed3\U00016ff2-\U00016ff6"
    "\U000187f8-\U000187ff\U00018cd6-\U00018cda\U00018d09-\U00018d20\U00018d80-\U00018df2\U00018e00-\U00019191"
    "\U000191a0-\U000191d2\U0001b123-\U0001b128\U0001b168\U0001ccfa-\U0001ccfc\U0001ceba-\U0001ced0"
    "\U0001ced2-\U0001ced4\U0001cedd-\U0001cefd\U0001d127-\U0001d128\U0001d1eb-\U0001d1ff\U0001d250-\U0001d281"
    "\U0001d6a6\U0001db00-\U0001db1c\U0001df1f-\U0001df24\U0001df2b-\U0001df81\U0001df90-\U0001df96"
    "\U0001dfcd-\U0001dfff\U0001e6c0-\U0001e6de\U0001e6e0-\U0001e6f5\U0001e6fe-\U0001e6ff\U0001f1ae"
    "\U0001f6d8-\U0001f6d9\U0001f777-\U0001f77a\U0001f7da-\U0001f7db\U0001f7f1-\U0001f7ff\U0001f8d0-\U0001f8d8"
    "\U0001fa54-\U0001fa57\U0001fa8a-\U0001fa8e\U0001fac8\U0001facc-\U0001facd\U0001fadd\U0001faea-\U0001faeb"
    "\U0001faef\U0001faf9-\U0001fafa\U0001fbfa\U0002b73a-\U0002b73f\U0002b81e\U0002cea2-\U0002cead"
    "\U000323b0-\U00033479\U0003d000-\U0003fc3f"
    "]"
)
_BEYOND = re.compile("[\U00010000-\U0010ffff]+")
YOUNG_PUNCTUATION = (
    "\u061d\u09fd\u0a76\u0c77\u0c84\u1b4e-\u1b4f\u1b7d-\u1b7f\u2e43-\u2e4f\u2e52-\u2e5d\U00010d6e\U00010ead"
    "\U00010f55-\U00010f59\U00010f86-\U00010f89\U000113d4-\U000113d5\U000113d7-\U000113d8\U0001144b-\U0001144f"
    "\U0001145a-\U0001145b\U0001145d\U00011660-\U0001166c\U000116b9\U0001183b\U00011944-\U00011946\U000119e2"
    "\U00011a3f-\U00011a46\U00011a9a-\U00011a9c\U00011a9e-\U00011aa2\U00011b00-\U00011b09\U00011be1"
    "\U00011c41-\U00011c45\U00011c70-\U00011c71\U00011ef7-\U00011ef8\U00011f43-\U00011f4f\U00011fff"
    "\U00012ff1-\U00012ff2\U00016d6d-\U00016d6f\U00016e97-\U00016e9a\U00016fe2\U0001e5ff\U0001e95e-\U0001e95f"
)
"""Punctuation that is too new for Hugging Face's Punctuation, which knows the characters of an early version."""
OLD_PUNCTUATION = "\u166d\U000111c9"
"""Characters that were punctuation in that version and no longer are."""
YOUNG_DIGITS = dict.fromkeys([*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7)], "0")
"""Digits of Unicode 17, which Hugging Face's Digits already knows, for `str.translate`."""
YOUNG_MARKS = (
    "\u05c8-\u05c9\u07fd\u0897-\u089f\u08ca-\u08d3\u09fe\u0c3c\u0d3b-\u0d3c\u0eba\u1715\u1abf-\u1af0"
    "\u1df6-\u1dfa\ua82c\U00010d24-\U00010d27\U00010d69-\U00010d6d\U00010eab-\U00010eac\U00010ecb-\U00010ecf"
    "\U00010ef0-\U00010efb\U00010efd-\U00010eff\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011070\U0001133b"
    "\U000113ce-\U000113d0\U0001145e\U00011839-\U0001183a\U0001193d-\U0001193e\U00011943\U000119e0\U00011a34"
    "\U00011a47\U00011a99\U00011d42\U00011d44-\U00011d45\U00011d97\U00011f41-\U00011f42\U0001612f"
    "\U00016ff0-\U00016ff1\U0001d127-\U0001d128\U0001d250-\U0001d252\U0001d25b-\U0001d25c\U0001d25f"
    "\U0001d280-\U0001d281\U0001e08f\U0001e130-\U0001e136\U0001e2ae\U0001e2ec-\U0001e2ef\U0001e4ec-\U0001e4ef"
    "\U0001e5ee-\U0001e5ef\U0001e6e3\U0001e6e6\U0001e6ee-\U0001e6ef\U0001e6f5"
)
"""Combining marks that Hugging Face's normal forms do not reorder, taking them for characters of their own."""
# First and last letter, and the offset to the lower-case ones.
_CAPITALS = [
    (0x1C89, 0x1C89, 1), (0xA7CB, 0xA7CB, -42343), (0xA7CC, 0xA7CC, 1), (0xA7CE, 0xA7CE, 1), (0xA7D2, 0xA7D2, 1),
    (0xA7D4, 0xA7D4, 1), (0xA7DA, 0xA7DA, 1), (0xA7DC, 0xA7DC, -42561), (0x10D50, 0x10D65, 32), (0x16EA0, 0x16EB8, 27),
]  # fmt: skip
YOUNG_CAPITALS = {code: code + away for first, last, away in _CAPITALS for code in range(first, last + 1)}
"""Capital letters that a version of Python may not know, and their lower-case forms, for `str.translate`."""
_UNASSIGNED = "\u0378"


def of_unicode_16(text: str) -> str:
    """The text with every newer character replaced by an unassigned one; its length does not change.

    Example:
        >>> from jaxopt_lite.bpe.age import of_unicode_16
        >>> of_unicode_16("naïve")
        'naïve'
    """
    if text.isascii():
        return text
    text = _AFTER_16.sub(_UNASSIGNED, text)
    return _BEYOND.sub(_aged, text) if _BEYOND.search(text) else text


def _aged(found: re.Match[str]) -> str:
    return _AFTER_16_BEYOND.sub(_UNASSIGNED, found[0])
