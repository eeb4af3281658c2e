"""Numbers in text: every notation of a value is read as that value, or not at all."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsalign.selectors.numbers import find_numbers, last_number, read_number, spell


def read(text, *, formula=False):
    return [
        None if number.value is None else spell(number.value)
        for number in find_numbers(text, formula=formula)
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # signs
        ("-3", "-3"),
        ("+3", "3"),
        ("\u22123", "-3"),
        ("\u20133", "-3"),
        ("= -3.50", "-3.5"),
        ("= - 3", "-3"),
        ("-(3)", "-3"),
        ("negative 5", "-5"),
        ("minus 5", "-5"),
        ("-0", "0"),
        # currency
        ("$18", "18"),
        (r"\$18", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("18\u20ac", "18"),
        ("US$18", "18"),
        ("USD 18", "18"),
        ("Rs. 500", "500"),
        ("50\u00a2", "50"),
        # groups of digits
        ("70,000", "70000"),
        ("70{,}000", "70000"),
        (r"70,\!000", "70000"),
        (r"11,\! 111,\! 100", "11111100"),
        (r"70\,000", "70000"),
        ("70\u202f000", "70000"),
        ("70\u00a0000", "70000"),
        ("70'000", "70000"),
        ("70\u2019000", "70000"),
        ("70_000", "70000"),
        ("1,234,567.50", "1234567.5"),
        # decimals and exponents
        (".5", "0.5"),
        ("5.", "5"),
        ("18.00", "18"),
        ("007", "7"),
        ("1e5", "100000"),
        ("1.2e3", "1200"),
        ("5E-3", "0.005"),
        (r"3 \times 10^4", "30000"),
        (r"3 \cdot 10^{-2}", "0.03"),
        ("3\u00d710\u2074", "30000"),
        ("3 x 10^4", "30000"),
        ("10^4", "10000"),
        (r"0.\overline{3}", "1/3"),
        (r"1.2\overline{45}", "137/110"),
        # fractions
        ("3/4", "0.75"),
        ("-14/3", "-14/3"),
        (r"\frac{3}{4}", "0.75"),
        (r"\dfrac34", "0.75"),
        (r"\tfrac 3 4", "0.75"),
        (r"\frac{270}7", "270/7"),
        (r"-\frac{3}{4}", "-0.75"),
        (r"\frac{-3}{4}", "-0.75"),
        (r"\frac{3}{-4}", "-0.75"),
        (r"\frac{-3}{-4}", "0.75"),
        (r"\frac{1,000}{3}", "1000/3"),
        ("\u00bd", "0.5"),
        ("1 3/4", "1.75"),
        ("1\u00be", "1.75"),
        (r"1\frac{3}{4}", "1.75"),
        (r"-1\frac{3}{4}", "-1.75"),
        # units
        ("50%", "50"),
        (r"50\%", "50"),
        ("50 percent", "50"),
        (r"90^\circ", "90"),
        ("90\u00b0", "90"),
        (r"5\text{ cm}", "5"),
        (r"864 \mbox{ inches}^2", "864"),
        ("18 m^2", "18"),
        ("18 cm\u00b2", "18"),
        ("18kg", "18"),
        ("3rd", "3"),
        ("18 dollars", "18"),
        ("$18/hour", "18"),
        ("5 million", "5000000"),
        ("1.5 hundred", "150"),
        # other scripts and widths
        ("\uff11\uff18", "18"),
        ("\u0661\u0668", "18"),
        ("\u7b54\u6848\u662f18\u5143", "18"),
        # indices
        ("x_1 = 5", "5"),
        ("x_{12} = 5", "5"),
        ("S_{10} = 5", "5"),
        ("log_2 8 = 3", "3"),
        ("gcd(12, 18) = 6", "6"),
        ("f^{-1}(5) = 2", "2"),
        # more of all kinds
        ("5 km/h", "5"),
        ("5 m/s^2", "5"),
        ("30\u00b0C", "30"),
        ("1.2-million", "1200000"),
        ("\u00b9\u2044\u2082", "0.5"),
        ("1 {,} 234", "1234"),
        (r"12\text{,}345", "12345"),
        (r"\frac{\text{12}}{\text{5}}", "2.4"),
        ("&minus;5", "-5"),
        ("5&nbsp;cm", "5"),
        ("5 squared = 25", "25"),
        (r"\large 18", "18"),
        ("18<|endoftext|>", "18"),
        ("__18__", "18"),
        # markup
        ("**18**", "18"),
        ("_18_", "18"),
        ("* 18", "18"),
        ("<b>18</b>", "18"),
        ("$18$", "18"),
        (r"\(18\)", "18"),
        (r"\mathbf{18}", "18"),
        (r"{\displaystyle 18}", "18"),
        ("<<3*6=18>>18", "18"),
        ("| 18 |", "18"),
        (r"18 \\[2pt]", "18"),
        # chains of equalities
        ("3 * 6 = 18", "18"),
        ("3 times 6 = 18", "18"),
        ("x = 5", "5"),
        ("x = 3 * 6 = 18", "18"),
        ("18 = 3 * 6", "18"),
        ("3 apples + 15 apples = 18 apples", "18"),
        ("3 hours x $10 = $30", "30"),
        ("f(3) = 5", "5"),
        (r"\sqrt{9} = 3", "3"),
        ("16 - 3 = <<16-3=13>>13 eggs", "13"),
        ("10/3 = 3.33", "3.33"),
        ("- 3 * 6 = 18", "18"),
        # ends of sentences
        ("18!", "18"),
        ("18...", "18"),
        ("18.Next", "18"),
        ("18, of course", "18"),
        ("18 - a lot", "18"),
    ],
)
def test_one_number(text, number):
    assert read(text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        # expressions
        *("5-3", "5 - 3", "x-3", "3 * 6", "3*6", "6 x 18", "6x18", "3 times 6", "3 divided by 4"),
        *(
            "2(3)",
            "(2)(3)",
            "f(3)",
            "2x",
            "18 x^2",
            "2^9",
            "10^2^3",
            "10^{0}^2",
            "10 hundred^2",
            "2**3",
            r"2\sqrt{5}",
            r"3\pi",
            "3\u03c0",
        ),
        *(r"\frac{2+1}{3}", r"\frac{x}{3}", r"\sqrt{5}", "\u221a5", "2x = 10", "5 = 2x - 3"),
        *("|-3|", "--3", "+-3", "\u00b13", r"\pm 3"),
        # ranges, alternatives, bounds
        *("3-5", "3\u20135", "3 to 5", "3 or 4", "3 out of 4", "> 3", r"x \le 3", "<3"),
        # of times, dates, ratios, versions
        *("3:30", "3:2", "12/25/2023", "2024-01-15", "1.2.3"),
        # notations that differ from country to country, or are no number at all
        *("1.234,5", "1,5", "12,3456", "1,00,000", "3{,}14", "70 000", "1 000 000", "2024,100"),
        # of vague size
        *(
            "5k",
            "$3M",
            "2 dozen",
            "2 and a half",
            "1 and 3/4",
            "1 7/4",
            "1 4/4",
            "1.5 3/4",
            "0.333...",
        ),
        # signs that may be dashes
        *("- 5", "total - 18", "Covid-19"),
        # other bases, quantities in two units, names
        *(
            "40_9",
            "40_{9}",
            "5'11",
            "2 hours and 30 minutes",
            "2 days and 5 hours",
            "5 feet 6 inches",
            "R18",
        ),
        # what is glued to a number changes it; so do words of powers, parts and bases
        *("1.5e3x", "1.5e3k", "1.5e3_9", "1.5 e3", "0b101", "5h30m", "1990s", "5 squared"),
        *("5 choose 2", "5 to the power of 2", "5 tenths", "5 and two fifths", "$1.2m", "0,500"),
        *("101 (base 2)", "101 in base 2", "0.(3)", "-|5|", "5//6", "\u230a5.5\u230b"),
        # an index is no number of its own, and arguments are no list
        *("x_3/2", "x_1 1/2", r"x_1\frac{1}{2}", "x_{12} + 5", "gcd(12, 18)", "max(100,200)"),
        # ranges and quantities in two units, however they are marked
        *("3..5", "3~5", "300~400", "3 cm to 5 cm", "3 cm or 5", "1 cm^2 to 9", "2^1 cm^2 to 9"),
        *(
            "3 and/or 5",
            "3 vs. 5",
            "10 : 3",
            "10\u22363",
            "5 ft. 3 in.",
            "5 lb 3 oz",
            "30\u00b015'",
        ),
        *("&lt; 5", r"\frac{5\text{ cm}}{2}", "3&times;6"),
        *("18 dollars and 50 cents", "1/0", r"\frac{1}{0}", "1e999999", "9" * 5000),
        "1" + " million" * 900,
    ],
)
def test_no_definite_number(text):
    numbers = read(text)
    assert numbers
    assert set(numbers) == {None}


@pytest.mark.parametrize(
    "text", ["", "eighteen", "H2O", "CO\u2082", "x_{12}", "Q1234.567e3", "x2", "\u2169", "no. one"]
)
def test_no_number(text):
    assert read(text) == []
    assert last_number(text) is None
    assert read_number(text) is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3 apples, 5 pears", ["3", "5"]),
        ("20% of 50 = 10", ["20", "10"]),
        ("18 (3 * 6)", ["18", None]),
        ("3 + 4 = 7, 7 * 2 = 14", ["7", "14"]),
        ("2 hours 30 minutes = 150 minutes", [None, "150"]),
        ("$409 500 - $400 000 = $9500", [None, "9500"]),
        ("1\n2", ["1", "2"]),
        ("divide by 8 to get r = 4", ["8", "4"]),
    ],
)
def test_several_numbers(text, numbers):
    assert read(text) == numbers


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("1, 2, 3", [True, True, True]),
        ("1, 2 and 3", [True, True, True]),
        ("x = 3, y = 4", [True, True]),
        ("3 + 4 = 7, 7 * 2 = 14", [False, False]),
        ("18, and of them 5", [False, False]),
        ("Step 3: 18", [False, False]),
    ],
)
def test_lists_are_marked(text, listed):
    assert [number.listed for number in find_numbers(text)] == listed


@pytest.mark.parametrize(
    ("formula", "number"),
    [
        ("x = 18", "18"),
        (r"18 \text{ (since } 3 * 6 = 18)", "18"),
        (r"\text{a total of } 18 \text{ m}", "18"),
        ("10 000", "10000"),
        ("70~000", "70000"),
        ("- 5", "-5"),
        ("1 3/4", "1.75"),
        (r"P(A) = \frac12", "0.5"),
        (r"\angle A = 30^\circ", "30"),
        ("18\n\\text{ eggs}", "18"),
        ("5!", None),
        ("5 m", None),
        ("3 ab", None),
        ("5, x", None),
        ("(x, 5)", None),
        (r"(-\infty, 5)", None),
        (r"\{5, 5\}", None),
        ("5, 5", None),
        ("(1,234)", None),
        ("x^2 = 4", None),
        (r"x \in [-2,7]", None),
        ("18 of 20", None),
        ("1 2", None),
    ],
)
def test_formulas(formula, number):
    value = read_number(formula)
    assert (None if value is None else spell(value)) == number


def grouped(separator):
    return lambda value: f"{value.numerator:,}".replace(",", separator)


def decimal(value):
    return spell(value) if "/" not in spell(value) else None


def mixed(pattern):
    def write(value):
        whole, rest = divmod(abs(value), 1)
        if not whole or not rest:
            return None
        sign = "-" if value < 0 else ""
        return sign + pattern.format(whole=whole, above=rest.numerator, below=rest.denominator)

    return write


def fraction(pattern):
    return lambda value: pattern.format(above=value.numerator, below=value.denominator)


def of_integers(write):
    return lambda value: write(value) if value.denominator == 1 else None


def scientific(pattern):
    def write(value):
        written = decimal(value)
        return None if written is None else pattern.format(spell(value / 1000))

    return write


NOTATIONS = {
    "decimal": decimal,
    "zeros": lambda value: (
        decimal(value) and f"{decimal(value)}{'.' * ('.' not in decimal(value))}00"
    ),
    "dollars": lambda value: decimal(value) and f"${decimal(value)}",
    "latex dollars": lambda value: decimal(value) and rf"\${decimal(value)}",
    "unicode minus": lambda value: decimal(value) and decimal(value).replace("-", "\u2212"),
    "full width": lambda value: (
        decimal(value)
        and "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in decimal(value))
    ),
    "percent": lambda value: decimal(value) and rf"{decimal(value)}\%",
    "unit": lambda value: decimal(value) and rf"{decimal(value)} \text{{ cm}}^2",
    **{
        f"groups of {separator!r}": of_integers(grouped(separator))
        for separator in (",", "{,}", r",\!", r"\,", "\u2009", "\u202f", "_", "'")
    },
    "slash": fraction("{above}/{below}"),
    "frac": fraction(r"\frac{{{above}}}{{{below}}}"),
    "dfrac": fraction(r"\dfrac {{{above}}} {{{below}}}"),
    "fraction slash": fraction("{above}\u2044{below}"),
    "mixed slash": mixed("{whole} {above}/{below}"),
    "mixed frac": mixed(r"{whole}\frac{{{above}}}{{{below}}}"),
    "exponent": scientific("{}e3"),
    "times ten": scientific(r"{} \times 10^3"),
    "times ten in braces": scientific(r"{} \cdot 10^{{3}}"),
    "raised ten": scientific("{}\u00d710\u00b3"),
    "equation": lambda value: decimal(value) and f"x = {decimal(value)}",
    "chain": lambda value: decimal(value) and f"2 * 3 = {decimal(value)}",
    "bold": lambda value: decimal(value) and rf"\mathbf{{{decimal(value)}}}",
}
VALUES = st.builds(
    Fraction, st.integers(-(10**7), 10**7), st.sampled_from([1, 1, 2, 3, 4, 7, 8, 10, 100, 125])
)


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)
@given(value=VALUES)
def test_a_value_is_read_from_any_notation(notation, value):
    written = notation(value)
    if written is not None:
        assert read(written) == [spell(value)], written
        assert read_number(written) == value, written


@settings(deadline=None)
@given(
    value=VALUES,
    notation=st.sampled_from([*NOTATIONS.values()]),
    before=st.sampled_from(
        ["", "It is ", "x = ", "3 * 6 = ", "about $", "- ", "-", "5 or ", "(", "12 ", "a/", "3-"]
        + ["2(", "6 x ", "1 and ", "> ", "f(", "Q", "+", r"\sqrt{", "*", "10^", "2^", "x_"]
    ),
    after=st.sampled_from(
        ["", ".", " dollars", "%", "x", ":30", ",5", "^2", " to 9", "!", "...", "k", " dozen", "_9"]
        + [r"\pi", "(2)", " - x", " or so", "%, I think", "**", " cm", ",", "...5", ".5.5", "'5"]
    ),
    formula=st.booleans(),
)
def test_no_other_value_is_read(value, notation, before, after, formula):
    written = notation(value)
    if written is None or (formula and before == "12 "):  # a formula may group digits by blanks
        return
    allowed = {None, value, *(number.value for number in find_numbers(before + "," + after))}
    if before.rstrip().endswith("-"):
        allowed |= {-value}
    if before == "12 ":  # a mixed number
        allowed |= {12 + value, Fraction(12)}
    if before == "10^" and value.denominator == 1 and abs(value) <= 400:
        allowed |= {Fraction(10) ** int(value)}
    for number in find_numbers(before + written + after, formula=formula):
        assert number.value in allowed


@given(VALUES)
def test_a_value_has_one_spelling(value):
    assert Fraction(spell(value)) == value
    assert spell(Fraction(spell(value))) == spell(value)


@given(st.text("0123456789.,:;-+*/=()[]{}^_$%\\ \n\u2009\u00bd\u00b2<>|'eExkabcm!?&\u2212\u2013~"))
def test_any_text_can_be_read(text):
    for formula in (False, True):
        numbers = find_numbers(text, formula=formula)
        assert all(number.value is None or spell(number.value) for number in numbers)
    assert (last_number(text) is None) == (find_numbers(text) == [])


def test_only_the_last_lines_are_read():
    assert last_number("1\n2\nnone\n").value == 2


@pytest.mark.parametrize("text", ["2^0 to 9", "10^2 or 9", "2^3, or 9"])
def test_a_range_that_begins_with_a_power_has_no_value(text):
    assert [number.value for number in find_numbers(text)] == [None, None]
