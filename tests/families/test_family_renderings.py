"""What rewards read of a conversation: open answers are the beginnings of finished ones."""

import asyncio
from contextlib import closing

import pytest

from rsalign import Message, Prompt, Response, Stop, TransformersReward
from rsalign.core.errors import RewardError
from rsalign.core.tasks import concurrently
from rsalign.rewards.rendering import Rendering
from tests.families.checkpoints import reward_folder
from tests.families.reference import Reference

pytestmark = pytest.mark.vllm

CONVERSATIONS = {
    "one turn": [{"role": "user", "content": "Two and two?"}],
    "three turns": [
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "content": "Four. 👩‍👩‍👧"},
        {"role": "user", "content": "学生?"},
    ],
    "system": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Two and two?"},
    ],
}
ANSWERS = (
    "Four.",
    "  four \n",
    "学生たち 👩‍👩‍👧",
    "One.\n\nTwo <b>",
    "<think>\nhm\n</think>\n\nFour.",
    "hm\n</think>\n\nFour.",  # of a template that opens the thought
    "assistant",  # which templates write, too
)


@pytest.fixture(scope="module")
def reference(hf_tokenizer, family):
    """`hf_tokenizer` skips families whose rewards have no chat template of Hugging Face."""
    return Reference(reward_folder(family), hf_tokenizer)


@pytest.fixture(scope="module")
def rendering(reference):
    return Rendering(reference.tokenizer, 4096)


def prompt_of(conversation):
    return Prompt(tuple(Message(m["role"], m["content"]) for m in conversation), (1,))


def response_of(answer, stop):
    return Response((1,), answer, stop)


@pytest.mark.parametrize("stop", [stop for stop in Stop if stop is not Stop.ABSTAINED])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_rewards_read_what_the_template_writes(reference, rendering, conversation, stop):
    messages = CONVERSATIONS[conversation]
    if reference.refusal(messages):
        pytest.skip("the template refuses a role of this conversation")
    for text in ANSWERS:
        response = response_of(text, stop)
        expected = reference.tokens(messages, text, stop)
        assert list(rendering.tokens(prompt_of(messages), response)) == expected


@pytest.mark.parametrize("stop", [Stop.EOS, Stop.LENGTH])
def test_a_refused_role_is_merged_or_refused(reference, rendering, stop, tell):
    """As an error of the response, with the template's own words."""
    messages = CONVERSATIONS["system"]
    refusal = reference.refusal(messages)
    if not refusal:
        pytest.skip("the template takes a system message")
    try:
        read = rendering.tokens(prompt_of(messages), response_of("Four.", stop))
    except RewardError as error:
        tell(error)
        words = str(error)
    else:
        words = rendering.tokenizer.decode(read)
    assert refusal in words or all(message["content"] in words for message in messages)


def test_transformers_rewards_are_those_of_the_model(reference, family):
    """Several at once, of different lengths; with the attention that the model was trained with."""
    messages = CONVERSATIONS["three turns"]
    cases = [(answer, stop) for answer in ANSWERS for stop in (Stop.EOS, Stop.LENGTH)]
    prompt = prompt_of(messages)

    async def scored(reward):
        return await concurrently(
            reward.score(prompt, response_of(answer, stop)) for answer, stop in cases
        )

    with closing(TransformersReward(str(reward_folder(family)))) as reward:
        found = asyncio.run(scored(reward))
    expected = [reference.score(messages, answer, stop) for answer, stop in cases]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_text_begins_once(reference, rendering, family):
    """The token before every text is not doubled, as it would be if special tokens were added."""
    starts = reference.tokenizer.bos_token_id if family.starts_text else None
    prompt = prompt_of(CONVERSATIONS["one turn"])
    for stop in (Stop.EOS, Stop.LENGTH):
        tokens = rendering.tokens(prompt, response_of("Four.", stop))
        assert tokens.count(starts) == (
            starts in reference.tokens(CONVERSATIONS["one turn"], "Four.", stop)
        )
