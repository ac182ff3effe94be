"""What `explain` and `clients` know: finding codes, error messages, clients.

Data and pure functions: text in, values out; nothing here opens a file or a connection.
"""

from __future__ import annotations

from qs_certs.knowledge.clients import CLIENTS, Client, OnSystem, find_client
from qs_certs.knowledge.findings import FINDINGS, FindingKind
from qs_certs.knowledge.guides import GUIDES, Guide
from qs_certs.knowledge.messages import MESSAGES, Message, fold, recognise
from qs_certs.results import Severity
from qs_certs.values import Value

__all__ = [
    "CLIENTS",
    "FINDINGS",
    "GUIDES",
    "MESSAGES",
    "Client",
    "Explanation",
    "FindingKind",
    "Guide",
    "Message",
    "OnSystem",
    "explain",
    "find_client",
    "find_code",
]


class Explanation(Value):
    """What a finding code or a pasted error message means.  Holds nothing of the pasted text.

    *causes* come likeliest first and are empty for a code.  *fix* and *fix_on_windows* hold
    literal commands; the latter is empty where they are the same.
    """

    code: str
    severity: Severity
    title: str
    meaning: str
    causes: tuple[str, ...]
    fix: tuple[str, ...]
    fix_on_windows: tuple[str, ...]


def explain(text: str) -> Explanation | None:
    """What *text* means: a finding code, or anything that holds a known error message.

    A code alone comes first, then a message, then a code that our own output names (`code: ...`,
    `[code]`).  None where nothing is known.
    """
    alone = _CODES.get(fold(text))
    if alone is not None:
        return _explanation(alone, ())
    message = recognise(text)
    if message is not None:
        return _explanation(message.code, message.causes)
    named = find_code(text)
    return None if named is None else _explanation(named, ())


def find_code(text: str) -> str | None:
    """The first finding code that *text* names as our own output does, or None."""
    for word in text[:_LONGEST_OUTPUT].split():
        code = word.strip("[]():")
        if code != word and code in FINDINGS:
            return code
    return None


def _explanation(code: str, causes: tuple[str, ...]) -> Explanation:
    kind = FINDINGS[code]
    return Explanation(
        code=code,
        severity=kind.severity,
        title=kind.title,
        meaning=kind.meaning,
        causes=causes,
        fix=kind.fix,
        fix_on_windows=kind.fix_on_windows,
    )


_CODES = {fold(code): code for code in FINDINGS}
_LONGEST_OUTPUT = 4096
