"""Divides a reasoning model's text into thought and answer by vLLM's reasoning parsers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError
from rsalign.engines.vllm.harmony import NAME as HARMONY
from rsalign.engines.vllm.harmony import Harmony
from rsalign.engines.vllm.text import new_detokenizer


def configured_parser(config: Any) -> str:
    """The reasoning parser that an engine was started with (``reasoning_parser``); "" if none.

    vLLM sets that of gpt-oss by itself.
    """
    outputs = getattr(config, "structured_outputs_config", None)
    return str(getattr(outputs, "reasoning_parser", "") or "")


def known_parsers() -> list[str]:
    """The names of all reasoning parsers that vLLM has."""
    from vllm.reasoning import ReasoningParserManager

    return list(ReasoningParserManager.list_registered())


@dataclass(frozen=True, slots=True)
class TextDivider:
    """One of vLLM's reasoning parsers over a tokenizer.

    Attributes:
        name: of the parser.
        tokenizer: of the model.
        kind: the parser's class; None for `Harmony`.
        harmony: divides by token ids.
        reads_special: whether the parser looks for special tokens, which ordinary text lacks.
    """

    name: str
    tokenizer: Any
    kind: Any
    harmony: Harmony | None
    reads_special: bool

    @classmethod
    def of(cls, name: str, tokenizer: Any) -> "TextDivider":
        """Finds a parser by name, and checks that it works with this tokenizer.

        Raises:
            ConfigError: if vLLM has no such parser, or the vocabulary lacks the tokens that it
                looks for.
        """
        from vllm.reasoning import ReasoningParserManager

        known = known_parsers()
        if name not in known:
            raise ConfigError(
                f"reasoning_parser={quote(name)}: vLLM has no such reasoning parser; there are "
                f"{', '.join(known)}, and 'none'"
            )
        try:
            if name == HARMONY:
                return cls(name, tokenizer, None, Harmony.of(tokenizer), reads_special=True)
            kind = ReasoningParserManager.get_reasoning_parser(name)
            parser = kind(tokenizer, chat_template_kwargs={})
            reads_special = _reads_special(parser, tokenizer)
        except Exception as missing:  # of any class: parsers are contributed to vLLM by many
            raise ConfigError(
                f"reasoning_parser={quote(name)} does not fit the model's tokenizer "
                f"({type(missing).__name__}: {missing}): give the parser of this model, or 'none'"
            ) from missing
        return cls(name, tokenizer, kind, None, reads_special)

    def divide(
        self,
        prompt: Sequence[int],
        variables: Mapping[str, Any],
        tokens: Sequence[int],
        text: str,
    ) -> tuple[str | None, str | None]:
        """Returns the thought and the answer; None for what is not there.

        Args:
            prompt: tokens of the prompt, which may begin the thought, or end it already.
            variables: of the chat template, by which some models are told not to think.
            tokens: of the response, without the one that ended it.
            text: of the response, without special tokens and without the string that ended it.

        Raises:
            ValueError: what the parser raises.
        """
        if self.harmony is not None:
            return self.harmony.divide(tokens, text)
        parser = self.kind(self.tokenizer, chat_template_kwargs=dict(variables))
        if prompt and parser.is_reasoning_end(list(prompt)):
            return None, text  # the template closed the thought: the model was told not to think
        read = self._special_text(prompt, tokens) if self.reads_special else text
        thought, answer = parser.extract_reasoning(read, _request())
        return thought or None, answer

    def _special_text(self, prompt: Sequence[int], tokens: Sequence[int]) -> str:
        from vllm import SamplingParams

        shown = SamplingParams(skip_special_tokens=False, spaces_between_special_tokens=False)
        growing = new_detokenizer(self.tokenizer, shown, prompt)
        growing.update(list(tokens), False)
        return str(growing.get_next_output_text(finished=True, delta=False))


def _reads_special(parser: Any, tokenizer: Any) -> bool:
    """Whether a parser needs the text with special tokens."""
    if parser.adjust_request(_request()).skip_special_tokens:
        return False
    # vLLM's newer parsers always ask for special tokens, also where they look for ordinary text
    end = parser.reasoning_end_str
    if end is None:
        return True
    token = tokenizer.get_vocab().get(end)
    return token is not None and not tokenizer.decode([token], skip_special_tokens=True)


def _request() -> Any:
    """A request as parsers take it; they read nothing of it but whether tools are allowed."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest(messages=[], model="")
