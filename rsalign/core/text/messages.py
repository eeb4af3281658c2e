"""Messages of a conversation, with every field that vLLM renders.

All forms of messages that vLLM's chat endpoints and `vllm.LLM.chat` accept are accepted and
converted to one form. Fields that vLLM would silently ignore are refused, since they are usually a
mistake: ``tool_calls`` of a user, an unknown field, a part that is not text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "name": (),
    "task": (),
    "tool_calls": ("assistant",),
    "reasoning": ("assistant",),
    "tool_call_id": ("tool",),
    "tools": ("developer",),
}
"""Fields that vLLM renders in addition to role and content, with their roles; (): all roles."""
_RENAMED = {"reasoning_content": "reasoning"}  # as vLLM's server does
RENDERED = frozenset({"role", "content", *_FIELDS, *_RENAMED})
"""Names of all fields of messages that vLLM renders."""
_TEXT_PARTS: Mapping[str, str] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
    "tool_reference": "name",
}
"""Types of parts that are text, and the field with the text."""
_KNOWN_IN_PARTS = frozenset(
    {
        *("audio_embeds", "audio_url", "closed", "data", "file", "image_embeds", "image_pil"),
        *("image_url", "input_audio", "name", "prompt_cache_breakpoint", "refusal", "text"),
        *("thinking", "type", "uuid", "video_embeds", "video_url"),
    }
)
"""Fields of parts that vLLM reads itself; it passes all others to a template that takes parts."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``"system"``, ``"user"``, ``"assistant"``, ``"tool"``, or another role that the chat
            template supports.
        content: the text; several parts are joined by line ends, as in vLLM.
        fields: all other fields that a chat template may render, as a JSON object: ``tool_calls``,
            ``tool_call_id``, ``name``, ``reasoning``, ``tools``, ``task``, and a ``content`` that
            is not plain text (None, or a list of parts). Empty if there are none. Use `of` to
            create it.

    Example:
        >>> Message.of({"role": "tool", "tool_call_id": "1", "content": "21"})
        Message(role='tool', content='21', fields='{"tool_call_id": "1"}')
    """

    role: str
    content: str
    fields: str = ""

    def __post_init__(self) -> None:
        if self.fields and not isinstance(_read(self.fields), dict):
            raise ConfigError(
                f"fields={quote(self.fields)} of a message: must be a JSON object, as Message.of "
                "creates it"
            )

    @classmethod
    def of(cls, given: "Mapping[str, Any] | Message") -> "Message":
        """Creates a message from a dict as OpenAI's clients and vLLM write it.

        Fields whose value is None or an empty list count as absent, and ``reasoning_content`` means
        ``reasoning``. Arguments of a tool call may be a JSON text or an object. Content may be
        None; with tool calls or reasoning it may also be missing.

        Raises:
            ConfigError: if it is not a message, has a field that vLLM would not render or a part
                that is not text, or if a value is not JSON data.
        """
        if isinstance(given, Message):
            return given
        if not isinstance(given, Mapping) or not isinstance(given.get("role"), str):
            raise ConfigError(f"a message is {quote(given)}: give a dict with 'role' and 'content'")
        role = given["role"]
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name in ("role", "content") or value is None:
                continue
            if not isinstance(value, str | Mapping) and isinstance(value, Iterable):
                value = list(value)  # some clients send an iterator
                if not value:
                    continue
            if name in _RENAMED:
                name = _RENAMED[name]
                if given.get(name) is not None:
                    continue  # the newer name takes precedence
            _check_field(role, name, value)
            fields[name] = value
        if "tool_calls" in fields:
            fields["tool_calls"] = [_tool_call(call) for call in fields["tool_calls"]]
        content = given.get("content")
        if "content" not in given and not {"tool_calls", "reasoning"} & set(fields):
            raise ConfigError(
                f"a message is {quote(given)}: give a dict with 'role' and 'content', which is "
                "text, a list of parts of text, or None"
            )
        if not isinstance(content, str):
            fields["content"] = content = None if content is None else _parts(content)
        try:
            text = json.dumps(fields) if fields else ""
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"a message of role {role!r} has a value that is not JSON data: {error}"
            ) from error
        return cls(role, _text(content), text)

    @property
    def given(self) -> dict[str, Any]:
        """A new dict in the form that vLLM accepts."""
        return {"role": self.role, "content": self.content, **self._fields}

    @property
    def canonical(self) -> str:
        """The whole message as one JSON text; equal texts mean equal messages."""
        return json.dumps([self.role, self.content, self.fields])

    @property
    def speaker(self) -> str:
        """The role, with the name if there is one."""
        name = self._fields.get("name")
        return self.role if name is None else f"{self.role} ({name})"

    @property
    def text(self) -> str:
        """The text for readers without a chat template, such as a judge or a reward function.

        Each tool call follows the content on a line of its own, as ``name(arguments)``.
        """
        calls = [call["function"] for call in self._fields.get("tool_calls", ())]
        lines = [
            f"{call.get('name')}({json.dumps(call['arguments'], ensure_ascii=False)})"
            for call in calls
        ]
        return "\n".join([self.content, *lines] if self.content else lines)

    def template_form(self, *, as_parts: bool) -> dict[str, Any]:
        """Returns the message as vLLM (0.32, `parse_chat_messages`) passes it to a chat template.

        Args:
            as_parts: whether the template takes a list of parts instead of a text.
        """
        fields = self._fields
        content: Any = fields.pop("content", self.content)
        parts = [_template_part(part) for part in _listed(content)]
        seen: Any = self.content
        if as_parts:
            is_text = self.role == "tool" and all(part["type"] == "text" for part in parts)
            seen = "\n".join(part["text"] for part in parts) if is_text else parts
        form = {"role": self.role, "content": seen}
        if "reasoning" in fields:
            form["reasoning_content"] = fields["reasoning"]
        if self.role == "developer":
            form["tools"] = None
        return form | fields

    @property
    def _fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fields) if self.fields else {}
        return found


def _read(text: str) -> Any:
    """Parses JSON; returns None if the text is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _check_field(role: str, name: str, value: Any) -> None:
    if name not in _FIELDS:
        known = ", ".join(["role", "content", *_FIELDS])
        raise ConfigError(
            f"a message of role {role!r} has the field {name!r}, which no chat template would be "
            f"given: leave it out; there are {known}"
        )
    roles = _FIELDS[name]
    if roles and role not in roles:
        raise ConfigError(
            f"a message of role {role!r} has {name}={quote(value)}, which is rendered for the "
            f"role {roles[0]!r} only: leave it out, or change the role"
        )
    kind = list if name in ("tool_calls", "tools") else str
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "text"
        raise ConfigError(f"a message of role {role!r} has {name}={quote(value)}: give {expected}")


