"""Results as text, JSON, nagios and intune output: the only place with wording for results.

Every function is pure: it is told whether it may use colour and other marks than ASCII.  Text that
came from outside (certificate names, paths, a server's words) passes `visible` on its way out.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from qs_certs import catalogue
from qs_certs.errors import Bug, ChangedUnconfirmed, CouldNotTell, Interrupted, QsCertsError
from qs_certs.results import (
    AccountReport,
    AccountsReport,
    ChangeReport,
    CheckReport,
    ClientEntry,
    ClientsReport,
    Explained,
    Failure,
    Finding,
    HistoryReport,
    Impact,
    ListReport,
    ModeOutcome,
    RootsReport,
    ServerReport,
    TargetResult,
    spans,
)
from qs_certs.values import Value, replace

Result = (
    AccountsReport
    | ChangeReport
    | CheckReport
    | ClientsReport
    | Explained
    | HistoryReport
    | ListReport
    | RootsReport
    | Failure
)

SCHEMA = 1
"""Raised when a key is removed or changes its type; keys may be added freely."""


class Style(Value):
    """What the output may use."""

    colour: bool = False
    unicode: bool = False
    width: int | None = None
    """Columns of a terminal; elsewhere a message is one line, however long."""

    def mark(self, severity: str) -> str:
        plain, fancy, colour = {
            "ok": ("ok", "✓", "32"),
            "warning": ("!", "!", "33"),
            "error": ("x", "✗", "31"),
        }[severity]
        text = fancy if self.unicode else plain
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text

    def changed(self, line: str) -> str:
        """A line of a diff: green where it comes, red where it goes."""
        code = {"+": "32", "-": "31"}.get(line[:1])
        return f"\x1b[{code}m{line}\x1b[0m" if self.colour and code else line

    def strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text


def visible(text: str) -> str:
    r"""*text* with every character that a terminal could obey or hide written as \uXXXX.

    A certificate's name or a file's name may hold escape sequences, bidirectional overrides or
    zero-width characters.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    from unicodedata import category

    if category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        code = ord(character)
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return character


