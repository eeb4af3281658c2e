"""What tells one part from another: a policy, a reward, a function, a rule.

A journal replays what a part has said, and must never replay what another part would have said. So
every part has a fingerprint: a string that is the same in every process for as long as the part
would say the same, and another one as soon as it would not.

A part may have an attribute or property ``fingerprint`` of its own, which is used as it is (of a
class that inherits it, what the class adds is told, too). Any other part is told by its values:

* functions by their code with its constants, default arguments, closure variables, and the globals
  and module members that they name, likewise;
* ``functools.partial`` by function and arguments; bound methods by object and function;
* objects by the code of their class and by all of their attributes; enums, sets, dicts, paths,
  regular expressions, NumPy arrays, torch tensors and tokenizers by content; other objects that are
  written in C by what pickling them would write;
* what is installed or part of Python by its name, with the version of its package.

File paths, line numbers and addresses in memory do not count. Not seen are what
a function imports or looks up by a computed name, and what lies outside the process: a file that is
read, a server that is asked. Who depends on such things needs a ``fingerprint`` that names them.
"""

from rsalign.core.declared import quote
from rsalign.core.errors import ConfigError
from rsalign.core.fingerprint.objects import ADD, name_of
from rsalign.core.fingerprint.teller import Teller, own_word
from rsalign.core.foreign import errors_as

__all__ = ["fingerprint", "name_of"]


def fingerprint(part: object) -> str:
    """What tells `part` from others: its own word, else its kind and a digest of its values.

    Args:
        part: a policy, a reward, a function, or any value.

    Returns:
        The same string in every process, until the part changes.

    Raises:
        ConfigError: if something in it has no value that could be compared (a lock, an open file, a
            connection, a generator), or raises when it is read. The message names it, and what to
            add.

    Example:
        >>> from functools import partial
        >>> longer = fingerprint(partial(pow, 2))
        >>> longer == fingerprint(partial(pow, 2)), longer == fingerprint(partial(pow, 3))
        (True, False)
    """

    def failed(failure: BaseException) -> ConfigError:
        if isinstance(failure, RecursionError):
            said = "is nested too deeply to be told apart by its values"
        else:
            said = f"cannot be told by its values, because reading them raised {quote(failure)}"
        return ConfigError(f"{name_of(part)} {said}: {ADD}")

    with errors_as(failed):
        word = own_word(part)
        if word is not None:
            return word
        digest = Teller(part).tell(part, name_of(part))
    return f"{name_of(part)} {digest.hex()}"
