"""Requests that failed by themselves: the others are answered, and these count as wrong."""

import logging

from rsalign.core.errors import EngineError, RsalignError

logger = logging.getLogger(__name__)


class Failures:
    """What failed of one call of lm-eval, which wants a value for every request.

    A failure is logged when it is added, with the request's name.

    Args:
        num_requests: of the call.
    """

    def __init__(self, num_requests: int) -> None:
        self._num_requests = num_requests
        self._errors: list[RsalignError] = []

    def add(self, name: str, error: RsalignError) -> None:
        """One more request that counts as wrong.

        Raises:
            EngineError: if it is one: no other request will be answered either.
        """
        if isinstance(error, EngineError):
            raise error
        logger.error("request %s failed and counts as wrong: %s", name, error)
        self._errors.append(error)

    def check(self) -> None:
        """Refuses a call of which nothing is left: its score would say nothing.

        Raises:
            RsalignError: the first failure, if all requests failed.
        """
        if self._errors and len(self._errors) == self._num_requests:
            raise self._errors[0]
        if self._errors:
            logger.error(
                "%d of %d requests failed and count as wrong", len(self._errors), self._num_requests
            )
