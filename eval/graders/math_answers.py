r"""Answers to mathematical problems: found in a text, and brought into one spelling of their value.

A vote is that spelling, and a grade is the comparison of two of them. So votes for one value are
one vote, equal votes have equal grades, and there is one right vote.

A number is read by `rsalign.selectors.numbers`, exactly. Anything else is read by math-verify and
computed by SymPy: sets, points, intervals, matrices, equations, and expressions with or without
variables. What neither can read ("\text{even}", "40_9") is compared as it is written.

Departs from `math_verify.verify`, which is no equivalence relation and so cannot count votes:

- nothing is rounded: 0.333333 is not 1/3;
- a per cent sign is a unit: 50\% is 50 and not 0.5, while to math-verify it is both;
- the base of "40_9" counts; math-verify ignores it;
- a point is ordered and a set is not: (1, 2) is not "1, 2";
- no expression is computed that takes long: it is compared as it is written.

What `eval.graders.agreement` prints tells where the two differ on public answers.

    >>> FinalExpression()(r"so it is \boxed{\dfrac12}, or half")
    '0.5'
    >>> FinalExpression()(r"\boxed{(x+1)^2}"), FinalExpression()(r"\boxed{x^2 + 2x + 1}")
    ('x**2 + 2*x + 1', 'x**2 + 2*x + 1')
"""

import re
from dataclasses import dataclass

from eval.graders.math_values import GROUPED, LONGEST, compute_form, load_math_verify
from eval.tasks.protocol import Grade
from rsalign.selectors.extraction import (
    FinalNumber,
    announced,
    are_fillers,
    last_box,
    leading_number,
)
from rsalign.selectors.numbers import read_number, spell

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>(?:\\.|[^$\\]){1,400})\$\$"
    r"|\\\[(?P<bracket>(?:(?!\\\]).){1,400})\\\]"
    r"|\\\((?P<inline>(?:(?!\\\)).){1,400})\\\)"
    # as Pandoc does: "$5 and $6" is no formula
    r"|(?<![\\$])\$(?=\S)(?P<dollar>(?:\\.|[^$\\\n]){1,400})(?<=\S)\$(?!\d)",
    re.DOTALL,
)
"""A formula; of a bounded length, so that the time is linear in that of the text."""


@dataclass(frozen=True, slots=True)
class FinalExpression:
    r"""The expression that a text gives as its answer, in one spelling of its value.

    It is looked for in this order: in the last ``\boxed{...}``; after the last "answer is" or
    "answer:"; the last formula between dollar signs or LaTeX's brackets; the last number. The first
    that there is decides.

    Raises:
        InstallError: if it is not a number, and math-verify is not installed.
    """

    def __call__(self, text: str) -> str | None:
        """The answer of `text`."""
        expression = _written(text)
        return FinalNumber()(text) if expression is None else _spelling(expression)


def _written(text: str) -> str | None:
    """The expression that a text gives as its answer; None where it can only be a number."""
    if (boxed := last_box(text)) is not None:
        return boxed
    rest = announced(text)
    if rest is not None:
        # the announcement may have swallowed the dollar sign that opens the formula
        opening = text[: len(text) - len(rest)]
        found = _FORMULA.search(opening[len(opening.rstrip("$\\([ ")) :] + rest)
        if found is not None and are_fillers(found.string[: found.start()]):
            return _inside(found)
        if leading_number(rest) is not None:
            return None
    formulas = list(_FORMULA.finditer(text))
    return _inside(formulas[-1]) if formulas else None


def _inside(formula: re.Match[str]) -> str:
    return next(part for part in formula.groups() if part is not None)


def prepare_math() -> None:
    """Imports math-verify.

    Raises:
        InstallError: if it is not installed.
    """
    load_math_verify()


def grade_number(text: str, gold: str) -> Grade:
    """1 if the final number of `text` has the value of `gold`, else 0; see `FinalNumber`.

    Args:
        text: what was written.
        gold: the right number.

    Raises:
        ValueError: if `gold` is not a number.
    """
    right = read_number(gold)
    if right is None:
        raise ValueError(
            f"the right answer {gold!r} is not a number: see rsalign.selectors.numbers"
        )
    return _grade(FinalNumber()(text), spell(right))


