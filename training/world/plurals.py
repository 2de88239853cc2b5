"""English plurals, for vocabularies that do not state them."""

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "knife": "knives",
    "leaf": "leaves",
    "shelf": "shelves",
    "wolf": "wolves",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
}


def plain_plural(name: str) -> str:
    """The plural of a noun phrase's last word, by rule and a few exceptions."""
    *before, last = name.split(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("ss", "us", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in {"a", "e", "i", "o", "u", ""}:
        last = last[:-1] + "ies"
    elif not last.endswith("s"):  # scissors, skis
        last += "s"
    return " ".join([*before, last])
