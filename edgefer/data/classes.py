"""Class names: FER2013's seven, FER+'s eight, and the ways in which folders spell them."""

from __future__ import annotations

FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's labels 0…6, in order."""

FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""FER+'s first eight columns, in order, under FER2013's names."""

AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""AffectNet's expressions 0…7, in order, under FER2013's names."""

RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""RAF-DB's labels 1…7, in order, under FER2013's names."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": "contempt",
}


def canonical(name: str) -> str:
    """FER2013's name for a class, e.g. ``Happiness`` → ``happy``; other names unchanged."""
    lower = name.strip().lower()
    known = _SYNONYMS.get(lower, lower)
    return known if known in FERPLUS else name


def order(names: set[str]) -> dict[str, tuple[int, str]]:
    """Number class folders: folder name → (label, class name).

    The seven of FER2013 and the eight of FER+ take their data set's order under any spelling; ``0`` … ``n−1`` are
    labels (named as FER2013's where n is 7), ``1`` … ``7`` are RAF-DB's (in FER2013's order); anything else is sorted
    by name, names that differ in case or are synonyms being one class.
    """
    if names == {str(number) for number in range(1, len(RAFDB) + 1)}:
        return {name: (FER2013.index(RAFDB[int(name) - 1]), RAFDB[int(name) - 1]) for name in names}
    known = {name: canonical(name) for name in names}
    for expected in (FER2013, FERPLUS):
        if set(known.values()) == set(expected):
            return {name: (expected.index(known[name]), known[name]) for name in names}
    if names == {str(number) for number in range(len(names))}:
        titles = FER2013 if len(names) == len(FER2013) else tuple(str(number) for number in range(len(names)))
        return {name: (int(name), titles[int(name)]) for name in names}
    alike: dict[str, str] = {}  # Happy and happy, Happiness and happy: one class, by the first of the names
    for name in sorted(names):
        alike.setdefault(canonical(name).lower(), name)
    firsts = sorted(alike.values())
    chosen = {name: alike[canonical(name).lower()] for name in names}
    return {name: (firsts.index(title), title) for name, title in chosen.items()}
