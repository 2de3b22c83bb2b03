"""Litestar reads the signatures of all routes anew for each application, and hundreds of tests make one.

Those of a module's functions never change, nor do those of functions made within one function differ, so each is read
once in each process of tests, and so is the model that Litestar makes of it to check what a request brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from litestar._signature.model import SignatureModel
from litestar.utils.signature import ParsedSignature

_read: dict[Any, ParsedSignature] = {}
_made: dict[Any, type[SignatureModel]] = {}
_from_fn = cast("Any", ParsedSignature.from_fn).__func__
_create = cast("Any", SignatureModel.create).__func__


def remember_signatures() -> None:
    """For the rest of this process."""
    cast("Any", ParsedSignature).from_fn = classmethod(_remembered_signature)
    cast("Any", SignatureModel).create = classmethod(_remembered_model)


def _remembered_signature(cls: type[ParsedSignature], fn: Any, signature_namespace: dict[str, Any]) -> Any:
    key = _written(fn)
    if key is None:
        return _from_fn(cls, fn, signature_namespace)
    if key not in _read:
        _read[key] = _from_fn(cls, fn, signature_namespace)
    return _read[key]


def _remembered_model(
    cls: type[SignatureModel],
    dependency_name_set: set[str],
    fn: Callable[..., Any],
    parsed_signature: ParsedSignature,
    type_decoders: Any,
    data_dto: Any = None,
) -> Any:
    key = _written(fn)
    if key is None or data_dto is not None or parsed_signature is not _read.get(key):
        return _create(cls, dependency_name_set, fn, parsed_signature, type_decoders, data_dto)
    # Decoders are told by what they are for: of Litestar's own one is another object for each application.
    key = (key, frozenset(dependency_name_set), tuple(of_type for of_type, _ in type_decoders or ()))
    if key not in _made:
        _made[key] = _create(cls, dependency_name_set, fn, parsed_signature, type_decoders)
    return _made[key]


def _written(fn: Any) -> Any:
    """What is the same for all functions of one place in the code: a controller's, bound to another instance for each
    application, and those that a function returns. None: it has no such place, or defaults of its own."""
    function = getattr(fn, "__func__", fn)
    if not hasattr(function, "__code__") or function.__defaults__ or function.__kwdefaults__:
        return function if "<locals>" not in getattr(function, "__qualname__", "<locals>") else None
    return function.__code__
