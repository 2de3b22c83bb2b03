"""Names of channels."""

from __future__ import annotations

from uuid import UUID

import pytest

from gateway.realtime.channel import parse_channel

ID = UUID("0198c1d2-aaaa-7bbb-8ccc-0123456789ab")


@pytest.mark.parametrize("spelling", [str(ID), str(ID).upper(), ID.hex, ID.hex.upper(), ID.urn])
@pytest.mark.parametrize("topic", ["job", "conversation", "project"])
def test_each_spelling_of_an_id_is_the_channel_on_which_is_told(topic: str, spelling: str) -> None:
    assert str(parse_channel(f"{topic}:{spelling}")) == f"{topic}:{ID}"


@pytest.mark.parametrize("name", ["queue:email-queue", f"queue:{ID.hex}", "project:shop", "job:X"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert str(parse_channel(name)) == name
