"""What the pages say is so: commands exist, fields exist, links lead somewhere, examples run."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.campaign.sections import section_of
from defect_mf_flows.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BUILT = {"fields.md"}  # written when the site is built
COMMAND = re.compile(r"^(?:\S+/)?defect-mf (.+)$")
FIELD = re.compile(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[str]:
    """Every line of a shell block that calls the package, without comments and alternatives."""
    blocks = re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", page.read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [COMMAND.match(line.split("  #")[0].split(" # ")[0].strip()) for line in lines]
    return [part for m in found if m for part in m[1].split("; defect-mf ")]


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        below = command.commands.get(words[0])
        assert below is not None, f"there is no command {words[0]!r}"
        command, words = below, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)
        if "|" in words:  # `pause | resume | cancel CAMPAIGN`
            cut = max(k for k, word in enumerate(words) if word == "|")
            names = [w for w in words[: cut + 2] if w != "|"]
            group = names[:-2] if names[0] == "benchmark" else []
            for alternative in names[len(group[:1]) :]:
                resolve([*group[:1], alternative])
            continue
        command, rest = resolve(words)
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        known |= {"--help", "-h"}
        unknown = {w.split("=")[0] for w in rest if re.match(r"--?[a-z]", w)} - known
        assert not unknown, f"defect-mf {line}"


def fields(model: type[BaseModel], before: str = "") -> set[str]:
    found = set()
    for key, field in model.model_fields.items():
        found.add(before + key)
        section = section_of(field.annotation)
        if section is not None:
            prefix = f"{before}{key}.NAME." if key == "fidelities" else f"{before}{key}."
            found |= fields(section, prefix)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_campaign_field_of_a_page_exists(page: Path) -> None:
    known = fields(Campaign)
    sections = set(Campaign.model_fields)
    named = {f for f in FIELD.findall(page.read_text()) if f.split(".")[0] in sections}
    files = {f for f in named if f.rsplit(".", 1)[1] in {"csv", "json", "html", "md", "py", "yaml"}}
    free = {f for f in named if ".settings." in f or f.startswith(("results.", "defects.charges."))}
    functions = {f for f in named if f.split(".")[0] == "learning"}
    assert named - known - files - free - functions == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = [t for t in LINK.findall(page.read_text()) if t not in BUILT]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_examples_of_adding_to_it_run(finished: Any) -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    parsed = doctest.DocTestParser().get_doctest(
        examples, {"campaign": finished.api}, "extending.md", None, 0
    )
    assert len(parsed.examples) >= 15
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(parsed)
    assert runner.failures == 0
