from __future__ import annotations

import email
import re
from datetime import UTC, datetime
from email import policy
from email.header import decode_header
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.services.email.addresses import Address, split_name
from gateway.services.email.headers import attachment_problem, text_problem
from gateway.services.email.message import (
    Attachment,
    Mail,
    build,
    header_problem,
    new_message_id,
    normalise_newlines,
)

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
DATE = datetime(2026, 11, 22, 10, 30, 5, tzinfo=UTC)


def mail(**changes: Any) -> Mail:
    fields: dict[str, Any] = {
        "message_id": new_message_id(ID, "shop.example"),
        "from_address": "Shop <no-reply@shop.example>",
        "to": ["ada@example.com"],
        "subject": "Hello",
        "date": DATE,
        "text": "It works",
    }
    return Mail(**{**fields, **changes})


def parse(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def defects(message: EmailMessage) -> list[object]:
    found: list[object] = []
    for part in message.walk():
        found += part.defects
        for value in part.values():
            found += value.defects
    return found


def body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    return None if part is None else part.get_content().replace("\r\n", "\n")


def assert_wire_form(raw: bytes) -> None:
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


# -- round trip -------------------------------------------------------------------------------------------------------

_readable = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=90)
_structured = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=120).filter(
    lambda value: header_problem("References", value) is None
)
_name = st.one_of(
    st.just(""),
    st.sampled_from(["Doe, Jane", 'The "Boss"', "=?utf-8?B?eA==?=", "Zoë Ü", "山田"]),
    _readable,
)
_address = _name.map(lambda name: Address(name.strip(), "someone", "example.com").header)
_body_text = st.one_of(
    st.none(),
    st.just(""),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=120),
    st.lists(
        st.sampled_from(
            [
                ".",
                "..",
                ". x",
                "x" * 2000,
                "é" * 700,
                "--=_mixed_",
                "tail ",
                "\t",
                "=20",
                "From me",
            ]
        )
    ).map("\n".join),
)
_filename = st.one_of(
    st.sampled_from(["a.pdf", "rés umé.pdf", 'q"uote.txt', "=?x?= .txt", "名" * 80]),
    _readable,
).filter(lambda name: name == name.strip() and attachment_problem(name, "a/b", None) is None)
_attachment = st.builds(
    Attachment,
    filename=_filename,
    content_type=st.sampled_from(["application/pdf", "text/csv; charset=utf-8", "image/png", "text/plain"]),
    content=st.binary(max_size=300),
    content_id=st.one_of(st.none(), st.sampled_from(["logo", "logo@x", "other"])),
)
_mails = st.builds(
    mail,
    from_address=_address,
    to=st.lists(_address, min_size=1, max_size=4),
    cc=st.lists(_address, max_size=3),
    reply_to=st.lists(_address, max_size=2),
    subject=st.one_of(
        _readable,
        st.sampled_from(["x" * 998, " spaced  out ", "a =?b?= c", "word " * 60]),
    ),
    text=_body_text,
    html=st.one_of(_body_text, st.just('<p>Hi <img src="cid:logo"></p>')),
    headers=st.fixed_dictionaries(
        {},
        optional={
            "X-Campaign": _readable.filter(lambda value: value.strip() != ""),
            "List-Unsubscribe": _structured,
            "References": _structured,
        },
    ),
    attachments=st.lists(_attachment, max_size=3),
)


def unfolded(message: EmailMessage, name: str) -> str:
    """A field's text after RFC 2047 with the older decoder: the newer one of Python 3.11 keeps the white space between
    adjacent encoded words of a display name."""
    raw = next(value for key, value in message.raw_items() if key == name)
    return "".join(
        chunk if isinstance(chunk, str) else chunk.decode(charset or "ascii")
        for chunk, charset in decode_header(re.sub(r"\r?\n", "", str(raw)))
    )


def names_and_addresses(message: EmailMessage, name: str) -> list[tuple[str, str]]:
    raw = next(value for key, value in message.raw_items() if key == name)
    pairs = getaddresses([re.sub(r"\r?\n", "", str(raw))])
    return [
        (
            "".join(c if isinstance(c, str) else c.decode(charset or "ascii") for c, charset in decode_header(display)),
            addr,
        )
        for display, addr in pairs
    ]


