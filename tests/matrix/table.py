"""The table in docs/versions.md, between two marks."""

from matrix.releases import PARTS, ROOT, numbers

PAGE = ROOT / "docs" / "versions.md"
_START, _END = "<!-- written by make matrix -->\n", "<!-- end -->\n"
_HEAD = ("vLLM", "names and signatures", *(part.title for part in PARTS))


def read_rows() -> dict[str, list[str]]:
    """Returns the cells of each row of the page, by release."""
    table = PAGE.read_text().partition(_START)[2].partition(_END)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {release: cells for release, *cells in rows[2:] if len(cells) == len(_HEAD) - 1}


def write_rows(rows: dict[str, list[str]]) -> None:
    """Replaces the table of the page; all else of it stays."""
    lines = [_HEAD, ("---",) * len(_HEAD)]
    lines += [(release, *rows[release]) for release in sorted(rows, key=numbers)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, _, rest = PAGE.read_text().partition(_START)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_START}{table}{_END}{after}")
