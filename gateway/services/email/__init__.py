"""E-mails: accept, queue, send by SMTP, and tell what became of them."""

from __future__ import annotations

from typing import Any

from litestar import Router
from litestar.di import Provide

from gateway.feature import Feature, OwnRouter, Platform
from gateway.infra.lifecycle import Component
from gateway.jobs.maintenance import Chore
from gateway.jobs.registry import Task
from gateway.realtime.channel import Topic
from gateway.services.email.admin_routes import AdminEmailQueueController
from gateway.services.email.attempts import Attempts
from gateway.services.email.caught import Inbox
from gateway.services.email.channels import MailChannels
from gateway.services.email.machine_routes import EmailMachineController
from gateway.services.email.pages import mail_pages
from gateway.services.email.queue import RECONCILE_S, EmailQueueService, email_policy
from gateway.services.email.requests import MailRequests
from gateway.services.email.retention import mail_duties
from gateway.services.email.routes import EmailsController
from gateway.services.email.service import EmailService
from gateway.services.email.smtp import SmtpPool, SmtpSettings
from gateway.services.email.store import MailStore
from gateway.services.email.tasks import CountEmail, EmailSender
from gateway.settings import Settings

_ATTEMPT_MARGIN_S = 15.0  # of an attempt's time limit, for what comes before and after the message


def smtp_settings(settings: Settings, host: str) -> SmtpSettings:
    return SmtpSettings(
        host=host,
        port=settings.smtp_port,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        tls=settings.smtp_secure,
        ca_file=str(settings.smtp_ca_bundle) if settings.smtp_ca_bundle else None,
        command_timeout_s=settings.smtp_timeout_s,
        # The answer to a whole message may take minutes (RFC 5321, 4.5.3.2.6), but it must be heard inside the attempt.
        data_timeout_s=max(settings.smtp_timeout_s, settings.email_timeout_ms / 1000 - _ATTEMPT_MARGIN_S),
        max_connections=settings.smtp_pool_size,
        max_mails_per_connection=settings.smtp_max_messages,
        max_age_s=float(settings.smtp_max_age_s),
    )


def feature(
    platform: Platform,
    *,
    transport: SmtpPool | None = None,
    count: CountEmail | None = None,
    inbox: Inbox | None = None,
) -> Feature:
    """``transport`` replaces the pool that the settings describe. Without both such a process only accepts mails;
    others send them. ``count`` is called for each attempt (see ``CountEmail``); ``inbox``: what a development mail
    server caught."""
    settings = platform.settings
    if transport is None and settings.smtp_host is not None:
        transport = SmtpPool(smtp_settings(settings, settings.smtp_host))
    platform.inspector.search.learn("recipient", MailStore(platform.pool).jobs_of_recipient)
    tasks: tuple[Task[Any], ...] = (MailRequests(EmailService(platform)).task(),)
    components: tuple[Component, ...] = ()
    if transport is not None:
        tasks += (EmailSender(Attempts(platform.pool, transport.name), transport, count or _not_counted).task(),)
        components = (transport,)
    return Feature(
        name="email",
        queues=(email_policy(settings),),
        tasks=tasks,
        routes=(routes(platform),),
        components=components,
        channels={Topic.JOB: MailChannels(platform.pool).may_listen},
        tells_job_ends=True,
        pages=mail_pages(platform, inbox),
        chores=(
            Chore("reconcile e-mails", RECONCILE_S, EmailQueueService(platform.pool, platform.engine).reconcile),
            *mail_duties(platform.pool, settings),
        ),
    )


def routes(platform: Platform) -> Router:
    mails = EmailService(platform)
    queue = EmailQueueService(platform.pool, platform.engine)
    return OwnRouter(
        path="/",
        route_handlers=[EmailsController, AdminEmailQueueController, EmailMachineController],
        dependencies={
            "mails": Provide(lambda: mails, sync_to_thread=False),
            "queue": Provide(lambda: queue, sync_to_thread=False),
        },
    )


def _not_counted(_transport: str, _outcome: str) -> None:
    return None
