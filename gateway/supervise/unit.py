"""The systemd unit that starts the supervisor at boot."""

from __future__ import annotations

from pathlib import Path

import msgspec

_UNIT = """\
# Written by: gateway supervise unit
[Unit]
Description=Gateway ({name}): {instances} processes on one port
Documentation=man:systemd.service(5)
After=network-online.target postgresql.service redis-server.service
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={cwd}
ExecStart={command} supervise --config {config}
ExecReload=/bin/kill -HUP $MAINPID
# SIGTERM goes to the supervisor, which drains its processes; SIGKILL to all of them when the time is over.
KillMode=mixed
KillSignal=SIGTERM
# The longest job (SHUTDOWN_GRACE_S) and a margin.
TimeoutStopSec={stop_s}
TimeoutStartSec=300
WatchdogSec=30
# After `gateway supervise stop` it stays stopped.
Restart=on-failure
RestartSec=10
# One process that the kernel ends for want of memory is replaced by the supervisor.
OOMPolicy=continue
LimitNOFILE=65536
UMask=0027

NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""
_STOP_MARGIN_S = 90


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """``command``: how `gateway` is called; ``writable``: directories of logs and control socket, which must exist."""

    name: str
    instances: int
    user: str
    cwd: Path
    command: str
    config: Path
    grace_s: float
    port: int
    writable: tuple[Path, ...]

    def text(self) -> str:
        """Raises ValueError for a path that a unit cannot hold."""
        for path in (self.cwd, self.config, *self.writable):
            if any(character.isspace() or character in "\"'%$\\" for character in str(path)):
                raise ValueError(f"{path}: a path with spaces, quotes, %, $ or \\ cannot stand in a unit file")
        return _UNIT.format(
            name=" ".join(self.name.split()).replace("%", "%%"),
            instances=self.instances,
            user=self.user,
            cwd=self.cwd,
            command=self.command,
            config=self.config,
            stop_s=int(self.grace_s) + _STOP_MARGIN_S,
            capabilities="CAP_NET_BIND_SERVICE" if self.port < 1024 else "",
            writable=" ".join(sorted({str(path) for path in self.writable})),
        )
