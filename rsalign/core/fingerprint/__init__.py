"""fingerprint(): a string that identifies a policy, a reward, a function or a boundary rule.

A journal replays the recorded answers of a part, and must never replay those of another part. Each
part therefore has a fingerprint: a string that is equal in every process as long as the part gives
the same answers, and that changes as soon as it would give others.

If a part has an attribute or property ``fingerprint``, that is used (extended by what a subclass
adds). Otherwise the fingerprint is a digest of everything the part consists of:

* functions: their code with its constants, default arguments, closure variables, and the globals
  and module members that they use, likewise;
* ``functools.partial``: function and arguments; bound methods: object and function;
* objects: the code of their class and all of their attributes; enums, sets, dicts, paths, regular
  expressions, NumPy arrays, torch tensors and tokenizers: their content; other objects of classes
  written in C: what pickling them would write;
* everything that is installed or part of Python: its name, with the version of its package.

File paths, line numbers and memory addresses are ignored. The digest does not cover what a function
imports or looks up by a computed name, and what is outside of the process: a file that it reads, a
server that it calls. A part that depends on such things needs its own ``fingerprint``.
"""

from rsalign.core.declared import quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint.digester import Digester, declared_fingerprint
from rsalign.core.fingerprint.objects import ADD, name_of
from rsalign.core.foreign import errors_as

__all__ = ["fingerprint", "name_of"]


def fingerprint(part: object) -> str:
    """Returns the declared fingerprint of a part, or else its class name with a digest.

    Args:
        part: a policy, a reward, a function, or any value.

    Returns:
        A string that is equal in every process, until the part changes.

    Raises:
        ConfigError: if the part contains something without a comparable value (a lock, an open
            file, a connection, a generator), or something that raises when it is read. The message
            names it and says what to add.

    Example:
        >>> from functools import partial
        >>> longer = fingerprint(partial(pow, 2))
        >>> longer == fingerprint(partial(pow, 2)), longer == fingerprint(partial(pow, 3))
        (True, False)
    """

    def failed(failure: BaseException) -> ConfigError:
        if isinstance(failure, RecursionError):
            problem = "is nested too deeply for computing its fingerprint"
        else:
            problem = f"has values that cannot be read: reading them raised {quote(failure)}"
        return ConfigError(f"{name_of(part)} {problem}: {ADD}")

    with errors_as(failed):
        declared = declared_fingerprint(part)
        if declared is not None:
            return declared
        digest = Digester(part).digest(part, name_of(part))
    return f"{name_of(part)} {digest.hex()}"
