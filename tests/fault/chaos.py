"""Random faults under load, on real servers and processes: ``make fault RUNS=200 SEED=1``.

Each run draws a plan from its seed (``chaos_plan``), starts its own PostgreSQL, Valkey, SMTP server and gateways with
a proxy on every link, lets customers act while faults strike, and then audits from outside (``audit``). It prints one
JSON line, and after the last run one more with their sums; the exit code is 1 if a run is not ``ok``. The runs have the
seeds ``SEED``, ``SEED`` + 1 and so on, so ``RUNS=1 SEED=...`` repeats one: the same faults at the same times; what they
hit depends on the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from gateway.infra.postgres import connect
from tests.fault.audit import Evidence, Findings, judge
from tests.fault.chaos_evidence import ask_everybody, collect, open_rows, paused
from tests.fault.chaos_faults import all_faults
from tests.fault.chaos_load import Load
from tests.fault.chaos_plan import Plan, draw
from tests.fault.chaos_world import World, world

RECOVERY_S: Final = 60.0  # invariant A
# Seeds that failed once, with the fault of the gateway or of this driver that they found; ``make fault`` runs them.
SEEDS: Final[dict[int, str]] = {
    109: "the audit: a mail that was cancelled after its attempt froze was sent by it when it woke",
    200: "the driver: SIGTERM struck a process that was still being loaded",
    214: "the same",
    1027: "the same, after the process had printed its first line",
    10073: "the gateway: a second attempt began while the answer to the first was being recorded, and saw no answer",
}


@dataclass
class Line:
    """What one run, or all of them, came to. ``accepted`` counts mails, ``delivered`` those that reached somebody,
    the duplicates surplus copies at the mail server."""

    seed: int
    runs: int = 0
    accepted: int = 0
    delivered: int = 0
    lost: int = 0
    duplicates_allowed: int = 0
    duplicates_forbidden: int = 0
    stuck: int = 0
    illegal: int = 0
    over_limit: int = 0
    overtaken: int = 0
    broken: int = 0
    worst_recovery_s: float = 0.0
    ok: bool = True
    failed_seeds: list[int] = field(default_factory=list)

    def add(self, other: Line) -> None:
        for name, value in asdict(other).items():
            if name == "worst_recovery_s":
                self.worst_recovery_s = max(self.worst_recovery_s, value)
            elif name == "ok":
                self.ok = self.ok and value
            elif name != "seed":
                setattr(self, name, getattr(self, name) + value)


async def run(plan: Plan, directory: Path) -> Line:
    """Make the plan happen in ``directory``, which the servers' user must be able to enter."""
    async with world(plan, directory) as made:
        load = Load(made)
        async with asyncio.TaskGroup() as group:
            for number in range(plan.customers):
                group.create_task(load.customer(number))
            try:
                async with asyncio.timeout(plan.seconds + RECOVERY_S):
                    await all_faults(made)
            finally:
                load.stopped.set()
        await made.booted()
        recovery_s = await _recovered(made, load, made.quiet_since)
        burst = await load.burst(plan.burst)
        await _recovered(made, load, time.monotonic())
        evidence = await collect(made, load.told, burst)
        await ask_everybody(made, evidence)
        findings = judge(evidence)
        _explain(made, findings)
        return _line(made, evidence, findings, recovery_s)


async def _recovered(made: World, load: Load, since: float) -> float:
    """Wait until everything has ended, at most until ``RECOVERY_S`` after ``since``; answers how long after it that
    was."""
    connection = await connect(made.postgres.dsn)
    try:
        while await open_rows(connection) and time.monotonic() < since + RECOVERY_S:
            if await paused(connection):
                await load.operator()
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
    return time.monotonic() - since


def _line(made: World, evidence: Evidence, findings: Findings, recovery_s: float) -> Line:
    accepted = evidence.told.accepted
    arrived = {each.message_id for each in evidence.arrived}
    ids = [evidence.mails[mail].message_id for mail in accepted if mail in evidence.mails]
    ok = findings.kept and not made.broken and recovery_s < RECOVERY_S
    return Line(
        seed=made.plan.seed,
        runs=1,
        accepted=len(accepted),
        delivered=sum(message_id in arrived for message_id in ids),
        lost=len(findings.lost),
        duplicates_allowed=len(findings.allowed),
        duplicates_forbidden=len(findings.forbidden),
        stuck=len(findings.stuck),
        illegal=len(findings.illegal),
        over_limit=len(findings.over_limit),
        overtaken=len(findings.overtaken),
        broken=len(made.broken),
        worst_recovery_s=round(recovery_s, 1),
        ok=ok,
        failed_seeds=[] if ok else [made.plan.seed],
    )


def _explain(made: World, findings: Findings) -> None:
    """Tell people what the numbers stand for; duplicates are listed even where they are allowed."""
    for kind, entries in {**asdict(findings), "broken": made.broken}.items():
        for entry, times in Counter(entries).items():
            made.say(f"{kind}: {entry}{f' ({times} times)' if times > 1 else ''}")
    if made.broken or not findings.kept:
        made.say(f"{made.plan}\n{made.logs()}")


def run_in_a_directory(plan: Plan) -> Line:
    with tempfile.TemporaryDirectory(prefix="gateway-chaos-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL does not run as root: its user must reach its data
        try:
            return asyncio.run(run(plan, directory))
        except (AssertionError, RuntimeError, TimeoutError, OSError, ExceptionGroup) as error:
            traceback.print_exception(error)
            return Line(plan.seed, runs=1, broken=1, ok=False, failed_seeds=[plan.seed])


def main() -> int:
    """``RUNS`` plans from ``SEED`` on; without a seed, those of ``SEEDS`` come first."""
    runs, given = int(os.environ.get("RUNS") or 3), os.environ.get("SEED")
    first = int(given) if given else secrets.randbelow(1_000_000)
    total = Line(first)
    for seed in [*([] if given else SEEDS), *range(first, first + runs)]:
        sys.stderr.write(f"seed {seed}\n")
        line = run_in_a_directory(draw(seed))
        total.add(line)
        _print(line)
    _print(total)
    return 0 if total.ok else 1


def _print(line: Line) -> None:
    sys.stdout.write(f"{json.dumps(asdict(line))}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
