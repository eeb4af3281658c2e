"""The view of a run on the page, by the kind of trace that its strategy leaves."""

from typing import Any

from rsalign.core.capabilities import trace_kind
from rsalign.core.nesting import inner_strategies
from rsalign.core.trace import Trace
from rsalign.report.chain import view_chains
from rsalign.report.pool import InnerView, view_pool
from rsalign.report.population import view_population
from rsalign.report.segments import view_segments
from rsalign.report.texts import Decode
from rsalign.report.tree import view_tree

_FEWEST = 2


def view_run(trace: Trace, strategy: Any, decode: Decode, *, most: int, anchor: str) -> Any:
    """The view of one run and of the inner runs below it: an object with a ``template``.

    Args:
        trace: of the run.
        strategy: any strategy; it declares how its trace is to be read
            (`rsalign.core.capabilities.trace_kind`). None if it is not known.
        decode: from tokens to their text.
        most: greatest number of proposals that are listed, those of inner runs included (each
            inner run has a few, at least).
        anchor: id of the section on the page.
    """
    kind = trace_kind(strategy)
    view: Any = None
    if kind == "chains":
        view = view_chains(trace, strategy, decode, most=most, anchor=anchor)
    elif kind == "segments":
        view = view_segments(trace, strategy, decode, most=most, anchor=anchor)
    elif kind == "population":
        view = view_population(trace, strategy, decode, most=most)
    elif kind == "tree":
        view = view_tree(trace, strategy, decode, most=most)
    if view is not None:
        return view
    below = [
        (path, child)
        for path, child in trace.children.items()
        # an inner run with a single proposal has nothing that is not shown here
        if child.children or len(child.proposals) > 1
    ]
    share = max(_FEWEST, most // (1 + len(below)))
    inner_strategy = next(iter(inner_strategies(strategy).values()), None)
    inner = [
        InnerView(
            " ".join(map(str, path)),
            view_run(
                child,
                inner_strategy,
                decode,
                most=share,
                anchor="-".join([anchor, *map(str, path)]),
            ),
        )
        for path, child in below
    ]
    return view_pool(
        trace,
        strategy,
        decode,
        ranked=kind == "pool",
        inner=inner,
        most=share,
        anchor=anchor,
    )
