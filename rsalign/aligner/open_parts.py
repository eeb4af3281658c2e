"""The policy, the reward and the journal of an `Aligner`: opened together, and closed together."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rsalign.core.journal import Journal
from rsalign.core.parts import check_part_names, require_parts
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.core.segment_ends import check_boundaries
from rsalign.core.text.reasoning import Reasoning
from rsalign.words.named_parts import read_part_words, start_parts
from rsalign.words.parts import EngineArguments, PolicyLike, RewardLike, policy_from, reward_from


class OpenParts:
    """What answers are made with; what was given ready-made is left open on `close`.

    Args:
        policy, reward, journal: as `Aligner` takes them.
        engine_args, reward_args: for an engine that is started.
        reasoning: how the text of responses is divided; None: as the policy does.
        strategy: whose segments the policy must be able to end.
        lora: adapter that draws; see `Aligner`.
        parts: further models and judges by name, as `rsalign.words.named_parts.start_parts` takes
            them.

    Attributes:
        policy: draws.
        reward: judges; None if there is none.
        journal: where draws and rewards are on record; None if there is none.
        parts: further models and judges, by name.

    Raises:
        ConfigError: if a part cannot be opened; whatever was started is closed then.
    """

    def __init__(
        self,
        policy: PolicyLike,
        reward: "RewardLike | None",
        journal: str | Path | Journal | None,
        *,
        engine_args: EngineArguments,
        reward_args: EngineArguments,
        reasoning: Reasoning | None = None,
        strategy: Strategy,
        lora: str | None = None,
        parts: Mapping[str, Any] | None = None,
    ) -> None:
        self._closers: list[Callable[[], None]] = []
        named = read_part_words(parts)
        check_part_names(strategy, named)

        @functools.cache
        def start_policy() -> Policy:
            started = policy_from(policy, engine_args, reasoning, lora=lora)
            if not hasattr(policy, "extend"):  # else it may be a view of the caller's own
                self._close_later(started, given=policy)
            check_boundaries(strategy, started)
            return started

        try:
            self.journal = self._open_journal(journal)
            # the reward first, unless it needs the policy: its faults are found sooner
            self.reward: Reward | None = reward_from(reward, reward_args, start_policy)
            self._close_later(self.reward, given=reward)
            started = start_parts(named, strategy, start_policy)
            self._closers.append(started.close)
            self.parts = dict(started.parts)
            require_parts(strategy, self.parts)
            if self.journal is not None and self.reward is not None:
                self.journal.fingerprint_of(self.reward)  # refused before an engine starts
            self.policy: Policy = start_policy()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes what was opened here, the newest first. Idempotent."""
        while self._closers:
            self._closers.pop()()

    def _open_journal(self, journal: str | Path | Journal | None) -> Journal | None:
        if journal is None or isinstance(journal, Journal):
            return journal
        opened = Journal(journal)
        self._closers.append(opened.close)
        return opened

    def _close_later(self, made: Any, *, given: Any) -> None:
        """Closes a part on `close` if it was made here."""
        if made is not None and made is not given and hasattr(made, "close"):
            self._closers.append(made.close)
