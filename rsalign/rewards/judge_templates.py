"""Questions to a judge model as data: the text of the question, and how to parse the verdict."""

import importlib.resources
import re
import string
import tomllib
from dataclasses import dataclass, fields
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from rsalign.core.checks import check_settings
from rsalign.core.errors import ConfigError
from rsalign.core.types import Message
from rsalign.rewards.judge_parsing import (
    UnreadableError,
    after_thought,
    find_verdict,
    read_choice,
    read_number,
)

PLACEHOLDERS = frozenset({"prompt", "response", "one", "other", "rubric"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    r"""A question to a judge, with placeholders for the texts to be judged.

    Placeholders are ``{prompt}`` and ``{response}``, or ``{one}`` and ``{other}`` for two responses
    to compare, and ``{rubric}``. Write a literal brace twice. Inserted texts are not parsed for
    placeholders.

    Attributes:
        user: the question, as the user message.
        system: the system message; empty: there is none.
        pattern: a regular expression with one group, which captures the verdict in what the judge
            writes. None: no verdict is written, and the judge's probabilities of `choices` are
            used.
        verdict_at: which match of the pattern counts: the last, because a judge reasons before its
            verdict, or the first, if its reasons come after it.
        choices: the possible verdicts. When two responses are compared, the first choice says that
            ``{one}`` is better and the second that ``{other}`` is; otherwise the first choice says
            that the response is good.
        values: the number that each choice stands for; empty: 1 for the first and 0 for the others.
        scale: the least and the greatest number that a verdict may be, if there are no choices.
        thought: without a pattern: whether the judge writes its reasons before it is asked for the
            probabilities of the choices.
        lead: without a pattern: what the judge's answer says just before the choice.
        rubric: the text that ``{rubric}`` stands for.

    Raises:
        ConfigError: if a placeholder is unknown, the pattern does not have exactly one group, there
            are not at least two different choices although they are needed, or settings
            contradict each other.

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
    verdict_at: Literal["last", "first"] = "last"
    choices: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    scale: tuple[float, float] | None = None
    thought: bool = False
    lead: str = ""
    rubric: str = ""

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
        if self.values and len(self.values) != len(self.choices):
            raise ConfigError(
                f"Template(values={self.values!r}): give one number for each of the choices "
                f"{self.choices!r}"
            )
        if self.scale is not None and (self.choices or not self.scale[0] < self.scale[1]):
            raise ConfigError(
                f"Template(scale={self.scale!r}): give the least and the greatest score, and no "
                "choices"
            )
        if self.pattern is not None and (self.thought or self.lead):
            raise ConfigError(
                "thought and lead are for templates whose choices are weighed: leave them out "
                "beside a pattern, which finds the verdict after any reasons"
            )
        if self.thought and not self.lead.strip():
            raise ConfigError(
                "thought=True: give lead, the text between the reasons and the choice"
            )

    @classmethod
    def named(cls, name: str) -> "Template":
        """A template of the package; the names are those of `TEMPLATES`.

        Raises:
            ConfigError: if there is no template of this name.
        """
        if name not in shipped_names():
            raise ConfigError(
                f"no template {name!r}: choose one of {', '.join(shipped_names())}, give the path "
                "of a TOML file, or make a Template"
            )
        return cls.from_file(_FOLDER.joinpath(f"{name}.toml"))

    @classmethod
    def from_file(cls, path: "str | Path | Traversable") -> "Template":
        """A template of your own: a TOML file with the attributes of this class.

        Raises:
            ConfigError: if the file cannot be read, or has an unknown or invalid attribute.
        """
        file = Path(path) if isinstance(path, str) else path
        try:
            row = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as broken:
            raise ConfigError(
                f"the template {str(path)!r} cannot be read ({broken}): choose one of "
                f"{', '.join(shipped_names())}, or give the path of a TOML file with {_KEYS}"
            ) from broken
        unknown = row.keys() - {one.name for one in fields(cls)}
        if unknown or "user" not in row:
            raise ConfigError(
                f"the template {str(path)!r} has {', '.join(sorted(row)) or 'nothing'}: give "
                f"{_KEYS}"
            )
        values = {key: tuple(one) if isinstance(one, list) else one for key, one in row.items()}
        return cls(**{key: _stripped(one) for key, one in values.items()})

    @property
    def numbers(self) -> tuple[float, ...]:
        """The number that each choice stands for, ``(choices,)``."""
        return self.values or tuple(float(i == 0) for i in range(len(self.choices)))

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
        """Refuses a template that lacks one of `names`, or has others besides the optional ones.

        Raises:
            ConfigError: if the placeholders are wrong.
        """
        optional = {"prompt", "rubric"}
        missing, surplus = {*names} - self.placeholders, self.placeholders - optional - {*names}
        if missing or surplus:
            raise ConfigError(
                f"the template's placeholders are {sorted(self.placeholders)}, but must be "
                f"{sorted(names)} and, if wanted, 'prompt' and 'rubric': this judge fills in no "
                "others"
            )

    def messages(self, **texts: str) -> tuple[Message, ...]:
        """The conversation to send to the judge, with all placeholders filled in."""
        texts = {"rubric": self.rubric, **texts}
        user = Message("user", self.user.format(**texts))
        if not self.system:
            return (user,)
        return (Message("system", self.system.format(**texts)), user)

    def verdict(self, text: str, *, cut: bool = False) -> str | None:
        """The verdict in a judge's text; None if there is none.

        Args:
            text: what the judge wrote, with its thought.
            cut: whether the text was cut at its greatest length.
        """
        try:
            return self.read(text, cut=cut)
        except UnreadableError:
            return None

    def read(self, text: str, *, cut: bool = False) -> str:
        """The verdict in a judge's text: one of `choices`, or a number of the `scale` as text.

        Raises:
            UnreadableError: if there is none; it says why.
        """
        if self.pattern is None:
            raise UnreadableError("its template has no pattern")
        rest = after_thought(text)
        written = find_verdict(rest, self.pattern, first=self.verdict_at == "first", cut=cut)
        if self.choices:
            return read_choice(written, self.choices)
        return read_number(written, self.scale)

    def number(self, verdict: str) -> float:
        """The number that a verdict stands for."""
        if self.choices:
            return self.numbers[self.choices.index(verdict)]
        return float(verdict)


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


def shipped_names() -> list[str]:
    """The names of the package's templates, in order."""
    return sorted(
        file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml")
    )


def _stripped(value: Any) -> Any:
    """TOML's long texts begin after a line break."""
    return value.removeprefix("\n") if isinstance(value, str) else value


_FOLDER = importlib.resources.files("rsalign.rewards").joinpath("templates")
_KEYS = f"user, and if wanted {', '.join(one.name for one in fields(Template)[1:])}"