def folded(text: str, width: int | None, indent: str = "") -> list[str]:
    """*text* in lines of *width* columns, broken between words only; whole where that is None."""
    if width is None or len(text) <= width:
        return [text]
    import textwrap

    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def time(moment: datetime) -> str:
    """A moment as JSON has it: ISO 8601 in UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(moment: datetime | None) -> str:
    return "?" if moment is None else moment.strftime("%Y-%m-%d")


def colons(sha256: str) -> str:
    """A fingerprint as openssl prints it."""
    return ":".join(sha256[i : i + 2] for i in range(0, len(sha256), 2)).upper()


# --- JSON ---------------------------------------------------------------------------------------


def as_json(result: Result) -> str:
    """One document.  ASCII only, so that nothing in it can act on a terminal."""
    import json

    return json.dumps(document(result), indent=2, ensure_ascii=True)


def document(result: Result) -> dict[str, object]:
    """The public shape of *result*; its JSON Schema is in `schemas/`."""
    body: dict[str, object]
    match result:
        case AccountsReport():
            return _accounts_document(result)
        case ChangeReport():
            body = {
                "status": result.status,
                "targets": [_target(target) for target in result.targets],
                "findings": [_finding(each) for each in result.findings],
                "impact": None
                if result.impact is None
                else [_fields(each) for each in result.impact],
                "undo": result.undo,
            }
            command: str = result.command
        case CheckReport():
            command = "check"
            body = {
                "status": result.status,
                "root_file": _fields(result.root_file),
                "roots": [_fields(root) for root in result.roots],
                "servers": [_fields(server) for server in result.servers],
                "findings": [_finding(each) for each in result.findings],
                "accounts": None,
            }
        case HistoryReport():
            command = "history"
            body = {
                "status": result.status,
                "target": result.target,
                "changes": [_fields(change) for change in result.changes],
                "earlier": result.earlier,
                "diff": result.diff,
                "dropped": [_fields(change) for change in result.dropped],
                "freed": result.freed,
                "aside": result.aside,
                "findings": [_finding(each) for each in result.findings],
                "accounts": None,
            }
        case ListReport():
            command = "list"
            body = {
                "status": "ok",
                "target": result.target,
                "exists": result.exists,
                "certificates": [_fields(each) for each in result.certificates],
                "findings": [_finding(each) for each in result.findings],
                "accounts": None,
            }
        case RootsReport():
            command = "roots"
            body = {
                "status": "ok",
                "roots": [_fields(each) for each in result.roots],
                "pem": result.pem,
                "findings": [],
            }
        case ClientsReport():
            command = "clients"
            body = {
                "status": "ok",
                "system": result.system,
                "clients": [_fields(each) for each in result.clients],
                "findings": [],
            }
        case Explained():
            command = "explain"
            body = {
                "status": "ok",
                "code": result.code,
                "severity": result.severity,
                "title": result.title,
                "meaning": result.meaning,
                "causes": list(result.causes),
                "fix": list(result.fix),
                "findings": [],
            }
        case Failure():
            command = result.command
            body = {
                "status": result.status,
                "error": _error(result.error),
                "findings": [_finding(each) for each in result.findings],
            }
    return {
        "schema": SCHEMA,
        "command": command,
        "exit_code": int(result.exit_code),
        **body,
    }


def _accounts_document(result: AccountsReport) -> dict[str, object]:
    """The document of the account that decides, and in `accounts` those of all."""
    whole = document(result.worst)
    own = whole["findings"]
    assert isinstance(own, list)  # noqa: S101 - for the type checker
    return {
        **whole,
        "findings": [*own, *(_finding(each) for each in result.findings)],
        "accounts": [{"user": each.user, **document(each.report)} for each in result.accounts],
    }


def _fields(value: Value) -> dict[str, object]:
    """A frozen value's fields by name; times as text."""
    return {name: _plain(each) for name, each in vars(value).items()}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Value):
        return _fields(value)
    return value


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "fix": list(finding.commands),
        "advice": list(finding.advice),
    }


def _error(error: QsCertsError) -> dict[str, object]:
    return {
        "code": error.code,
        "message": error.message,
        "why": error.why,
        "fix": list(error.fix),
    }


def _target(target: TargetResult) -> dict[str, object]:
    return {
        **_fields(target),
        "error": None if target.error is None else _error(target.error),
    }


# --- text ---------------------------------------------------------------------------------------


def as_text(result: Result, style: Style) -> str:
    """The answer, for standard output; empty where a command only failed."""
    match result:
        case AccountsReport():
            lines = _accounts_lines(result, style)
        case ChangeReport() if result.accounts:
            lines = _fleet_lines(result, style)
        case ChangeReport():
            lines = _change_lines(result, style)
        case CheckReport():
            lines = _check_lines(result, style)
        case HistoryReport():
            lines = [*_history_lines(result, style), *_good_news(result.findings, style)]
        case ListReport():
            lines = [*_list_lines(result, style), *_good_news(result.findings, style)]
        case RootsReport():
            lines = _roots_lines(result, style)
        case ClientsReport():
            lines = _clients_lines(result)
        case Explained():
            lines = _explained_lines(result, style)
        case Failure():
            lines = []
    return "\n".join(lines)


def talk(result: Result, width: int | None = None) -> tuple[str, ...]:
    """What goes to standard error beside the answer: warnings, errors and hints.

    Hints are not folded to *width*: they hold commands, to be copied in one piece.
    """
    lines = _talk_lines(result)
    return tuple(
        part
        for line in lines
        for part in folded(line, None if line.startswith(_HINT) else width, "  ")
    )


_HINT = "qs-certs: hint: "


