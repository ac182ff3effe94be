"""The six sslmodes as a pure function.  tests/oracle holds the same against real clients."""

from __future__ import annotations

import itertools

import pytest

from qs_certs.libpq.outcomes import SSLMODES, RootFileState, Shown, TrustAnchors, outcomes
from qs_certs.results import Answer, ModeOutcome

PATH = "/home/ada/.postgresql/root.crt"
LOADS = TrustAnchors("loads", PATH)
ABSENT = TrustAnchors("absent", PATH)
UNLOADABLE = TrustAnchors("unloadable", PATH, "bad end line")
GOOD = Shown("tls")
UNTRUSTED = Shown("tls", verify_error="unable to get local issuer certificate")
E1 = "SSL error: certificate verify failed"


def by_mode(anchors: TrustAnchors, shown: Shown, **options: str | None) -> dict[str, ModeOutcome]:
    found = outcomes(
        anchors,
        shown,
        client_certificate_error=options.get("client_certificate_error"),
        sslnegotiation="direct" if options.get("sslnegotiation") == "direct" else "postgres",
    )
    assert tuple(outcome.mode for outcome in found) == SSLMODES
    return {outcome.mode: outcome for outcome in found}


# E: encrypted, P: plaintext, F: fails; a letter per sslmode, in the order of SSLMODES.
TABLES = {
    "absent": (ABSENT, GOOD, "PPEEFF", "FEEEFF"),
    "other CA only": (LOADS, UNTRUSTED, "PPPFFF", "FFFFFF"),
    "right CA": (LOADS, GOOD, "PPEEEE", "FEEEEE"),
    "unusable file": (UNLOADABLE, GOOD, "PPPFFF", "FFFFFF"),
    "no home": (TrustAnchors("no-home"), GOOD, "PPEEFF", "FEEEFF"),
    "no TLS": (LOADS, Shown("refused"), "PPPFFF", "FFFFFF"),
    "no TLS, no file": (ABSENT, Shown("refused"), "PPPFFF", "FFFFFF"),
    "wrong name": (LOADS, Shown("tls", host_name_error="no"), "PPEEEF", "FEEEEF"),
    "old TLS": (LOADS, Shown("tls", tls_error="SSL error: old"), "PPPFFF", "FFFFFF"),
    "not PostgreSQL": (LOADS, Shown("not-postgresql", ord("H")), "FFFFFF", "FFFFFF"),
    "system, right": (TrustAnchors("system"), GOOD, "FFFFFE", "FFFFFE"),
    "system, unknown": (TrustAnchors("system"), UNTRUSTED, "FFFFFF", "FFFFFF"),
}


def letters(column: list[str]) -> str:
    return "".join(outcome[0].upper() for outcome in column)


@pytest.mark.parametrize("table", TABLES)
def test_the_outcomes_are_those_of_the_tables(table: str) -> None:
    anchors, shown, accepting, refusing = TABLES[table]
    found = by_mode(anchors, shown).values()
    assert letters([outcome.outcome for outcome in found]) == accepting
    assert letters([outcome.outcome_if_plaintext_refused for outcome in found]) == refusing


SILENT: tuple[Answer, ...] = ("error", "closed", "timed-out", "unreachable")


@pytest.mark.parametrize("answer", SILENT)
def test_an_answer_that_tells_nothing_has_no_outcomes(answer: Answer) -> None:
    assert outcomes(LOADS, Shown(answer)) == ()


def test_the_root_file_is_blamed_before_the_chain_and_the_chain_before_the_name() -> None:
    shown = Shown("tls", verify_error="expired", host_name_error="wrong name")
    assert by_mode(UNLOADABLE, shown)["verify-full"].libpq_message == (
        f'could not read root certificate file "{PATH}": bad end line'
    )
    assert by_mode(LOADS, shown)["verify-full"].libpq_message == E1
    named = Shown("tls", host_name_error="wrong name")
    assert by_mode(LOADS, named)["verify-full"].libpq_message == "wrong name"
    assert by_mode(LOADS, named)["verify-ca"].libpq_message is None


