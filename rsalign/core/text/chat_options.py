"""ChatOptions: everything besides the messages that decides how a conversation is rendered."""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from rsalign.core.checks import check_value, part, quote
from rsalign.core.errors import ConfigError

JsonObjects: TypeAlias = Sequence[Mapping[str, Any]]
"""A list of JSON objects, such as tools or documents."""

_RESERVED = (
    *("chat_template", "tokenize", "return_dict", "conversation"),
    *("add_generation_prompt", "continue_final_message"),
)
"""Arguments of a tokenizer's `apply_chat_template` that are set elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How conversations are rendered; names and meaning are those of vLLM's chat endpoints.

    All of it only changes the text of the prompt, and so the tokens that a journal and the records
    identify a prompt by. A reward renders the conversation with its own template and its own
    options.

    Attributes:
        chat_template: replaces the tokenizer's chat template; None: the tokenizer's own.
        add_generation_prompt: whether the assistant's turn is opened at the end.
        chat_template_kwargs: variables of the template, such as ``{"enable_thinking": False}``.
            Those that the template does not read have no effect, as in vLLM.
        tools: functions that the model may call, in OpenAI's form.
        documents: texts for templates that support retrieval, such as ``{"title": ..., "text":
            ...}``.
        reasoning_effort: such as ``"low"``, for templates that read it. As in vLLM it also sets
            ``enable_thinking``, unless `chat_template_kwargs` do: false for ``"none"``, else true.
        merge_system: if the template refuses a conversation with a system message, that message is
            put before the first message of the user.
        date: the day that a template may write into the prompt, as ``"2026-11-30"``; None: today.

    Raises:
        ConfigError: if a value has another type, is not JSON data, or is an argument that is not a
            variable of the template.

    Example:
        >>> options = ChatOptions(chat_template_kwargs={"enable_thinking": False})
        >>> options.over(ChatOptions(reasoning_effort="low")).variables
        {'enable_thinking': False, 'reasoning_effort': 'low'}
    """

    chat_template: str | None = field(default=None, repr=False)
    add_generation_prompt: bool = True
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tools: JsonObjects = field(default=(), hash=False)
    documents: JsonObjects = field(default=(), hash=False)
    reasoning_effort: str | None = None
    merge_system: bool = False
    date: str | None = None

    def __post_init__(self) -> None:
        for name in ("chat_template", "reasoning_effort", "date"):
            check_value("ChatOptions", name, getattr(self, name), str | None)
        for name in ("add_generation_prompt", "merge_system"):
            check_value("ChatOptions", name, getattr(self, name), bool)
        object.__setattr__(self, "chat_template_kwargs", _variables(self.chat_template_kwargs))
        for name in ("tools", "documents"):
            object.__setattr__(self, name, _objects(name, getattr(self, name)))
        if self.date is not None:
            _day(self.date)

    @classmethod
    def read(cls, given: "Mapping[str, Any] | ChatOptions | None") -> "ChatOptions":
        """Options from a table of their names, as commands and configuration files give them.

        A name with a dot sets one variable: ``chat_template_kwargs.enable_thinking``.

        Raises:
            ConfigError: if a name is unknown, or a value is refused.

        Example:
            >>> ChatOptions.read({"chat_template_kwargs.enable_thinking": False}).variables
            {'enable_thinking': False}
        """
        if isinstance(given, ChatOptions):
            return given
        table = check_value(
            "chat_options", "value", given or {}, Mapping[str, Any], part("a table of names")
        )
        values: dict[str, Any] = {}
        variables: dict[str, Any] = {}
        for name, value in table.items():
            owner, dot, variable = str(name).partition(".")
            if owner not in NAMES or (dot and owner != "chat_template_kwargs"):
                raise ConfigError(
                    f"there is no chat option {quote(name)}: there are {', '.join(NAMES)}; a "
                    "variable of the template is chat_template_kwargs.NAME"
                )
            if dot:
                variables[variable] = value
            else:
                values[owner] = value
        if variables:
            whole = _variables(values.get("chat_template_kwargs"))
            values["chat_template_kwargs"] = {**whole, **variables}
        return cls(**{name: value for name, value in values.items() if value is not None})

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that the template is given, besides the messages and the tools."""
        values: dict[str, Any] = dict(self.chat_template_kwargs)
        if self.documents:
            values["documents"] = [dict(one) for one in self.documents]
        if self.reasoning_effort is not None:
            values["reasoning_effort"] = self.reasoning_effort
            values.setdefault("enable_thinking", self.reasoning_effort != "none")
        return values

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments of the template: `variables`, the tools, and the clock if a date is set."""
        values = self.variables
        if self.tools:
            values["tools"] = [dict(one) for one in self.tools]
        if self.date is not None:
            # the name of the function by which templates ask for the date
            values["strftime_now"] = Clock(self.date)
        return values

    def over(self, defaults: "ChatOptions") -> "ChatOptions":
        """These options, and those of `defaults` where these are not set."""
        unset = ChatOptions()
        given = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != getattr(unset, each.name)
        }
        if given and defaults.chat_template_kwargs:
            given["chat_template_kwargs"] = {
                **defaults.chat_template_kwargs,
                **self.chat_template_kwargs,
            }
        return replace(defaults, **given) if given else defaults


@dataclass(frozen=True, slots=True)
class Clock:
    """The function ``strftime_now`` of chat templates, stopped at a date.

    Attributes:
        date: as ``"2026-11-30"``.

    Example:
        >>> Clock("2026-11-30")("%d %b %Y")
        '30 Nov 2026'
    """

    date: str

    def __call__(self, form: str) -> str:
        """Writes the date, at noon, in the form of `datetime.datetime.strftime`."""
        return datetime.datetime.combine(_day(self.date), datetime.time(12)).strftime(form)


def today() -> str:
    """Today's date as `ChatOptions.date`."""
    return datetime.date.today().isoformat()


def _variables(given: Any) -> dict[str, Any]:
    values = _json("chat_template_kwargs", {} if given is None else given)
    if not isinstance(values, dict):
        raise ConfigError(
            f"chat_template_kwargs={quote(given)}: give an object of the chat template's "
            'variables, such as {"enable_thinking": False}'
        )
    for name in values:
        if name in _RESERVED:
            raise ConfigError(
                f"chat_template_kwargs has {name!r}, which is no variable of a chat template: "
                + (
                    f"give {name} as an argument of its own"
                    if name in NAMES
                    else "it cannot be changed"
                )
            )
    return values


def _objects(name: str, given: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        values = _json(name, list(given))
        if all(isinstance(value, dict) for value in values):
            return tuple(values)
    elif given is None:
        return ()
    raise ConfigError(f"{name}={quote(given)}: give a list of JSON objects")


def _json(name: str, given: Any) -> Any:
    """A copy of JSON data, in which keys are text."""
    try:
        return json.loads(json.dumps(given))
    except (TypeError, ValueError) as wrong:
        raise ConfigError(f"{name}={quote(given)}: give JSON data ({wrong})") from wrong


def _day(given: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(given)
    except ValueError as wrong:
        raise ConfigError(f"date={quote(given)}: give a day such as '2026-11-30'") from wrong


NAMES = tuple(each.name for each in fields(ChatOptions))
"""Names of all options."""
NO_CHAT_OPTIONS = ChatOptions()
"""The tokenizer's own template, with the assistant's turn open."""
