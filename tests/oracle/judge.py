"""Our predictions against real clients, cell by cell.

A cell is one connection of one real client in one sslmode to the real PostgreSQL, compared with
what `handshake` and `outcomes` say about it: the outcome, and libpq's message where it fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qs_certs import bundle, openssl
from qs_certs.libpq.handshake import Handshake, Trust, shake_hands
from qs_certs.libpq.outcomes import SSLMODES, Shown, TrustAnchors, outcomes
from qs_certs.results import ModeOutcome
from tests.clients import Client, Result
from tests.postgres import Postgres

PREFIX = re.compile(r'^connection to server at "[^"]*"(?: \([^)]*\))?, port \d+ failed: ', re.M)
REFUSED_IN_PLAINTEXT = "no pg_hba.conf entry for host"


@dataclass(frozen=True, slots=True)
class Case:
    """One connection, as a user would set it up.

    *root* is the content of `~/.postgresql/root.crt`, None for no such file; *crl* that of
    `root.crl`.  *parameters* go into the connection string.  *lenient* names clients whose OpenSSL
    (1.1.1) is known to accept this chain, where OpenSSL 3 does not.
    """

    root: bytes | None
    host: str | None = "localhost"
    crl: bytes | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    trust: Trust | None = None
    lenient: frozenset[str] = frozenset()
    client_certificate_error: str | None = None

    def furnish(self, home: Path) -> tuple[TrustAnchors, Trust]:
        """Make the home folder; what a diagnosis would find in it."""
        folder = home / ".postgresql"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("root.crt", self.root), ("root.crl", self.crl)):
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                (folder / name).write_bytes(content)
        path = self.parameters.get("sslrootcert") or str(folder / "root.crt")
        if path == "system":
            return TrustAnchors("system"), Trust(system=True)
        if not Path(path).exists():
            return TrustAnchors("absent", path), self.trust or Trust()
        trust = self.trust or Trust(path, crl_file=str(folder / "root.crl"))
        if openssl.load(path).error is None:
            return TrustAnchors("loads", path), trust
        reason = bundle.parse(Path(path).read_bytes()).problem or ""
        return TrustAnchors("unloadable", path, reason), trust


class Oracle:
    """The real clients, and how many cells they have agreed in."""

    def __init__(self, postgres: Postgres, clients: Mapping[str, Client], home: Path) -> None:
        self.postgres = postgres
        self.clients = clients
        self.home = home
        self.cells = 0

    def shake(self, case: Case, trust: Trust) -> Handshake:
        direct = case.parameters.get("sslnegotiation") == "direct"
        return shake_hands(
            case.host or "",
            self.postgres.port,
            hostaddr="127.0.0.1",
            trust=trust,
            sslnegotiation="direct" if direct else "postgres",
            sni=case.parameters.get("sslsni") != "0",
            minimum=case.parameters.get("ssl_min_protocol_version", "TLSv1.2"),
            maximum=case.parameters.get("ssl_max_protocol_version"),
            deadline=5,
        )

    def predict(
        self, case: Case, anchors: TrustAnchors, shown: Shown, major: int
    ) -> dict[str, ModeOutcome]:
        negotiation: Literal["postgres", "direct"] = (
            "direct" if case.parameters.get("sslnegotiation") == "direct" else "postgres"
        )
        found = outcomes(
            anchors,
            shown,
            client_certificate_error=case.client_certificate_error,
            sslnegotiation=negotiation,
            libpq_major=major,
        )
        return {outcome.mode: outcome for outcome in found}

    def agree(
        self,
        case: Case,
        *,
        modes: Iterable[str] = SSLMODES,
        since: int = 15,
        without: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Handshake:
        """Fails with every disagreement between our prediction and the clients.

        *since* is the first major version of libpq to ask, *without* names clients to leave out.
        """
        anchors, trust = case.furnish(self.home)
        shaken = self.shake(case, trust)
        shown = shaken.shown_to(case.host)
        modes, without = tuple(modes), tuple(without)
        clients = {
            name: client
            for name, client in self.clients.items()
            if client.version // 10000 >= since and name not in without
        }
        assert clients, "no client to compare with"

        def ask(client: Client) -> list[Result]:
            return [
                client.connect(self._conninfo(case, mode), self.home, env=env) for mode in modes
            ]

        with ThreadPoolExecutor(len(clients)) as pool:
            answers = dict(zip(clients, pool.map(ask, clients.values()), strict=True))
        disagreements = []
        for name, client in clients.items():
            major = client.version // 10000
            seen = shown
            if name in case.lenient:
                assert shown.verify_error is not None, "nothing to be lenient about"
                seen = Shown(shown.answer, host_name_error=shown.host_name_error)
            predicted = self.predict(case, anchors, seen, major)
            for mode, result in zip(modes, answers[name], strict=True):
                self.cells += 1
                problem = self._disagreement(predicted[mode], result, anchors, seen)
                if problem is not None:
                    disagreements.append(f"{name} {mode}: {problem}")
        assert not disagreements, "\n".join(disagreements)
        return shaken

    def _conninfo(self, case: Case, mode: str) -> str:
        return self.postgres.conninfo(case.host, sslmode=mode, **case.parameters)

    def _disagreement(
        self, predicted: ModeOutcome, result: Result, anchors: TrustAnchors, shown: Shown
    ) -> str | None:
        refusing = self.postgres.settings.hba == "hostssl"
        expected = predicted.outcome_if_plaintext_refused if refusing else predicted.outcome
        if result.outcome != expected:
            return f"{expected} predicted, {result.outcome} happened: {result.message}"
        if expected != "fails":
            return None
        message = PREFIX.sub("", result.message)
        if anchors.state == "system":  # some minor versions go on with OpenSSL's reason
            message = message.removesuffix(f": {shown.verify_error}")
        if predicted.mode in ("require", "verify-ca", "verify-full"):
            same = message == predicted.libpq_message
        elif predicted.libpq_message is None:
            same = REFUSED_IN_PLAINTEXT in message
        else:  # both attempts are told of; or libpq refused the settings
            both = REFUSED_IN_PLAINTEXT in message or message == predicted.libpq_message
            same = both and predicted.libpq_message in message
        return None if same else f"{predicted.libpq_message!r} predicted, {message!r} said"
