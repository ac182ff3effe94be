"""Revocation lists, which libpq checks for the whole chain as soon as one loads."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from qs_certs.libpq.handshake import Trust
from tests.oracle.judge import Case, Oracle
from tests.pki import DAY, Authority
from tests.postgres import Settings

pytestmark = [pytest.mark.libpq, pytest.mark.psql]

ROOT = Authority.root("Revoking Root")
ISSUING = ROOT.intermediate("Revoking CA")
LEAF = ISSUING.leaf(dns=["localhost"])
DIRECT = ROOT.leaf(dns=["localhost"], common_name="directly under the root")
STALE = DAY - timedelta(hours=1)

# root.crl, and OpenSSL's verdict on the chain with intermediate and on the one without.
LISTS: dict[str, tuple[Callable[[], bytes | None], int, int]] = {
    "absent": (lambda: None, 0, 0),
    "empty": (lambda: b"", 0, 0),
    "garbage": (lambda: b"garbage\n", 0, 0),
    "of every authority": (lambda: ROOT.crl() + ISSUING.crl(), 0, 0),
    "of the root only": (ROOT.crl, 3, 0),
    "of the intermediate only": (ISSUING.crl, 3, 3),
    "leaf revoked": (lambda: ROOT.crl([DIRECT]) + ISSUING.crl([LEAF]), 23, 23),
    "another leaf revoked": (lambda: ROOT.crl([LEAF]) + ISSUING.crl([DIRECT]), 0, 0),
    "intermediate revoked": (lambda: ROOT.crl([ISSUING.certificate]) + ISSUING.crl(), 23, 0),
    "expired": (lambda: ROOT.crl(next_update=STALE) + ISSUING.crl(next_update=STALE), 12, 12),
    "expired for the root only": (lambda: ROOT.crl(next_update=STALE) + ISSUING.crl(), 12, 12),
    "a certificate": (lambda: ROOT.certificate.pem, 3, 3),
    "one block damaged": (lambda: ROOT.crl([DIRECT]) + ISSUING.crl([LEAF])[:-80], 0, 0),
}


@pytest.mark.parametrize("content", LISTS)
def test_every_revocation_list_ends_as_predicted(content: str, oracle: Oracle) -> None:
    build, with_intermediate, without = LISTS[content]
    crl = build()
    for leaf, issuer, code in ((LEAF, ISSUING, with_intermediate), (DIRECT, ROOT, without)):
        oracle.postgres.configure(Settings(chain=issuer.chain(leaf), key=leaf.key_pem))
        shaken = oracle.agree(Case(ROOT.certificate.pem, crl=crl), modes=("prefer", "verify-full"))
        assert (shaken.verify_code or 0) == code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of CRLs for `sslcrldir`, in which the leaf is revoked."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to hash the issuers' names")
    for crl in (ROOT.crl(), ISSUING.crl([LEAF])):
        hashed = subprocess.run(
            [openssl, "crl", "-hash", "-noout"], input=crl, capture_output=True, check=True
        )
        (tmp_path / f"{hashed.stdout.decode().strip()}.r0").write_bytes(crl)
    return tmp_path


@pytest.mark.parametrize("revoked", [True, False], ids=["revoked", "good"])
def test_a_folder_of_revocation_lists_is_used(revoked: bool, folder: Path, oracle: Oracle) -> None:
    leaf = LEAF if revoked else ISSUING.leaf(dns=["localhost"], common_name="never revoked")
    oracle.postgres.configure(Settings(chain=ISSUING.chain(leaf), key=leaf.key_pem))
    path = str(oracle.home / ".postgresql/root.crt")
    case = Case(
        ROOT.certificate.pem,
        crl=b"garbage, and not looked at",
        parameters={"sslcrldir": str(folder)},
        trust=Trust(path, crl_folder=str(folder)),
    )
    shaken = oracle.agree(case, modes=("require", "verify-full"))
    assert shaken.verify_code == (23 if revoked else None)


def test_sslcrl_replaces_the_default_list(tmp_path: Path, oracle: Oracle) -> None:
    oracle.postgres.configure(Settings(chain=ISSUING.chain(LEAF), key=LEAF.key_pem))
    path = str(oracle.home / ".postgresql/root.crt")
    revoking = ROOT.crl() + ISSUING.crl([LEAF])
    named = tmp_path / "named.crl"
    named.write_bytes(ROOT.crl() + ISSUING.crl())
    verdicts = []
    for crl_file in (named, tmp_path / "absent.crl"):
        case = Case(
            ROOT.certificate.pem,
            crl=revoking,
            parameters={"sslcrl": str(crl_file)},
            trust=Trust(path, crl_file=str(crl_file)),
        )
        verdicts.append(oracle.agree(case, modes=("verify-full",)).verify_code)
    control = oracle.agree(Case(ROOT.certificate.pem, crl=revoking), modes=("verify-full",))
    assert (verdicts, control.verify_code) == ([None, None], 23)
