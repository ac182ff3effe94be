"""The 65 contents of a root file, against libpq 15 to 18."""

from __future__ import annotations

import pytest

from qs_certs.libpq.outcomes import SSLMODES
from tests.oracle.conftest import WHOLE
from tests.oracle.judge import Case, Oracle
from tests.postgres import Hba, Settings
from tests.shapes import HOST, SHAPES, Shape, pem, pki

pytestmark = [pytest.mark.libpq, pytest.mark.psql]

BYTE_ORDER_MARK = range(18, 22)
"""Rows of which OpenSSL 1.1.1, in the wheel of libpq 15, makes something else."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.number} {shape.title}")
def test_every_shape_of_root_file_ends_as_predicted(shape: Shape, oracle: Oracle) -> None:
    made = pki()
    sent = pem(made.leaf) + pem(made.intermediate)
    without = ("libpq 15",) if shape.number in BYTE_ORDER_MARK else ()
    telling = ("verify-full",) if shape.verifies else ("prefer", "verify-full")
    servers: tuple[Hba, ...] = ("host", "hostssl") if WHOLE else ("host",)
    for hba in servers:
        oracle.postgres.configure(Settings(chain=sent, key=made.leaf_key, hba=hba))
        shaken = oracle.agree(
            Case(shape.content, host=HOST), modes=SSLMODES if WHOLE else telling, without=without
        )
    assert (shaken.root_file_error is None) is shape.loads
    assert (shaken.verified and shaken.established) is shape.verifies
