"""Words of a model on their way to whoever watches."""

from __future__ import annotations

from gateway.realtime.words import PARTIAL_MAX, PIECE_MAX, Words
from tests.support.eventually import eventually


async def test_tokens_of_a_moment_are_one_message() -> None:
    told: list[str] = []
    words = Words(told.append)
    for token in ("It ", "works", "."):
        words(token)
    assert told == []
    await eventually(lambda: told == ["It works."])


async def test_a_long_text_is_told_in_pieces_that_a_channel_takes() -> None:
    told: list[str] = []
    words = Words(told.append)
    text = "\x01" * (2 * PIECE_MAX + 1)
    words(text)
    words.flush()
    assert [len(piece) for piece in told] == [PIECE_MAX, PIECE_MAX, 1]
    assert "".join(told) == text


async def test_what_nobody_shall_see_is_only_kept() -> None:
    words = Words(None)
    words("x" * (PARTIAL_MAX + 1))
    words.flush()
    assert words.text == "x" * PARTIAL_MAX
