from __future__ import annotations

import pytest

from gateway.services.email.smtp_url import smtp_at


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 587, None, None, "auto")),
        ("smtp://u%40x:p%2Fw@mail.example:25/", ("mail.example", 25, "u@x", "p/w", "auto")),
        ("smtps://u:p@mail.example", ("mail.example", 465, "u", "p", "tls")),
        ("smtp://[::1]:1025", ("::1", 1025, None, None, "auto")),
    ],
)
def test_an_address_says_host_port_login_and_tls(url: str, expected: tuple[object, ...]) -> None:
    found = smtp_at(url)
    assert (found.host, found.port, found.user, found.password, found.tls) == expected


NO_ADDRESSES = ["", "mail.example:25", "http://mail.example", "smtp://", "smtp://h:99999", "smtp://h/x", "smtp://[h"]


@pytest.mark.parametrize("url", [*NO_ADDRESSES, "smtp://user:hunter2@host:port"])
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="is not the address of an SMTP server") as refused:
        smtp_at(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_user_comes_with_a_password() -> None:
    with pytest.raises(ValueError, match="a user without a password"):
        smtp_at("smtp://u@mail.example")
