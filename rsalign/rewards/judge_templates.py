"""Questions to a judging model, as data: what it is asked, and how its verdict is read."""

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
    """One question, with places for what is judged.

    ``{prompt}`` and ``{response}`` stand for texts, or ``{one}`` and ``{other}`` for the two that
    are compared; a brace itself is written twice. What is filled in is never read as a template.

    Attributes:
        user: the question.
        system: the system message; none if empty.
        pattern: a regular expression whose one group is the verdict; of several matches the last
            one counts, because a judge reasons first. None: the judge's probabilities of `choices`
            are the verdict, and it writes nothing.
        choices: the possible verdicts. Of two answers the first choice says that ``{one}`` is the
            better, the second that ``{other}`` is; else the first choice is the good one.

    Raises:
        ConfigError: if a placeholder is unknown, the pattern is no expression with one group, or
            the choices are not at least two different strings where they are needed.
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
        """One of the package's own: ``score``, ``right``, ``compare``, ``compare_with_reasons``.

        Raises:
            ConfigError: if there is none of this name.
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
        """The names that must be filled in."""
        return frozenset(
            name
            for text in (self.system, self.user)
            for _, name, _, _ in string.Formatter().parse(text)
            if name is not None
        )

    def require(self, *names: str) -> None:
        """Refuses a template that does not ask about all of `names`, or about more than a prompt.

        Raises:
            ConfigError: if so.
        """
        missing, surplus = {*names} - self.placeholders, self.placeholders - {"prompt", *names}
        if missing or surplus:
            raise ConfigError(
                f"the template's placeholders are {sorted(self.placeholders)}, but must be "
                f"{sorted(names)} and, if wanted, 'prompt': this judge fills in no others"
            )

    def messages(self, **texts: str) -> tuple[Message, ...]:
        """The conversation that asks, every placeholder filled in."""
        user = Message("user", self.user.format(**texts))
        if not self.system:
            return (user,)
        return (Message("system", self.system.format(**texts)), user)

    def verdict(self, text: str) -> str | None:
        """The verdict that a judge wrote; None where none can be found, or none of `choices`."""
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
