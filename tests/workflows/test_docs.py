"""The documents say what the program does: their commands parse, their messages exist, each verb has its table."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import sys
from pathlib import Path

import pytest

from napari_tokenunify import cli
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.pipeline import STAGES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "napari_tokenunify"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = "napari-tokenunify"
_BLOCK = re.compile(r"^```(?:bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PARSER = functools.cache(cli._commands)  # made from all Configs, which takes half a second
_REST = "--volume a --annotations b --out c"  # what `...` stands for in jobs.md


def commands(page: Path) -> list[str]:
    """Return the commands of this program in a page; a line of `... --flag` is one more way to call finetune."""
    text = "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    lines = [f"{PROGRAM} finetune {line}" if line.startswith("... ") else line for line in lines]
    return [line.replace(" ... ", f" {_REST} ") for line in lines if line.startswith(f"{PROGRAM} ")]


@pytest.fixture(autouse=True)
def _one_parser(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "_commands", _PARSER)


def check(page: Path) -> None:
    """Fail at the first command of a page that the command line does not take."""
    for command in commands(page):
        try:
            cli._parse(shlex.split(command, comments=True)[1:])
        except (ConfigError, SystemExit) as error:
            pytest.fail(f"{page.name}: {command}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_documents_parses(page: Path):
    check(page)


def test_the_documents_have_commands():
    assert sum(len(commands(page)) for page in PAGES) > 50
    assert commands(ROOT / "README.md")


def test_a_command_that_has_drifted_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"```bash\n{PROGRAM} info a.tif --no-such-flag  # a remark\n```\n")
    with pytest.raises(pytest.fail.Exception):
        check(page)


def messages() -> set[str]:
    """Return the texts in the source, without what is filled in."""
    texts = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.add("\0".join(part.value for part in node.values if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts


def test_the_messages_of_the_faq_are_those_of_the_program():
    faq = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", faq, re.MULTILINE)
    assert len(quoted) >= 25
    known = "\n".join(messages())
    for message in quoted:
        for part in message.split("…"):
            assert part.strip() in known, f"no message has the words: {part.strip()}"


def test_each_verb_and_each_flag_has_its_line_in_the_reference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import stage_reference

    text = stage_reference.verbs()
    monkeypatch.delitem(sys.modules, "stage_reference")
    for name, stage in STAGES.items():
        part = re.split(r"^##", text.partition(f"# {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        assert part.count("\n| `") == len(stage.config.model_fields), name
    assert "| `--threshold` | number, at least 0, at most 1 | `0.5` |" in text
    assert "| `--no-resample` | yes or no | yes |" in text
    assert "| `URI` | text | needed |" in text
    assert "--launch.template" in text
    assert "[verbs]" not in text
