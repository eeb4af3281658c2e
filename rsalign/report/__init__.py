"""One self-contained HTML page that shows how answers came about.

It has texts, tables and drawings in one file, no script, and loads nothing from the network. All
text that a model wrote is escaped, and the page forbids the browser to run or fetch anything.
"""

from rsalign.report.page import write_page

__all__ = ["write_page"]
