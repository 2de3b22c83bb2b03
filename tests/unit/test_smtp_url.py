from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.dev_data import DataDir
from gateway.cli.dev_run import WhatToRun, run_dev
from gateway.cli.errors import CliError
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


def test_gateway_dev_refuses_another_address_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", "mail.example:25")
    with pytest.raises(CliError, match="SMTP_URL is not the address of an SMTP server"):
        run_dev(DataDir(tmp_path), WhatToRun(host="127.0.0.1", port=0, token="dev", with_redis=False, open_door=False))
    assert not list(tmp_path.iterdir())
