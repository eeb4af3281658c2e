"""What the documentation says to write is understood."""

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from rsalign import Plain
from rsalign.serve.options import Options
from rsalign.serve.rules import RequestRules
from rsalign.words.read import read_flat, read_object, split
from rsalign.words.request import requested

ROOT = Path(__file__).parents[2]
PAGES = {
    str(page.relative_to(ROOT)): page.read_text().replace("\\\n", " ")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
RULES = RequestRules(has_reward=True)


def found(pattern):
    return sorted({match for text in PAGES.values() for match in re.findall(pattern, text)})


COMMANDS = found(r"rsalign serve [^`\n]*--strategy [^`\n]*")
BODIES = [body for body in found(r'"rsalign": (\{[^{}]*\})') if "..." not in body]
FLAT = [flat for flat in found(r'(\{"rsalign(?:_[a-z_.]+)?": [^{}]*\})') if "guided" not in flat]


def test_there_are_some():
    assert len(COMMANDS) >= 2
    assert any("cards" in body for body in BODIES)
    assert any("cards" in flat for flat in FLAT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_starts_with(command):
    words = shlex.split(command)
    given = dict(itertools.pairwise(words))
    settings = [after for word, after in itertools.pairwise(words) if word == "--set"]
    Options(reward="x", strategy=given["--strategy"], settings=dict(split(settings, "--set")))


def test_the_plug_in_starts_with():
    (text,) = found(r"RSALIGN_SERVE='([^'\n]*)'")
    Options.from_json(text)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_understood(body):
    RULES.read(read_object({"strategy": "best_of"} | json.loads(body)))


@pytest.mark.parametrize("flat", FLAT)
def test_flat_keys_are_understood(flat):
    asked = json.loads(flat)
    if "rsalign" in asked:
        RULES.read(read_flat(asked))
        requested(read_flat(asked), Plain())
