"""Values of libraries that need not be installed: they are told if the library is loaded."""

import functools
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rsalign.core.fingerprint.digest import hashed

if TYPE_CHECKING:
    from rsalign.core.fingerprint.teller import Teller


def array(teller: "Teller", value: Any, where: str) -> bytes | None:
    """A NumPy array, number or function; None if it is none of these."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ufunc):
        name: str = value.__name__
        for home in ("numpy", "scipy.special"):
            if getattr(sys.modules.get(home), name, None) is value:
                return hashed("ufunc", home.encode(), name.encode())
        teller.refuse(value, where)
    if isinstance(value, numpy.ndarray | numpy.generic):
        about = (repr(value.dtype.descr if value.dtype.names else value.dtype.str), value.shape)
        if value.dtype.hasobject:
            content = teller.tell(value.tolist(), where)
        else:
            content = hashlib.blake2b(value.tobytes(), digest_size=16).digest()
        digest = hashed("array", repr(about).encode(), content)
        if isinstance(value, numpy.generic):  # its type is its dtype's
            return digest
        return teller.extended(value, (numpy.ndarray, numpy.memmap), digest, where)
    return None


def tensor(value: Any) -> bytes | None:
    """A torch tensor, wherever it is; None if it is none."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(value, getattr(torch, "Tensor", ())):
        return None
    value = cast(Any, value)
    if value.layout != torch.strided:
        value = value.to_dense()
    plain = value.detach().cpu().contiguous().reshape(-1)
    content = hashlib.blake2b(plain.view(torch.uint8).numpy(), digest_size=16).digest()
    return hashed("tensor", str(value.dtype).encode(), repr(tuple(value.shape)).encode(), content)


def tokenizer(value: Any) -> bytes | None:
    """A Hugging Face tokenizer: its vocabulary, rules and chat template, not where it lies."""
    if not any(one.__module__.startswith("transformers.") for one in type(value).__mro__):
        return None
    if not hasattr(value, "get_vocab") or not hasattr(value, "special_tokens_map"):
        return None
    spoken = (value.chat_template, sorted(map(repr, value.special_tokens_map.items())))
    return hashed("tokenizer", _vocabulary(value), repr(spoken).encode())


@functools.lru_cache(maxsize=16)
def _vocabulary(tokenizer: Any) -> bytes:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        file = getattr(tokenizer, "vocab_file", None)
        rules = Path(file).read_bytes() if file and os.path.isfile(file) else b""
        words = repr(sorted(tokenizer.get_vocab().items())).encode()
        return hashed("words", rules, words)
    rules = json.loads(backend.to_str())
    for state in ("truncation", "padding"):  # of the call before
        rules.pop(state, None)
    return hashed("rules", json.dumps(rules, sort_keys=True).encode())
