"""`qs-certs explain` and `qs-certs clients`: what is reported can be explained, as text and JSON."""

from __future__ import annotations

import ast
import json
import unicodedata
from functools import cache
from pathlib import Path

import clients_page
import jsonschema
import pytest

import qs_certs
from qs_certs import accounts
from qs_certs.knowledge import CLIENTS, FINDINGS, GUIDES, MESSAGES, Message
from qs_certs.knowledge.messages import GAP, WHOLE
from qs_certs.libpq.locations import Surroundings
from tests.clients import Psql
from tests.conftest import Pki
from tests.postgres import Postgres
from tests.program import Program, snapshot

PACKAGE = Path(qs_certs.__file__).parent


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


@cache
def validator(command: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((PACKAGE / "schemas" / f"{command}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def problems(command: str, document: object) -> list[str]:
    return [error.message for error in validator(command).iter_errors(document)]


def squeezed(text: str) -> str:
    return " ".join(text.split())


# --- explain --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", FINDINGS)
def test_every_code_is_explained_alike_as_text_and_json(program: Program, code: str) -> None:
    done = program.ok("explain", code, "--json")
    document = done.document
    assert problems("explain", document) == []
    assert (document["code"], document["exit_code"], document["status"]) == (code, 0, "ok")
    assert done.err == ""
    text = squeezed(program.ok("explain", code).out)
    for fact in (document["title"], code, document["meaning"], *document["fix"]):
        assert squeezed(fact) in text


def reported_codes() -> set[str]:
    """The codes of all findings that the package makes: first arguments of `Finding(...)`."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.add(part.value)
    return found


def test_every_finding_that_is_reported_can_be_explained() -> None:
    reported = reported_codes()
    assert {"root-missing", "misnamed-root-file", "verified", "timed-out"} <= reported
    assert reported - set(FINDINGS) == set()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.code)
def test_known_messages_are_explained_with_causes_as_text_and_json(
    program: Program, message: Message
) -> None:
    pasted = message.phrases[0].removeprefix(WHOLE).replace(GAP, " something ")
    document = program.ok("explain", pasted, "--json").document
    assert problems("explain", document) == []
    assert document["code"] == message.code
    assert document["causes"] == list(message.causes)
    text = squeezed(program.ok("explain", pasted).out)
    for cause in document["causes"]:
        assert squeezed(cause) in text


@pytest.mark.psql
def test_what_psql_says_is_explained(
    program: Program, postgres: Postgres, psql: Psql, pki: Pki
) -> None:
    full = {"sslmode": "verify-full", "sslrootcert": str(program.home / "gone.crt")}
    missing = psql.connect(postgres.conninfo(**full), program.home).message
    done = program.ok("explain", missing, "--json")
    assert done.document["code"] == "root-missing"
    other = program.home / "other.crt"
    other.write_bytes(pki.other.certificate.pem)
    full["sslrootcert"] = str(other)
    refused = psql.connect(postgres.conninfo(**full), program.home).message
    # In words, as a shell splits what is pasted without quotes, and from standard input.
    code = program.ok("explain", refused, "--json").document["code"]
    assert code == "verification-failed"
    assert program.ok("explain", *refused.split(), "--json").document["code"] == code
    assert program.ok("explain", "-", "--json", stdin=refused.encode()).document["code"] == code
    assert program.ok("explain", "--json", stdin=refused.encode()).document["code"] == code


@pytest.mark.parametrize("text", ["the weather is fine", "", "x" * 100_000, "\x1b[2J"])
def test_what_nobody_knows_is_wrong_usage(program: Program, text: str) -> None:
    before = snapshot(program.home)
    done = program("explain", text, "--json")
    assert done.code == 2
    assert problems("explain", done.document) == []
    assert done.document["error"]["fix"]
    text_done = program("explain", text)
    assert (text_done.code, text_done.out) == (2, "")
    assert text_done.err.startswith("qs-certs: error: ")
    assert snapshot(program.home) == before


def test_nothing_of_the_pasted_text_is_repeated(program: Program) -> None:
    pasted = "Zq7Xv\x1b[2J SSL error: certificate verify failed\x07 password=Zq7Xv"
    for words in ((pasted,), (pasted, "--json")):
        done = program.ok("explain", *words)
        assert "Zq7Xv" not in done.out + done.err
        assert not [
            each for each in done.out if each != "\n" and unicodedata.category(each) == "Cc"
        ]


def test_windows_gets_commands_for_windows(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = next(kind for kind in FINDINGS.values() if kind.fix_on_windows)
    here = program.ok("explain", code.code, "--json").document
    assert here["fix"] == list(code.fix)
    around = Surroundings("win32", {}, None, "C:\\Roaming")
    monkeypatch.setattr(accounts, "surroundings", lambda: around)
    there = program.ok("explain", code.code, "--json").document
    assert there["fix"] == list(code.fix_on_windows)


# --- clients --------------------------------------------------------------------------------------

SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_client_is_listed_on_every_system(
    program: Program, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    around = Surroundings(system, {"HOME": "/home/me"}, "/home/me", "C:\\Roaming")
    monkeypatch.setattr(accounts, "surroundings", lambda: around)
    document = program.ok("clients", "--json").document
    assert problems("clients", document) == []
    assert document["system"] == SYSTEMS[system]
    assert [each["slug"] for each in document["clients"]] == [each.slug for each in CLIENTS]
    for each in document["clients"]:
        assert each["root_file_matters"] is bool(each["sslmodes"])
    text = program.ok("clients").out
    assert all(each.slug in text for each in CLIENTS)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("slug", [client.slug for client in CLIENTS])
def test_a_client_by_name_tells_everything_in_text_that_json_has(
    program: Program, slug: str
) -> None:
    document = program.ok("clients", slug, "--json").document
    assert problems("clients", document) == []
    assert slug in [each["slug"] for each in document["clients"]]
    assert len(document["clients"]) < len(CLIENTS)
    text = squeezed(program.ok("clients", slug).out)
    told = ("name", "driver", "versions", "set_instead", "looks_in", "verified_when", "evidence")
    for client in document["clients"]:
        for fact in (*(client[key] for key in told), *client["notes"]):
            assert squeezed(fact) in text


def test_power_bi_does_not_read_the_root_file_and_psql_does(program: Program) -> None:
    document = program.ok("clients", "power-bi", "psql", "--json").document
    matters = {each["slug"]: each["root_file_matters"] for each in document["clients"]}
    assert matters == {"power-bi": False, "psql": True}


def test_an_unknown_client_is_wrong_usage(program: Program) -> None:
    done = program("clients", "no-such-client", "--json")
    assert done.code == 2
    assert problems("clients", done.document) == []
    assert done.document["error"]["code"] == "wrong-usage"


def test_every_client_of_query_service_has_a_guide_and_no_other() -> None:
    assert set(GUIDES) == {client.slug for client in CLIENTS if client.query_service}
    for client in CLIENTS:
        if client.slug in GUIDES:
            systems = (client.linux, client.macos, client.windows)
            here = [system for system in systems if system.runs_here]
            matters = any(system.root_file_matters for system in here)
            assert bool(GUIDES[client.slug].instead) is not matters, client.slug
            assert matters is ("install" in GUIDES[client.slug].steps[0]), client.slug


@pytest.mark.parametrize("slug", GUIDES)
def test_a_guide_is_printed_and_is_in_json(program: Program, slug: str) -> None:
    (client,) = (
        each
        for each in program.ok("clients", slug, "--json").document["clients"]
        if each["slug"] == slug
    )
    guide = GUIDES[slug]
    told = {"steps": list(guide.steps), "instead": guide.instead, "see": guide.see}
    assert client["guide"] == told
    text = squeezed(program.ok("clients", slug).out)
    for fact in (*guide.steps, guide.instead, guide.see):
        assert squeezed(fact) in text


OF_QUERY_SERVICE = (
    "psql", "Jupyter", "Python", "SQLAlchemy", "RStudio", "DbVisualizer", "Aqua Data Studio",
    "Tableau", "Power BI", "Looker", "Postico", "VS Code",
)  # fmt: skip
"""Query Service's own list, in its own words."""


@pytest.mark.parametrize("name", OF_QUERY_SERVICE)
def test_query_service_s_own_names_lead_to_guides(program: Program, name: str) -> None:
    document = program.ok("clients", name, "--json").document
    assert document["clients"]
    for client in document["clients"]:
        assert client["guide"] is not None, client["slug"]
        assert client["verified_when"]


def test_other_clients_have_no_guide(program: Program) -> None:
    (client,) = program.ok("clients", "pgadmin", "--json").document["clients"]
    assert client["guide"] is None
    assert "for Query Service" not in program.ok("clients", "pgadmin").out


def test_a_row_says_whether_it_was_tested_or_read(program: Program) -> None:
    document = program.ok("clients", "ruby-pg", "npgsql-6", "--json").document
    proven = {
        each["slug"]: (each["proven"], each["tested_versions"]) for each in document["clients"]
    }
    assert proven == {"ruby-pg": ("tested", ["1.4"]), "npgsql-6": ("source", [])}
    lines = program.ok("clients").out
    assert "stricter modes (tested 1.4)" in squeezed(lines)
    assert "(source)" in lines
    assert "proven     tested 1.4" in program.ok("clients", "ruby-pg").out


def test_the_page_of_clients_is_what_the_program_knows() -> None:
    page = PACKAGE.parent / "docs" / "clients.md"
    assert page.read_text("utf-8") == clients_page.page(), "python3 scripts/clients_page.py"


# --- schemas --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "explain", "clients"])
def test_the_schema_is_printed(program: Program, command: str) -> None:
    done = program.ok(command, "--json-schema")
    assert done.out == (PACKAGE / "schemas" / f"{command}.json").read_text("utf-8")


@pytest.mark.parametrize("command", ["explain root-missing", "clients psql"])
def test_a_removed_or_retyped_key_is_noticed_and_an_added_one_is_not(
    program: Program, command: str
) -> None:
    document = program.ok(*command.split(), "--json").document
    name = command.split(maxsplit=1)[0]
    assert problems(name, {**document, "added": 1}) == []
    for key in document:
        lacking = {each: value for each, value in document.items() if each != key}
        assert problems(name, lacking), key
        assert problems(name, {**document, key: {"another": "type"}}), key
