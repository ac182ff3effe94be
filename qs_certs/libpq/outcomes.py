"""What a libpq connection ends as in each of the six sslmodes.

A pure function of the root file's state and of what a server showed in one handshake.  The order of
the questions is that of libpq:fe-secure-openssl.c `initialize_SSL` and `open_client_SSL`: the
server's answer to SSLRequest, the root file, the client certificate, the handshake with the chain,
the host name.  What follows from a failure is libpq:fe-connect.c `init_allowed_encryption_methods`:
`prefer` connects again in plaintext, `allow` tried that first.

The outcomes are those of libpq 15 to 18; the messages leave out libpq's
`connection to server at "HOST" (ADDRESS), port N failed: `.
"""

from __future__ import annotations

from qs_certs.results import Answer, ModeOutcome, Outcome
from qs_certs.values import Value, replace

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = ("verify-ca", "verify-full")
NEVER_PLAINTEXT = ("require", "verify-ca", "verify-full")

CERTIFICATE_VERIFY_FAILED = "SSL error: certificate verify failed"
NO_SSL = "server does not support SSL, but SSL was required"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    RootFileState = Literal["loads", "unloadable", "absent", "no-home", "system"]
else:
    RootFileState = str


class TrustAnchors(Value):
    """Where libpq takes its trust anchors from.

    "absent" is any file of which `stat()` fails, "no-home" that there is not even a folder to look
    in, "system" is `sslrootcert=system`.  *reason* is libpq's for a file that does not load; from
    OpenSSL 3 on it is empty where the system refused to open it.
    """

    state: RootFileState
    path: str | None = None
    reason: str = ""


class Shown(Value):
    """What a server showed in a handshake against these trust anchors.

    *tls_error* and *host_name_error* are libpq's messages; *verify_error* is OpenSSL's, of which
    libpq tells nothing.  *public_anchor*: anybody can obtain a certificate under the chain's anchor.
    """

    answer: Answer
    unexpected_byte: int | None = None
    tls_error: str | None = None
    verify_error: str | None = None
    host_name_error: str | None = None
    public_anchor: bool = True


def outcomes(
    anchors: TrustAnchors,
    shown: Shown,
    *,
    client_certificate_error: str | None = None,
    sslnegotiation: Literal["postgres", "direct"] = "postgres",
    libpq_major: int = 18,
) -> tuple[ModeOutcome, ...]:
    """The six outcomes in the order of `SSLMODES`, or none where the server's answer tells nothing:
    an error, a closed connection (which does tell something in direct negotiation), silence.

    *client_certificate_error* is libpq's message for a stray `postgresql.crt`.  *libpq_major*
    chooses between wordings; the outcomes do not depend on it.
    """
    if shown.answer == "closed" and sslnegotiation == "direct":
        # What a server does that has no direct negotiation, as PostgreSQL before 17: to it, a TLS
        # greeting is a broken startup packet.  The words are those of libpq's way to read.
        eof = (
            "SYSCALL error: EOF detected"
            if libpq_major < 18
            else "error: unexpected eof while reading"
        )
        shown = replace(shown, tls_error=f"SSL {eof}")
    elif shown.answer not in ("tls", "refused", "not-postgresql"):
        return ()
    found = []
    for mode in SSLMODES:
        unusable = _unusable_setting(mode, anchors, sslnegotiation)
        if unusable is not None:
            found.append(_outcome(mode, ("fails", "fails"), unusable, anchors, shown))
            continue
        failure = _tls_failure(mode, anchors, shown, client_certificate_error, libpq_major)
        found.append(_judge(mode, failure, anchors, shown))
    return tuple(found)


def _unusable_setting(mode: str, anchors: TrustAnchors, sslnegotiation: str) -> str | None:
    """Combinations that libpq refuses before it connects: fe-connect.c `connectOptions2`."""
    if sslnegotiation == "direct" and mode not in NEVER_PLAINTEXT:
        return (
            f'weak sslmode "{mode}" may not be used with sslnegotiation=direct'
            ' (use "require", "verify-ca", or "verify-full")'
        )
    if anchors.state == "system" and mode != "verify-full":
        return f'weak sslmode "{mode}" may not be used with sslrootcert=system (use "verify-full")'
    return None