def test_without_tls_the_root_file_does_not_matter() -> None:
    message = by_mode(ABSENT, Shown("refused"))["verify-full"].libpq_message
    assert message == "server does not support SSL, but SSL was required"


def test_a_stray_client_certificate_fails_every_attempt_with_tls() -> None:
    found = by_mode(LOADS, GOOD, client_certificate_error="no key")
    assert letters([outcome.outcome for outcome in found.values()]) == "PPPFFF"
    assert found["verify-full"].libpq_message == "no key"
    absent = by_mode(ABSENT, GOOD, client_certificate_error="no key")
    assert absent["require"].libpq_message == "no key"
    assert (absent["verify-ca"].libpq_message or "").startswith("root certificate file")


def test_the_missing_file_is_named_in_the_words_of_the_version() -> None:
    old = outcomes(ABSENT, GOOD, libpq_major=15)[-1].libpq_message
    new = outcomes(ABSENT, GOOD, libpq_major=16)[-1].libpq_message
    assert old == (
        f'root certificate file "{PATH}" does not exist\n'
        "Either provide the file or change sslmode to disable server certificate verification."
    )
    assert new == (
        f'root certificate file "{PATH}" does not exist\n'
        "Either provide the file, use the system's trusted roots with sslrootcert=system, or "
        "change sslmode to disable server certificate verification."
    )
    homeless = outcomes(TrustAnchors("no-home"), GOOD)[-1].libpq_message
    assert (homeless or "").startswith(
        "could not get home directory to locate root certificate file\n"
    )


def test_weak_modes_are_refused_with_direct_negotiation() -> None:
    found = by_mode(LOADS, GOOD, sslnegotiation="direct")
    assert letters([outcome.outcome for outcome in found.values()]) == "FFFEEE"
    assert found["prefer"].libpq_message == (
        'weak sslmode "prefer" may not be used with sslnegotiation=direct'
        ' (use "require", "verify-ca", or "verify-full")'
    )
    closed = by_mode(LOADS, Shown("closed"), sslnegotiation="direct")
    assert closed["require"].libpq_message == "SSL error: unexpected eof while reading"


STATES: tuple[RootFileState, ...] = ("loads", "unloadable", "absent", "no-home", "system")
SHOWN = (
    GOOD,
    UNTRUSTED,
    Shown("tls", host_name_error="no"),
    Shown("tls", public_anchor=False),
    Shown("refused"),
    Shown("not-postgresql", 0),
)


@pytest.mark.parametrize(("state", "shown"), list(itertools.product(STATES, SHOWN)))
def test_protection_is_never_claimed_without_its_cause(state: RootFileState, shown: Shown) -> None:
    found = by_mode(TrustAnchors(state, PATH), shown)
    for mode, outcome in found.items():
        anchored = state in ("loads", "system")
        assert outcome.resists_eavesdropping is (outcome.outcome == "encrypted")
        assert not outcome.chain_verified or (anchored and outcome.outcome == "encrypted")
        assert not outcome.host_name_verified or (outcome.chain_verified and mode == "verify-full")
        assert not outcome.resists_man_in_the_middle or outcome.chain_verified
        if outcome.outcome != "encrypted":
            assert not outcome.chain_verified
    assert not any(
        found[mode].resists_man_in_the_middle for mode in ("disable", "allow", "prefer", "require")
    )


def test_verify_ca_resists_only_under_an_anchor_of_ones_own() -> None:
    public = by_mode(LOADS, GOOD)
    private = by_mode(LOADS, Shown("tls", public_anchor=False))
    assert not public["verify-ca"].resists_man_in_the_middle
    assert private["verify-ca"].resists_man_in_the_middle
    assert public["verify-full"].resists_man_in_the_middle
