"""Words that `codespell` does not know about: unique class names, plain phrases."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.test_architecture import FLOORS, ROOT, modules

# How technical English does not say it; `words.toml` and prompts are data.
ODD = re.compile(
    r"\bwhich is no\b|\bwhich are no\b|\bthat is none\b|\bbefall|\bthe own\b"
    r"|(?<!there )(?<!There )(?<!here )\bis no (?!longer|more|less|such|better)\w+ "
    r"|\bmay ask \{?\w"
)


def test_class_names_are_unique_across_the_product() -> None:
    homes = defaultdict(list)
    for package in FLOORS:
        for path in modules(package):
            if "/v1/" not in path.as_posix():
                for node in ast.parse(path.read_text(encoding="utf-8")).body:
                    if isinstance(node, ast.ClassDef):
                        homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def prose() -> list[Path]:
    """Everything that is read by people: code with its messages, contract, documents."""
    roots = ("services", "training", "loadtest", "protos/limelight", "protos/python/limelight")
    found = [path for root in roots for path in (ROOT / root).rglob("*.*")]
    found += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile"]
    return [
        path
        for path in found
        if path.suffix in (".py", ".proto", ".md", "")
        and "/v1/" not in path.as_posix().replace("protos/limelight/v1/", "")
        and path.name != "prompt.py"
    ]


def test_phrases_are_plain() -> None:
    assert len(prose()) > 100
    odd = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in prose()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (found := ODD.search(line))
    ]
    assert odd == []
