"""Which view a run gets, by its strategy; runs below it get theirs."""

from typing import Any

from rsalign.chains.markov_chain import MarkovChain
from rsalign.core.trace import Trace
from rsalign.report.chain import chains
from rsalign.report.pool import InnerView, pool
from rsalign.report.segments import segments
from rsalign.report.texts import Decode
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.calibrate import Calibrate
from rsalign.strategies.cards import Cards
from rsalign.strategies.early_stop import EarlyStop

_LEAST = 2


def section(trace: Trace, strategy: Any, decode: Decode, *, most: int, anchor: str) -> Any:
    """The view of one run: an object with its ``template``.

    Args:
        trace: of the run.
        strategy: that made it; any.
        decode: text of given tokens.
        most: proposals to be listed, of inner runs too (a few of each, at least).
        anchor: where it is on the page.
    """
    found: Any = None
    if isinstance(strategy, MarkovChain):
        found = chains(trace, strategy, decode, most=most, anchor=anchor)
    elif isinstance(strategy, Cards | Calibrate):
        found = segments(trace, strategy, decode, most=most, anchor=anchor)
    if found is not None:
        return found
    below = [
        (path, child)
        for path, child in trace.children.items()
        if child.children or len(child.proposals) > 1  # others say nothing that is not here
    ]
    share = max(_LEAST, most // (1 + len(below)))
    inner = [
        InnerView(
            " ".join(map(str, path)),
            section(
                child,
                getattr(strategy, "inner", None),
                decode,
                most=share,
                anchor="-".join([anchor, *map(str, path)]),
            ),
        )
        for path, child in below
    ]
    return pool(
        trace,
        decode,
        ranked=isinstance(strategy, BestOf | EarlyStop),
        inner=inner,
        most=share,
        anchor=anchor,
    )
