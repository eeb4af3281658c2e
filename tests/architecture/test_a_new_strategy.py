"""A new strategy is its file, its law test, one line in the registry and a row in the docs.

The strategy of this module is such a file, and the fixture is the line in the registry. Every entry
point then knows the strategy, and no code asks for the class of the strategy that it works for.
"""

import ast
import asyncio
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

import rsalign
from eval.analysis.naming import name_methods
from rsalign import (
    Aligner,
    BestOf,
    Candidate,
    ConfigError,
    Message,
    Prompt,
    Proposal,
    Run,
    Verdict,
    write_page,
)
from rsalign.cli.main import main
from rsalign.core.capabilities import describe_part
from rsalign.core.checks import at_least, check_settings
from rsalign.harnesses.arguments import Arguments
from rsalign.serve.options import Options
from rsalign.strategies import STRATEGIES
from rsalign.testing import EOS, ToyPolicy, ToyReward, check_strategy, distance, law_of, responses
from rsalign.words.parts import strategy_from
from rsalign.words.read import read_flat, read_object

ROOT = Path(rsalign.__file__).parents[1]
PROMPT = Prompt((Message("user", "1 2"),), (1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstGood:
    """The first of at most n answers whose reward reaches a bar, or else the last of them.

    Law: let A be the probability that one answer reaches the bar. An answer y that reaches it has
    probability pi(y) (1 - (1 - A)^n) / A, and any other has pi(y) (1 - A)^(n - 1).

    Attributes:
        n: greatest number of answers.
        bar: in the reward's units.
        max_tokens: bounds an answer.
    """

    n: int = 4
    bar: float = 0.0
    max_tokens: int = 3

    def __post_init__(self) -> None:
        check_settings(self, n=at_least(1), max_tokens=at_least(1))

    async def sample(self, prompt: Prompt, run: Run) -> Candidate:
        """Draws answers one after another."""
        for i in range(self.n):
            here = run.at("try", i)
            answer = await here.draft(prompt, (), max_tokens=self.max_tokens)
            log_accept = 0.0 if answer.reward >= self.bar else -math.inf
            if here.decide(answer, kept=0, log_accept=log_accept):
                break
        else:
            forced = Proposal(candidate=answer, kept=0, log_accept=0.0, verdict=Verdict.FORCED)
            run.trace.propose(forced)
        run.trace.note(num_tried=i + 1)
        run.trace.commit(answer.tokens)
        return answer


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "first_good", FirstGood)  # the line in the registry


ASKED = FirstGood(n=3, bar=0.5)
WORDS = {"n": "3", "bar": "0.5"}


def test_the_law():
    policy, reward = ToyPolicy(2, 3), ToyReward(3)
    base = responses(policy, PROMPT.tokens, 3)
    good = {y for y in base if reward.value(y) >= 0.5}
    a = math.fsum(base[y] for y in good)
    assert 0 < a < 1
    expected = {
        y: p * ((1 - (1 - a) ** 3) / a if y in good else (1 - a) ** 2) for y, p in base.items()
    }
    assert distance(law_of(ASKED, policy, reward, PROMPT), expected) < 1e-12
    asyncio.run(check_strategy(ASKED, PROMPT, policy, reward, eos=EOS))


def test_every_entry_point_knows_its_name():
    assert strategy_from({"name": "first_good"} | WORDS) == ASKED
    options = Options(reward="x", strategy="first_good", settings=WORDS)
    assert options.request_rules().default == ASKED
    rules = Options(reward="x").request_rules()
    flat = {"rsalign": "first_good", "rsalign_n": 3, "rsalign_bar": 0.5}
    assert rules.read(read_flat(flat)).strategy == ASKED
    assert rules.read(read_object({"strategy": "first_good"} | WORDS)).strategy == ASKED
    given = {"strategy": "first_good", "reward": len} | WORDS
    assert Arguments.read(given).strategy == ASKED
    with pytest.raises(ConfigError, match="did you mean 'first_good'"):
        strategy_from("first_god")
    with pytest.raises(ConfigError, match="needs a reward"):
        Aligner(ToyPolicy(), None, "first_good")


def test_it_answers_and_streams():
    with Aligner(ToyPolicy(), ToyReward(), ASKED) as aligner:
        (answer,) = aligner.generate("1 2")

        async def streamed():
            return [event async for event in aligner.astream("1 2")]

        assert asyncio.run(streamed())[-1].output.outputs[0].text == answer.outputs[0].text
    assert answer.alignment.strategy == ASKED
    assert 1 <= answer.alignment.diagnostics["num_tried"] <= 3


def test_generate_writes_its_settings_and_its_page(tmp_path):
    source, target, page = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "page.html"))
    source.write_text('{"prompt_token_ids": [1, 2]}\n')
    own = ["--policy", "rsalign.testing:ToyPolicy", "--reward", "rsalign.testing:ToyReward"]
    settings = [f"--set={key}={value}" for key, value in WORDS.items()]
    command = ["generate", str(source), "-o", str(target), "--trace", str(page), *own]
    assert main([*command, "--strategy", "first_good", *settings]) == 0
    record = json.loads(target.read_text())
    assert record["strategy"] == "first_good"
    assert record["settings"] == describe_part(ASKED)
    assert "FirstGood" in page.read_text()


def test_the_page_shows_what_it_tried(tmp_path):
    with Aligner(ToyPolicy(), ToyReward(), FirstGood(n=5, bar=1.9)) as aligner:
        (answer,) = aligner.generate("1 2")
    page = tmp_path / "page.html"
    write_page([answer], str(page), decode=ToyPolicy().text)
    text = page.read_text()
    for proposal in answer.alignment.trace.proposals:
        assert f"{abs(proposal.candidate.reward):.4g}" in text


def test_analysis_names_it():
    compared = [describe_part(one) for one in (FirstGood(n=2), FirstGood(n=8), BestOf(n=2))]
    assert name_methods(compared, [2, 8, 2]) == ["FirstGood", "FirstGood", "BestOf"]


PLACES = ("rsalign/report", "rsalign/serve", "rsalign/harnesses", "rsalign/aligner", "rsalign/core")
"""Where code works for any strategy, and so must ask it, and not for its class."""


def of_classes(tree, classes):
    """Lines that ask whether something is of a strategy's class."""
    for node in ast.walk(tree):
        named = set()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            named = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = {each.id for each in sides if isinstance(each, ast.Name)}
            named |= {each.value for each in sides if isinstance(each, ast.Constant)}
        if named & classes:
            yield node.lineno


@pytest.mark.parametrize("place", [*PLACES, "eval/analysis", "eval/report"])
def test_nothing_asks_for_the_class_of_a_strategy(place):
    classes = {made.__name__ for made in STRATEGIES.values()} | {"MarkovChain"}
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / place).rglob("*.py"))
        for line in of_classes(ast.parse(path.read_text(encoding="utf-8")), classes)
    ]
    assert not found, "ask the strategy instead, by an attribute or a method that any can have"


def test_the_search_finds_what_it_looks_for():
    code = "isinstance(s, A | B)\ntype(s) is A\ns['class'] == 'A'\nisinstance(s, C)\nx == 'C'"
    assert [*of_classes(ast.parse(code), {"A"})] == [1, 2, 3]
