"""One call of `vllm.LLM.generate` or `chat`, answered in its own terms."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rsalign.aligner.aligner import Aligner
from rsalign.aligner.batch import OnError
from rsalign.aligner.inputs import per_prompt
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.request_outputs import failed_output, request_output, without_presentation
from rsalign.core.budget import Budget
from rsalign.core.errors import ConfigError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Strategy
from rsalign.core.types import Message
from rsalign.engines.vllm.llm_class import list_params, list_prompts, render_prompt
from rsalign.engines.vllm.stepper import stepping_paused
from rsalign.hooks.shared.admission import check_hooks
from rsalign.words.fields import refuse
from rsalign.words.read import OnRewardError, Specification, read_flat
from rsalign.words.request import one_seed, refuse_others, requested, without_strategy

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

_PROMPTS = {"generate": "prompts", "chat": "messages"}
_RENDERING = {
    "generate": ("tokenization_kwargs",),
    "chat": (
        *("chat_template", "chat_template_content_format", "chat_template_kwargs"),
        *("add_generation_prompt", "tools", "tokenization_kwargs"),
    ),
}
_EACH = ("lora_request", "priority")
"""Arguments of which there is one for all prompts, or one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmCall:
    """What one call asks for.

    Attributes:
        llm: the engine.
        name: of the method, ``"generate"`` or ``"chat"``.
        own: that method as it is outside the block.
        prompts: texts, token ids or conversations, as vLLM takes them.
        params: of each prompt.
        default: the strategy of a prompt that asks for none.
        use_tqdm: as vLLM takes it.
        arguments: all others by name.
    """

    llm: "LLM"
    name: str
    own: Callable[..., "list[RequestOutput]"]
    prompts: Sequence[Any]
    params: Sequence["SamplingParams"]
    default: Strategy
    use_tqdm: Any
    arguments: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        llm: "LLM",
        name: str,
        own: Callable[..., Any],
        default: Strategy,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> "VllmCall":
        """Reads a call.

        Args:
            llm: the engine.
            name: of its method.
            own: that method as it is outside the block.
            default: the strategy of a request that asks for none.
            args: as the method was called.
            kwargs: as the method was called.

        Raises:
            TypeError: if the method has no such parameters.
            ValueError: what vLLM raises if there are more or fewer parameters than prompts.
            ConfigError: if a request asks for a strategy that it cannot have.
        """
        signature = inspect.signature(getattr(type(llm), name))
        arguments = signature.bind(llm, *args, **kwargs).arguments
        del arguments["self"]
        prompts = list_prompts(name, arguments.pop(_PROMPTS[name]))
        params = list_params(llm, arguments.pop("sampling_params", None), len(prompts))
        return cls(
            llm=llm,
            name=name,
            own=own,
            prompts=prompts,
            params=params,
            default=default,
            use_tqdm=arguments.pop("use_tqdm", True),
            arguments=arguments,
        )

    def answer(
        self, aligner: Aligner, numbers: Iterator[int], on_error: OnError
    ) -> "list[RequestOutput]":
        """The outputs, in the order of the prompts.

        Args:
            aligner: draws those that have a strategy.
            numbers: what the prompts are called; their draws depend on it.
            on_error: ``"raise"``, or ``"return"`` to put a failed output in the place of a prompt
                that fails.

        Raises:
            ConfigError: if something is asked for that cannot be honoured; before any work.
            RsalignError: as `Aligner.generate`; its `finished` has what was complete of this call.
        """
        with stepping_paused():  # what an earlier call's budget has cancelled is gone by then
            has_others = self.llm.llm_engine.has_unfinished_requests()
        if has_others:
            raise ConfigError(
                "the engine has requests in its queue, whose outputs an aligned call would lose: "
                "take them by wait_for_completion() first"
            )
        outputs: dict[int, RequestOutput] = {}
        left: list[_Request] = []
        for i, number in zip(range(len(self.prompts)), numbers, strict=False):
            try:
                with errors_as(partial(_unreadable, i)):
                    left.append(_Request.of(self, i, number, aligner.budget))
            except RsalignError as error:
                if on_error == "raise":
                    raise
                outputs[i] = self._failed(i, error)
        if any(request.strategy is not None for request in left):
            self._refuse_unsupported()
        finished: list[AlignedOutput] = []
        while left:  # each time those that ask for the same as the first, as long as names differ
            way = left[0].way
            chosen = {request.name: request for request in left if request.way == way}
            now = list(chosen.values())
            left = [request for request in left if chosen.get(request.name) is not request]
            if now[0].strategy is None:
                sampled = self._sample(now)
                outputs |= {each.index: output for each, output in zip(now, sampled, strict=True)}
                continue
            try:
                answers = self._align(now, aligner, on_error)
            except RsalignError as error:
                error.finished = (*finished, *error.finished)
                raise
            finished += answers
            outputs |= {
                request.index: self._output(request, answered, on_error)
                for request, answered in zip(now, answers, strict=True)
            }
        return [outputs[i] for i in range(len(self.prompts))]

    def _sample(self, requests: "Sequence[_Request]") -> "list[RequestOutput]":
        """By the engine itself, on the caller's thread, as outside the block."""
        with stepping_paused():
            return self.own(
                [self.prompts[request.index] for request in requests],
                [request.params for request in requests],
                use_tqdm=self.use_tqdm,
                **{**self.arguments, **self._each(requests)},
            )

    def _align(
        self, requests: "Sequence[_Request]", aligner: Aligner, on_error: OnError
    ) -> list[AlignedOutput]:
        with _progress(self.use_tqdm, len(requests)) as progress:
            return aligner.generate(
                [request.prompt for request in requests],
                [request.params for request in requests],
                strategy=requests[0].strategy,
                budget=requests[0].budget,
                on_reward_error=requests[0].on_reward_error,
                **self._each(requests),
                on_error=on_error,
                **progress,
            )

    def _output(
        self, request: "_Request", answered: AlignedOutput, on_error: OnError
    ) -> "RequestOutput":
        """As vLLM would have it.

        Raises:
            PolicyError: if vLLM cannot show the answer, unless such errors are returned.
        """

        def unshown(failure: BaseException) -> PolicyError:
            return PolicyError(
                f"prompt {request.index}: vLLM cannot show the answer: {describe_error(failure)}"
            )

        if answered.error is not None:
            return self._failed(request.index, answered.error)
        try:
            with errors_as(unshown):
                return request_output(
                    answered,
                    self.params[request.index],
                    self.llm.get_tokenizer(),
                    request_id=str(next(self.llm.request_counter)),
                    prompt=request.text,
                )
        except RsalignError as error:
            if on_error == "raise":
                raise
            return self._failed(request.index, error)

    def _failed(self, index: int, error: RsalignError) -> "RequestOutput":
        prompt = self.prompts[index]
        return failed_output(
            error,
            self.params[index],
            request_id=str(next(self.llm.request_counter)),
            prompt=prompt if isinstance(prompt, str) else None,
        )

    def messages(self, index: int) -> tuple[Message, ...]:
        """A conversation as every other door reads it.

        Raises:
            ConfigError: as `Message.of`.
        """
        return tuple(map(Message.of, self.prompts[index]))

    def render(self, index: int) -> Mapping[str, Any]:
        """A prompt as vLLM itself renders it for its engine.

        Raises:
            ConfigError: if it is more than text.
        """
        how = {
            name: value for name, value in self.arguments.items() if name in _RENDERING[self.name]
        }
        prompt = self.prompts[index]
        if self.name == "chat":
            prompt = [message.given for message in self.messages(index)]
        rendered = render_prompt(self.llm, self.name, prompt, how)
        if rendered["type"] != "token":
            raise ConfigError(
                f"prompt {index} is of vLLM's type {rendered['type']!r}, which rewards cannot "
                "judge: give text or token ids, or extra_args={'rsalign': 'none'}"
            )
        return rendered

    def _refuse_unsupported(self) -> None:
        """Refuses every argument that is set and can only be ignored."""
        declared = inspect.signature(getattr(type(self.llm), self.name)).parameters
        try:
            refuse(
                f"LLM.{self.name}",
                ((name, value, declared[name].default) for name, value in self.arguments.items()),
            )
        except ConfigError as refused:
            raise ConfigError(
                f"{self.name}(): {refused}. For the engine's own sampling give "
                "extra_args={'rsalign': 'none'}"
            ) from None

    def _each(self, requests: "Sequence[_Request]") -> dict[str, Any]:
        """The arguments that there may be one of for each prompt, for these.

        Raises:
            ConfigError: if there are more or fewer of one than prompts.
        """
        given = {name: self.arguments.get(name) for name in _EACH}
        each = {
            name: per_prompt(value, len(self.prompts), name)
            for name, value in given.items()
            if value is not None
        }
        return {
            name: [values[request.index] for request in requests] for name, values in each.items()
        }