def _talk_lines(result: Result) -> list[str]:
    lines: list[str] = []
    if isinstance(result, Failure):
        lines += _error_lines(result.error)
    if isinstance(result, ChangeReport):
        errors = [target.error for target in result.targets if target.error is not None]
        if not result.accounts:
            for error in errors:
                lines += _error_lines(error)
        elif errors:  # each is told at the end of the answer, with what to do
            users = _users(len(result.targets))
            lines.append(f"qs-certs: error: failed for {len(errors)} of {users}")
    if isinstance(result, ChangeReport | HistoryReport | ListReport | Failure):
        lines += _warnings(result.findings)
    if isinstance(result, AccountsReport):
        failed = [each for each in result.accounts if isinstance(each.report, Failure)]
        if failed:  # each is told in the answer, with what to do
            users = _users(len(result.accounts))
            lines.append(f"qs-certs: error: failed for {len(failed)} of {users}")
        for each in result.accounts:
            if isinstance(each.report, ListReport | HistoryReport):
                lines += _warnings(each.report.findings, f"user {each.user}: ")
    return lines


def _warnings(findings: Iterable[Finding], whose: str = "") -> list[str]:
    lines: list[str] = []
    for finding in findings:
        if finding.severity != "ok":
            lines.append(
                f"qs-certs: {finding.severity}: {visible(whose)}{visible(finding.message)}"
            )
            lines += [f"{_HINT}{visible(fix)}" for fix in finding.fix]
    return lines


def _good_news(findings: Iterable[Finding], style: Style) -> list[str]:
    return [
        line
        for finding in findings
        if finding.severity == "ok"
        for line in _marked("ok", visible(finding.message), style)
    ]


def _error_lines(error: QsCertsError) -> list[str]:
    return [
        f"qs-certs: error: {_what_and_why(error)}",
        *(f"{_HINT}{visible(fix)}" for fix in error.fix),
    ]


def _what_and_why(error: QsCertsError) -> str:
    why = f": {error.why}" if error.why else ""
    return visible(error.message + why)


def _marked(severity: str, text: str, style: Style) -> list[str]:
    """*text* behind its mark; where it is folded, the lines stand below one another."""
    mark = Style(unicode=style.unicode).mark(severity)
    first, *rest = folded(f"{mark} {text}", style.width, " " * (len(mark) + 1))
    return [first.replace(mark, style.mark(severity), 1), *rest]


_SOURCES = {
    "download": "downloaded, fingerprint verified",
    "embedded": "the copy that comes with qs-certs",
    "file": "the given file, fingerprint verified",
}


def _change_lines(report: ChangeReport, style: Style) -> list[str]:
    lines: list[str] = []
    for target in report.targets:
        lines += _target_lines(target, style)
    lines += _good_news(report.findings, style)
    if report.impact is not None:
        lines += _impact_lines(report.impact, style)
    return lines


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{count} users"


def _fleet_lines(report: ChangeReport, style: Style) -> list[str]:
    """A line for each user, then a summary; the failures last, each with what to do."""
    lines: list[str] = []
    failed: list[str] = []
    waiting = 0
    for target in report.targets:
        if isinstance(target.error, Interrupted):
            waiting += 1
        elif target.error is not None:
            whole = replace(style, width=None)
            first, *rest = _target_lines(target, whole)
            failed += [f"{first}: {_what_and_why(target.error)}", *rest]
            failed += [f"    fix   {visible(fix)}" for fix in target.error.fix]
        else:
            alone = replace(target, source=None, undo=None)
            lines += _target_lines(alone, style)
    states = [target.status for target in report.targets]
    counts = {state: states.count(state) for state in ("changed", "would-change", "unchanged")}
    counts["failed"] = states.count("failed") - waiting
    counts["not done, interrupted"] = waiting
    told = ", ".join(
        f"{count} {'would change' if state == 'would-change' else state}"
        for state, count in counts.items()
        if count
    )
    sources = dict.fromkeys(target.source for target in report.targets if target.source is not None)
    return [
        *lines,
        *_good_news(report.findings, style),
        *([told] if told else []),
        *(f"  source  {_SOURCES[source]}" for source in sources),
        *([f"  undo    {visible(report.undo)}"] if report.undo is not None else []),
        *failed,
    ]


