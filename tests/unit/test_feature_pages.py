"""What a feature may declare, and the names that its files are saved under."""

from __future__ import annotations

import pytest

from gateway.access import Scope
from gateway.pages import Action, Asked, Done, Page, Raw
from gateway.web.dashboard.look import file_name


async def load(asked: Asked) -> Raw:
    return Raw(content=b"", media_type="text/plain")


async def act(asked: Asked) -> Done:
    return Done(path="/x", notice="x", change=None)


@pytest.mark.parametrize("access", sorted(set(Scope) - {Scope.ADMIN_READ, Scope.ADMIN_OPERATE, Scope.ADMIN_WRITE}))
def test_a_page_for_others_than_administrators_cannot_be_declared(access: Scope) -> None:
    with pytest.raises(ValueError, match="/x: access must be one of admin:operate, admin:read, admin:write"):
        Page(path="/x", place="x", load=load, access=access)


@pytest.mark.parametrize("access", sorted(set(Scope) - {Scope.ADMIN_OPERATE, Scope.ADMIN_WRITE}))
def test_a_change_by_viewers_cannot_be_declared(access: Scope) -> None:
    with pytest.raises(ValueError, match="/x: access must be one of admin:operate, admin:write"):
        Action(path="/x", act=act, access=access)


def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="does not begin with a slash"):
        Page(path="x", place="x", load=load)


def test_bytes_may_do_nothing_unless_they_say_so() -> None:
    raw = Raw(content=b"", media_type="text/html")
    assert raw.policy == "sandbox; default-src 'none'; frame-ancestors 'none'"
    assert not raw.framed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("receipt.pdf", "receipt.pdf"),
        ("../a/b", "_a_b"),
        ("a\x00b\r\nc", "a_b__c"),
        ("x\u202efdp.exe", "x_fdp.exe"),
        (" . ", "file"),
        ("", "file"),
        ("a" * 200 + ".pdf", "a" * 146 + ".pdf"),
        ("C:\\x|y?.txt", "C__x_y_.txt"),
    ],
)
def test_names_of_files_are_safe_to_save_under(given: str, expected: str) -> None:
    assert file_name(given) == expected
