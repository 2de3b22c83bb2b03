from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.services.email.addresses import Address, parse_address, split_name


@pytest.mark.parametrize(
    ("text", "name", "addr"),
    [
        ("a@example.com", "", "a@example.com"),
        ("  a@example.com ", "", "a@example.com"),
        ("you@test.invalid", "", "you@test.invalid"),
        ("root@localhost", "", "root@localhost"),
        ("ops@mail.local", "", "ops@mail.local"),
        ("<a@example.com>", "", "a@example.com"),
        ("Ada Lovelace <ada@example.com>", "Ada Lovelace", "ada@example.com"),
        ('"Doe, Jane" <j@example.com>', "Doe, Jane", "j@example.com"),
        (r'"Jane \"JD\" Doe" <j@example.com>', 'Jane "JD" Doe', "j@example.com"),
        ("Jürgen Müller <j@example.com>", "Jürgen Müller", "j@example.com"),
        ("山田太郎 <y@example.com>", "山田太郎", "y@example.com"),
        ("info@bücher.example", "", "info@xn--bcher-kva.example"),
        ("o'brien+tag@example.com", "", "o'brien+tag@example.com"),
    ],
)
def test_reads_what_people_write(text: str, name: str, addr: str) -> None:
    address = parse_address(text)
    assert (address.name, address.addr) == (name, addr)
    assert address.addr.isascii()
    assert parse_address(address.header) == address


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("nobody", "has no @"),
        ("a@", "is not an address"),
        ("@example.com", "is not an address"),
        ("a b@example.com", "is not an address"),
        ("a@example", "should have a period"),
        ("a@example..com", "is not an address"),
        ("a@b.com, c@d.com", "several addresses"),
        ("jürgen@example.com", "SMTPUTF8"),
        ("a@example.com\r\nBcc: x@evil.example", "line break"),
        ("Eve\nBcc: x@evil.example <a@example.com>", "line break"),
        ("a@example.com\x00", "control character"),
        ("x" * 201 + " <a@example.com>", "at most 200"),
        ("a" * 65 + "@example.com", "is not an address"),
        ("Ada <ada@example.com> trailing", "is not an address"),
    ],
)
def test_refuses_with_a_sentence_that_names_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address(text)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=60))
def test_any_display_name_survives_its_header_form(name: str) -> None:
    address = Address(name.strip(), "a", "example.com")
    assert split_name(address.header) == (address.name, "a@example.com")
