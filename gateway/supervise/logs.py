"""Log files of all processes: each line with date and process, rotated by size.

Lines are taken from the processes at once and written by a thread. A disk that is slow or full stops no process: lines
that cannot be kept are counted, and the files say how many are missing as soon as they can be written again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import suppress
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, Literal, TextIO

import msgspec

Stream = Literal["out", "err"]

SUPERVISOR: Final = "supervisor"
BACKLOG_MAX_BYTES: Final = 8 * 1024 * 1024
DATE_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
_CLOSE_S: Final = 2.0
_QUIET_LEVELS: Final = frozenset({"debug", "info"})


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """None: no such file. ``max_bytes`` of one file; ``retain`` rotated ones are kept beside it."""

    out: Path | None
    err: Path | None
    max_bytes: int
    retain: int


class _Line(msgspec.Struct, frozen=True):
    stream: Stream
    text: str
    echoed: bool


class _Loss(msgspec.Struct, frozen=True):
    lines: int
    why: str


class _Level(msgspec.Struct):
    level: str = ""


def stream_of(line: str) -> Stream:
    """Where a line of standard error belongs: the gateway writes all of its log there, and says which are errors."""
    if line.startswith("{"):
        with suppress(msgspec.DecodeError):
            return "out" if msgspec.json.decode(line, type=_Level).level in _QUIET_LEVELS else "err"
    return "err"


def dated(now: datetime, source: str, line: str) -> str:
    """``2026-11-22 03:00:00 +00:00 2 | line``."""
    offset = now.strftime("%z")
    return f"{now.strftime(DATE_FORMAT)} {offset[:3]}:{offset[3:5]} {source} | {line}"


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Called in an ``except`` block: let the writer see the error."""
        raise  # noqa: PLE0704

    def doRollover(self) -> None:  # noqa: N802  logging's name
        """logging's leaves the file as it is when no old one is kept: it would grow for ever."""
        if self.backupCount == 0:
            self.let_go()
            Path(self.baseFilename).unlink(missing_ok=True)
        super().doRollover()

    def let_go(self) -> None:
        """Of a stream that failed: the next line opens the file again."""
        if self.stream is not None:
            with suppress(OSError):
                self.stream.close()
            self.stream = None


class LogFiles:
    """``echo``: gets each line too, or those of the supervisor alone. ``lost``: lines that nobody wrote; ``problem``:
    why, while it lasts."""

    def __init__(self, files: Files, echo: TextIO | None = None, *, echo_all: bool = True) -> None:
        self._files: dict[Stream, _File] = {}
        if files.out is not None:
            self._files["out"] = _file(files.out, files)
        if files.err is not None:  # one file for both is rotated by one
            self._files["err"] = self._files["out"] if files.err == files.out else _file(files.err, files)
        self._echo = echo
        self._echo_all = echo_all
        self._lines: deque[_Line] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self._untold: dict[Stream, _Loss] = {}
        self.lost = 0
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)

    @property
    def problem(self) -> str | None:
        with self._changed:
            return next((loss.why for loss in self._untold.values()), None)

    def start(self) -> None:
        self._thread.start()

    def put(self, stream: Stream, source: str, line: str) -> None:
        """Never waits for the disk."""
        text = dated(datetime.now().astimezone(), source, line)
        with self._changed:
            if self._size + len(text) > BACKLOG_MAX_BYTES:
                self._missing(stream, "the disk is too slow")
                return
            self._lines.append(_Line(stream, text, self._echo_all or source == SUPERVISOR))
            self._size += len(text)
            self._changed.notify()

    def close(self) -> None:
        """Write what is left, for at most ``_CLOSE_S`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                if not self._lines:
                    break
                line = self._lines.popleft()
                self._size -= len(line.text)
            self._write_line(line)
        for file in self._files.values():
            file.let_go()

    def _write_line(self, line: _Line) -> None:
        if self._echo is not None and line.echoed:
            try:
                self._echo.write(line.text + "\n")
                self._echo.flush()
            except (OSError, ValueError):  # it was closed; the files go on
                self._echo = None
        file = self._files.get(line.stream)
        if file is None:
            return
        try:
            self._tell_of_missing(line.stream, file)
            file.emit(_record(line.text))
        except OSError as error:
            file.let_go()
            with self._changed:
                self._missing(line.stream, error.strerror or type(error).__name__)

    def _tell_of_missing(self, stream: Stream, file: _File) -> None:
        with self._changed:
            loss = self._untold.get(stream)
        if loss is None:
            return
        missing = f"{loss.lines} lines are missing here: {loss.why}"
        file.emit(_record(dated(datetime.now().astimezone(), SUPERVISOR, missing)))
        with self._changed:
            if self._untold[stream] == loss:
                del self._untold[stream]
            else:
                self._untold[stream] = _Loss(self._untold[stream].lines - loss.lines, self._untold[stream].why)

    def _missing(self, stream: Stream, why: str) -> None:
        """Call with the lock held."""
        before = self._untold.get(stream)
        self._untold[stream] = _Loss(1 + (before.lines if before is not None else 0), why)
        self.lost += 1


def _file(path: Path, files: Files) -> _File:
    path.parent.mkdir(parents=True, exist_ok=True)
    return _File(path, "a", files.max_bytes, files.retain, "utf-8", delay=True)


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("logs", logging.INFO, "", 0, text, None, None)


class LineTaker:
    """Cuts what a process writes into lines; ``last`` of them are kept for the one who asks why it ended."""

    LINE_MAX = 64 * 1024

    def __init__(self, files: LogFiles, source: str, stream: Stream) -> None:
        self._files = files
        self._source = source
        self._stream = stream
        self._rest = b""
        self.last: deque[str] = deque(maxlen=5)  # what `gateway serve` says of one wrong setting has four

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._put(line)
        while len(self._rest) >= self.LINE_MAX:
            self._put(self._rest[: self.LINE_MAX])
            self._rest = self._rest[self.LINE_MAX :]

    def end(self) -> None:
        if self._rest:
            self._put(self._rest)
            self._rest = b""

    def _put(self, raw: bytes) -> None:
        line = raw.decode("utf-8", errors="replace").rstrip("\r")
        if words := line.strip():
            self.last.append(words)
        self._files.put(stream_of(line) if self._stream == "err" else "out", self._source, line)


class LogStream:
    """A text stream for the supervisor's own log; it goes where the others' goes, and never waits either."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._files.put(stream_of(line), SUPERVISOR, line)
        return len(text)

    def flush(self) -> None:
        """Written by the files' thread."""

    def isatty(self) -> bool:
        return False