def _accounts_lines(report: AccountsReport, style: Style) -> list[str]:
    lines: list[str] = []
    if len(report.accounts) == 1 or report.command != "check":
        for each in report.accounts:
            if isinstance(each.report, Failure):
                lines += _account_lines(each, style)
            else:
                lines.append(style.strong(f"user {visible(each.user)}"))
                lines += as_text(each.report, style).splitlines()
        return [*lines, *_good_news(report.findings, style)]
    good = [each for each in report.accounts if each.report.status == "ok"]
    bad = [each for each in report.accounts if each.report.status != "ok"]
    for each in good:
        lines += _account_lines(each, style)
    lines += _good_news(report.findings, style)
    lines.append(_count_of_states(report))
    for each in bad:
        lines += _account_lines(each, style)
    return lines


def _account_lines(account: AccountReport, style: Style) -> list[str]:
    """One line where all is well; otherwise one for each thing that is not, with what to do."""
    name = visible(account.user)
    report = account.report
    if isinstance(report, Failure):
        error = report.error
        return [
            f"{style.mark('error')} {name}: {_what_and_why(error)}",
            *(f"    fix   {visible(fix)}" for fix in error.fix),
        ]
    bad = [each for each in report.findings if each.severity != "ok"]
    bad.sort(key=lambda each: _ORDER.index(each.severity))
    if not bad:
        said = "; ".join(visible(each.message) for each in report.findings) or "healthy"
        return [f"{style.mark('ok')} {name}: {said}"]
    lines: list[str] = []
    for each in bad:
        text = f"{visible(each.message)}  [{each.code}]"
        lines.append(f"{style.mark(each.severity)} {name}: {text}")
        lines += [f"    fix   {visible(fix)}" for fix in each.fix[:1]]
    return lines


def _count_of_states(report: AccountsReport) -> str:
    states = [each.report.status for each in report.accounts]
    counted = {state: states.count(state) for state in dict.fromkeys(states)}
    words = {"action-needed": "need action", "unknown": "could not be told"}
    order = ("ok", "action-needed", "unknown", "failed")
    return ", ".join(
        f"{counted[state]} {words.get(state, state)}" for state in order if state in counted
    )


def _target_lines(target: TargetResult, style: Style) -> list[str]:
    path = visible(target.path)
    whose = f" (user {visible(target.user)})" if target.user else ""
    if target.status == "failed":
        drift = _diff_lines(target.diff, style)
        return [*_marked("error", f"{path}{whose}: {_left(target.error)}", style), *drift]
    if target.status == "unchanged":
        why = (
            f": {', '.join(target.present)} is there, and the file loads" if target.present else ""
        )
        return _marked("ok", f"{path}{whose}: nothing to do{visible(why)}", style)
    what = [
        *(f"added {visible(name)}" for name in target.added),
        *(f"removed {visible(name)}" for name in target.removed),
        *(f"mended: {visible(mend)}" for mend in target.repaired),
    ] or ["brought back its earlier content"]
    if target.status == "would-change":
        return [
            *_marked("warning", f"{path}{whose} would change: {'; '.join(what)}", style),
            *_diff_lines(target.diff, style),
        ]
    lines = _marked("ok", f"{path}{whose}: {'; '.join(what)}", style)
    if target.source is not None:
        lines.append(f"  source  {_SOURCES[target.source]}")
    if target.undo is not None:
        lines.append(f"  undo    {visible(target.undo)}   (this is change {target.change_id})")
    return lines


def _left(error: QsCertsError | None) -> str:
    """How a failure leaves the file.  It is whole, whatever happened."""
    if isinstance(error, ChangedUnconfirmed):
        return "changed, but not confirmed"
    if isinstance(error, CouldNotTell | Bug):
        return "changed or not: nobody can tell yet"
    return "not changed"


