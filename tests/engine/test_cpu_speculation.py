"""What is mended of vLLM's CPU builds, and what is refused because it cannot be."""

import sys
from types import ModuleType

import pytest
import torch

from rsalign.core.errors import ConfigError
from rsalign.embedded import POLICY
from rsalign.engines.vllm import cpu_speculation
from rsalign.engines.vllm.cpu_speculation import (
    expand_batch_to_tokens,
    mend_start,
    skip_without_rows,
)
from rsalign.engines.vllm.environment import import_vllm
from rsalign.engines.vllm.release import SINCE_0_31
from rsalign.policies.vllm import VllmPolicy

pytestmark = pytest.mark.vllm

NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64])
def test_values_of_requests_are_repeated_for_their_tokens(dtype):
    values = torch.tensor([0.5, 0.0, 3.0] if dtype.is_floating_point else [5, 0, 3], dtype=dtype)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    repeated = expand_batch_to_tokens(values, ends, 5, replace_from=0, replace_to=1)
    assert repeated.dtype == dtype
    first, last = values[0].item(), values[2].item()
    assert repeated.tolist() == [first, first, last, last, last]
    zero = expand_batch_to_tokens(values[1:2], ends[:1], 2, replace_from=0, replace_to=1)
    assert zero.tolist() == [1, 1]


@pytest.mark.skipif(not SINCE_0_31, reason="older releases do not search for kernels")
def test_kernels_are_found_beside_objects_without_a_dictionary(monkeypatch):
    """As llvmlite's, which n-gram speculation imports."""
    import_vllm()
    from vllm.triton_utils import dispatcher

    class Odd:
        @property
        def __dict__(self):
            return object()

    class Deprecated:
        def __getattribute__(self, name):
            raise AssertionError("asked for an attribute, as torch warns of")

    assert cpu_speculation.read_namespace(Deprecated()) == {}

    def kernel(x): ...

    module = ModuleType("a_module_with_an_odd_object")
    module.odd, module.kernel = Odd(), kernel
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(dispatcher, "vars", vars, raising=False)
    pairs = [(kernel, dispatcher.KernelOverride(kernel, kernel))]
    with pytest.raises(AttributeError):
        dispatcher._rebind_kernels(pairs)
    mend_start()
    dispatcher._rebind_kernels(pairs)
    assert module.kernel is pairs[0][1]


def test_a_step_for_which_nothing_was_proposed_is_left_alone():
    """vLLM takes the maximum of all top-k there."""
    constrain = skip_without_rows(lambda logits, top_k: logits[:, : int(top_k.max())])
    assert constrain(torch.zeros(0, 5), torch.zeros(0)).shape == (0, 5)
    assert constrain(torch.zeros(1, 5), top_k=torch.tensor([3])).shape == (1, 3)


def test_speculation_in_a_process_of_its_own_is_refused_before_it_starts():
    with pytest.raises(ConfigError, match=r"speculates .*backend='in_process'"):
        VllmPolicy.start(POLICY, backend="async", speculative_config=dict(NGRAM))
