"""The paper's loop: its law is that of `Cards`, and it pays for every token of every pass."""

import asyncio
import itertools
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from exact import next_probs

from eval.bench.reference_cards import Reference, TransformersModels
from rsalign import Cards, ConfigError, Entropy, FixedSize, Key, Message, Prompt, Response, Stop
from rsalign.core.protocols import Scored
from rsalign.embedded import POLICY, REWARD
from rsalign.segments.acceptance import HardAcceptance, SoftAcceptance
from rsalign.segments.thresholds import Constant, Line
from rsalign.testing import EOS, ToyPolicy, ToyReward, distance, law, law_of

PROMPT = Prompt((Message("user", "1 1"),), (1, 1))
ACCEPTANCES = [SoftAcceptance(beta=0.7), HardAcceptance()]
THRESHOLDS = [Line(target=0.6), Constant(value=0.3)]


@dataclass(frozen=True)
class Uncertain:
    """Ends wherever the next token is uncertain, and after the token 1."""

    max_tokens: int = 3
    engine_arguments = {}  # noqa: RUF012 - an empty one

    def ends_before(self, num_drawn, entropy):
        return entropy >= 0.66

    def ends_after(self, num_drawn, entropy, text):
        return text == "1" and num_drawn == 2


SEGMENTERS = [FixedSize(1), FixedSize(2), Entropy(0.66, min_tokens=1, max_tokens=2), Uncertain()]


@dataclass(frozen=True)
class ToyLaw:
    probs: tuple

    @property
    def entropy(self):
        return torch.distributions.Categorical(torch.tensor(self.probs)).entropy().item()

    def draw(self, key):
        return key.categorical(self.probs)


@dataclass
class ToyModels:
    """The toys as models; on record is what they were given, tokens to read and responses."""

    policy: ToyPolicy = field(default_factory=lambda: ToyPolicy(2))
    reward: ToyReward = field(default_factory=ToyReward)
    given: list = field(default_factory=list)
    eos = frozenset({EOS})

    def after(self, tokens):
        self.given.append(tokens)
        return ToyLaw(self.policy.probs(tokens))

    def score(self, prompt, response):
        self.given.append(response)
        size = len(prompt.tokens) + len(response.tokens)
        return Scored(self.reward.value(response.tokens), tokens=size)

    def text(self, tokens):
        return self.policy.text(tokens)


@pytest.mark.parametrize("salt", range(2))
@pytest.mark.parametrize("segmenter", SEGMENTERS, ids=str)
def test_its_law_is_that_of_cards(segmenter, salt):
    models, laws = ToyModels(ToyPolicy(2, salt), ToyReward(salt)), []
    for acceptance, threshold in itertools.product(ACCEPTANCES, THRESHOLDS):
        settings = Cards(
            segmenter=segmenter,
            threshold=threshold,
            acceptance=acceptance,
            max_tokens=3,
            max_tries=2,
        )
        loop = Reference(models, settings)

        async def answer(key, loop=loop):
            return loop.answer(PROMPT, key)[0].tokens

        laws.append(law(answer))
        assert distance(laws[-1], law_of(settings, models.policy, models.reward, PROMPT)) < 1e-12
    assert max(distance(*pair) for pair in itertools.combinations(laws, 2)) > 1e-2


@pytest.mark.parametrize("seed", range(40))
def test_it_pays_for_every_pass(seed):
    """Over everything before each token, and once more where only a boundary is found."""
    segmenter = Entropy(0.66, min_tokens=1, max_tokens=3)
    settings = Cards(segmenter=segmenter, threshold=Constant(value=0.5), max_tokens=6, max_tries=3)
    models = ToyModels()
    answer, spent = Reference(models, settings).answer(PROMPT, Key(seed))
    read, drafts = [], []
    policy_forwards = reward_forwards = tokens_drawn = 0
    for given in models.given:
        if not isinstance(given, Response):
            read.append(len(given))
            continue
        length, (start, *_) = len(PROMPT.tokens) + len(given.tokens), read
        drawn = length - start
        looks = given.stop is Stop.BOUNDARY and drawn < segmenter.max_tokens
        assert read == list(range(start, length + looks))
        policy_forwards, reward_forwards = policy_forwards + sum(read), reward_forwards + length
        tokens_drawn += drawn
        drafts.append(start)
        read = []
    assert (spent.policy_forwards, spent.reward_forwards) == (policy_forwards, reward_forwards)
    assert (spent.tokens_drawn, spent.num_tested) == (tokens_drawn, len(drafts))
    tries = Counter(drafts)  # segments start at different lengths
    assert (spent.num_segments, max(tries.values()) <= 3) == (len(tries), True)
    assert spent.num_forced <= sum(count == 3 for count in tries.values())
    assert answer.response.complete
    assert answer.tokens in [each.tokens for each in models.given if isinstance(each, Response)]


