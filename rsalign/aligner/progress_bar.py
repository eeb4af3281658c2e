"""The progress bar of a call."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(title: str, total: int, *, use_tqdm: bool) -> Iterator[Callable[[], object]]:
    """Shows a progress bar while the block runs, if the standard error is a terminal.

    Args:
        title: in front of the bar.
        total: number of prompts.
        use_tqdm: False: no bar.

    Yields:
        A function that advances the bar by one prompt.
    """
    from tqdm import tqdm

    hidden = not (use_tqdm and sys.stderr.isatty())
    with tqdm(total=total, desc=title, unit="prompt", disable=hidden) as bar:
        yield bar.update
