"""What scripts parse: one JSON document per run, shaped as the schema in the package says.

Every document here comes from a run of the program, in success and in failure.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import qs_certs
from qs_certs import errors
from qs_certs.errors import ExitCode, QsCertsError
from tests.conftest import Pki
from tests.program import Done, Program, snapshot

SCHEMAS = Path(qs_certs.__file__).parent / "schemas"
COMMANDS = ("install", "remove", "rollback", "history", "list", "roots")

every_command = pytest.mark.parametrize("command", COMMANDS)

Document = dict[str, Any]


def validator(command: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{command}.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema)


def problems(command: str, document: object) -> list[str]:
    return [error.message for error in validator(command).iter_errors(document)]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    home = tmp_path / "home"
    home.mkdir()
    return Program(home)


def prepare_nothing(program: Program) -> None:
    pass


def prepare_installed(program: Program) -> None:
    program.ok("install", "--offline")


def prepare_drift(program: Program) -> None:
    program.ok("install", "--offline")
    with program.root_file.open("ab") as file:
        file.write(b"# somebody else\n")


def prepare_damaged(program: Program) -> None:
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")


def prepare_folder(program: Program) -> None:
    program.root_file.mkdir(parents=True)


def prepare_three(program: Program) -> None:
    for name in ("g2", "g3"):
        program.ok("install", "--offline", f"digicert-global-root-{name}")
    program.ok("remove")


def prepare_tampered_store(program: Program) -> None:
    program.ok("install", "--offline")
    journal = program.store / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"install"', b'"instill"', 1))


Prepare = Callable[[Program], None]

RUNS = [
    # words, what stands there before, exit code, status
    pytest.param("install --offline", prepare_nothing, 0, "changed", id="install changed"),
    pytest.param("install", prepare_installed, 0, "unchanged", id="install unchanged"),
    pytest.param("install --offline --dry-run", prepare_nothing, 1, "would-change", id="dry run"),
    pytest.param("install", prepare_nothing, 0, "changed", id="install falls back"),
    pytest.param("install --offline", prepare_damaged, 1, "failed", id="install damaged"),
    pytest.param(
        "install --offline --repair", prepare_damaged, 0, "changed", id="install repaired"
    ),
    pytest.param("install --offline", prepare_folder, 6, "failed", id="install onto a folder"),
    pytest.param("install --from /nonexistent", prepare_nothing, 4, "failed", id="no source"),
    pytest.param("install --offline", prepare_tampered_store, 0, "unchanged", id="nothing to do"),
    pytest.param(
        "install --offline digicert-global-root-g3",
        prepare_tampered_store,
        5,
        "failed",
        id="install with a tampered store",
    ),
    pytest.param("install nonsense", prepare_nothing, 2, "failed", id="install unknown root"),
    pytest.param("install --nonsense", prepare_nothing, 2, "failed", id="install unknown option"),
    pytest.param("install --timeout x", prepare_nothing, 2, "failed", id="install wrong value"),
    pytest.param("remove", prepare_installed, 0, "changed", id="remove changed"),
    pytest.param("remove", prepare_nothing, 0, "unchanged", id="remove unchanged"),
    pytest.param("remove --dry-run", prepare_installed, 1, "would-change", id="remove dry run"),
    pytest.param("remove nonsense", prepare_nothing, 2, "failed", id="remove unknown root"),
    pytest.param("remove --dedicated=x", prepare_nothing, 2, "failed", id="remove odd value"),
    pytest.param("rollback", prepare_installed, 0, "changed", id="rollback changed"),
    pytest.param("rollback", prepare_nothing, 0, "unchanged", id="rollback unchanged"),
    pytest.param("rollback", prepare_drift, 6, "failed", id="rollback drift"),
    pytest.param("rollback --force", prepare_drift, 0, "changed", id="rollback forced"),
    pytest.param("rollback", prepare_tampered_store, 5, "failed", id="rollback tampered"),
    pytest.param("rollback x", prepare_nothing, 2, "failed", id="rollback no number"),
    pytest.param("rollback 7", prepare_installed, 2, "failed", id="rollback unknown change"),
    pytest.param("history", prepare_nothing, 0, "ok", id="history empty"),
    pytest.param("history", prepare_installed, 0, "ok", id="history"),
    pytest.param("history 1", prepare_installed, 0, "ok", id="history diff"),
    pytest.param("history 7", prepare_installed, 2, "failed", id="history unknown change"),
    pytest.param("history", prepare_tampered_store, 5, "failed", id="history tampered"),
    pytest.param("history 1 2", prepare_installed, 2, "failed", id="history too many"),
    pytest.param("history --prune --keep 0", prepare_three, 0, "changed", id="prune"),
    pytest.param("history --prune --keep 0 --dry-run", prepare_three, 1, "would-change", id="plan"),
    pytest.param("history --prune --keep 9", prepare_three, 0, "unchanged", id="prune nothing"),
    pytest.param("history --prune", prepare_three, 2, "failed", id="prune what"),
    pytest.param("history --prune --keep 0", prepare_tampered_store, 5, "failed", id="prune it"),
    pytest.param("history --quarantine", prepare_tampered_store, 0, "changed", id="quarantine"),
    pytest.param(
        "history --quarantine --dry-run", prepare_tampered_store, 1, "would-change", id="would be"
    ),
    pytest.param("history --quarantine", prepare_three, 0, "unchanged", id="quarantine nothing"),
    pytest.param("list", prepare_nothing, 0, "ok", id="list absent"),
    pytest.param("list", prepare_installed, 0, "ok", id="list"),
    pytest.param("list", prepare_damaged, 0, "ok", id="list damaged"),
    pytest.param("list", prepare_folder, 6, "failed", id="list a folder"),
    pytest.param("list --dedicated --target x", prepare_nothing, 2, "failed", id="list both"),
    pytest.param("roots", prepare_nothing, 0, "ok", id="roots"),
    pytest.param("roots --pem", prepare_nothing, 0, "ok", id="roots pem"),
    pytest.param("roots nonsense", prepare_nothing, 2, "failed", id="roots unknown"),
]


@pytest.mark.parametrize(("words", "prepare", "code", "status"), RUNS)
def test_a_run_prints_one_document_that_its_schema_describes(
    program: Program, words: str, prepare: Prepare, code: int, status: str
) -> None:
    prepare(program)
    done = program(*words.split(), "--json")
    document = done.document  # raises on anything beside the one document
    command = words.split(maxsplit=1)[0]
    assert problems(command, document) == []
    assert (done.code, document["exit_code"], document["status"]) == (code, code, status), done
    assert done.err == ""
    assert done.out.isascii()


def test_every_command_is_seen_in_success_and_in_failure() -> None:
    """A control of the rows above."""
    seen = {(str(row.values[0]).split()[0], row.values[3] == "failed") for row in RUNS}
    assert seen == {(command, failed) for command in COMMANDS for failed in (False, True)}


@every_command
def test_the_schema_is_printed_and_nothing_else_is_done(program: Program, command: str) -> None:
    before = snapshot(program.home)
    done = program.ok(command, "--json-schema")
    assert done.out == (SCHEMAS / f"{command}.json").read_text("utf-8")
    assert done.err == ""
    assert snapshot(program.home) == before


@every_command
def test_the_schema_itself_is_valid(command: str) -> None:
    validator(command).check_schema(validator(command).schema)


def _classes(kind: type[QsCertsError]) -> set[type[QsCertsError]]:
    found = {kind}
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            found |= _classes(each)
    return found


@every_command
def test_the_schema_knows_every_error_and_its_exit_code(command: str) -> None:
    definitions = json.loads((SCHEMAS / f"{command}.json").read_text("utf-8"))["$defs"]
    kinds = _classes(QsCertsError)
    assert set(definitions["error"]["properties"]["code"]["enum"]) == {kind.code for kind in kinds}
    codes = set(definitions["failure"]["properties"]["exit_code"]["enum"])
    assert codes == {int(kind.exit_code) for kind in kinds}
    assert codes < {int(code) for code in ExitCode}


def _every_place(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The place of each key in a document, however deep."""
    found: list[tuple[str | int, ...]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [(*place, key), *_every_place(inner, (*place, key))]
    elif isinstance(value, list) and value:
        found += _every_place(value[0], (*place, 0))
    return found


def _documents(program: Program) -> dict[str, list[Document]]:
    """Documents of each command that between them fill every list that they can."""

    def run(words: str) -> Document:
        return program(*words.split(), "--json").document

    failure = {command: run(f"{command} --nonsense") for command in COMMANDS}
    full = {
        "install": run("install"),
        "list": run("list"),
        "history": run("history 1"),
        "rollback": run("rollback"),
        "roots": run("roots --pem"),
        "remove": run("remove nonsense-that-fails"),
    }
    run("rollback")
    full["remove"] = run("remove")
    return {command: [full[command], failure[command]] for command in COMMANDS}


def test_a_removed_or_retyped_key_is_noticed_and_an_added_one_is_not(program: Program) -> None:
    checked = 0
    for command, documents in _documents(program).items():
        for document in documents:
            assert problems(command, document) == []
            for *way, key in _every_place(document):
                removed, retyped = copy.deepcopy(document), copy.deepcopy(document)
                added = copy.deepcopy(document)
                for changed in (removed, retyped, added):
                    inner: Any = changed
                    for step in way:
                        inner = inner[step]
                    if changed is removed:
                        del inner[key]
                    elif changed is retyped:
                        inner[key] = {"another": "type"}
                    else:
                        inner["a-new-key"] = 1
                assert problems(command, removed), (command, way, key)
                assert problems(command, retyped), (command, way, key)
                assert problems(command, added) == [], (command, way, key)
                checked += 1
    assert checked > 100


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("status", "done", id="unknown status"),
        pytest.param("exit_code", 3, id="unknown exit code"),
        pytest.param("command", "remove", id="another command"),
        pytest.param("schema", 2, id="another version"),
        pytest.param("targets", [], id="no target"),
    ],
)
def test_a_value_outside_the_contract_is_noticed(program: Program, key: str, value: object) -> None:
    document = program.ok("install", "--offline", "--json").document
    assert problems("install", document) == []
    assert problems("install", {**document, key: value})


