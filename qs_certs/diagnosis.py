"""Judge a root file, and connections that would use it: `check`, `check --all`, `install --impact`.

The handshake looks, the pure rooms of `libpq` decide, and this room says why and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from qs_certs import catalogue, openssl, rootfile
from qs_certs.errors import ExitCode
from qs_certs.libpq import settings as conninfo
from qs_certs.libpq.handshake import Handshake, Served, Trust, shake_hands
from qs_certs.libpq.hostname import AlternativeName, names_in
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.outcomes import outcomes
from qs_certs.libpq.settings import Server
from qs_certs.results import (
    Anchor,
    CheckReport,
    Finding,
    Impact,
    ModeOutcome,
    ServedCertificate,
    ServerReport,
)
from qs_certs.rootfile import ClientCertificate, Facts
from qs_certs.servers import Connection

WORKERS = 64
"""Servers probed side by side."""

_STRENGTH = {mode: strength for strength, mode in enumerate(conninfo.SSLMODES)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about one server."""

    report: ServerReport
    findings: tuple[Finding, ...]
    verified: bool
    """The chain ends in an anchor of the root file."""
    reached: bool | None
    """A connection in the goal's mode would succeed; None where that does not count."""


def facts_for(connection: Connection | None, around: Surroundings, target: str | None) -> Facts:
    """The root file that decides, in libpq's own order, and what libpq finds there."""
    if connection is None:
        return rootfile.default(around, target)
    chosen = connection.settings
    own = client_certificate(connection)
    if target is not None:
        return rootfile.look(target, "option", around, own)
    if chosen.sslrootcert is None:
        return rootfile.look(around.root_file, "default", around, own)
    match chosen.sslrootcert_origin:
        case "connection string":
            return rootfile.look(chosen.sslrootcert, "sslrootcert", around, own)
        case "service":
            return rootfile.look(chosen.sslrootcert, "service", around, own)
        case _:
            return rootfile.look(chosen.sslrootcert, "PGSSLROOTCERT", around, own)


def client_certificate(connection: Connection) -> ClientCertificate:
    """Where this connection would take a certificate of its own from."""
    chosen = connection.settings
    mode = chosen.values.get("sslcertmode", "allow")
    return ClientCertificate(chosen.sslcert, chosen.sslkey, mode)


def check(
    connections: Sequence[Connection],
    around: Surroundings,
    *,
    target: str | None,
    goal: str,
    timeout: float,
    warn_days: int,
    strict: bool,
    now: datetime,
    problems: Sequence[str] = (),
    every: bool = False,
) -> CheckReport:
    """Judge the root file that decides these connections, and each of them, side by side.

    With several connections the report's root file is libpq's default; each one is judged by its
    own.
    """
    files = [facts_for(connection, around, target) for connection in connections]
    facts = files[0] if files and not every else rootfile.default(around, target)
    findings = rootfile.judge(facts, around, now, warn_days)
    findings += [Finding("service-unusable", "warning", problem) for problem in problems]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(max(1, min(WORKERS, len(connections)))) as pool:
        for found in pool.map(
            lambda pair: probe(
                pair[0], pair[1], goal=goal, timeout=timeout, warn_days=warn_days, now=now
            ),
            zip(connections, files, strict=True),
        ):
            verdicts += found
    if every and not connections:
        findings.append(
            Finding(
                "no-known-server",
                "ok",
                "no server is named in the service files, .pgpass or the environment",
            )
        )
    counted = [verdict.reached for verdict in verdicts if verdict.reached is not None]
    if counted and all(counted):
        findings = [_softened(each) for each in findings]
    for verdict in verdicts:
        findings += verdict.findings
    return CheckReport(
        facts.root_file,
        rootfile.roots_in(facts),
        tuple(verdict.report for verdict in verdicts),
        tuple(dict.fromkeys(findings)),
        strict,
    )


