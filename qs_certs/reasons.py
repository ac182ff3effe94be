"""Why libpq is not content with a server, in plain words, and what to do.

Handshake and root file in, findings out.  libpq has one sentence for every fault of a chain; here
they are told apart.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from qs_certs import catalogue, rootfile
from qs_certs.errors import ExitCode, quoted
from qs_certs.libpq.handshake import Handshake, Served
from qs_certs.libpq.hostname import AlternativeName, names_in
from qs_certs.libpq.settings import Server
from qs_certs.results import Finding, ServedCertificate
from qs_certs.rootfile import Facts

# --- no TLS -------------------------------------------------------------------------------------


def about_answer(shaken: Handshake, where: str) -> list[Finding]:
    """Why there is no TLS, or none that libpq accepts; nothing where there is."""
    detail = f" ({shaken.detail})" if shaken.detail else ""
    again: tuple[str, ...] = ("run the same check again",)
    fix: tuple[str, ...]
    person, unknown = ExitCode.PERSON_NEEDED, ExitCode.UNKNOWN
    match shaken.answer:
        case "tls" if shaken.only_old_protocols:
            message = f"{where} speaks no TLS version that libpq accepts (TLS 1.2 or newer)"
            fix = ("its administrator must enable TLS 1.2 or newer",)
            return [Finding("old-tls-protocol", "error", message, fix, person)]
        case "tls" | "closed" if shaken.negotiation == "direct" and (
            shaken.tls_error is not None or shaken.answer == "closed"
        ):
            reason = shaken.tls_error or shaken.detail or "it hung up"
            message = f"{where} does not take direct TLS: {reason.splitlines()[0]}"
            fix = ("sslnegotiation=postgres",)
            return [Finding("direct-tls-refused", "error", message, fix, person)]
        case "tls" if shaken.tls_error is not None:
            message = f"{where}: the TLS handshake failed: {shaken.tls_error.splitlines()[0]}"
            return [Finding("handshake-failed", "error", message, again, unknown)]
        case "refused":
            message = f"{where} speaks PostgreSQL, but offers no TLS"
            fix = ("is this the right port? Query Service always offers TLS",)
            return [Finding("server-without-tls", "error", message, fix, person)]
        case "not-postgresql" if shaken.unexpected_byte == 0x48:
            message = f"{where} answers with HTTP: a web server or an HTTP proxy, not PostgreSQL"
            fix = ("ask for a way around the proxy, or try port 5432",)
            return [Finding("http-proxy", "error", message, fix, person)]
        case "not-postgresql":
            message = f"{where} is not PostgreSQL{detail}"
            return [
                Finding("not-postgresql", "error", message, ("is this the right port?",), person)
            ]
        case "error":
            message = f"{where} answered with an error before TLS; it may be starting, or too busy"
            return [Finding("server-error", "error", message, again, unknown)]
        case "closed":
            message = (
                f"{where} closed the connection at once: a firewall, or an address allow-list?"
            )
            return [Finding("closed-at-once", "error", message, again, unknown)]
        case "timed-out" if shaken.waits_for is not None:
            message = (
                f"{where}: libpq may wait for ever, since {shaken.waits_for} stands where a CRL is "
                "expected and is a pipe or a device"
            )
            fix = (f"move {quoted(shaken.waits_for)} away",)
            return [Finding("crl-failure", "error", message, fix, person)]
        case "timed-out":
            message = f"{where} did not answer in time{detail}"
            fix = ("wait longer: --timeout 30", "is a VPN or a firewall in the way?")
            return [Finding("timed-out", "error", message, fix, unknown)]
        case "unreachable":
            unresolved = (shaken.detail or "").startswith("could not resolve")
            code = "name-not-resolved" if unresolved else "unreachable"
            message = f"{where} cannot be reached{detail}"
            return [Finding(code, "error", message, ("look at host and port",), unknown)]
        case _:
            return []


# --- the chain ----------------------------------------------------------------------------------

# X509_V_ERR_*: openssl:include/openssl/x509_vfy.h
_NO_ISSUER = (2, 20, 21)
_NOT_YET_VALID, _EXPIRED, _CRL_EXPIRED = 9, 10, 12
_SELF_SIGNED_LEAF, _SELF_SIGNED_ROOT = 18, 19
_REVOKED, _REJECTED = 23, 28
_CRL_ERRORS = (3, 8, 11, _CRL_EXPIRED, 33, 35, 36, 44)

_INSPECTORS = (
    "zscaler", "netskope", "fortinet", "fortigate", "palo alto", "blue coat", "bluecoat",
    "forcepoint", "websense", "sophos", "mcafee", "skyhigh", "cisco", "umbrella", "check point",
    "barracuda", "kaspersky", "eset", "avast", "bitdefender", "symantec web", "menlo", "iboss",
    "proxy", "inspection", "mitm",
)  # fmt: skip


def about_chain(shaken: Handshake, facts: Facts, where: str, server: Server) -> list[Finding]:
    """Why the chain is not trusted, or would not be if there were a root file."""
    person = ExitCode.PERSON_NEEDED
    code = shaken.verify_code
    if shaken.verify_error is None and facts.state in ("absent", "no-home", "unloadable"):
        # Nothing was verified: say what installing would help.
        return _without_anchor(shaken, facts, where, server, quiet=True)
    if shaken.verify_error is None:
        return []
    if code == _REVOKED:
        return [
            Finding(
                "revoked-certificate",
                "error",
                f"{where}: its certificate is revoked by the CRL",
                (),
                person,
            )
        ]
    if code in _CRL_ERRORS:
        crl = facts.crl_file or "the CRL that is set"
        return [
            Finding(
                "crl-failure",
                "error",
                f"{where}: refused because of {crl}: {shaken.verify_error}",
                (f"move {crl} away, or put current CRLs of every CA of the chain into it",),
                person,
            )
        ]
    if code in (_EXPIRED, _NOT_YET_VALID):
        return [_bad_dates(shaken, facts, where, code)]
    if code == _REJECTED:
        fix = (f"{rootfile.install_command(facts)} --repair",)
        message = f"{where}: trust settings in {facts.path} exclude TLS servers"
        return [Finding("untrusted-chain", "error", message, fix, ExitCode.ACTION_NEEDED)]
    if code in (*_NO_ISSUER, _SELF_SIGNED_LEAF, _SELF_SIGNED_ROOT):
        return _without_anchor(shaken, facts, where, server)
    message = f"{where}: its chain is refused: {shaken.verify_error}"
    return [Finding("untrusted-chain", "error", message, (), person)]


def _bad_dates(shaken: Handshake, facts: Facts, where: str, code: int) -> Finding:
    now = datetime.now(timezone.utc)
    described = [each.described for each in shaken.served if each.described is not None]
    if code == _EXPIRED:
        bad = next((each for each in described if each.not_after < now), None)
        if bad is None:
            message = f"{where}: the root in {facts.path} that its chain ends in has expired"
        else:
            message = f"{where}: certificate {bad.subject} expired on {bad.not_after:%Y-%m-%d}"
        fix = ("its administrator must renew it", "is this machine's clock right? date")
        return Finding("expired-certificate", "error", message, fix, ExitCode.PERSON_NEEDED)
    young = next((each for each in described if each.not_before > now), None)
    message = f"{where}: a certificate is not yet valid"
    if young is not None:
        message = f"{where}: certificate {young.subject} is valid only from {young.not_before:%Y-%m-%d %H:%M} UTC"
    message += f"; this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    return Finding(
        "not-yet-valid",
        "error",
        message,
        ("set this machine's clock right",),
        ExitCode.PERSON_NEEDED,
    )


def _without_anchor(
    shaken: Handshake, facts: Facts, where: str, server: Server, *, quiet: bool = False
) -> list[Finding]:
    """The chain ends outside the root file: which root would complete it?"""
    if not shaken.served:
        return []
    last = shaken.served[-1]
    person = ExitCode.PERSON_NEEDED
    issuer = last.described.issuer if last.described is not None else "?"
    subject = last.described.subject if last.described is not None else "?"
    issuers = _named_in(facts, issuer)
    if any(_issued(last, der) for der in issuers):
        if facts.state != "loads":
            return []  # the file's own finding says it all
        # OpenSSL takes the first certificate of that name, so a root behind it would not help.
        return [
            Finding(
                "untrusted-chain",
                "error",
                f"{where}: {facts.path} holds the issuer {issuer}, but libpq finds it as an "
                "intermediate or a cross-signed copy, whose own issuer is missing",
                (
                    "qs-certs install --dedicated   # a file without that copy",
                    "or move that copy behind its self-signed root, or add its issuer",
                ),
                person,
            )
        ]
    root = _completing(last)
    if root is not None and (facts.parsed is None or root.sha256 not in facts.parsed.fingerprints):
        return [
            Finding(
                "catalogue-root-would-fix",
                "error",
                f"{where}: its chain ends in {root.name}, which {facts.path or 'the root file'} lacks",
                (rootfile.install_command(facts, root.name),),
                ExitCode.ACTION_NEEDED,
            )
        ]
    if issuers and not all(map(_has_a_known_key, issuers)):
        return [
            Finding(
                "untrusted-chain",
                "error",
                f"{where}: {facts.path} holds the issuer {issuer}, with a key of a kind that cannot "
                "be checked here",
                ("openssl x509 -noout -text shows the kind of key; a newer OpenSSL may know it",),
                person,
            )
        ]
    if issuers:
        return [
            Finding(
                "impostor-root",
                "error",
                f"{where}: its chain names the issuer {issuer}, as {facts.path} does, but another key "
                "signed it",
                ("do not connect; ask who runs this server",),
                person,
            )
        ]
    own = ("if you trust this root: qs-certs install --from ROOT.pem --sha256 FINGERPRINT",)
    if len(shaken.served) == 1 and subject != issuer and not _inspects(issuer):
        return [
            Finding(
                "incomplete-chain",
                "error",
                f"{where}: it sends only its own certificate; its issuer {issuer} is neither sent nor "
                "in the root file",
                ("its administrator must send the intermediate certificate too", *own),
                person,
            )
        ]
    if _inspects(issuer) or server.host.endswith(".adobe.io"):
        return [
            Finding(
                "tls-inspection",
                "error",
                f"{where}: its chain ends in {issuer}: something on the way (TLS inspection by a "
                "proxy?) answers in the server's place",
                ("ask IT to exempt this host from TLS inspection",),
                person,
            )
        ]
    if quiet and facts.state != "unloadable":
        message = f"{where}: its chain ends in {issuer}, which no root of the catalogue completes"
    else:
        message = f"{where}: its chain ends in {issuer}, which {facts.path or 'the root file'} does not hold"
    return [Finding("untrusted-chain", "error", message, own, person)]


def _completing(last: Served) -> catalogue.Root | None:
    """The root of the catalogue that issued *last*, by its signature, or that *last* is."""
    known = catalogue.by_fingerprint(last.sha256)
    if known is not None:
        return known
    from qs_certs import sources

    roots = catalogue.ROOTS.values()
    return next((root for root in roots if _issued(last, sources.embedded(root))), None)


def _named_in(facts: Facts, name: str) -> list[bytes]:
    """The certificates of the root file whose subject is *name* (DER)."""
    if facts.parsed is None:
        return []
    from cryptography import x509

    found = []
    for block in facts.parsed.readable:
        der = block.der or b""
        try:
            subject = x509.load_der_x509_certificate(der).subject
        except (ValueError, x509.InvalidVersion):
            continue
        if _same_name(subject.rfc4514_string(), name):
            found.append(der)
    return found


def _issued(last: Served, issuer: bytes) -> bool:
    """Whether the key of *issuer* (DER) signed *last*."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate = x509.load_der_x509_certificate(last.der)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
    except (ValueError, TypeError, x509.InvalidVersion, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _has_a_known_key(der: bytes) -> bool:
    """Whether the kind of key is one that we can check signatures with."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _same_name(one: str, other: str) -> bool:
    """Two writings of a name: RFC 4514 puts the last part first."""
    parts = [
        sorted(part.strip().partition("=")[2].lower() for part in name.replace("+", ",").split(","))
        for name in (one, other)
    ]
    return parts[0] == parts[1]


def _inspects(name: str) -> bool:
    """Whether a word of *name* is that of a maker of such proxies; San Francisco is not Cisco."""
    return any(re.search(rf"\b{word}", name, re.IGNORECASE) for word in _INSPECTORS)


def about_host_name(shaken: Handshake, server: Server, message: str) -> Finding:
    """The host name does not match (libpq's *message*): the names offered, and the one wanted."""
    if not server.host:
        return Finding(
            "no-host-name",
            "error",
            message,
            (f"host=NAME hostaddr={server.hostaddr}",),
            ExitCode.PERSON_NEEDED,
        )
    names = names_in(shaken.served[0].der)
    offered = [_text(name) for name in names.alternative]
    if not offered and names.common_name is not None:
        offered = [names.common_name.decode("utf-8", "replace")]
    shown = ", ".join(offered[:6]) + (f" and {len(offered) - 6} more" if len(offered) > 6 else "")
    return Finding(
        "host-name-mismatch",
        "error",
        f"{message}; it is for {shown or 'no name at all'}",
        (f"connect by a name of the certificate: host={offered[0]}",) if offered else (),
        ExitCode.PERSON_NEEDED,
    )


def _text(name: AlternativeName) -> str:
    if name.kind == "ip" and len(name.value) in (4, 16):
        from ipaddress import ip_address

        return str(ip_address(name.value))
    return name.value.decode("utf-8", "replace")


def about_served(shaken: Handshake, warn_days: int, now: datetime) -> list[Finding]:
    """Served certificates that end within *warn_days*."""
    soon = now + timedelta(days=warn_days)
    return [
        Finding(
            "certificate-expires-soon",
            "warning",
            f"certificate {each.subject} expires on {each.not_after:%Y-%m-%d}",
        )
        for each in _described(shaken)
        if now < each.not_after <= soon
    ]


def _described(shaken: Handshake) -> tuple[ServedCertificate, ...]:
    return tuple(each.described for each in shaken.served if each.described is not None)