_WHOLE_BLOCK = (
    r"(?m)^(?P<sign>[-+ ])-----BEGIN CERTIFICATE-----\n"
    r"(?P<body>(?:(?P=sign)[A-Za-z0-9+/=]+\n)+)"
    r"(?P=sign)-----END CERTIFICATE-----$"
)


def _diff_lines(diff: str, style: Style) -> list[str]:
    """A unified diff, to be kept or applied; on a terminal a whole certificate is one line of it,
    since nobody reads base64."""
    if style.width is not None:
        diff = re.sub(_WHOLE_BLOCK, _certificate_of_a_diff, diff)
    return [style.changed(visible(line)) for line in diff.splitlines()]


def _certificate_of_a_diff(block: re.Match[str]) -> str:
    sign = block["sign"]
    try:
        der = binascii.a2b_base64(block["body"].replace(f"\n{sign}", "\n")[1:])
    except binascii.Error:
        return block[0]
    sha256 = hashlib.sha256(der).hexdigest()
    name = catalogue.name_of(sha256)
    return f"{sign}certificate {name or ''}{' ' if name else ''}(sha256 {colons(sha256)[:23]}...)"


def _impact_lines(impact: Iterable[Impact], style: Style) -> list[str]:
    lines = ["", style.strong("Other servers of this user:")]
    rows = tuple(impact)
    if not rows:
        return [*lines, "  none found in the service files, .pgpass and the environment"]
    for each in rows:
        worse = each.after in ("fails", "plaintext") and each.after != each.before
        mark = style.mark("warning" if worse else "ok")
        change = f"{_outcome(each.before, each.verified_before)} -> {_outcome(each.after, each.verified_after)}"
        where = f"{visible(each.host)}:{each.port} sslmode={each.effective_sslmode}"
        lines.append(f"  {mark} {where}: {change}   [{visible(each.origin)}]")
        if each.note:
            lines.append(f"      {visible(each.note)}")
        lines += [f"      fix  {visible(fix)}" for fix in each.fix]
    return lines


def _outcome(outcome: str | None, verified: bool) -> str:
    if outcome is None:
        return "could not tell"
    return "encrypted and verified" if outcome == "encrypted" and verified else outcome


def _history_lines(report: HistoryReport, style: Style) -> list[str]:
    if report.diff is not None:
        return _diff_lines(report.diff, style) or ["(no difference)"]
    if report.status != "ok":
        return _upkeep_lines(report)
    if not report.changes:
        return [f"qs-certs has not changed {visible(report.target)}"]
    lines = [visible(report.target)]
    if report.earlier:
        lines.append(f"      {report.earlier} earlier; to see all: qs-certs history --limit 0")
    for change in report.changes:
        what = [*(f"+{name}" for name in change.added), *(f"-{name}" for name in change.removed)]
        state = "removed the file" if change.after is None else ""
        state = "made the file" if change.before is None else state
        parts = " ".join(visible(part) for part in (*what, f"({state})" if state else "") if part)
        lines.append(f"{change.id:>4}  {time(change.at)}  {change.command:<8}  {parts}".rstrip())
        lines.append(f"      {_content(change.before)} -> {_content(change.after)}")
    return lines


def _upkeep_lines(report: HistoryReport) -> list[str]:
    """What `--prune` and `--quarantine` did, or would do."""
    path = visible(report.target)
    if report.aside is not None:
        return [
            f"the damaged journal is now {visible(report.aside)}",
            "every content is kept; a new journal begins with what the file holds now",
        ]
    if report.status == "unchanged":
        return [f"{path}: nothing to do"]
    if not report.dropped and not report.freed:
        return ["the journal is damaged, and would be put aside; every content would be kept"]
    would = "would be " if report.status == "would-change" else ""
    count = len(report.dropped)
    numbers = f" ({spans(change.id for change in report.dropped)})" if count else ""
    noun = "change" if count == 1 else "changes"
    left = f"{len(report.changes)} in the history"
    return [
        f"{path}: {count} {noun}{numbers} {would}dropped, {left}",
        f"{report.freed} bytes of unused contents {would}deleted",
    ]