def _tls_failure(
    mode: str,
    anchors: TrustAnchors,
    shown: Shown,
    client_certificate_error: str | None,
    libpq_major: int,
) -> str | None:
    """The message with which an attempt to connect with TLS fails; None where it succeeds."""
    if shown.answer == "refused":
        return NO_SSL
    if shown.unexpected_byte is not None:
        return f"received invalid response to SSL negotiation: {chr(shown.unexpected_byte)}"
    if anchors.state == "unloadable":
        return f'could not read root certificate file "{anchors.path}": {anchors.reason}'
    if anchors.state in ("absent", "no-home") and mode in VERIFYING:
        return _no_root_file(anchors, libpq_major)
    if client_certificate_error is not None:
        return client_certificate_error
    if shown.verify_error is not None and _verifies(anchors):
        return CERTIFICATE_VERIFY_FAILED
    if shown.tls_error is not None:
        return shown.tls_error
    return shown.host_name_error if mode == "verify-full" else None


def _no_root_file(anchors: TrustAnchors, libpq_major: int) -> str:
    what = (
        "could not get home directory to locate root certificate file"
        if anchors.state == "no-home"
        else f'root certificate file "{anchors.path}" does not exist'
    )
    # sslrootcert=system came with libpq 16.
    advice = (
        "Either provide the file or"
        if libpq_major < 16
        else "Either provide the file, use the system's trusted roots with sslrootcert=system, or"
    )
    return f"{what}\n{advice} change sslmode to disable server certificate verification."


def _verifies(anchors: TrustAnchors) -> bool:
    """Whether libpq verifies: it does so in every sslmode as soon as it has trust anchors."""
    return anchors.state in ("loads", "system")


def _judge(mode: str, failure: str | None, anchors: TrustAnchors, shown: Shown) -> ModeOutcome:
    """From the attempt with TLS to the connection, for both kinds of servers."""
    with_tls: Outcome = "encrypted" if failure is None else "fails"
    if shown.answer == "not-postgresql":  # nor does it become PostgreSQL without TLS
        plain_message = None
        if shown.unexpected_byte is not None:
            byte = chr(shown.unexpected_byte)
            plain_message = f"expected authentication request from server, but received {byte}"
        message = plain_message if mode in ("disable", "allow") else failure
        return _outcome(mode, ("fails", "fails"), message, anchors, shown)
    if mode == "disable":
        return _outcome(mode, ("plaintext", "fails"), None, anchors, shown)
    if mode in NEVER_PLAINTEXT:
        return _outcome(mode, (with_tls, with_tls), failure, anchors, shown)
    if failure == NO_SSL:  # not an error where plaintext is allowed; the server's own one follows
        failure = None
    if mode == "prefer" and with_tls == "encrypted":
        return _outcome(mode, ("encrypted", "encrypted"), None, anchors, shown)
    return _outcome(mode, ("plaintext", with_tls), failure, anchors, shown)


def _outcome(
    mode: str,
    ends: tuple[Outcome, Outcome],
    message: str | None,
    anchors: TrustAnchors,
    shown: Shown,
) -> ModeOutcome:
    """What a mode *ends* as where plaintext is accepted and where it is refused, with the protection that it gives (libpq documentation, "SSL Mode Descriptions").

    It is that of the connection to a server which accepts plaintext too: what an attacker in the
    middle can always pretend to be.  verify-ca does not resist him where anybody can obtain a
    certificate under the same anchor.
    """
    outcome, if_plaintext_refused = ends
    encrypted = outcome == "encrypted"
    chain_verified = encrypted and _verifies(anchors)
    host_name_verified = chain_verified and mode == "verify-full"
    return ModeOutcome(
        mode=mode,
        outcome=outcome,
        outcome_if_plaintext_refused=if_plaintext_refused,
        chain_verified=chain_verified,
        host_name_verified=host_name_verified,
        libpq_message=message,
        resists_eavesdropping=encrypted,
        resists_man_in_the_middle=host_name_verified
        or (chain_verified and mode == "verify-ca" and not shown.public_anchor),
    )
