"""The one error that routes raise; ``web/errors.py`` turns it into the error body of ``docs/api.md``."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """An answer that is not a success.

    ``code`` is a stable snake_case word, ``message`` says what was seen and how to fix it, each of ``details`` names a
    ``field`` and a ``message``. ``headers`` are added to the answer (``Retry-After``).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or []
        self.headers = headers or {}
