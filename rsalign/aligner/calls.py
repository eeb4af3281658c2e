"""Reads the arguments of a call of the `Aligner`, with the aligner's own where it gives none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rsalign.aligner.open_parts import OpenParts
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.prompts import ChatRendering, list_conversations, list_prompts
from rsalign.aligner.requests import (
    CallSettings,
    LoRARequests,
    OnError,
    Request,
    SamplingParamsForAll,
    check_settings,
    read_requests,
)
from rsalign.core.budget import Budget
from rsalign.core.parts import require_parts
from rsalign.core.text.chat_options import ChatOptions, JsonObjects
from rsalign.words.allocation import AllocationLike, allocated
from rsalign.words.parts import StrategyLike, strategy_from
from rsalign.words.read import OnRewardError


@dataclass(frozen=True, slots=True)
class CallReader:
    """Reads calls.

    Attributes:
        defaults: the aligner's own settings.
        parts: its policy, reward and journal.
        chat_options: its own options of conversations.
    """

    defaults: CallSettings
    parts: OpenParts
    chat_options: ChatOptions

    def settings_of(
        self,
        strategy: StrategyLike | None,
        budget: Budget | None,
        seed: int | None,
        on_error: OnError,
        on_reward_error: OnRewardError | None,
        lora_request: LoRARequests,
        priority: int | Sequence[int] | None,
        allocation: AllocationLike | None = None,
    ) -> CallSettings:
        """The settings of a call.

        Raises:
            ConfigError: if they cannot answer any prompt.
        """
        made = None if strategy is None else strategy_from(strategy)
        call = CallSettings(made, budget, seed, on_error, on_reward_error, lora_request, priority)
        call = call.over(self.defaults)
        if allocation is not None:
            assert call.strategy is not None  # the defaults have one
            call = replace(call, strategy=allocated(call.strategy, allocation))
        check_settings(call, has_reward=self.parts.reward is not None)
        if call.strategy is not None:
            require_parts(call.strategy, self.parts.parts)
        return call

    def read(
        self,
        given: Any,
        sampling_params: SamplingParamsForAll,
        call: CallSettings,
        chat: ChatRendering | None = None,
    ) -> list[Request | AlignedOutput]:
        """The requests of a call; with `chat` it is one of `Aligner.chat`, else of `generate`.

        Raises:
            ConfigError: as `rsalign.aligner.requests.read_requests`.
        """
        is_chat = chat is not None
        return read_requests(
            list_conversations(given) if is_chat else list_prompts(given),
            sampling_params,
            call,
            self.parts.policy,
            chat or self.rendering(),
            are_conversations=is_chat,
        )

    def rendering(
        self,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        tools: JsonObjects | None = None,
        documents: JsonObjects | None = None,
        reasoning_effort: str | None = None,
    ) -> ChatRendering:
        """How the conversations of a call are rendered.

        Raises:
            ConfigError: if an option is refused (`ChatOptions`).
        """
        own = ChatOptions(
            chat_template=chat_template,
            add_generation_prompt=add_generation_prompt,
            chat_template_kwargs={} if chat_template_kwargs is None else chat_template_kwargs,
            tools=() if tools is None else tools,
            documents=() if documents is None else documents,
            reasoning_effort=reasoning_effort,
        )
        options, journal = own.over(self.chat_options), self.parts.journal
        if journal is None:
            return ChatRendering(options)
        return ChatRendering(options, journal.date, warns_of_date=False)
