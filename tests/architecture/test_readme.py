"""The README is short, and what it tells to type is understood by the program of today."""

import re
import shlex
from pathlib import Path

import pytest
from setuptools.config.setupcfg import read_configuration

import rsalign
from eval import overrides
from rsalign.cli.main import build_parser

ROOT = Path(rsalign.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs/tutorials").glob("*.md")))]
BLOCKS = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line
        for page in PAGES
        for block in BLOCKS.findall(page.replace("\\\n", " "))
        for line in block.splitlines()
        if line.startswith(("rsalign ", "pip "))
    }
)


def test_the_readme_is_read_in_a_minute():
    assert len(README.splitlines()) <= 150


def test_files_that_the_readme_links_to_are_there():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)
    assert len(links) > 15
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_there_is(command):
    program, *arguments = shlex.split(command)
    if program == "pip":
        extras = read_configuration(ROOT / "setup.cfg")["options"]["extras_require"]
        for extra in re.findall(r"rsalign\[([\w,-]+)\]", command):
            assert set(extra.split(",")) <= set(extras)
        return
    given, rest = build_parser().parse_known_args(arguments)
    if given.command == "sweep":
        overrides.check_overrides(overrides.read_overrides(overrides.quote_numbers(rest)))
    else:
        assert getattr(given, "passes_flags", False) or not rest


def test_there_are_commands_of_every_door():
    doors = {command.split()[1] for command in COMMANDS}
    assert {"demo", "generate", "serve", "sweep", "report", "export", "install"} <= doors
    with pytest.raises(SystemExit):
        test_a_command_is_one_that_there_is("rsalign generate prompts.txt --no-such-flag=1 -o")
