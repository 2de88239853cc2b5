"""docs/clients.md says what the code does."""

import re
from pathlib import Path

from services.rpc import metadata

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "clients.md").read_text("utf-8")
EXAMPLES = {
    "js": ROOT / "examples" / "node" / "limelight.js",
    "go": ROOT / "examples" / "go" / "main.go",
    "python": ROOT / "examples" / "stubs" / "ask.py",
}


def test_its_code_is_the_examples() -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    shown = [(language, code) for language, code in blocks if language != "console"]
    assert {language for language, _ in shown} == set(EXAMPLES)
    assert [
        (language, code)
        for language, code in shown
        if code not in EXAMPLES[language].read_text("utf-8") + "\n"
    ] == []


def test_its_table_has_the_metadata_that_the_public_door_reads() -> None:
    named = set(re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE))
    within = {metadata.TENANT, metadata.KEY_ID, metadata.SCOPES}  # between services only
    keys = {value for name, value in vars(metadata).items() if name.isupper() and name[0] != "_"}
    assert named == {key for key in keys if isinstance(key, str)} - within


def test_every_file_it_links_exists() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", DOCUMENT)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