def impact(
    connections: Sequence[Connection],
    around: Surroundings,
    *,
    target: str,
    after: bytes,
    timeout: float,
    now: datetime,
) -> tuple[Impact, ...]:
    """What each known connection ends as before and after the file *target* becomes *after*.

    Connections that another root file decides are left out: nothing changes for them.
    """
    pairs = [(each, facts_for(each, around, None)) for each in connections]
    concerned = [(each, facts) for each, facts in pairs if facts.path == target]
    with openssl.scratch(after) as preview:

        def both(pair: tuple[Connection, Facts]) -> tuple[Impact, ...]:
            connection, facts = pair
            then = rootfile.look(preview, facts.decided_by, around, client_certificate(connection))
            mode = connection.settings.sslmode
            before, later = (
                probe(connection, each, goal=mode, timeout=timeout, warn_days=0, now=now)
                for each in (facts, then)
            )
            return tuple(
                _impact(connection, old, new) for old, new in zip(before, later, strict=False)
            )

        with ThreadPoolExecutor(max(1, min(WORKERS, len(concerned)))) as pool:
            return tuple(each for found in pool.map(both, concerned) for each in found)


def _impact(connection: Connection, old: Verdict, new: Verdict) -> Impact:
    mode = connection.settings.sslmode
    before, after = (
        next((each for each in verdict.report.sslmodes if each.mode == mode), None)
        for verdict in (old, new)
    )
    fix: tuple[str, ...] = ()
    note = None
    was = None if before is None else before.outcome
    will = None if after is None else after.outcome
    if will is None:
        note = next((each.message for each in new.findings), None)
    elif was != will and will in ("fails", "plaintext"):
        ends = "stops working" if will == "fails" else "silently goes plaintext, password included"
        note = f"this connection {ends}"
        where = f"{new.report.host}:{new.report.port}"
        fix = (
            "qs-certs install --from ITS-ROOT.pem --sha256 FINGERPRINT   # its own root, too",
            "qs-certs install --dedicated   # instead: leaves this connection alone",
            f"sslrootcert=ITS-ROOT.pem in the service or connection string of {where}",
        )
    return Impact(
        origin=connection.origin or "",
        host=new.report.host,
        port=new.report.port,
        effective_sslmode=mode,
        before=was,
        after=will,
        verified_before=before is not None and before.chain_verified,
        verified_after=after is not None and after.chain_verified,
        fix=fix,
        note=note,
    )


def probe(
    connection: Connection,
    facts: Facts,
    *,
    goal: str,
    timeout: float,
    warn_days: int,
    now: datetime,
) -> tuple[Verdict, ...]:
    """Look at the servers of *connection* in turn, as libpq would: the next one only where no
    connection came about.  *timeout* is in seconds, for each server."""
    verdicts = []
    for server in connection.settings.servers:
        if server.is_socket or server.is_default:
            verdicts.append(_socket(connection, server, goal))
            break
        shaken = _shake(connection, server, facts, timeout)
        verdicts.append(_judge(connection, server, facts, shaken, goal, warn_days, now))
        if not shaken.tries_next_host:
            break
    *others, last = verdicts
    if last.reached:  # the connection comes about, whatever became of the hosts before
        others = [
            replace(each, reached=None, findings=tuple(map(_softened, each.findings)))
            for each in others
        ]
    return (*others, last)


def _shake(connection: Connection, server: Server, facts: Facts, timeout: float) -> Handshake:
    chosen = connection.settings
    trust = Trust(
        root_file=facts.path if facts.state in ("loads", "unloadable") else None,
        system=facts.state == "system",
        # libpq looks for root.crl only where neither is set.
        crl_file=chosen.sslcrl or (None if chosen.sslcrldir else facts.crl_file),
        crl_folder=chosen.sslcrldir,
    )
    return shake_hands(
        server.host or server.hostaddr or "",
        server.port,
        hostaddr=server.hostaddr,
        trust=trust,
        sslnegotiation="direct" if chosen.sslnegotiation == "direct" else "postgres",
        sni=chosen.sslsni,
        minimum=chosen.ssl_min_protocol_version or "TLSv1.2",
        maximum=chosen.ssl_max_protocol_version,
        deadline=timeout,
    )


