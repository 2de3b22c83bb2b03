"""Texts that live in files of their own, by name: what SQL statements and Lua scripts have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class NamedFile(Protocol):
    @property
    def text(self) -> str: ...


F = TypeVar("F", bound=NamedFile)


class NamedFiles(Mapping[str, str], Generic[F]):
    """Text by file name without its ending."""

    def __init__(self, entries: Mapping[str, F]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        return self._entries[name].text

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def describe(self, name: str) -> F:
        """The file with its header; ``KeyError`` when there is none of that name."""
        return self._entries[name]
