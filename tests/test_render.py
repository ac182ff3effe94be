"""Results as text, to the letter: what a terminal of 80 columns, ASCII and no colour shows."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from datetime import datetime, timezone
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qs_certs import render
from qs_certs.errors import CouldNotRead, ExitCode, WrongUsage
from qs_certs.libpq.outcomes import Shown, TrustAnchors, outcomes
from qs_certs.render import INTUNE_LIMIT, Style, as_intune, as_json, as_nagios, as_text, visible
from qs_certs.results import (
    Anchor,
    CheckReport,
    Failure,
    Finding,
    HistoryReport,
    ListedCertificate,
    ListReport,
    RootFile,
    RootState,
    ServedCertificate,
    ServerReport,
)

UTC = timezone.utc
PLAIN, FANCY = Style(), Style(colour=True, unicode=True)
BEGAN, ENDS = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)
PATH = "/home/ada/.postgresql/root.crt"

SERVER = ServerReport(
    host="org.platform-query.adobe.io",
    port=80,
    address="192.0.2.7",
    goal="verify-full",
    answer="tls",
    tls_version="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    chain=(
        ServedCertificate("CN=*.platform-query.adobe.io", "CN=Issuing CA", "aa" * 32, BEGAN, ENDS),
        ServedCertificate("CN=Issuing CA", "CN=Root", "bb" * 32, BEGAN, ENDS),
    ),
    anchor=Anchor("CN=Root", "cc" * 32, 2),
    host_name_ok=True,
    verify_error=None,
    effective_sslmode="prefer",
    sslmodes=outcomes(TrustAnchors("loads", PATH), Shown("tls")),
    conninfo="host=org.platform-query.adobe.io port=80 sslmode=verify-full",
)
REPORT = CheckReport(
    root_file=RootFile(PATH, "default", True, True, 2),
    roots=(
        RootState(
            "digicert-global-root-g2",
            "cb" * 32,
            True,
            datetime(2038, 1, 15, 12, tzinfo=UTC),
            datetime(2029, 4, 15, tzinfo=UTC),
        ),
    ),
    servers=(SERVER,),
    findings=(
        Finding("verified", "ok", "org.platform-query.adobe.io:80 verify-full: encrypted"),
        Finding("weak-sslmode", "warning", "sslmode is prefer", (SERVER.conninfo or "",)),
    ),
)

TEXT = """\
root file  /home/ada/.postgresql/root.crt  (2 certificates; chosen by default)
root       digicert-global-root-g2  present, valid to 2038-01-15

server     org.platform-query.adobe.io:80 (192.0.2.7)
tls        TLSv1.3 TLS_AES_256_GCM_SHA384
chain      CN=*.platform-query.adobe.io  to 2027-03-01
           `- CN=Issuing CA  to 2027-03-01
anchor     CN=Root (certificate 2 of the root file)

  sslmode     connection   if no plaintext  verified        safe from
  disable     plaintext    fails            nothing         -
  allow       plaintext    encrypted        nothing         -
* prefer      encrypted    encrypted        chain           eavesdropping
  require     encrypted    encrypted        chain           eavesdropping
  verify-ca   encrypted    encrypted        chain           eavesdropping
  verify-full encrypted    encrypted        chain and host  eavesdropping, MITM
* the mode that this connection has now

use        host=org.platform-query.adobe.io port=80 sslmode=verify-full

! sslmode is prefer  [weak-sslmode]
ok org.platform-query.adobe.io:80 verify-full: encrypted  [verified]

next host=org.platform-query.adobe.io port=80 sslmode=verify-full"""

REFUSED = dataclasses.replace(
    SERVER,
    anchor=None,
    verify_error="unable to get local issuer certificate",
    effective_sslmode="verify-full",
    sslmodes=outcomes(
        TrustAnchors("loads", PATH),
        Shown("tls", verify_error="unable to get local issuer certificate"),
    ),
    conninfo=None,
    origin="service prod in /etc/pg_service.conf",
)

REFUSED_TEXT = """\
server     org.platform-query.adobe.io:80 (192.0.2.7)
known from service prod in /etc/pg_service.conf
tls        TLSv1.3 TLS_AES_256_GCM_SHA384
chain      CN=*.platform-query.adobe.io  to 2027-03-01
           `- CN=Issuing CA  to 2027-03-01