def _socket(connection: Connection, server: Server, goal: str) -> Verdict:
    host = server.host or "(the default socket)"
    finding = Finding(
        "unix-socket",
        "ok",
        f"{host} is a Unix socket on this machine: libpq never uses TLS there, whatever sslmode says",
    )
    report = ServerReport(
        host=host,
        port=server.port,
        address=None,
        goal=goal,
        answer="unreachable",
        tls_version=None,
        cipher=None,
        chain=(),
        anchor=None,
        host_name_ok=None,
        verify_error=None,
        effective_sslmode=connection.settings.sslmode,
        sslmodes=(),
        origin=connection.origin,
    )
    return Verdict(report, (finding,), False, None)


def _judge(
    connection: Connection,
    server: Server,
    facts: Facts,
    shaken: Handshake,
    goal: str,
    warn_days: int,
    now: datetime,
) -> Verdict:
    chosen = connection.settings
    anchor = _anchor(shaken, facts)
    public = (
        anchor is None or catalogue.name_of(anchor.sha256) is not None or facts.state == "system"
    )
    shown = shaken.shown_to(server.host or None, public_anchor=public)
    modes = outcomes(
        facts.anchors,
        shown,
        client_certificate_error=facts.client_certificate_error,
        sslnegotiation=shaken.negotiation,
    )
    aimed = next((each for each in modes if each.mode == goal), None)
    reached = aimed is not None and _achieves(aimed, goal)
    where = f"{server.host or server.hostaddr}:{server.port}"
    findings = list(_about_answer(shaken, where))
    if shaken.answer == "tls":
        findings += _about_chain(shaken, facts, where, server)
        if shown.host_name_error is not None:
            findings.append(_host_name(shaken, server, shown.host_name_error))
        findings += _about_served(shaken, warn_days, now)
    if aimed is not None and reached:
        findings = [_softened(each) for each in findings]
        if goal in ("verify-ca", "verify-full"):
            what = "chain and host name verified" if goal == "verify-full" else "chain verified"
            findings.insert(0, Finding("verified", "ok", f"{where} {goal}: encrypted, {what}"))
        else:
            findings.insert(0, Finding("reached", "ok", f"{where} {goal}: {aimed.outcome}"))
    elif aimed is not None and not any(each.exit_code for each in findings):
        # The root file itself is the reason, which its own findings explain.
        message = (aimed.libpq_message or "it fails").splitlines()[0]
        findings.append(Finding("goal-missed", "error", f"{where} {goal}: {message}"))
    corrected = conninfo.corrected(connection.given)
    if connection.given.form == "psql":
        corrected = conninfo.corrected_psql(connection.given)
    findings += _about_mode(connection, modes, goal, corrected, where)
    report = ServerReport(
        host=server.host or server.hostaddr or "",
        port=server.port,
        address=shaken.address,
        goal=goal,
        answer=shaken.answer,
        tls_version=shaken.tls_version,
        cipher=shaken.cipher,
        chain=tuple(each.described for each in shaken.served if each.described is not None),
        anchor=anchor,
        host_name_ok=None if not shaken.served else shown.host_name_error is None,
        verify_error=shaken.verify_error,
        effective_sslmode=chosen.sslmode,
        sslmodes=modes,
        conninfo=corrected if corrected and shaken.answer == "tls" else None,
        origin=connection.origin,
    )
    return Verdict(report, tuple(findings), shaken.verified, reached)


def _achieves(mode: ModeOutcome, goal: str) -> bool:
    """Whether a connection in the goal's mode is what the goal promises."""
    if goal in ("disable", "allow"):
        return mode.outcome != "fails"
    return mode.outcome == "encrypted"


def _softened(finding: Finding) -> Finding:
    """The goal is reached all the same: nothing has to be done."""
    if finding.severity != "error":
        return finding
    return Finding(finding.code, "warning", finding.message, finding.fix)


