"""The README's commands, run: what it tells a new user to type works as written."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LIMELIGHT = str(Path(sys.executable).with_name("limelight"))


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    lines = "".join(blocks("console")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z-]+)`", README)) | {
        words[1] for words in commands() if words[0] == "make"
    }
    assert named
    assert {target for target in named if f"\n{target}:" not in makefile} == set()


def test_every_file_it_links_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.serve
def test_what_it_says_to_try_works(tmp_path: Path) -> None:
    """`limelight demo` (what `make demo` runs), then the block after it, then the Python one."""
    env = {**os.environ, "LIMELIGHT_STATE_DIR": str(tmp_path / "state")}

    def run(*words: str) -> str:
        result = subprocess.run(
            words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280
        )
        assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    shown = run(LIMELIGHT, "demo")
    assert "put the main subjects in the spotlight" in shown
    pictures = sorted(path.name for path in (tmp_path / "out" / "demo").iterdir())
    assert len([name for name in pictures if "overlay" in name]) >= 3
    assert len([name for name in pictures if "cutout" in name]) >= 3

    session = [words for words in commands() if words[0].endswith("/limelight")]
    up = session.index([".venv/bin/limelight", "up"])
    down = session.index([".venv/bin/limelight", "down"])
    try:
        for words in session[up:down]:
            shown = run(LIMELIGHT, *words[1:])
            if "--json" in words:
                answer = json.loads(shown)
                assert {item["label"] for item in answer["instances"]} == {"red apple", "banana"}
        assert (tmp_path / "dog.png").stat().st_size > 0
        status = json.loads(run(LIMELIGHT, "status", "--json"))
        (snippet,) = blocks("python")
        snippet = snippet.replace("localhost:50551", status["address"])
        snippet = snippet.replace("street.jpg", "out/demo/street.png")
        run(sys.executable, "-c", snippet)
    finally:
        run(LIMELIGHT, "down")
