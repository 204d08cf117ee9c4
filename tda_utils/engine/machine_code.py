"""Machine code that numba has compiled, kept in files with a checksum.

Numba's own files have none: a truncated one is an error at every start, and one of which a bit has
flipped is run. Each signature of a function has one file here, so that two processes which compile
at once cannot mix theirs up. Knows numba and files alone.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps

from tda_utils.files import read_whole, write_whole

_DIGEST = hashlib.sha256().digest_size


class KeptCode:
    """The files of one function, as numba's dispatcher asks for them.

    Parameters
    ----------
    folder : path
    name : str
        Of the function, its line and the version of Python.
    stamp : object
        Changes with the source.
    """

    def __init__(self, folder: Path, name: str, stamp: object) -> None:
        self._folder, self._name = folder, name
        self._numba = IndexDataCacheFile(folder, name, stamp)
        self._known = repr((numba.__version__, stamp))

    def load(self, key: tuple[Any, ...]) -> Any:
        """Return what is kept for a signature and a processor; None if nothing sound is."""
        path = self._file(key)
        try:
            content = bytes(read_whole(path))
        except OSError:  # nothing there, or nothing that we may read
            return None
        if content[-_DIGEST:] != self._digest(key, content[:-_DIGEST]):
            return None
        # Numba reads what comes before the checksum. Two types may be written alike.
        of, data = self._numba._load_data(path.name)
        return data if of == key else None

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        """Keep compiled code, if it can be written."""
        code = dumps((key, data))
        with suppress(OSError):
            write_whole(self._file(key), code + self._digest(key, code))

    def flush(self) -> None:
        """Forget what is kept."""
        for path in self._folder.glob(f"{self._name}-*.nbc"):
            path.unlink(missing_ok=True)

    def _file(self, key: tuple[Any, ...]) -> Path:
        # Not of the source: code of an older one is replaced.
        signature_and_processor = repr(key[:2])
        digest = hashlib.sha256(signature_and_processor.encode()).hexdigest()[:16]
        return self._folder / f"{self._name}-{digest}.nbc"

    def _digest(self, key: tuple[Any, ...], code: bytes) -> bytes:
        return hashlib.sha256(f"{self._known} {key!r}".encode() + code).digest()


class _Cache(FunctionCache):
    """Numba's cache over `KeptCode`; whatever cannot be used is compiled again."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = KeptCode(Path(self.cache_path), self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Sound code can be of another LLVM, which only linking it shows.
        with suppress(Exception):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def keep_code(dispatcher: Any) -> Any:
    """Let a compiled function keep its machine code beside its source, or where numba would.

    Parameters
    ----------
    dispatcher : Dispatcher
        What `numba.njit` returns.

    Returns
    -------
    Dispatcher
        The same; where there is no place for files, as it was.

    Examples
    --------
    >>> keep_code(numba.njit(lambda x: 2 * x))(3)
    6
    """
    with suppress(RuntimeError, OSError):
        dispatcher._cache = _Cache(dispatcher.py_func)
    return dispatcher
