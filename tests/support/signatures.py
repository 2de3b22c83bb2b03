"""Litestar reads the signatures of all routes anew for each application, and hundreds of tests make one.

Those of a module's functions never change, so they are read once in each process of tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from litestar.utils.signature import ParsedSignature

_read: dict[Callable[..., Any], ParsedSignature] = {}
_from_fn = cast("Any", ParsedSignature.from_fn).__func__


def remember_signatures() -> None:
    """For the rest of this process."""
    cast("Any", ParsedSignature).from_fn = classmethod(_remembered)


def _remembered(cls: type[ParsedSignature], fn: Any, signature_namespace: dict[str, Any]) -> Any:
    function = getattr(fn, "__func__", fn)  # a controller's is bound to another instance each time
    if "<locals>" in getattr(function, "__qualname__", "<locals>"):  # of one application, and to be freed with it
        return _from_fn(cls, fn, signature_namespace)
    if function not in _read:
        _read[function] = _from_fn(cls, fn, signature_namespace)
    return _read[function]
