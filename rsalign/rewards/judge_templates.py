"""Questions to a judge model as data: the text of the question, and how to parse the verdict."""

import functools
import importlib.resources
import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsalign.core.checks import check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.types import Message

PLACEHOLDERS = frozenset({"prompt", "response", "one", "other"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    r"""A question to a judge, with placeholders for the texts to be judged.

    Placeholders are ``{prompt}`` and ``{response}``, or ``{one}`` and ``{other}`` for two responses
    to compare. Write a literal brace twice. Inserted texts are not parsed for placeholders.

    Attributes:
        user: the question, as the user message.
        system: the system message; empty: there is none.
        pattern: a regular expression with one group, which captures the verdict. The last match
            counts, because a judge reasons before its verdict. None: no verdict is sampled, and
            the judge's probabilities of `choices` are used.
        choices: the possible verdicts. When two responses are compared, the first choice says that
            ``{one}`` is better and the second that ``{other}`` is; otherwise the first choice says
            that the response is good.

    Raises:
        ConfigError: if a placeholder is unknown, the pattern does not have exactly one group, or
            there are not at least two different choices although they are needed.

    Example:
        >>> template = Template(user="Rate: {response}", pattern=r"Score: (\d+)")
        >>> template.messages(response="Hello")[0].content
        'Rate: Hello'
        >>> template.verdict("It is polite. Score: 7")
        '7'
    """

    user: str
    system: str = ""
    pattern: str | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        for text in (self.system, self.user):
            _check_placeholders(text)
        if self.pattern is not None:
            _check_pattern(self.pattern)
        if self.pattern is None or self.choices:
            distinct = len(set(self.choices)) == len(self.choices) >= 2
            if not distinct or "" in self.choices:
                raise ConfigError(
                    f"choices={self.choices!r}: give at least two different verdicts, or a pattern "
                    "that finds a score"
                )

    @classmethod
    def named(cls, name: str) -> "Template":
        """A template of the package: ``score``, ``right``, ``compare`` or ``compare_with_reasons``.

        Raises:
            ConfigError: if there is no template of this name.
        """
        known = _shipped()
        if name not in known:
            raise ConfigError(
                f"no template {name!r}: choose one of {', '.join(sorted(known))}, or make a "
                "Template"
            )
        return cls(**known[name])

    @property
    def placeholders(self) -> frozenset[str]:
        """The names of the placeholders in the template."""
        return frozenset(
            name
            for text in (self.system, self.user)
            for _, name, _, _ in string.Formatter().parse(text)
            if name is not None
        )

    def require(self, *names: str) -> None:
        """Refuses a template that lacks one of `names`, or has others besides ``prompt``.

        Raises:
            ConfigError: if the placeholders are wrong.
        """
        missing, surplus = {*names} - self.placeholders, self.placeholders - {"prompt", *names}
        if missing or surplus:
            raise ConfigError(
                f"the template's placeholders are {sorted(self.placeholders)}, but must be "
                f"{sorted(names)} and, if wanted, 'prompt': this judge fills in no others"
            )

    def messages(self, **texts: str) -> tuple[Message, ...]:
        """The conversation to send to the judge, with all placeholders filled in."""
        user = Message("user", self.user.format(**texts))
        if not self.system:
            return (user,)
        return (Message("system", self.system.format(**texts)), user)

    def verdict(self, text: str) -> str | None:
        """The verdict in a judge's text; None if there is none or it is not one of `choices`."""
        if self.pattern is None:
            return None
        found: list[str] = re.findall(self.pattern, text)
        if not found or (self.choices and found[-1] not in self.choices):
            return None
        return found[-1]


def _check_placeholders(text: str) -> None:
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as broken:
        raise ConfigError(
            f"the template {text!r} cannot be read ({broken}): write a brace that is no "
            "placeholder twice"
        ) from broken
    for _, name, form, conversion in pieces:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ConfigError(
                f"the template {text!r} has the unknown placeholder {name!r}: known are "
                f"{', '.join(sorted(PLACEHOLDERS))}, without format; write a brace that is none "
                "twice"
            )


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as broken:
        raise ConfigError(f"pattern={pattern!r} is no regular expression: {broken}") from broken
    if groups != 1:
        raise ConfigError(
            f"pattern={pattern!r} has {groups} groups: mark the verdict, and nothing else, by one "
            "pair of parentheses (others as (?:...))"
        )


@functools.cache
def _shipped() -> Mapping[str, Mapping[str, Any]]:
    file = importlib.resources.files("rsalign.rewards").joinpath("templates", "judge.toml")
    return {
        name: {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        for name, row in tomllib.loads(file.read_text(encoding="utf-8")).items()
    }
