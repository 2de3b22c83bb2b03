"""Read log files from their end, and go on reading them over rotations. Needs no running supervisor."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 64 * 1024
_DATE = len("2026-11-22 03:00:00 +00:00")


def last_lines(paths: Iterable[Path], number: int) -> list[str]:
    """The last ``number`` lines of all files together, by date; within a second those of one file stay in order."""
    found = heapq.merge(*(_last_of(path, number) for path in paths), key=lambda line: line[:_DATE])
    lines = list(found)
    return lines[len(lines) - number :] if number < len(lines) else lines


def _last_of(path: Path, number: int) -> list[str]:
    """Of the file, and of rotated ones beside it as far as needed."""
    lines: list[str] = []
    for candidate in (path, path.with_name(f"{path.name}.1")):
        try:
            with candidate.open("rb") as file:
                lines = _end_of(file, number - len(lines)) + lines
        except OSError:
            continue
        if len(lines) >= number:
            break
    return lines


def _end_of(file: BinaryIO, number: int) -> list[str]:
    position, data = file.seek(0, os.SEEK_END), b""
    while position > 0 and data.count(b"\n") <= number:
        step = min(_BLOCK, position)
        position = file.seek(position - step)
        data = file.read(step) + data
    lines = data.decode("utf-8", errors="replace").splitlines()
    return lines[max(0, len(lines) - number) :]


class Follower:
    """Lines that are written to ``path`` from now on. Call ``close``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        if self._open():
            self._seek_end()

    def new_lines(self) -> Iterator[str]:
        if self._file is None and not self._open():
            return
        rotated = self._was_rotated()  # asked first: then nothing more is written to what is read here
        yield from self._read()
        if rotated and self._open():
            if self._rest:  # the old file ended within a line
                yield self._rest.decode("utf-8", errors="replace")
                self._rest = b""
            yield from self._read()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            file = self._path.open("rb")
        except OSError:
            return False
        if self._file is not None:
            self._file.close()
        self._file = file
        return True

    def _seek_end(self) -> None:
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)

    def _read(self) -> Iterator[str]:
        data = self._file.read() if self._file is not None else b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return (line.decode("utf-8", errors="replace") for line in lines)

    def _was_rotated(self) -> bool:
        try:
            return self._file is not None and self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except OSError:
            return False