refused    unable to get local issuer certificate

  sslmode     connection   if no plaintext  verified        safe from
  disable     plaintext    fails            nothing         -
  allow       plaintext    fails            nothing         -
  prefer      plaintext    fails            nothing         -
  require     fails        fails            -               -
  verify-ca   fails        fails            -               -
* verify-full fails        fails            -               -
* the mode that this connection has now

libpq says in allow, prefer, require, verify-ca, verify-full:
  SSL error: certificate verify failed
"""


def test_a_report_to_the_letter() -> None:
    text = as_text(REPORT, PLAIN)
    assert text == TEXT
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80


def test_a_refused_server_to_the_letter() -> None:
    text = as_text(dataclasses.replace(REPORT, servers=(REFUSED,), findings=()), PLAIN)
    assert text.partition("\n\n")[2] == REFUSED_TEXT


@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param(
            RootFile(PATH, "PGSSLROOTCERT", False, None, 0),
            f"root file  {PATH}  (does not exist; chosen by PGSSLROOTCERT)",
            id="absent",
        ),
        pytest.param(
            RootFile(PATH, "service", True, False, 1, "bad end line"),
            f"root file  {PATH}  (does not load; chosen by service)",
            id="unloadable",
        ),
        pytest.param(
            RootFile(None, "default", False, None, 0),
            "root file  no root file  (does not exist; chosen by default)",
            id="no home",
        ),
    ],
)
def test_the_first_line_tells_the_file_its_state_and_who_chose_it(
    file: RootFile, line: str
) -> None:
    text = as_text(dataclasses.replace(REPORT, root_file=file), PLAIN)
    assert text.splitlines()[0] == line


def test_colour_and_marks_change_no_word() -> None:
    fancy = as_text(REPORT, FANCY)
    assert "\x1b[32m✓\x1b[0m" in fancy
    plain = re.sub(r"\x1b\[\d+m", "", fancy)
    assert plain != TEXT
    assert plain.replace("✓", "ok").replace("└─", "`-") == TEXT


def test_without_colour_the_mark_alone_tells_the_severity() -> None:
    findings = tuple(
        Finding(f"code-{severity}", severity, "m") for severity in ("ok", "warning", "error")
    )
    report = CheckReport(REPORT.root_file, REPORT.roots, (), findings)
    assert as_text(report, PLAIN).splitlines()[-3:] == [
        "x m  [code-error]",
        "! m  [code-warning]",
        "ok m  [code-ok]",
    ]


def test_each_finding_has_its_own_steps_and_the_one_next_step_comes_last() -> None:
    findings = (
        Finding("b", "warning", "n", ("look at it",)),
        Finding("a", "error", "m", ("qs-certs install", "another way"), ExitCode.ACTION_NEEDED),
        Finding("c", "ok", "o"),
    )
    report = CheckReport(REPORT.root_file, REPORT.roots, (), findings)
    assert as_text(report, PLAIN).splitlines()[-8:] == [
        "x m  [a]",
        "    fix   qs-certs install",
        "          another way",
        "! n  [b]",
        "    fix   look at it",
        "ok o  [c]",
        "",
        "next qs-certs install",
    ]


def test_a_step_that_is_the_only_one_is_told_once() -> None:
    fix = ("qs-certs install",)
    findings = (
        Finding("a", "error", "m", fix, ExitCode.ACTION_NEEDED),
        Finding("b", "error", "n", fix, ExitCode.ACTION_NEEDED),
    )
    report = CheckReport(REPORT.root_file, REPORT.roots, (), findings)
    assert as_text(report, PLAIN).splitlines()[-4:] == [
        "x m  [a]",
        "x n  [b]",
        "",
        "next qs-certs install",
    ]


# --- monitoring -----------------------------------------------------------------------------------


def with_findings(*findings: Finding) -> CheckReport:
    return dataclasses.replace(REPORT, findings=findings)


ERROR = Finding("e", "error", "bad", (), ExitCode.ACTION_NEEDED)
PERSON = Finding("p", "error", "worse", (), ExitCode.PERSON_NEEDED)
UNKNOWN = Finding("u", "error", "silent", (), ExitCode.UNKNOWN)
WARNING = Finding("w", "warning", "old")
GOOD = Finding("g", "ok", "fine")


@pytest.mark.parametrize(
    ("findings", "line", "code", "exit_code"),
    [
        pytest.param((), "QS-CERTS OK - healthy", 0, 0, id="nothing"),
        pytest.param((GOOD,), "QS-CERTS OK - fine", 0, 0, id="good news"),
        pytest.param((GOOD, WARNING), "QS-CERTS WARNING - old", 1, 0, id="warning"),
        pytest.param((WARNING, ERROR), "QS-CERTS CRITICAL - old; bad", 2, 1, id="install"),
        pytest.param((PERSON,), "QS-CERTS CRITICAL - worse", 2, 3, id="person"),
        pytest.param((UNKNOWN,), "QS-CERTS UNKNOWN - silent", 3, 4, id="unknown"),
        pytest.param((UNKNOWN, ERROR), "QS-CERTS UNKNOWN - silent; bad", 3, 4, id="unknown first"),
        pytest.param((UNKNOWN, PERSON), "QS-CERTS CRITICAL - silent; worse", 2, 3, id="worst"),
    ],
)
def test_nagios_and_exit_codes(
    findings: tuple[Finding, ...], line: str, code: int, exit_code: int
) -> None:
    report = with_findings(*findings)
    assert as_nagios(report) == (line, code)
    assert report.exit_code == exit_code
    assert as_intune(report) == f"qs-certs: {report.status}: {line.partition(' - ')[2]}"


def test_a_failure_is_unknown_to_nagios() -> None:
    failure = Failure("check", WrongUsage("no|such\nthing"))
    assert as_nagios(failure) == ("QS-CERTS UNKNOWN - no/such\\u000athing", 3)
    assert as_intune(failure) == "qs-certs: failed: no|such\\u000athing"
    (line, *_) = render.talk(Failure("check", CouldNotRead("cannot read x", why="locked")))
    assert line == "qs-certs: error: cannot read x: locked"


@pytest.mark.parametrize(("size", "cut"), [(10, False), (5000, True)])
def test_intune_cuts_what_it_would_not_keep(size: int, cut: bool) -> None:
    line = as_intune(with_findings(Finding("w", "warning", "x" * size)))
    assert line.endswith("...") is cut
    assert len(line) <= INTUNE_LIMIT
    assert (len(line) == INTUNE_LIMIT) is cut


# --- text from outside ----------------------------------------------------------------------------


def obeyed(text: str) -> list[str]:
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [each for each in text if unicodedata.category(each) in kinds]


@given(st.text(st.characters(exclude_characters="\\")))
def test_whatever_a_name_holds_is_visible_and_keeps_its_letters(text: str) -> None:
    shown = visible(text)
    assert obeyed(shown) == []
    letters = re.sub(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}", "", shown)
    assert letters == "".join(each for each in text if not obeyed(each))


def test_the_measure_sees_what_must_not_be_shown() -> None:
    assert len(obeyed("a\x1b\x07\u202e\u200b\u2028\x9b\n\udcff")) == 8
    assert visible("a\x1bé\u202e") == "a\\u001bé\\u202e"


EVIL = "\x1b]0;owned\x07\u202e\u200b\x9b2J"


def test_every_field_from_outside_is_shown_harmless_in_every_format() -> None:
    link = ServedCertificate(EVIL, EVIL, "aa" * 32, BEGAN, ENDS)
    modes = tuple(dataclasses.replace(each, libpq_message=EVIL) for each in SERVER.sslmodes)
    server = dataclasses.replace(
        SERVER,
        host=EVIL,
        chain=(link, link),
        anchor=Anchor(EVIL, "cc" * 32, 1),
        verify_error=EVIL,
        sslmodes=modes,
        conninfo=EVIL,
        origin=EVIL,
    )
    report = CheckReport(
        RootFile(EVIL, "default", True, True, 1, EVIL),
        REPORT.roots,
        (server,),
        (Finding("w", "warning", EVIL, (EVIL,)),),
    )
    for text in (as_text(report, PLAIN), as_json(report), as_nagios(report)[0], as_intune(report)):
        assert obeyed(text.replace("\n", "")) == []
    assert obeyed(as_nagios(report)[0]) == []
    assert as_json(report).isascii()


# --- on a terminal --------------------------------------------------------------------------------

WIDE = Finding(
    "weak-sslmode", "warning", "word " * 30 + "sslmode=verify-full", ("qs-certs " + "x" * 90,)
)


def test_messages_fold_at_words_on_a_terminal_and_commands_do_not() -> None:
    report = HistoryReport("/r", (), findings=(WIDE,))
    whole = render.talk(report)
    folded = render.talk(report, 80)
    assert len(whole) == 2
    assert len(folded) > 3
    assert max(len(line) for line in folded[:-1]) <= 80
    assert folded[-1] == whole[-1], "a command stays in one piece"
    assert " ".join(" ".join(folded[:-1]).split()) == whole[0]


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "colour"])
def test_a_folded_finding_stands_beside_its_mark(colour: bool) -> None:
    style = Style(colour=colour, unicode=True, width=40)
    first, *rest = render._finding_lines(WIDE, style)
    assert first.startswith(style.mark("warning") + " word")
    assert all(line.startswith("  ") for line in rest)
    assert max(map(len, rest)) <= 40
    (whole,) = render._finding_lines(WIDE, Style(colour=colour, unicode=True))
    assert [each for line in (first, *rest) for each in line.split()] == whole.split()


def test_a_word_that_is_longer_than_the_terminal_is_not_broken() -> None:
    assert render.folded("a " + "x" * 100, 80) == ["a", "x" * 100]


def test_a_diff_has_colours_only_where_there_are_any() -> None:
    coloured, plain = Style(colour=True), Style()
    assert [coloured.changed(each) for each in ("+a", "-b", " c", "@@", "")] == [
        "\x1b[32m+a\x1b[0m", "\x1b[31m-b\x1b[0m", " c", "@@", "",
    ]  # fmt: skip
    assert plain.changed("+a") == "+a"


def test_modes_are_told_by_the_weakest_where_all_stricter_ones_follow() -> None:
    assert render._matters(()) == "ignores it"
    assert render._matters(("require", "verify-ca", "verify-full")).endswith(
        "in require and stricter modes"
    )
    assert render._matters(("prefer", "verify-full")).endswith("in prefer, verify-full")
    assert render._matters(("verify-full",)).endswith("in verify-full")


PEM = files("qs_certs").joinpath("roots/digicert-global-root-g2.pem").read_text("ascii")
BLOCK = [line for line in PEM.splitlines() if line]
DIFF = "\n".join(["--- a", "+++ b", "@@ -1 +1,23 @@", " # mine", *(f"+{line}" for line in BLOCK)])


def test_a_diff_on_a_terminal_names_certificates_and_elsewhere_is_whole() -> None:
    report = HistoryReport("/r", (), diff=DIFF + "\n")
    assert as_text(report, PLAIN) == DIFF
    assert as_text(report, Style(width=80)).splitlines() == [
        "--- a",
        "+++ b",
        "@@ -1 +1,23 @@",
        " # mine",
        *(f"+{line}" for line in BLOCK[: BLOCK.index("-----BEGIN CERTIFICATE-----")]),
        "+certificate digicert-global-root-g2 (sha256 CB:3C:CB:B7:60:31:E5:E0...)",
    ]


@pytest.mark.parametrize(
    "diff",
    [
        pytest.param(DIFF.replace("+-----END CERTIFICATE-----", ""), id="no end"),
        pytest.param(DIFF.replace("+MII", "-MII"), id="part of it goes"),
        pytest.param(DIFF.replace("+MII", "+MI"), id="no base64"),
    ],
)
def test_a_block_that_is_not_one_whole_certificate_is_shown_line_by_line(diff: str) -> None:
    report = HistoryReport("/r", (), diff=diff)
    assert as_text(report, Style(width=80)) == diff.rstrip("\n")


@pytest.mark.parametrize("width", [80, 110, None])
def test_fingerprints_fold_where_the_terminal_is_too_narrow(width: int | None) -> None:
    sha256 = "ab" * 32
    certificate = ListedCertificate(1, 1, "CN=Root", sha256, BEGAN, ENDS, None)
    lines = as_text(ListReport("/r", True, (certificate,)), Style(width=width)).splitlines()
    assert max(map(len, lines)) <= (width or 108)
    assert ("".join(lines).replace(" ", "")).endswith("sha256" + render.colons(sha256))
    assert len(lines) == (5 if width == 80 else 4)