@settings(max_examples=120, deadline=None)
@given(_mails)
def test_what_was_built_parses_back(sent: Mail) -> None:
    raw = build(sent)
    assert_wire_form(raw)
    message = parse(raw)
    assert defects(message) == []
    assert message["message-id"] == sent.message_id
    assert message["date"].datetime == sent.date
    assert str(message["subject"]) == sent.subject
    for name, addresses in (
        ("To", sent.to),
        ("Cc", sent.cc),
        ("Reply-To", sent.reply_to),
        ("From", [sent.from_address]),
    ):
        if addresses:
            assert names_and_addresses(message, name) == [split_name(each) for each in addresses]
    for name, value in sent.headers.items():
        assert str(message[name]) == value
    if sent.text is not None:
        assert body(message, "plain") == normalise_newlines(sent.text)
    if sent.html is not None:
        assert body(message, "html") == normalise_newlines(sent.html)
    files = [part for part in message.walk() if part.get_content_disposition() is not None]
    assert sorted((part.get_filename(), part.get_payload(decode=True)) for part in files) == sorted(
        (each.filename, each.content) for each in sent.attachments
    )
    assert build(sent) == raw


# -- structure --------------------------------------------------------------------------------------------------------


def types(message: EmailMessage) -> Any:
    if message.is_multipart():
        return (
            message.get_content_type(),
            [types(part) for part in message.iter_parts()],
        )
    return message.get_content_type()


IMAGE = Attachment(
    filename="logo.png",
    content_type="image/png",
    content=b"\x89PNG\r\n",
    content_id="logo@shop",
)
FILE = Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF")
PAGE = '<img src="cid:logo@shop">'


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "text/plain"),
        ({"text": None, "html": "<p>x"}, "text/html"),
        ({"text": None}, "text/plain"),
        ({"html": "<p>x"}, ("multipart/alternative", ["text/plain", "text/html"])),
        (
            {"html": PAGE, "attachments": [IMAGE]},
            (
                "multipart/alternative",
                ["text/plain", ("multipart/related", ["text/html", "image/png"])],
            ),
        ),
        (
            {"html": "<p>no picture", "attachments": [IMAGE], "text": None},
            ("multipart/mixed", ["text/html", "image/png"]),
        ),
        (
            {"text": None, "html": PAGE, "attachments": [FILE, IMAGE]},
            (
                "multipart/mixed",
                [("multipart/related", ["text/html", "image/png"]), "application/pdf"],
            ),
        ),
        (
            {"attachments": [FILE]},
            ("multipart/mixed", ["text/plain", "application/pdf"]),
        ),
        (
            {"text": None, "attachments": [FILE]},
            ("multipart/mixed", ["application/pdf"]),
        ),
    ],
)
def test_parts_are_nested_as_readers_expect(changes: dict[str, Any], expected: Any) -> None:
    message = parse(build(mail(**changes)))
    assert types(message) == expected
    assert defects(message) == []


def test_a_message_inside_a_message_is_sent_as_bytes_because_it_may_not_be_base64() -> None:
    inner = Attachment(
        filename="old.eml",
        content_type="message/rfc822",
        content=b"Subject: x\n\nbare lines\n",
    )
    message = parse(build(mail(attachments=[inner])))
    part = next(iter(message.iter_attachments()))
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == inner.content


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain words\n.\n.dots\n", "7bit"),
        ("x" * 77, "quoted-printable"),
        ("trailing \nblank", "quoted-printable"),
        ("Grüße aus der langen deutschen Vorlage", "quoted-printable"),
        ("山田太郎様", "base64"),
        ("bell \x07", "quoted-printable"),
    ],
)
def test_body_encoding_is_the_smallest_that_survives(text: str, encoding: str) -> None:
    raw = build(mail(text=text))
    message = parse(raw)
    assert message["content-transfer-encoding"] == encoding
    assert body(message, "plain") == text + ("" if text.endswith("\n") else "\n")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 78


def test_long_headers_fold_within_78() -> None:
    raw = build(
        mail(
            subject="Ihre Rechnung für November über die bestellten Bücher und Zeitschriften " * 3,
            to=[f"Jürgen Müller-Lüdenscheidt {n} <juergen{n}@example.com>" for n in range(50)],
            cc=[f"plain{n}@example.com" for n in range(50)],
            headers={"X-Note": "many words " * 50},
        )
    )
    head = raw.partition(b"\r\n\r\n")[0]
    assert max(len(line) for line in head.split(b"\r\n")) <= 78
    assert len(parse(raw)["to"].addresses) == 50