def test_a_failed_target_without_an_error_is_noticed(program: Program) -> None:
    document = program.ok("install", "--offline", "--json").document
    document["targets"][0]["status"] = "failed"
    assert problems("install", document)


def test_text_and_json_tell_the_same(program: Program, pki: Pki) -> None:
    ca = program.home / "ca.pem"
    ca.write_bytes(pki.root.certificate.pem)
    words = ("install", "--from", ca, "--sha256", pki.root.certificate.sha256)
    document = program(*words, "--dry-run", "--json").document
    text = program(*words, "--dry-run")
    (target,) = document["targets"]
    assert target["path"] in text.out
    assert target["diff"] in text.out
    assert target["added"][0] in text.out
    document = program.ok(*words, "--json").document
    program.ok("rollback")
    done = program.ok(*words)
    for finding in document["findings"]:
        assert finding["message"] in done.err + done.out
        assert all(fix in done.err + done.out for fix in finding["fix"])


def test_text_from_outside_cannot_act_on_a_terminal(program: Program) -> None:
    path = program.home / "a\x1b[31mb\u202e.crt"
    for done in (
        program.ok("install", "--offline", "--target", path),
        program.ok("list", "--target", path),
        program("list", "--target", path / "inside"),
    ):
        assert "\x1b" not in done.out + done.err
        assert "\u202e" not in done.out + done.err
    assert path.exists()


