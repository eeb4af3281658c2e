r"""Text without markup: digits in ASCII, LaTeX in the few characters that tokens are made of."""

import html
import re
import unicodedata
from functools import lru_cache

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\ufe63\u2010\u2011", "-"),
        **dict.fromkeys("\u2014\u2015\u2012", "\u2013"),
        **dict.fromkeys("\u2715\u2716\u2a2f", "\u00d7"),
        **dict.fromkeys("\u22c5\u2219", "\u00b7"),
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u223c\u301c", "~"),
        "\u2236": ":",
        "\u215f": "1/",
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202b\u202c", ""),
        **dict.fromkeys("\u202f\u2007\u200a\u2008\u00a0", "\u2009"),
        **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
        "\u066c": ",",
        "\u066b": ".",
        "\uffe5": "\u00a5",
    }
)
_RAISED = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b"
_LOWERED = "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089"
_TO_LINE = str.maketrans(_RAISED + _LOWERED, "0123456789+-0123456789")
_SMALL_FRACTION = re.compile(f"(?<![^\\W\\d_])([{_RAISED}]+)/([{_LOWERED}]+)")
_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")


def _in_ascii(text: str) -> str:
    """`text` with plain digits and signs; raised and lowered digits and fractions as in LaTeX."""
    text = text.translate(_CHARACTERS)
    text = _SMALL_FRACTION.sub(_latex_fraction, text)
    text = _RAISED_RUN.sub(lambda found: f"^{{{found[0].translate(_TO_LINE)}}}", text)
    text = _LOWERED_RUN.sub(lambda found: f"_{{{found[0].translate(_TO_LINE)}}}", text)
    return "".join(map(_plain_character, text))


def _latex_fraction(found: re.Match[str]) -> str:
    above, below = (part.translate(_TO_LINE) for part in found.groups())
    return rf"\frac{{{above}}}{{{below}}}"


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if unicodedata.decomposition(character).startswith("<fraction>"):
        above, _, below = unicodedata.normalize("NFKC", character).partition("\u2044")
        return rf"\frac{{{above}}}{{{below}}}" if below else character
    return character


# Markup -------------------------------------------------------------------------------------