def _anchor(shaken: Handshake, facts: Facts) -> Anchor | None:
    if not shaken.built or not shaken.verified:
        return None
    last = shaken.built[-1]
    blocks = () if facts.parsed is None else facts.parsed.readable
    position = next(
        (number for number, block in enumerate(blocks, start=1) if block.sha256 == last.sha256),
        None,
    )
    subject = "?" if last.described is None else last.described.subject
    return Anchor(subject, last.sha256, position)


# --- no TLS -------------------------------------------------------------------------------------


def _about_answer(shaken: Handshake, where: str) -> list[Finding]:
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
        case "timed-out":
            message = f"{where} did not answer in time{detail}"
            fix = ("give it longer: --timeout 30", "is a VPN or a firewall in the way?")
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


def _about_chain(shaken: Handshake, facts: Facts, where: str, server: Server) -> list[Finding]:
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
    root = _completing(last)
    if root is not None:
        held = facts.parsed is not None and root.sha256 in facts.parsed.fingerprints
        if not held:
            return [
                Finding(
                    "catalogue-root-would-fix",
                    "error",
                    f"{where}: its chain ends in {root.name}, which {facts.path or 'the root file'} lacks",
                    (rootfile.install_command(facts, root.name),),
                    ExitCode.ACTION_NEEDED,
                )
            ]
    issuer = last.described.issuer if last.described is not None else "?"
    subject = last.described.subject if last.described is not None else "?"
    if _same_name_in(facts, issuer):
        return [
            Finding(
                "impostor-root",
                "error",
                f"{where}: its chain claims the issuer {issuer}, a name that {facts.path} knows, but "
                "another key signed it",
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
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    from qs_certs import sources

    try:
        certificate = x509.load_der_x509_certificate(last.der)
    except ValueError:
        return None
    for root in catalogue.ROOTS.values():
        candidate = x509.load_der_x509_certificate(sources.embedded(root))
        try:
            certificate.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return root
    return None


def _same_name_in(facts: Facts, issuer: str) -> bool:
    """Whether a certificate of the root file has the name *issuer*."""
    if facts.parsed is None:
        return False
    from cryptography import x509

    for block in facts.parsed.readable:
        try:
            subject = x509.load_der_x509_certificate(block.der or b"").subject
        except ValueError:
            continue
        if _same_name(subject.rfc4514_string(), issuer):
            return True
    return False


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


def _host_name(shaken: Handshake, server: Server, message: str) -> Finding:
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
        return str(ip_address(name.value))
    return name.value.decode("utf-8", "replace")


def _about_served(shaken: Handshake, warn_days: int, now: datetime) -> list[Finding]:
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


def _about_mode(
    connection: Connection, modes: Sequence[ModeOutcome], goal: str, corrected: str, where: str
) -> list[Finding]:
    chosen = connection.settings
    effective = chosen.sslmode
    if _STRENGTH[effective] >= _STRENGTH[goal] or not modes:
        if effective == "verify-ca" and goal == "verify-ca":
            return [
                Finding(
                    "public-root-verify-ca",
                    "warning",
                    "verify-ca does not look at the host name, and anybody can get a certificate "
                    "under a public root",
                    (corrected,) if corrected else (),
                )
            ]
        return []
    now = next(each for each in modes if each.mode == effective)
    source = {
        "connection string": "the connection string",
        "service": "the service file",
        "environment": "the environment (PGSSLMODE)",
        "default": "libpq's default",
    }[chosen.sslmode_origin]
    found = [
        Finding(
            "weak-sslmode",
            "warning",
            f"{where}: sslmode is {effective}, from {source}; it is weaker than {goal}",
            (corrected,) if corrected else (),
        )
    ]
    if effective in ("prefer", "allow") or now.outcome == "plaintext":
        ends = "ends in plaintext" if now.outcome == "plaintext" else "can be forced into plaintext"
        found.append(
            Finding(
                "plaintext-possible",
                "warning",
                f"{where}: with {effective} the connection {ends} where the server or somebody on "
                "the way allows it, password included",
                (corrected,) if corrected else (),
            )
        )
    return found
