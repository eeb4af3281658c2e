"""Reward models of families whose own ones vLLM may not run: right, or refused with the reason."""

import asyncio
import re
from contextlib import closing

import pytest

from rsalign import ConfigError, Message, Prompt, Response, Stop
from rsalign.rewards.vllm import VllmReward
from tests.families.checkpoints import reward_folder
from tests.families.pair import SMALL
from tests.families.reference import Reference

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "Two and two?"}]


def test_a_reward_of_the_family_is_right_or_refused(family, tell):
    if not family.reward:
        pytest.skip("all other tests of the family use it")
    folder = reward_folder(family)
    try:
        reward = VllmReward.start(str(folder), **SMALL, **family.engine_args)
    except ConfigError as refusal:
        words = str(refusal)
        tell(words)
    else:
        with closing(reward):
            prompt = Prompt(tuple(Message(m["role"], m["content"]) for m in MESSAGES), (1,))
            for stop in (Stop.EOS, Stop.LENGTH):
                score = asyncio.run(reward.score(prompt, Response((1,), "Four. 👩‍👩‍👧", stop)))
                assert score == pytest.approx(expected(family, folder, stop), abs=1e-4)
        return
    assert not re.search(r"(Attribute|Type|Key|Assertion)Error", words)
    assert "TransformersReward" in words or "tokenizer" in words


def expected(family, folder, stop):
    """The score of transformers, of the tokens that the model's own tokenizer makes."""
    reference = Reference(folder)
    if "tokenizer_mode" not in family.engine_args:
        return reference.score(MESSAGES, "Four. 👩‍👩‍👧", stop)
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    (file,) = (path for path in folder.iterdir() if path.name.startswith(("tekken", "tokenizer.m")))
    is_open = stop is not Stop.EOS
    mode = ValidationMode.test if is_open else ValidationMode.finetuning
    tokenizer = MistralTokenizer.from_file(str(file), mode=mode)
    answer = AssistantMessage(content="Four. 👩‍👩‍👧", prefix=is_open)
    messages = [UserMessage(content=MESSAGES[0]["content"]), answer]
    tokens = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages)).tokens
    return reference.scores(tokens)[-1]
