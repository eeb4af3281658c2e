"""What failed in a sweep, in whichever process: one line for each job, told when the sweep ends.

The jobs of a sweep may run in other processes, from which a launcher hands over nothing but a
score; so each appends its line to a file in the output folder.
"""

from pathlib import Path

from rsalign import ConfigError

_FILE = "failures.log"


class FailureLog:
    """The lines that are added while it is open.

    Args:
        output: of the sweep; made if it is not there.

    Raises:
        ConfigError: if nothing can be written there.

    Examples:
        >>> import tempfile
        >>> output = Path(tempfile.mkdtemp())
        >>> log = FailureLog(output)
        >>> note_failure(output, "strategy=best_of", "the engine is gone")
        >>> log.read()
        ['strategy=best_of: the engine is gone']
    """

    def __init__(self, output: Path) -> None:
        self._path = output / _FILE
        try:
            output.mkdir(parents=True, exist_ok=True)
            self._path.touch()
        except OSError as error:
            raise ConfigError(f"output={str(output)!r} cannot be written to: {error}") from error
        self._start = self._path.stat().st_size

    def read(self) -> list[str]:
        """Reads what was added."""
        with self._path.open(encoding="utf-8") as file:
            file.seek(self._start)
            return file.read().splitlines()


def note_failure(output: Path, job: str, message: str) -> None:
    """Adds a line.

    Args:
        output: of the sweep.
        job: its name, or empty if there is but one.
        message: why it failed, or what in it.
    """
    line = " ".join(f"{job}: {message}".removeprefix(": ").split())
    with (output / _FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
