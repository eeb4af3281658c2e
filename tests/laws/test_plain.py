import pytest

from rsalign import Message, Plain, Prompt
from rsalign.testing import ToyPolicy, ToyReward, distance, law_of, responses

PROMPT = Prompt((Message("user", "1"),), (1,))


@pytest.mark.parametrize("salt", range(5))
@pytest.mark.parametrize(("vocab", "max_tokens"), [(2, 1), (2, 4), (3, 3)])
def test_draws_from_the_policy(salt, vocab, max_tokens):
    policy = ToyPolicy(vocab, salt)
    law = law_of(Plain(max_tokens=max_tokens), policy, ToyReward(), PROMPT)
    assert distance(law, responses(policy, PROMPT.tokens, max_tokens)) < 1e-12


def test_another_length_is_another_law():
    policy = ToyPolicy(3)
    law = law_of(Plain(max_tokens=2), policy, ToyReward(), PROMPT)
    assert distance(law, responses(policy, PROMPT.tokens, 3)) > 0.01