def _content(sha256: str | None) -> str:
    """A content by its hash; the file with that hash is in the rollback store."""
    return "no file" if sha256 is None else f"sha256 {sha256[:16]}"


def _list_lines(report: ListReport, style: Style) -> list[str]:
    if not report.exists:
        return [f"{visible(report.target)} does not exist"]
    lines = [f"{visible(report.target)}: {_certificates(len(report.certificates))}"]
    for each in report.certificates:
        known = f"  [{each.root}]" if each.root else ""
        line = f"{each.position:>4}  line {each.line:<5} {visible(each.subject)}{known}"
        lines += folded(line, style.width, " " * 17)
        lines.append(f"      valid {_day(each.not_before)} to {_day(each.not_after)}")
        lines += _fingerprint("      sha256 ", each.sha256, style)
    return lines


def _fingerprint(label: str, sha256: str, style: Style) -> list[str]:
    """The fingerprint behind its label; in two halves on a terminal that is too narrow for it."""
    whole = colons(sha256)
    if style.width is None or len(label) + len(whole) <= style.width:
        return [label + whole]
    half = len(whole) // 2 + 1
    return [label + whole[:half], " " * len(label) + whole[half:]]


def _certificates(count: int) -> str:
    return "1 certificate" if count == 1 else f"{count} certificates"


def _roots_lines(report: RootsReport, style: Style) -> list[str]:
    if report.pem is not None:
        return [report.pem.rstrip("\n")]
    lines: list[str] = []
    for root in report.roots:
        lines += [
            style.strong(root.name),
            f"  subject   {visible(root.subject)}",
            *_fingerprint("  sha256    ", root.sha256, style),
            f"  sha1      {colons(root.sha1)}",
            f"  serial    {root.serial}",
            f"  valid     {_day(root.not_before)} to {_day(root.not_after)}"
            + (
                f", distrusted by Mozilla after {_day(root.distrust_after)}"
                if root.distrust_after
                else ""
            ),
            *(
                folded(f"  needed by {'; '.join(root.needed_by)}", style.width, " " * 12)
                if root.needed_by
                else ()
            ),
            f"  url       {root.url}",
        ]
    return lines


