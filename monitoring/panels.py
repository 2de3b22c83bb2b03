"""What the dashboard shows: one line of thought for each panel, its expressions and their unit.

``$queue`` and ``$namespace`` are the dashboard's variables; outside of Kubernetes there is no namespace, and its "All"
matches that too. Numbers of whole queues are the same in each replica: max. Counters are of one process: sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_IN: Final = 'namespace=~"$namespace"'
_QUEUE: Final = f'{_IN},queue=~"$queue"'
_RATE: Final = "$__rate_interval"
_ASKED: Final = f'{_IN},route!~"/metrics|/health.*|/api/health"'
_REQUEST_SECONDS: Final = f'gateway_http_request_duration_seconds_bucket{{{_ASKED},route!~".*/events.*"}}'
_UP: Final = f'up{{job="api-gateway",{_IN}}}'


@dataclass(frozen=True)
class Panel:
    """``queries``: expression and legend of each. ``unit``: Grafana's word. ``limit``: from there on a single number is
    red. ``width`` of 24 columns; ``signed``: may be below 0."""

    title: str
    meaning: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    single: bool = False
    limit: float | None = None
    stacked: bool = False
    signed: bool = False


def _single(title: str, meaning: str, unit: str, expr: str, limit: float | None = None) -> Panel:
    return Panel(title, meaning, unit, ((expr, ""),), width=4, single=True, limit=limit)


def _quantile(share: float, phase: str) -> str:
    buckets = f'rate(gateway_job_duration_seconds_bucket{{{_QUEUE},phase="{phase}"}}[{_RATE}])'
    return f"histogram_quantile({share}, sum by (queue, le) ({buckets}))"


GLANCE: Final = (
    _single("Replicas that answer", "Of those that Prometheus knows.", "short", f"sum({_UP})"),
    _single(
        "Waiting jobs",
        "Of all chosen queues: each queue once, whatever the number of replicas.",
        "short",
        f'sum(max by (namespace, queue) (gateway_queue_depth{{{_QUEUE},state="waiting"}}))',
    ),
    _single(
        "Oldest waiting job",
        "Age of the job that is ready longest. Above 5 minutes JobsWaitTooLong fires.",
        "s",
        f"max(gateway_queue_oldest_waiting_seconds{{{_QUEUE}}})",
        300,
    ),
    _single(
        "Attempts that fail",
        "Of the attempts of the last quarter of an hour.",
        "percentunit",
        f"sum(increase(gateway_job_failures_total{{{_QUEUE}}}[15m]))"
        f" / (sum(increase(gateway_job_attempts_total{{{_QUEUE}}}[15m])) > 0)",
        0.1,
    ),
    _single(
        "Requests that fail",
        "Answers 5xx of the last hour, probes and scrapes left out. 0.1 % is promised.",
        "percentunit",
        f"max(namespace:http_errors:ratio_rate1h{{{_IN}}})",
        0.001,
    ),
    _single(
        "Mails that start late",
        "Mails of the last hour that waited for more than 60 s. 1 % is promised.",
        "percentunit",
        f"max(namespace:email_late:ratio_rate1h{{{_IN}}})",
        0.01,
    ),
)

QUEUES: Final = (
    Panel(
        "Waiting jobs by queue",
        "The whole queue, as each replica reports it. Above 50 for 10 minutes HighQueueDepth fires.",
        "short",
        ((f'max by (queue) (gateway_queue_depth{{{_QUEUE},state="waiting"}})', "{{queue}}"),),
    ),
    Panel(
        "Age of the oldest waiting job",
        "How long the job that is ready longest has been waiting: what callers notice.",
        "s",
        (
            (f"max by (queue) (gateway_queue_oldest_waiting_seconds{{{_QUEUE}}})", "{{queue}}"),
            (f"max by (queue) (gateway_queue_startable_seconds{{{_QUEUE}}})", "{{queue}}: neither paused nor limited"),
        ),
    ),
    Panel(
        "Worker slots",
        "Of all replicas, and how many the queues can use now: more replicas than those need help nobody.",
        "short",
        (
            (f'sum(gateway_worker_slots{{{_QUEUE},state="busy"}})', "busy"),
            (f"sum(gateway_worker_slots{{{_QUEUE}}})", "all"),
            (f"sum(max by (namespace, queue) (queue_demand_slots{{{_QUEUE}}}))", "useful"),
        ),
    ),
    Panel(
        "Attempts and rate limit",
        "Attempts that ended per second, and the starts per second that the limit allows over all replicas.",
        "ops",
        (
            (f"sum by (queue) (rate(gateway_job_attempts_total{{{_QUEUE}}}[{_RATE}]))", "{{queue}}"),
            (f"max by (queue) (queue_rate_limit_per_second{{{_QUEUE}}})", "{{queue}} limit"),
        ),
    ),
    Panel(
        "Held back by the rate limit",
        "Waiting jobs that no further replica would start.",
        "short",
        ((f"max by (queue) (queue_rate_limited_jobs{{{_QUEUE}}})", "{{queue}}"),),
    ),
    Panel(
        "Paused queues",
        "1 while a queue is paused, by somebody or because the mail server asked for rest.",
        "short",
        ((f"max by (queue) (queue_paused{{{_QUEUE}}})", "{{queue}}"),),
    ),
)

JOBS: Final = (
    Panel(
        "Time of an attempt, 95 %",
        "From claimed to ended: 95 of 100 attempts took no longer.",
        "s",
        ((_quantile(0.95, "run"), "{{queue}}"),),
    ),
    Panel(
        "Wait for a worker, 95 %",
        "From ready to claimed, the rate limit's wait included: 95 of 100 attempts waited no longer.",
        "s",
        ((_quantile(0.95, "wait"), "{{queue}}"),),
    ),
    Panel(
        "Attempts by outcome",
        "Attempts that ended per second, by how.",
        "ops",
        ((f"sum by (outcome) (rate(gateway_jobs_total{{{_QUEUE}}}[{_RATE}]))", "{{outcome}}"),),
        stacked=True,
    ),
    Panel(
        "Failures by class",
        "Attempts that failed per second. timeout: cut at the queue's limit; stalled: its process vanished too often.",
        "ops",
        ((f"sum by (queue, class) (rate(gateway_job_failures_total{{{_QUEUE}}}[{_RATE}]))", "{{queue}} {{class}}"),),
    ),
    Panel(
        "Retries and jobs taken over",
        "Failed attempts that are followed by another, and jobs whose process vanished, per second.",
        "ops",
        (
            (f"sum by (queue) (rate(gateway_job_retries_total{{{_QUEUE}}}[{_RATE}]))", "{{queue}} retries"),
            (f"sum by (queue) (rate(gateway_job_stalled_total{{{_QUEUE}}}[{_RATE}]))", "{{queue}} taken over"),
        ),
    ),
    Panel(
        "Mails by outcome",
        "What mail servers answered, per second. Above 5 % rejected EmailBounceRateHigh fires.",
        "ops",
        ((f"sum by (outcome) (rate(gateway_emails_total{{{_IN}}}[{_RATE}]))", "{{outcome}}"),),
        stacked=True,
    ),
)

HTTP: Final = (
    Panel(
        "Requests by status",
        "Per second, probes and scrapes left out. none: the client left before the answer.",
        "reqps",
        ((f"sum by (status) (rate(gateway_http_requests_total{{{_ASKED}}}[{_RATE}]))", "{{status}}"),),
        stacked=True,
    ),
    Panel(
        "Time of a request, 95 %, slowest routes",
        "The five slowest routes; streams of events left out.",
        "s",
        (
            (
                f"topk(5, histogram_quantile(0.95, sum by (route, le) (rate({_REQUEST_SECONDS}[{_RATE}]))))",
                "{{route}}",
            ),
        ),
    ),
    Panel(
        "Event loop lag",
        "Longest delay of each replica's event loop in 15 s. Above a second for 5 s the replica is not ready.",
        "s",
        ((f"max by (instance) (gateway_event_loop_lag_seconds{{{_IN}}})", "{{instance}}"),),
    ),
)

REPLICAS: Final = (
    Panel(
        "Replicas",
        "Those that answer, those that the autoscaler wants, and the most that it may start (kube-state-metrics).",
        "short",
        (
            (f"sum({_UP})", "up"),
            (f"sum(kube_horizontalpodautoscaler_status_desired_replicas{{{_IN}}})", "wanted"),
            (f"sum(kube_horizontalpodautoscaler_spec_max_replicas{{{_IN}}})", "most"),
        ),
    ),
    Panel(
        "PostgreSQL and Redis",
        "1 while all replicas reach it. direct mode: 1 while any takes its jobs from PostgreSQL because Redis is away.",
        "short",
        (
            (f"min(gateway_postgres_up{{{_IN}}})", "PostgreSQL"),
            (f"min(gateway_redis_up{{{_IN}}})", "Redis"),
            (f"max(gateway_fallback_active{{{_IN}}})", "direct mode"),
        ),
    ),
    Panel(
        "Memory of Redis",
        "Of maxmemory, where that is set.",
        "percentunit",
        ((f"max(gateway_redis_memory_used_ratio{{{_IN}}})", "used"),),
    ),
    Panel(
        "Clock skew",
        "Each replica's clock against PostgreSQL's.",
        "s",
        ((f"max by (instance) (gateway_clock_skew_seconds{{{_IN}}})", "{{instance}}"),),
        signed=True,
    ),
    Panel(
        "Live connections",
        "Clients that listen, by kind.",
        "short",
        ((f"sum by (kind) (gateway_realtime_connections{{{_IN}}})", "{{kind}}"),),
    ),
    Panel(
        "Cost of models",
        "US cents per hour, by agent.",
        "short",
        ((f"sum by (agent) (rate(gateway_llm_cost_cents_total{{{_IN}}}[{_RATE}])) * 3600", "{{agent}}"),),
        stacked=True,
    ),
)

ROWS: Final = (
    ("At a glance", GLANCE),
    ("Queues", QUEUES),
    ("Jobs and mails", JOBS),
    ("HTTP", HTTP),
    ("Replicas and what they depend on", REPLICAS),
)
