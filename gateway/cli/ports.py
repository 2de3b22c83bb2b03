"""TCP ports: which one to take, and who has it."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp (Linux, include/net/tcp_states.h)


@dataclass(frozen=True, slots=True)
class Owner:
    pid: int
    name: str


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError when ``host`` is no address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def next_free(host: str, first: int, tries: int = 100) -> int | None:
    """The first free port from ``first`` on, or None when ``tries`` of them are taken."""
    return next((port for port in range(first, min(first + tries, 65_536)) if is_free(host, port)), None)


def taken_message(port: int, another: str = "--port {port}") -> str:
    """``another``: how the command is told another port."""
    owner = owner_of(port)
    who = f"process {owner.pid} ({owner.name})" if owner else "another process"
    way = another.format(port=port + 1)
    return f"Port {port} is used by {who}. Use {way}, or gateway status to see the running one."


def owner_of(port: int) -> Owner | None:
    """The process that listens on ``port``, where the system shows it (Linux, own processes)."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or it is somebody else's
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                return Owner(int(process.name), (process / "comm").read_text().strip())
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            columns = line.split()  # sl local_address rem_address st ... inode (proc_net_tcp.txt)
            if columns[3] == LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(columns[9])
    return inodes