def _tool_call(call: Any) -> dict[str, Any]:
    """Returns a tool call whose arguments are an object, as templates expect.

    As in vLLM, arguments that are not a JSON object count as empty.
    """
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or call.get("type", "function") != "function":
        raise ConfigError(
            f"a tool call is {quote(call)}: give "
            '{"type": "function", "function": {"name": ..., "arguments": ...}}'
        )
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _read(arguments)
    if not isinstance(arguments, Mapping):
        arguments = {}
    return {**call, "function": {**function, "arguments": dict(arguments)}}


def _parts(content: Any) -> list[Any]:
    """Checks a list of parts of text; parts without text are omitted, as in vLLM."""
    if not isinstance(content, Iterable) or isinstance(content, Mapping):
        raise ConfigError(f"a message has content {quote(content)}: give text, or a list of parts")
    found: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            found.append(part)
            continue
        if not isinstance(kind, str) or kind not in _TEXT_PARTS or part.get("uuid") is not None:
            raise ConfigError(
                f"a message has the part {quote(part)}: only text is possible; its type may be "
                f"{', '.join(_TEXT_PARTS)}. A strategy continues answers by their tokens, and a "
                "prompt with images, audio or video is more than its tokens"
            )
        text = part.get(_TEXT_PARTS[kind])
        if text is None and kind in ("text", "refusal"):
            continue
        if not isinstance(text, str):
            raise ConfigError(
                f"a message has the part {quote(part)}: its {_TEXT_PARTS[kind]!r} must be text"
            )
        found.append(dict(part))
    return found


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part if isinstance(part, str) else part[_TEXT_PARTS[part["type"]]] for part in content]
    return "\n".join(text for text in texts if text)


def _listed(content: Any) -> Sequence[Any]:
    """Returns content as a list of parts."""
    if content is None:
        return []
    return [content] if isinstance(content, str) else content


def _template_part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part["type"]
    if kind == "tool_reference":
        return {"type": "tool_reference", "name": part["name"]}
    others = {name: value for name, value in part.items() if name not in _KNOWN_IN_PARTS}
    return {"type": "text", "text": part[_TEXT_PARTS[kind]], **others}