_ENTITY = re.compile(r"&#?\w{2,8};")
# "<<3*6=18>>" is GSM8K's calculator, "<|im_end|>" a special token
_TAG = re.compile(r"<<[^<>]*>>|</?[A-Za-z][\w-]*\s*/?>|<\|\w+\|>")
_END = r"(?![A-Za-z])"
_LATEX: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\\\\(?:\[[^\[\]]*\])?(?!(?:frac|text|boxed|fbox)\b)", ";"),
        (r"\\(?:begin|end)\s*\{[^{}]*\}", ";"),
        (r"\\[hv]space\*?\s*\{[^{}]*\}|\\(?:text)?color\s*\{[^{}]*\}|\\label\s*\{[^{}]*\}", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?)" + _END + r"\.?", ""),
        (r"\\(?:m?angle|measuredangle|triangle)" + _END, " "),
        (
            r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|boldsymbol|bm|mbox|hbox"
            r"|boxed|fbox|framebox|footnotesize|tiny|small|[lL]arge|LARGE|[hH]uge|underline"
            r"|(?:display|text)style|operatorname|quad|qquad)" + _END,
            " ",
        ),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ" + _END + r")|\\degree" + _END, "\u00b0"),
        (r"\\times" + _END, "\u00d7"),
        (r"\\(?:cdot|ast|bullet)" + _END, "\u00b7"),
        (r"\\div" + _END, "\u00f7"),
        (r"\\(?:pm|mp)" + _END, "\u00b1"),
        (r"\\(?:approx|simeq|equiv|doteq|cong)" + _END, "="),
        (r"\\(?:leq?|geq?|lt|gt|neq?|leqslant|geqslant|ll|gg)" + _END, "\u2264"),
        (
            r"\\(?:to|implies|iff|(?:long)?(?:left)?rightarrow|Rightarrow|Leftrightarrow"
            r"|therefore|because)" + _END,
            ";",
        ),
        (r"\\(?:l|c|d)?dots" + _END, "\u2026"),
        (r"\\sim" + _END, " "),
        (r"\\([$%#&])", r"\1"),
        (r",\\!\s*", ","),
        (r"\\!", ""),
        (r"(?<=\d)(?:\\[,;: ]|~)+(?=\d{3})|(?<=\d)\\thinspace" + _END + r"\s*(?=\d{3})", "\u2009"),
        (r"\\[,;: ]|~|\\thinspace" + _END, " "),
        (r"\\[()\[\]]", " "),
    )
)
_WORDS = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mbox|mathrm)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?<![^\W_])[A-Za-z](?![^\W_])")
_TILDE_RANGE = re.compile(r"(?<=\d)\s*(?:~|\\sim(?![A-Za-z]))\s*(?=\\?\$?\.?\d)")
_BRACED_COMMA = re.compile(
    r"(?:(?<=\d)\s*)?(?:\\(?:text|math(?:rm|ord|punct)|mbox)\s*)?\{\s*,\s*\}(?:\s*(?=\d{3}))?"
)
_ARGUMENT = r"\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
_QUOTIENT = re.compile(rf"\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}")
_SIMPLE = re.compile(r"[\d\s.,:'_$+\u2009-]*")
_BLANK_GROUP = re.compile(r"(?<=\d)[ ]+(?=\d{3}(?![\d/]))")
_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=\$?\.?\d)")
_WORD_TIMES = re.compile(r"(?<=\s)[xX](?=\s+[$(]?\.?\d)")  # "3 hours x $10"
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(?i)\b(?:divided|multiplied)\s+by\b|\btimes\b(?=\s*[$(-]*\.?\d)", " \u00f7 "),
        (r"(?i)\bplus\b(?=\s*[$(]*\.?\d)", " + "),
        (r"(?i)\b(?:minus|negative)\s+(?=[$(]*\.?\d)", " -"),
        (
            r"(?i)\band\s+(?:an?|one|two|three|four|five|six|seven|eight|nine|\d+)[ -]"
            r"(?:half|halves|(?:quarter|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?)\b",
            " dozen ",
        ),
        (r"(?<=\d)-(?=(?:hundred|thousand|million|billion|trillion)\b)", " "),
        # "$1.2m" is 1.2 million or one of a few other numbers
        (r"([$\u00a3\u00a5\u20ac\u20b9]\s?\d[\d.,]*)\s?(?:mm?|b|t|tn)\b(?![/^])", r"\1 dozen "),
        (r"(?<=\d)\s*\(?\s*(?:in\s+)?\bbase[ -]\w+\b\s*\)?", "_{0} "),
        (r"(?<=\d)\s+(?:raised\s+)?to\s+the\s+(?:\w+\s+)?power(?:\s+of\s+\d+)?\b", " squared "),
        # degrees, minutes and seconds
        (r"(?<=\d)\s*\u00b0\s*(\d+)\s*['\u2032](?:\s*([\d.]+)\s*(?:\"|\u2033|''))?", r":\1:\2"),
        (r"(?<=\d)\s+:\s*(?=\d)", ":"),
        (r"(?<=\d\.)\((\d+)\)", r"\1..."),  # 0.(3)
        (r"(?<=[A-Za-z]\()(\d{1,3}),(?=\d{3}\))", r"\1, "),  # max(100,200)
        (r"(?<![\w'])([A-Za-z])(?:'+|\^\{?-1\}?)(?=\()", r"\1"),  # f'(3), f^{-1}(3)
        (r"(?<![\w)^])\([A-Z]\)(?=\s+[-$\\]*[\d.])|\b(?:option|choice)\s+[A-Z]\)", " "),
        (r"\\[dtc]frac", r"\\frac"),
        (r"(?<=[A-Za-z])&(?=[A-Za-z])", "and"),  # "M&M's"
        (r"[=-]>|\u2192|\u21d2|\u21d4|\u27f9|\u2234|&|\t", ";"),
        (r"[<>!]=", "\u2264"),
        (r"\+/?-", "\u00b1"),
        (r"\u2248|\u2261|\u2245|={2,}", "="),
        (r"(?i)\bout\s+of\b", " out "),
        (r"#+", " "),
    )
)


def plain(line: str, formula: bool) -> str:
    """`line` without markup, in the characters that `rsalign.selectors.numbers.tokens` knows."""
    if "&" in line:
        line = _ENTITY.sub(lambda found: html.unescape(found[0]), line)
    if not line.isascii():
        line = _in_ascii(line)
    if "<" in line:
        line = _TAG.sub("", line)
    line = _BRACED_COMMA.sub(",", line)
    if not formula:
        line = _TILDE_RANGE.sub(" or ", line)
    if "\\" in line or "~" in line:
        # "m" in words is a unit, elsewhere in a formula a variable
        line = _WORDS.sub(lambda found: f" {_LETTER.sub('unit', found[1])} ", line)
        for pattern, instead in _LATEX:
            line = pattern.sub(instead, line)
        line = _QUOTIENT.sub(_over, line)
    for pattern, instead in _SHAPES:
        line = pattern.sub(instead, line)
    line = _BLANK_GROUP.sub("\u2009", line) if formula else _WORD_TIMES.sub("\u00d7", line)
    return _TIMES.sub("\u00d7", line)


def _over(quotient: re.Match[str]) -> str:
    r"""A fraction of expressions as a quotient, so that all of it is one expression."""
    above, below = (part.strip("{} ") for part in quotient.groups())
    if _SIMPLE.fullmatch(above) and _SIMPLE.fullmatch(below):
        return rf"\frac{{{above}}}{{{below}}}"
    return f"({above})/({below})"
