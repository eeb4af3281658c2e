"""A process reward for the embedded task by rule: are the lines of a solution right arithmetic?"""

import re

_EQUATION = re.compile(r"\w+ (\d+) ([+*/-]) (\d+) = (\d+)")
_ANSWER = re.compile(r"Answer: (\d+)")


def sound_lines(question: str, text: str) -> float:
    r"""Minus the number of lines that are wrong in themselves; 0 if none is, and for no text.

    A line is wrong if its equation does not hold, if the answer is not the last result, or if it is
    neither an equation nor an answer. Whether the equations are those of the story is not looked
    at, and nothing is compared with the solution. A last line that may go on does not count.

    Example:
        >>> sound_lines("", "First 12 + 7 = 19\nThen 19 * 2 = 37\nAnswer: 37")
        -1.0
    """
    *lines, last = text.split("\n")
    if _EQUATION.fullmatch(last) or _ANSWER.fullmatch(last):
        lines.append(last)
    wrong, result = 0, None
    for line in lines:
        if found := _EQUATION.fullmatch(line):
            result = int(found[4])
            wrong += not _holds(int(found[1]), found[2], int(found[3]), result)
        else:
            answer = _ANSWER.fullmatch(line)
            wrong += answer is None or int(answer[1]) != result
    return -float(wrong)


def _holds(left: int, operator: str, right: int, result: int) -> bool:
    if operator == "/":
        return left == result * right and right != 0
    return result == {"+": left + right, "-": left - right, "*": left * right}[operator]
