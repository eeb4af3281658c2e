"""Faults that are known and not mended yet. Once one is mended, its test says so by failing."""

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Fault:
    """Tests that fail because of it, as patterns of the shell.

    Attributes:
        test: name of the test function.
        reason: what is wrong.
        families: names of families.
        case: the test's other parameters, as its id shows them.
    """

    test: str
    reason: str
    families: tuple[str, ...] = ("*",)
    case: str = "*"

    def covers(self, test: str, family: str, case: str) -> bool:
        return (
            fnmatch(test, self.test)
            and any(fnmatch(family, pattern) for pattern in self.families)
            and fnmatch(case, self.case)
        )


PENDING: tuple[Fault, ...] = ()