def test_the_same_mail_gives_the_same_bytes_and_another_id_another_boundary() -> None:
    one = build(mail(html="<p>x"))
    assert one == build(mail(html="<p>x"))
    other = build(mail(html="<p>x", message_id="<other@shop.example>"))
    assert parse(one).get_boundary() != parse(other).get_boundary()


def test_blind_copies_have_no_place_in_a_mail() -> None:
    assert not any("bcc" in field for field in Mail.__struct_fields__)


# -- what is refused --------------------------------------------------------------------------------------------------

INJECTION = "x\r\nBcc: evil@example.net"


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": INJECTION},
        {"from_address": f"{INJECTION} <a@example.com>"},
        {"to": [INJECTION]},
        {"cc": ["a@example.com\nX: y"]},
        {"reply_to": ["a@example.com\r"]},
        {"message_id": "<a@b>\r\nX: y"},
        {"headers": {"X-A": INJECTION}},
        {"headers": {"X-A\r\nBcc": "x"}},
        {"headers": {"Bcc": "evil@example.net"}},
        {"attachments": [Attachment(filename=INJECTION, content_type="a/b", content=b"")]},
        {"attachments": [Attachment(filename="a", content_type=f"a/b; {INJECTION}", content=b"")]},
        {"attachments": [Attachment(filename="a", content_type="a/b", content=b"", content_id=INJECTION)]},
        {"date": DATE.replace(tzinfo=None)},
    ],
)
def test_nothing_injects_a_header(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"line break|not valid|not a|written by|time zone"):
        build(mail(**changes))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("X-Campaign", "spring", None),
        ("List-Unsubscribe", "<https://shop.example/u/1>", None),
        ("In-Reply-To", "<a@b.example>", None),
        ("X-Größe", "1", "not valid"),
        ("X Space", "1", "not valid"),
        ("X:Y", "1", "not valid"),
        ("", "1", "not valid"),
        ("X" * 77, "1", "not valid"),
        ("Reply-To", "a@b.example", "'replyTo'"),
        ("BCC", "a@b.example", "'bcc'"),
        ("content-type", "text/html", "written by"),
        ("Received", "from x", "written by"),
        ("Resent-To", "a@b.example", "written by"),
        ("DKIM-Signature", "v=1", "written by"),
        ("Return-Path", "<>", "written by"),
        ("References", "<a@b.example> ", None),
        ("References", "<ü@b.example>", "plain ASCII"),
        ("in-reply-to", "=?utf-8?B?PGFAYj4=?=", "plain ASCII"),
        ("List-Unsubscribe", "<https://shop.example/u?a==?>", None),
        ("List-Unsubscribe-Post", "Größe", "plain ASCII"),
        ("Auto-Submitted", "auto\u00a0generated", "plain ASCII"),
        ("X-A", "a\nb", "line break"),
        ("X-A", "a\x00b", "control character"),
        ("X-A", "  ", "empty"),
        ("X-A", "y" * 998, "too long"),
    ],
)
def test_custom_headers(name: str, value: str, words: str | None) -> None:
    problem = header_problem(name, value)
    assert problem is None if words is None else words in (problem or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("References", " <a@b.example> "),
        ("References", " ".join(f"<{number:040}@mail.shop.example>" for number in range(12))),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click "),
        ("List-Unsubscribe", f"<https://shop.example/u?a==?{'x' * 300}>"),
    ],
)
def test_structured_headers_are_never_encoded(name: str, value: str) -> None:
    raw = build(mail(headers={name: value}))
    assert_wire_form(raw)
    assert b"=?utf-8?" not in raw
    assert str(parse(raw)[name]) == value.strip()


def test_names_of_attachments_and_text_fields() -> None:
    assert attachment_problem("résumé.pdf", "application/pdf", None) is None
    assert "slash" in (attachment_problem("../../etc/passwd", "text/plain", None) or "")
    assert "media type" in (attachment_problem("a", "pdf", None) or "")
    assert "contentId" in (attachment_problem("a", "a/b", "<x>") or "")
    assert text_problem("subject", "fine") is None
    assert text_problem("subject", "a\rb") == "subject contains a line break or NUL character; remove it"