@dataclass(frozen=True, slots=True)
class _Request:
    """One prompt of a call, checked.

    Attributes:
        index: its place in the call.
        strategy: None is the engine's own sampling.
        params: as the aligner, or else the engine, takes them.
        prompt: as `Aligner.generate` takes it; empty for the engine's own sampling.
        text: of the prompt, as vLLM would report it.
        budget: of the prompt; None: the aligner's.
        on_reward_error: of the prompt; None: the aligner's.
    """

    index: int
    strategy: Strategy | None
    params: "SamplingParams"
    prompt: Mapping[str, Any]
    text: str | None
    budget: Budget | None = None
    on_reward_error: OnRewardError | None = None

    @property
    def way(self) -> tuple[Any, ...]:
        """What prompts must share to be answered in one call."""
        return self.strategy, self.budget, self.on_reward_error

    @property
    def name(self) -> int:
        """What it is called; one with a seed of its own may be called as one without."""
        return int(self.prompt.get("id", self.index))

    @classmethod
    def of(cls, call: VllmCall, index: int, number: int, budget: Budget | None) -> "_Request":
        params, config = call.params[index], call.llm.llm_engine.vllm_config
        asked = read_flat(params.extra_args) or Specification()
        strategy = requested(asked, call.default)
        if strategy is None:
            params = params.clone()
            params.extra_args = without_strategy(params.extra_args)
            check_hooks(params, config)
            return cls(index, None, params, {}, None)
        refuse_others(params.extra_args)
        rendered = call.render(index)
        text = rendered.get("prompt")
        seed = one_seed(params.seed, asked.seed)
        # with a seed of its own it is called by its place in this call, so that the same call gives
        # the same answers
        name = number if seed is None else index
        prompt: dict[str, Any] = {"id": name, "prompt_token_ids": rendered["prompt_token_ids"]}
        if call.name == "chat":
            prompt["messages"] = call.messages(index)
        elif text is not None:
            prompt["prompt"] = text
        if salt := rendered.get("cache_salt"):
            prompt["cache_salt"] = salt
        plain = without_presentation(params)
        if plain.max_tokens is not None and asked.max_tokens is not None:
            plain.max_tokens = min(plain.max_tokens, asked.max_tokens)
        elif asked.max_tokens is not None:
            plain.max_tokens = asked.max_tokens
        plain.seed = seed
        return cls(
            index,
            strategy,
            plain,
            prompt,
            text,
            budget=asked.within(budget) if asked.budget else None,
            on_reward_error=asked.on_reward_error,
        )


def _unreadable(index: int, failure: BaseException) -> ConfigError:
    return ConfigError(f"prompt {index}: vLLM cannot read it: {describe_error(failure)}")


@contextlib.contextmanager
def _progress(use_tqdm: Any, total: int) -> Iterator[dict[str, Any]]:
    """`use_tqdm` for the aligner: vLLM also takes what makes a bar."""
    if not callable(use_tqdm):
        yield {"use_tqdm": bool(use_tqdm)}
        return
    with contextlib.closing(use_tqdm(total=total, desc="Processed prompts")) as bar:
        yield {"use_tqdm": False, "on_result": lambda _: bar.update(1)}
