"""Judge a root file, and connections that would use it: `check`, `check --all`, `install --impact`.

The handshake looks, the pure rooms of `libpq` decide, and this room says why and what to do.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from qs_certs import catalogue, openssl, reasons, rootfile
from qs_certs.accounts import Progress
from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.outcomes import SSLMODES, outcomes
from qs_certs.libpq.pasted import corrected_psql
from qs_certs.libpq.settings import Server, corrected
from qs_certs.results import (
    Anchor,
    CheckReport,
    Finding,
    Impact,
    ModeOutcome,
    ServerReport,
)
from qs_certs.rootfile import ClientCertificate, Facts
from qs_certs.servers import Connection
from qs_certs.values import Value, replace

WORKERS = 64
"""Servers probed side by side."""

_STRENGTH = {mode: strength for strength, mode in enumerate(SSLMODES)}


class Verdict(Value):
    """What was found out about one server."""

    report: ServerReport
    findings: tuple[Finding, ...]
    reached: bool | None
    """A connection in the goal's mode would succeed; None where that does not count."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")
    R = TypeVar("R")


def at_once(
    work: Callable[[T], R], items: Sequence[T], progress: Progress | None = None
) -> list[R]:
    """*work* of each, in order; done side by side where there are several.

    *progress* is told how many are done.  On Ctrl-C nobody waits for a server that does not answer:
    the threads are daemons, which those of a ThreadPoolExecutor are not.
    """
    if len(items) <= 1:  # the common case pays for no threads
        return [work(each) for each in items]
    from concurrent.futures import Future, as_completed

    asked: list[Future[R]] = []
    waiting: queue.SimpleQueue[tuple[Future[R], T]] = queue.SimpleQueue()
    for item in items:
        asked.append(Future())
        waiting.put((asked[-1], item))

    def serve() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                future, item = waiting.get_nowait()
                try:
                    future.set_result(work(item))
                except BaseException as error:  # noqa: BLE001 - raised again on the other side
                    future.set_exception(error)

    for _ in range(min(WORKERS, len(items))):
        threading.Thread(target=serve, daemon=True).start()
    for done, _ in enumerate(as_completed(asked), start=1):
        if progress is not None:
            progress(done, len(items))
    return [each.result() for each in asked]


def facts_for(connection: Connection, around: Surroundings, target: str | None) -> Facts:
    """The root file that decides, in libpq's own order, and what libpq finds there."""
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
    used = chosen.values.get("sslcertmode") != "disable"
    return ClientCertificate(chosen.sslcert, chosen.sslkey, used)


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
    every: bool,
    progress: Progress | None = None,
) -> CheckReport:
    """Judge the root file that decides these connections, and each of them, side by side.

    It is one connection or, with *every*, all that are known: then the report's root file is
    libpq's default; each connection is judged by its own.
    """
    pairs = [(each, facts_for(each, around, target)) for each in connections]
    facts = rootfile.default(around, target) if every else pairs[0][1]
    findings = rootfile.judge(facts, around, now, warn_days)
    findings += [Finding("service-unusable", "warning", problem) for problem in problems]
    found = at_once(
        lambda pair: probe(
            pair[0], pair[1], goal=goal, timeout=timeout, warn_days=warn_days, now=now
        ),
        pairs,
        progress,
    )
    verdicts = [verdict for each in found for verdict in each]
    if not connections:
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

        return tuple(each for found in at_once(both, concerned) for each in found)


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
        ends = (
            "stops working"
            if will == "fails"
            else "silently falls back to plaintext, password included"
        )
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
        root_file=facts.path if facts.state == "loads" else None,
        system=facts.state == "system",
        # libpq looks for root.crl only where neither is set.
        crl_file=chosen.sslcrl or (None if chosen.sslcrldir else facts.crl_file),
        crl_folder=chosen.sslcrldir,
    )
    return shake_hands(
        server.host,
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
    return Verdict(report, (finding,), None)


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
    public = anchor is None or catalogue.name_of(anchor.sha256) is not None
    shown = shaken.shown_to(server.host, public_anchor=public)
    modes = outcomes(
        facts.anchors,
        shown,
        client_certificate_error=facts.client_certificate_error,
        sslnegotiation=shaken.negotiation,
    )
    aimed = next((each for each in modes if each.mode == goal), None)
    reached = aimed is not None and _achieves(aimed, goal)
    where = f"{server.host or server.hostaddr}:{server.port}"
    findings = list(reasons.about_answer(shaken, where))
    if shaken.answer == "tls":
        findings += reasons.about_chain(shaken, facts, where, server)
        if shown.host_name_error is not None:
            findings.append(reasons.about_host_name(shaken, server, shown.host_name_error))
        findings += reasons.about_served(shaken, warn_days, now)
    if aimed is None:
        pass  # the answer's own finding says why
    elif reached:
        findings = [_softened(each) for each in findings]
        if goal in ("verify-ca", "verify-full"):
            what = "chain and host name verified" if goal == "verify-full" else "chain verified"
            findings.insert(0, Finding("verified", "ok", f"{where} {goal}: encrypted, {what}"))
        else:
            findings.insert(0, Finding("reached", "ok", f"{where} {goal}: {aimed.outcome}"))
    elif not any(each.exit_code for each in findings):
        # The root file itself is the reason, which its own findings explain.
        message = (aimed.libpq_message or "it fails").splitlines()[0]
        findings.append(Finding("goal-missed", "error", f"{where} {goal}: {message}"))
    better = (corrected_psql if connection.given.form == "psql" else corrected)(connection.given)
    findings += _about_mode(connection, modes, goal, better, where)
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
        conninfo=better if shaken.answer == "tls" else None,
        origin=connection.origin,
    )
    return Verdict(report, tuple(findings), reached)


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
    if not shaken.built:
        return None
    last = shaken.built[-1]
    blocks = () if facts.parsed is None else facts.parsed.readable
    position = next(
        (number for number, block in enumerate(blocks, start=1) if block.sha256 == last.sha256),
        None,
    )
    subject = "?" if last.described is None else last.described.subject
    return Anchor(subject, last.sha256, position)


def _about_mode(
    connection: Connection, modes: Sequence[ModeOutcome], goal: str, better: str, where: str
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
                    (better,),
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
            (better,),
        )
    ]
    if effective == "prefer" or now.outcome == "plaintext":
        ends = "ends in plaintext" if now.outcome == "plaintext" else "can be forced into plaintext"
        found.append(
            Finding(
                "plaintext-possible",
                "warning",
                f"{where}: with {effective} the connection {ends} where the server or somebody on "
                "the way allows it, password included",
                (better,),
            )
        )
    return found
