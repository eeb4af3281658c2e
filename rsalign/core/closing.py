"""Closing: a base of classes with `close`, which makes them context managers of both kinds."""

from typing import Self


class Closing:
    """Calls `close` at the end of a ``with`` or an ``async with`` block.

    Example:
        >>> class Lamp(Closing):
        ...     is_on = True
        ...     def close(self):
        ...         self.is_on = False
        >>> with Lamp() as lamp:
        ...     lamp.is_on
        True
        >>> lamp.is_on
        False
    """

    def close(self) -> None:
        """Stops what the object started. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