def test_forced_segments_are_counted():
    """A target out of reach, tested by `HardAcceptance`: nothing is ever accepted."""
    settings = Cards(
        segmenter=FixedSize(2),
        threshold=Constant(value=9.0),
        acceptance=HardAcceptance(),
        max_tokens=6,
        max_tries=3,
    )
    for seed in range(10):
        _, spent = Reference(ToyModels(), settings).answer(PROMPT, Key(seed))
        assert spent.num_forced == spent.num_segments == spent.num_tested / 3


@pytest.mark.parametrize(
    "settings", [{"when_exhausted": "last"}, {"hopeless_below": 0.1}, {"threshold": None}], ids=str
)
def test_what_it_cannot_do_is_refused(settings):
    given = {"segmenter": FixedSize(2), "threshold": Constant(value=0.5)} | settings
    with pytest.raises(ConfigError, match="the reference loop cannot do"):
        Reference(ToyModels(), Cards(**given))


@pytest.fixture(scope="module")
def models():
    return TransformersModels(POLICY, REWARD)


@pytest.mark.engine
def test_its_models_are_those_of_the_engine(models, policy, reward, ask):
    """The same rewards, open or finished, and the same ends."""

    async def main():
        ends = set()
        for i in range(8):
            prompt = ask(i)
            drawn = await policy.extend(prompt.tokens, max_new_tokens=20 + 10 * i, key=Key(i))
            response = Response(drawn.tokens, policy.text(drawn.tokens), drawn.stop)
            theirs = await reward.score(prompt, response)
            ours = models.score(prompt, response)
            assert ours == pytest.approx(theirs, abs=1e-4)
            assert ours.tokens == theirs.tokens
            assert models.text(drawn.tokens) == response.text
            assert (drawn.tokens[-1] in models.eos) == (drawn.stop is Stop.EOS)
            ends.add(drawn.stop)
        assert ends == {Stop.EOS, Stop.LENGTH}

    asyncio.run(main())


def test_a_finished_answer_is_judged_where_padding_is_eos(models, tmp_path):
    """As in many a checkpoint; the last token is then EOS itself."""
    shutil.copytree(REWARD, tmp_path / "reward")
    config = json.loads((tmp_path / "reward" / "config.json").read_text())
    (eos,) = models.eos
    padded = config | {"pad_token_id": eos}
    (tmp_path / "reward" / "config.json").write_text(json.dumps(padded))
    same = TransformersModels(POLICY, str(tmp_path / "reward"))
    finished = Response((eos,), "First 1 + 1 = 2", Stop.EOS)
    assert same.score(PROMPT, finished) == models.score(PROMPT, finished)


@pytest.mark.engine
def test_its_draws_are_those_of_the_law(models, ask):
    """5 standard errors at 2000 draws."""
    (probs,) = next_probs([list(ask(0).tokens)])
    law = models.after(ask(0).tokens)
    assert law.entropy == pytest.approx(-(probs * probs.log()).sum().item(), abs=1e-5)
    drawn = torch.tensor([law.draw(Key(3, (i,))) for i in range(2000)])
    shares = torch.bincount(drawn, minlength=len(probs)) / len(drawn)
    assert ((shares - probs).abs() <= 5 * (probs / len(drawn)).sqrt() + 1 / len(drawn)).all()