def test_an_unknown_command_is_one_document_too(program: Program) -> None:
    done = program("nonsense", "--json")
    assert done.code == 2
    assert done.document["status"] == "failed"
    assert done.document["error"]["code"] == "wrong-usage"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--nonsense"], id="unknown option"),
        pytest.param(["nonsense"], id="unknown command"),
        pytest.param([], id="nothing"),
        pytest.param(["install", "--timeout", "0"], id="no time"),
        pytest.param(["install", "--timeout", "nan"], id="time that is no number"),
        pytest.param(["install", "--sha256", "ab" * 32], id="pin without source"),
        pytest.param(["install", "--from", "x", "--sha256", "ab"], id="short pin"),
        pytest.param(["install", "--from", "https://x.invalid/", "--offline"], id="offline URL"),
        pytest.param(["install", "--url", "http://x.invalid/"], id="not HTTPS"),
        pytest.param(["install", "--dedicated", "--target", "x"], id="two targets"),
        pytest.param(["rollback", "1", "2"], id="too many words"),
        pytest.param(["remove", "digicert-global-root-g2x"], id="unknown root"),
    ],
)
def test_wrong_usage_is_exit_2_and_changes_nothing(program: Program, words: list[str]) -> None:
    before = snapshot(program.home)
    done: Done = program(*words)
    assert done.code == 2, done
    assert "Traceback" not in done.err
    assert done.err or done.out
    assert snapshot(program.home) == before