def grade_math(text: str, gold: str) -> Grade:
    r"""1 if the final expression of `text` has the value of `gold`, else 0; see `FinalExpression`.

    Args:
        text: what was written.
        gold: the right answer, LaTeX without dollar signs or a number.

    Raises:
        InstallError: if math-verify is needed and not installed.
        ValueError: if `gold` is empty.
    """
    right = _spelling(gold)
    if right is None:
        raise ValueError(f"the right answer {gold!r} is empty: give LaTeX or a number")
    return _grade(FinalExpression()(text), right)


def _grade(found: str | None, right: str) -> Grade:
    return Grade(score=float(found == right), answer=found)


_FRACTION = re.compile(r"\\frac\s*(\{[^{}]*\}|\d)\s*(\{[^{}]*\}|\d)")
_ROOT = re.compile(r"\\sqrt\s*(\d)")
_SPACING = re.compile(
    r"(?<!\\)\\[!,;: ]|\\left(?![a-z])|\\right(?![a-z])|\\[bB]igg?[lr]?(?![a-z])|\\q?quad|~|\$"
    r"|\\(?:displaystyle|textstyle|mathbf|mathit|mathsf|boldsymbol|bm)(?![a-zA-Z])"
)
_BLANK = re.compile(r"(?<=[a-zA-Z])(\s+)(?=[a-zA-Z])|\s+")
_BOTH = re.compile(r",?\s*(?:\\text\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*")
_MIXED = re.compile(r"(?<![\w.}^])(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_UNIT = re.compile(
    r"(?<=.)\\text\{(?![^{}]*\bbase(?![a-z]))[^{}]*\}(?:\^\{?\d\}?)?$|\^\{?\\circ\}?$|\\%$|%$|(?<!\.)\.$"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox)\s*(?=\{)")
_GROUPING = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,;:! ])\s*(?=\d{3})")
_ASSIGNED = re.compile(  # not "x = x^2", which says what x is only when it is solved
    r"^(?P<name>[a-zA-Z](?:\([a-zA-Z]\))?|\\[a-z]+)(?:=|\\in(?![a-z]))(?=[^=]+$)"
    r"(?!.*(?<![a-zA-Z\\])(?P=name)(?![a-zA-Z]))"
)


def _spelling(latex: str) -> str | None:
    """The only spelling of the value of `latex`, or its own spelling; None where it is empty."""
    number = read_number(latex)
    if number is not None:
        return spell(number)
    written = _one_spelling(latex)
    return None if written is None else compute_form(written) or _without_text(written)


def _one_spelling(latex: str) -> str | None:
    r"""`latex` without what means nothing: spaces, sizes, units; words stay in ``\text{...}``."""
    latex = latex.replace(r"\$", "").replace("dfrac", "frac").replace("tfrac", "frac")
    latex = _GROUPING.sub("", _TEXT.sub(r"\\text", latex))
    # before blanks are dropped: "12, 345" is a list
    latex = GROUPED.sub(lambda found: found[0].replace(",", ""), latex)
    latex = _SPACING.sub("", latex)
    latex = _BOTH.sub(",", latex.strip())
    # "\pi r" and words keep their blanks, all others mean nothing
    latex = _BLANK.sub(lambda found: " " if found[1] else "", latex)
    while (shorter := _UNIT.sub("", latex)) != latex and shorter:
        latex = shorter
    latex = _ASSIGNED.sub("", latex)
    latex = _FRACTION.sub(lambda found: rf"\frac{_braced(found[1])}{_braced(found[2])}", latex)
    latex = _MIXED.sub(_improper, latex)
    latex = re.sub(r"_\{(\w)\}", r"_\1", _ROOT.sub(r"\\sqrt{\1}", latex))
    return latex or None


def _without_text(written: str) -> str:
    r"""``\text{(A)}`` and ``(A)`` are "A"; the case of words does not count."""
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", written).strip()
    letter = re.fullmatch(r"\(([A-Z])\)", words)
    if letter is not None:
        return letter[1]
    return words.lower() if re.fullmatch(r"[a-zA-Z ]{2,}", words) else words


def _improper(mixed: re.Match[str]) -> str:
    r"""``2\frac{1}{2}`` as ``\frac{5}{2}``, since what follows may multiply it."""
    whole, above, below = (int(part[-LONGEST:]) for part in mixed.groups())
    return rf"\frac{{{whole * below + above}}}{{{below}}}" if above < below else mixed[0]


def _braced(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"