def _explained_lines(explained: Explained, style: Style) -> list[str]:
    lines = [
        style.strong(f"{explained.title}  [{explained.code}]"),
        "",
        *_wrapped(explained.meaning),
    ]
    if explained.causes:
        lines += ["", "likely causes, the likeliest first:"]
        for number, cause in enumerate(explained.causes, start=1):
            lines += _wrapped(cause, f"  {number}. ", "     ")
    if explained.fix:
        lines += [
            "",
            *(f"{'' if i else 'fix':<5}{fix}" for i, fix in enumerate(explained.fix)),
        ]
    return lines


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    import textwrap

    # Not at hyphens: a command or an option must stay in one piece.
    return textwrap.wrap(
        text, 80, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


def _clients_lines(report: ClientsReport) -> list[str]:
    lines: list[str] = []
    if not report.named:
        lines.append(f"on {report.system}; more: qs-certs clients NAME")
        width = max((len(each.slug) for each in report.clients), default=0)
        for each in report.clients:
            matters = f"{_matters(each.sslmodes)} ({_proof(each)})"
            lines += folded(f"{each.slug:<{width}}  {matters}", 80, " " * (width + 2))
        return lines
    for each in report.clients:
        lines += ["", f"{each.name} ({each.driver}, {each.versions})"]
        matters = f"yes, in {', '.join(each.sslmodes)}" if each.root_file_matters else "no"
        rows = (
            ("root file", matters),
            ("looks in", each.looks_in),
            ("set", each.set_instead),
            ("verified", each.verified_when),
            *(("note", note) for note in each.notes),
            ("proven", _proof(each)),
            ("known from", each.evidence),
        )
        for label, text in rows:
            lines += _wrapped(text, f"  {label:<11}", " " * 13)
        lines += _guide_lines(each)
    return lines[1:]


def _matters(modes: Sequence[str]) -> str:
    from qs_certs.libpq.outcomes import SSLMODES

    if not modes:
        return "ignores it"
    if len(modes) > 1 and tuple(modes) == SSLMODES[-len(modes) :]:
        return f"reads the root file in {modes[0]} and stricter modes"
    return f"reads the root file in {', '.join(modes)}"


def _guide_lines(client: ClientEntry) -> list[str]:
    if client.guide is None:
        return []
    lines = ["  for Query Service"]
    for number, step in enumerate(client.guide.steps, 1):
        lines += _wrapped(step, f"    {number}. ", " " * 7)
    if client.guide.instead:
        lines += _wrapped(client.guide.instead, "    instead of the root file: ", " " * 7)
    return lines + _wrapped(client.guide.see, "    to see that it verifies: ", " " * 7)


def _proof(client: ClientEntry) -> str:
    """`tested 15`, `tried`, `source`, `documentation`."""
    return " ".join((client.proven, ", ".join(client.tested_versions))).rstrip()


# --- check --------------------------------------------------------------------------------------


_ORDER = ("error", "warning", "ok")


def _check_lines(report: CheckReport, style: Style) -> list[str]:
    file = report.root_file
    path = "no root file" if file.path is None else visible(file.path)
    state = "does not exist"
    if file.exists and file.loads is None:
        state = "cannot be read"
    elif file.exists:
        state = _certificates(file.certificates) if file.loads else "does not load"
    lines = [f"root file  {path}  ({state}; chosen by {file.decided_by})"]
    width = max((len(root.name) for root in report.roots), default=0)
    lines += [
        f"root       {root.name:<{width}}  "
        + ("present" if root.present else "absent")
        + f", valid to {_day(root.not_after)}"
        for root in report.roots
    ]
    for server in report.servers:
        lines += ["", *_server_lines(server, style)]
    lines.append("")
    findings = sorted(report.findings, key=lambda each: _ORDER.index(each.severity))
    steps = list(dict.fromkeys(step for each in findings for step in each.fix))
    for finding in findings:
        lines += _finding_lines(finding, style)
        if len(steps) > 1:  # else the last line is all that there is to do
            lines += [
                f"    {'' if number else 'fix':<5} {visible(step)}"
                for number, step in enumerate(finding.fix)
            ]
    if steps:
        lines += ["", f"next {style.strong(visible(steps[0]))}"]
    return lines


def _finding_lines(finding: Finding, style: Style) -> list[str]:
    return _marked(finding.severity, f"{visible(finding.message)}  [{finding.code}]", style)


def _server_lines(server: ServerReport, style: Style) -> list[str]:
    address = f" ({server.address})" if server.address else ""
    lines = [style.strong(f"server     {visible(server.host)}:{server.port}{address}")]
    if server.origin is not None:
        lines.append(f"known from {visible(server.origin)}")
    if server.answer == "tls" and server.tls_version:
        lines.append(f"tls        {server.tls_version} {server.cipher or ''}".rstrip())
    corner = "└─" if style.unicode else "`-"
    for depth, each in enumerate(server.chain):
        branch = "" if depth == 0 else "  " * (depth - 1) + corner + " "
        label = "chain" if depth == 0 else ""
        lines.append(
            f"{label:<11}{branch}{visible(each.subject) or '(no name)'}  to {_day(each.not_after)}"
        )
    if server.verify_error is not None:
        lines.append(f"refused    {visible(server.verify_error)}")
    if server.anchor is not None:
        number = server.anchor.position
        place = f" (certificate {number} of the root file)" if number else ""
        lines.append(f"anchor     {visible(server.anchor.subject)}{place}")
    if server.sslmodes:
        header = (
            f"  {'sslmode':<12}{'connection':<13}{'if no plaintext':<17}{'verified':<16}safe from"
        )
        lines += ["", header, *(_mode_line(mode, server, style) for mode in server.sslmodes)]
        lines.append("* the mode that this connection has now")
        lines += _message_lines(server)
    if server.conninfo:
        lines += ["", f"use        {visible(server.conninfo)}"]
    return lines


def _message_lines(server: ServerReport) -> list[str]:
    """libpq's own messages, each once, with the modes that end in it."""
    modes: dict[str, list[str]] = {}
    for each in server.sslmodes:
        if each.libpq_message is not None:
            modes.setdefault(each.libpq_message, []).append(each.mode)
    lines: list[str] = []
    for message, names in modes.items():
        lines += ["", f"libpq says in {', '.join(names)}:"]
        lines += [f"  {visible(line)}" for line in message.splitlines()]
    return lines


def _mode_line(mode: ModeOutcome, server: ServerReport, style: Style) -> str:
    used = "*" if mode.mode == server.effective_sslmode else " "
    verified = (
        "chain and host"
        if mode.host_name_verified
        else "chain"
        if mode.chain_verified
        else "nothing"
    )
    if mode.outcome == "fails" and mode.outcome_if_plaintext_refused == "fails":
        verified = "-"
    safe = [
        name
        for name, is_safe in (
            ("eavesdropping", mode.resists_eavesdropping),
            ("MITM", mode.resists_man_in_the_middle),
        )
        if is_safe
    ]
    line = (
        f"{used} {mode.mode:<12}{mode.outcome:<13}{mode.outcome_if_plaintext_refused:<17}"
        f"{verified:<16}{', '.join(safe) or '-'}"
    )
    return style.strong(line) if used == "*" else line


# --- monitoring ---------------------------------------------------------------------------------

INTUNE_LIMIT = 2048
"""Characters that Intune keeps of a detection script's output."""


def as_nagios(report: CheckReport | AccountsReport | Failure) -> tuple[str, int]:
    """One line and the exit code of the monitoring plugins' convention: 0 OK, 1 WARNING,
    2 CRITICAL, 3 UNKNOWN."""
    # What stands behind a bar would be performance data.
    summary = _summary(report).replace("|", "/")
    if report.status == "failed":
        return f"QS-CERTS UNKNOWN - {summary}", 3
    warned = any(finding.severity == "warning" for finding in _all_findings(report))
    code = {"ok": 1 if warned else 0, "action-needed": 2, "unknown": 3}[report.status]
    word = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[code]
    return f"QS-CERTS {word} - {summary}", code


def as_intune(report: CheckReport | AccountsReport | Failure) -> str:
    """One line of at most 2,048 characters; the exit code stays `check`'s own."""
    line = f"qs-certs: {report.status}: {_summary(report)}"
    return line if len(line) <= INTUNE_LIMIT else line[: INTUNE_LIMIT - 3] + "..."


def _all_findings(report: Result) -> tuple[Finding, ...]:
    if isinstance(report, AccountsReport):
        return tuple(each for one in report.accounts for each in _all_findings(one.report))
    return report.findings if isinstance(report, CheckReport | Failure) else ()


def _summary(report: CheckReport | AccountsReport | Failure) -> str:
    if isinstance(report, Failure):
        return visible(report.error.message)
    if isinstance(report, AccountsReport):
        worse_first = sorted(report.accounts, key=lambda each: each.report.status == "ok")
        parts = [
            f"{visible(each.user)}: {_summary(each.report)}"
            for each in worse_first
            if isinstance(each.report, CheckReport | Failure)
            and (each.report.status != "ok" or any(_bad(each.report.findings)))
        ]
        return "; ".join([f"{_users(len(report.accounts))}: {_count_of_states(report)}", *parts])
    bad = _bad(report.findings)
    return "; ".join(visible(finding.message) for finding in bad or report.findings) or "healthy"


def _bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity != "ok"]
