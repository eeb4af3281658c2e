"""One call of `vllm.LLM.generate` or `chat` inside an `aligned()` block, and its outputs."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rsalign.aligner.aligner import Aligner
from rsalign.aligner.outputs import AlignedOutput
from rsalign.aligner.prompts import read_prompt
from rsalign.aligner.request_outputs import (
    to_failed_request_output,
    to_request_output,
    without_presentation,
)
from rsalign.aligner.requests import (
    CallSettings,
    OnError,
    Request,
    make_request,
    one_per_prompt,
    require_reward,
)
from rsalign.core.errors import ConfigError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Strategy
from rsalign.core.types import Message
from rsalign.engines.options import RequestOptions
from rsalign.engines.vllm.llm_class import list_params, list_prompts, render_prompt
from rsalign.engines.vllm.stepper import stepping_paused
from rsalign.hooks.shared.admission import check_hooks
from rsalign.words.fields import refuse
from rsalign.words.read import Specification, read_flat
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
_PER_PROMPT = ("lora_request", "priority")
"""Arguments of which there is one for all prompts, or one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmCall:
    """One call of `LLM.generate` or `LLM.chat`, with its arguments read.

    Prompts that ask for a strategy are answered by the block's `Aligner`, all in one call; those
    that ask for none go to the engine as they came.

    Attributes:
        llm: the engine.
        name: of the method, ``"generate"`` or ``"chat"``.
        engine_method: that method as it is outside the block.
        prompts: texts, token ids or conversations, as vLLM takes them.
        params: the `SamplingParams` of each prompt.
        use_tqdm: as vLLM takes it.
        arguments: all other arguments by name.
    """

    llm: "LLM"
    name: str
    engine_method: Callable[..., "list[RequestOutput]"]
    prompts: Sequence[Any]
    params: Sequence["SamplingParams"]
    use_tqdm: Any
    arguments: Mapping[str, Any]

    @classmethod
    def read(
        cls,
        llm: "LLM",
        name: str,
        engine_method: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> "VllmCall":
        """Reads the arguments of a call.

        Args:
            llm: the engine.
            name: of its method.
            engine_method: that method as it is outside the block.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call.

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
            engine_method=engine_method,
            prompts=prompts,
            params=params,
            use_tqdm=arguments.pop("use_tqdm", True),
            arguments=arguments,
        )

    def answer(
        self, aligner: Aligner, numbers: Iterator[int], on_error: OnError
    ) -> "list[RequestOutput]":
        """The outputs, in the order of the prompts.

        Args:
            aligner: answers the prompts that have a strategy.
            numbers: the names of the prompts; their draws depend on them.
            on_error: ``"raise"``, or ``"return"`` to put a failed output in the place of a prompt
                that fails.

        Raises:
            ConfigError: if something is asked for that cannot be honoured; before any work.
            RsalignError: as `Aligner.generate`; its `finished` has what was complete of this call.
        """
        self._refuse_busy_engine()
        per_prompt = self._list_per_prompt()
        outputs: dict[int, RequestOutput] = {}
        requests: dict[int, Request] = {}
        texts: dict[int, str | None] = {}
        sampled: dict[int, SamplingParams] = {}
        for i, number in zip(range(len(self.prompts)), numbers, strict=False):
            try:
                with errors_as(partial(_refuse_unreadable, i)):
                    strategy, asked = self._read_strategy(i, aligner)
                    if strategy is None:
                        sampled[i] = self._read_own_sampling(i)
                    else:
                        requests[i], texts[i] = self._read_request(
                            i, number, strategy, asked, per_prompt, aligner
                        )
            except RsalignError as error:
                if on_error == "raise":
                    raise
                outputs[i] = self._make_failed(i, error)
        if requests:
            self._refuse_unsupported()
            with _progress(self.use_tqdm, len(requests)) as progress:
                settings = CallSettings(on_error=on_error)
                answered = aligner.answer([*requests.values()], settings, **progress)
            for i, output in zip(requests, answered, strict=True):
                outputs[i] = self._make_output(i, output, texts[i], on_error)
        if sampled:
            outputs |= self._sample(sampled)
        return [outputs[i] for i in range(len(self.prompts))]

    def _refuse_busy_engine(self) -> None:
        with stepping_paused():  # requests that an earlier call's budget cancelled are gone by then
            has_others = self.llm.llm_engine.has_unfinished_requests()
        if has_others:
            raise ConfigError(
                "the engine has requests in its queue, whose outputs an aligned call would lose: "
                "take them by wait_for_completion() first"
            )

    def _read_strategy(self, index: int, aligner: Aligner) -> tuple[Strategy | None, Specification]:
        """The strategy of a prompt (None: the engine's own sampling), and its other words."""
        asked = read_flat(self.params[index].extra_args) or Specification()
        return requested(asked, aligner.settings.strategy), asked

    def _read_own_sampling(self, index: int) -> "SamplingParams":
        """The `SamplingParams` of a prompt that the engine itself answers."""
        params = self.params[index].clone()
        params.extra_args = without_strategy(params.extra_args)
        check_hooks(params, self.llm.llm_engine.vllm_config)
        return params

    def _read_request(
        self,
        index: int,
        number: int,
        strategy: Strategy,
        asked: Specification,
        per_prompt: Mapping[str, Sequence[Any]],
        aligner: Aligner,
    ) -> tuple[Request, str | None]:
        """The request of a prompt that a strategy answers, and the prompt's text for its output."""
        params = self.params[index]
        refuse_others(params.extra_args)
        require_reward(strategy, has_reward=aligner.reward is not None)
        rendered = self._render(index)
        text = rendered.get("prompt")
        prompt: dict[str, Any] = {"prompt_token_ids": rendered["prompt_token_ids"]}
        if self.name == "chat":
            prompt["messages"] = self._read_messages(index)
            prompt["chat_template_kwargs"] = self.arguments.get("chat_template_kwargs")
            prompt["tools"] = self.arguments.get("tools")
        elif text is not None:
            prompt["prompt"] = text
        seed = one_seed(params.seed, asked.seed)
        plain = without_presentation(params)
        plain.seed = seed
        limits = [each for each in (plain.max_tokens, asked.max_tokens) if each is not None]
        plain.max_tokens = min(limits, default=None)
        defaults = aligner.settings
        given = {name: values[index] for name, values in per_prompt.items()}
        request = make_request(
            read_prompt(prompt, aligner.policy),
            plain,
            strategy,
            aligner.policy,
            RequestOptions(
                cache_salt=rendered.get("cache_salt") or "",
                lora_request=given.get("lora_request"),
                priority=given.get("priority") or 0,
            ),
            # with a seed of its own it is named by its place in this call, so that the same call
            # gives the same answers
            name=number if seed is None else index,
            seed=defaults.seed,
            budget=asked.within(defaults.budget) if asked.budget else defaults.budget,
            on_reward_error=asked.on_reward_error or defaults.on_reward_error or "fail",
        )
        return request, text

    def _sample(self, sampled: "Mapping[int, SamplingParams]") -> "dict[int, RequestOutput]":
        """The outputs of the engine itself, on the caller's thread, as outside the block."""
        per_prompt = self._list_per_prompt()
        arguments = {name: [values[i] for i in sampled] for name, values in per_prompt.items()}
        with stepping_paused():
            outputs = self.engine_method(
                [self.prompts[i] for i in sampled],
                [*sampled.values()],
                use_tqdm=self.use_tqdm,
                **{**self.arguments, **arguments},
            )
        return dict(zip(sampled, outputs, strict=True))

    def _make_output(
        self, index: int, answered: AlignedOutput, text: str | None, on_error: OnError
    ) -> "RequestOutput":
        """The output as vLLM would have returned it.

        Raises:
            PolicyError: if vLLM cannot present the answer, unless such errors are returned.
        """

        def failed(failure: BaseException) -> PolicyError:
            return PolicyError(
                f"prompt {index}: vLLM cannot show the answer: {describe_error(failure)}"
            )

        if answered.error is not None:
            return self._make_failed(index, answered.error)
        try:
            with errors_as(failed):
                return to_request_output(
                    answered,
                    self.params[index],
                    self.llm.get_tokenizer(),
                    request_id=str(next(self.llm.request_counter)),
                    prompt=text,
                )
        except RsalignError as error:
            if on_error == "raise":
                raise
            return self._make_failed(index, error)

    def _make_failed(self, index: int, error: RsalignError) -> "RequestOutput":
        prompt = self.prompts[index]
        return to_failed_request_output(
            error,
            self.params[index],
            request_id=str(next(self.llm.request_counter)),
            prompt=prompt if isinstance(prompt, str) else None,
        )

    def _read_messages(self, index: int) -> tuple[Message, ...]:
        return tuple(map(Message.of, self.prompts[index]))

    def _render(self, index: int) -> Mapping[str, Any]:
        """A prompt as vLLM renders it for its engine.

        Raises:
            ConfigError: if it is more than text.
        """
        how = {
            name: value for name, value in self.arguments.items() if name in _RENDERING[self.name]
        }
        prompt = self.prompts[index]
        if self.name == "chat":
            prompt = [message.given for message in self._read_messages(index)]
        rendered = render_prompt(self.llm, self.name, prompt, how)
        if rendered["type"] != "token":
            raise ConfigError(
                f"prompt {index} is of vLLM's type {rendered['type']!r}, which rewards cannot "
                "judge: give text or token ids, or extra_args={'rsalign': 'none'}"
            )
        return rendered

    def _refuse_unsupported(self) -> None:
        """Refuses every argument that is set and would be ignored."""
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

    def _list_per_prompt(self) -> dict[str, list[Any]]:
        """Those of the arguments `_PER_PROMPT` that are given, with one value for each prompt.

        Raises:
            ConfigError: if a list has another length than the prompts.
        """
        return {
            name: one_per_prompt(self.arguments[name], len(self.prompts), name)
            for name in _PER_PROMPT
            if self.arguments.get(name) is not None
        }


def _refuse_unreadable(index: int, failure: BaseException) -> ConfigError:
    return ConfigError(f"prompt {index}: vLLM cannot read it: {describe_error(failure)}")


@contextlib.contextmanager
def _progress(use_tqdm: Any, total: int) -> Iterator[dict[str, Any]]:
    """`use_tqdm` for the aligner; vLLM also takes a function that makes a progress bar."""
    if not callable(use_tqdm):
        yield {"use_tqdm": bool(use_tqdm)}
        return
    with contextlib.closing(use_tqdm(total=total, desc="Processed prompts")) as bar:
        yield {"use_tqdm": False, "on_result": lambda _: bar.update(1)}
