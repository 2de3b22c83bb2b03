"""The pages of e-mails, together (``gateway/pages.py``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.access import Scope
from gateway.feature import Platform
from gateway.pages import Action, Asked, Entry, FeaturePages, Page, Raw
from gateway.services.email.caught import Inbox
from gateway.services.email.pages import inbox as inbox_pages
from gateway.services.email.pages import listing
from gateway.services.email.pages import mail as mail_page
from gateway.services.email.pages.actions import NOTICES, MailActions
from gateway.services.email.pages.content import ContentPages
from gateway.services.email.pages.inbox import InboxPages
from gateway.services.email.pages.listing import PATH, ListPage
from gateway.services.email.pages.mail import MailPage
from gateway.services.email.pages.store import MailReader
from gateway.services.email.queue import EmailQueueService
from gateway.services.email.service import EmailService
from gateway.services.email.store import MailStore

PLACE: Final = "emails"
RAW_S: Final = 15.0  # tens of megabytes are read, encoded and sent
_MAIL: Final = f"{PATH}/{{mail_id:str}}"


def mail_pages(platform: Platform, inbox: Inbox | None) -> FeaturePages:
    """``inbox``: what a development mail server caught; None: there is none, and no pages of it."""
    store, reader = MailStore(platform.pool), MailReader(platform.pool)
    content = ContentPages(store, reader)
    mail = MailPage(store, reader, content)
    actions = MailActions(EmailService(platform), EmailQueueService(platform.pool, platform.engine))
    caught = InboxPages(inbox) if inbox is not None else None
    entry = Entry(place=PLACE, path=PATH, word="E-mails")
    return FeaturePages(
        package="gateway.services.email",
        entries=(entry, inbox_pages.ENTRY) if caught else (entry,),
        pages=(
            Page(path=PATH, place=PLACE, load=ListPage(reader).show, query=listing.QUERY),
            Page(path=_MAIL, place=PLACE, load=mail.show, query=mail_page.QUERY),
            _raw("body", content.body, ("images",)),
            _raw("source", content.source),
            _raw("attachments/{position:str}", content.attachment),
            *(caught.pages if caught else ()),
        ),
        actions=(
            Action(path=f"{_MAIL}/resend", act=actions.resend, access=Scope.ADMIN_OPERATE),
            Action(path=f"{_MAIL}/cancel", act=actions.cancel, access=Scope.ADMIN_OPERATE),
            Action(path=f"{_MAIL}/retry", act=actions.retry, access=Scope.ADMIN_OPERATE),
            *(caught.actions if caught else ()),
        ),
        notices=NOTICES | inbox_pages.NOTICES,
        about_job=mail.about_job,
        name_jobs=reader.names_of_jobs,
    )


def _raw(part: str, load: Callable[[Asked], Awaitable[Raw]], query: tuple[str, ...] = ()) -> Page:
    """A page that is made of all the bytes of a mail."""
    path = f"{_MAIL}/{part}"
    return Page(path=path, place=PLACE, load=load, query=query, content=True, within_s=RAW_S)
