"""What people type into the search box, as the parameters that the lists of jobs take. Pure."""

from __future__ import annotations

import re
from typing import Final

from gateway.masking import is_hidden
from gateway.web.queues_schemas import invalid

TEXT_MAX: Final = 500  # characters
QUALIFIERS: Final = {
    "to": "recipient",
    "recipient": "recipient",
    "tag": "tag",
    "error": "error",
    "group": "group",
    "state": "state",
    "status": "state",
    "queue": "queue",
    "from": "from",
    "until": "until",
}
_WORD: Final = re.compile(r'(?:(?P<name>[a-z]+):)?(?:"(?P<quoted>[^"]*)"|(?P<plain>\S+))')
# A bare one is whom somebody asks for; in quotes it is searched in errors.
_ADDRESS: Final = re.compile(r"[^\s@:<>\"]+@[^\s@:<>\"]+\.[^\s@:<>\".]+")


def parse_box(text: str, *, content: bool) -> dict[str, str]:
    """``to:ada@example.com error:"mailbox full" 0198c1`` as ``{"recipient": ..., "error": ..., "q": ...}``.

    Raises Problem 400 for a qualifier that is given twice, and for a look at what is masked (see ``is_hidden``).
    """
    if len(text) > TEXT_MAX:
        raise invalid("q", f"is longer than {TEXT_MAX} characters")
    found: dict[str, str] = {}
    rest: list[str] = []
    for match in _WORD.finditer(text):
        value = match["plain"] if match["quoted"] is None else match["quoted"]
        name = QUALIFIERS.get(match["name"] or "")
        if match["name"] is None and match["quoted"] is None and _ADDRESS.fullmatch(value):
            name = "recipient"
        if name is None:
            rest.append(value if match["name"] is None else f"{match['name']}:{value}")
        elif name in found:
            raise invalid("q", f"says {match['name'] or 'to'}: twice")
        else:
            found[name] = value
    if rest:
        found["q"] = " ".join(rest)
        if found["q"].startswith("args.") and is_hidden(found["q"][5:].partition(":")[0], content=content):
            raise invalid("q", "looks for a value that is masked")
    return found
