"""Policies in vLLM whose draws a code decides (`rsalign.core.codes`)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from rsalign.core.codes import Code
from rsalign.core.errors import ConfigError
from rsalign.core.types import Sampling
from rsalign.engines.options import RequestOptions
from rsalign.engines.protocol import VllmEngine
from rsalign.hooks.loading import has_hook, how_to_have_hook

_HOOK = "Arithmetic"


class _OfEngine(Protocol):
    """What the methods need of the policy: its engine, its law and its options."""

    if TYPE_CHECKING:

        @property
        def engine(self) -> VllmEngine: ...

        @property
        def sampling(self) -> Sampling: ...

        @property
        def options(self) -> RequestOptions: ...


P = TypeVar("P", bound=_OfEngine)


class Coded:
    """Gives a policy over a vLLM engine the ability `rsalign.core.codes.DrawsByCode`."""

    __slots__ = ()

    def with_code(self: P, code: Code) -> P:
        """The same policy, whose draws the code decides, each from its first token on.

        Its segments have no log-probabilities: a token that a code chooses is certain to vLLM.

        Raises:
            ConfigError: if the engine has not loaded `rsalign.hooks.v1:Arithmetic` (or ``v2``), or
                only one token is possible at each place.
        """
        config, why = self.engine.vllm_config, self.sampling.why_point_mass
        if not has_hook(config, _HOOK):
            raise ConfigError(
                "this engine cannot draw by the codes of arithmetic sampling: "
                f"{how_to_have_hook(config, _HOOK)}, or use BestOf, whose draws are independent"
            )
        if why is not None:
            raise ConfigError(f"{why}: a code has nothing to decide; raise the temperature")
        options: RequestOptions = replace(self.options, code=code)
        return replace(self, options=options)  # type: ignore[type-var]

    @property
    def code_fingerprint(self: _OfEngine) -> tuple[str, ...]:
        """Identifies the code in the fingerprint of the policy; empty if there is none."""
        return () if self.options.code is None else (repr(self.options.code),)
