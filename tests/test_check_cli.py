"""`qs-certs check` as scripts, monitoring and people use it: options, exit codes, formats."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography import x509

import qs_certs
from qs_certs import accounts, catalogue, diagnosis, sources
from qs_certs.bundle import canonical
from qs_certs.errors import WrongUsage
from qs_certs.render import INTUNE_LIMIT
from tests.clients import Psql
from tests.conftest import Pki
from tests.libpq.servers import Server, answering, certified, hold, serving
from tests.pki import Authority
from tests.postgres import Postgres
from tests.program import Done, Program, snapshot

G2 = canonical(sources.embedded(catalogue.ROOTS[catalogue.DEFAULT]))
SCHEMAS = Path(qs_certs.__file__).parent / "schemas"

posix = pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pki: Pki) -> Program:
    """A user whose root file holds the default root and that of the tests."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(accounts, "password_database_home", lambda: str(home))
    program = Program(home)
    program.root_file.parent.mkdir()
    program.root_file.write_bytes(G2 + pki.root.certificate.pem)
    return program


def codes(done: Done) -> set[str]:
    return {finding["code"] for finding in done.document["findings"]}


def silent(connection: socket.socket, _server: Server) -> None:
    hold(connection)


@contextmanager
def bench(pki: Pki, *names: str) -> Iterator[dict[str, int]]:
    """Ports of small servers: "good", "unknown", "N", "http", "silent", "dead"."""
    stranger = pki.other.leaf(dns=["localhost"])
    kinds = {
        "good": answering(b"S", certified(pki.issuing, pki.leaf)),
        "unknown": answering(b"S", certified(pki.other, stranger)),
        "N": answering(b"N"),
        "http": answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "silent": silent,
    }
    with ExitStack() as stack:
        ports = {}
        for name in names:
            if name == "dead":
                with socket.create_server(("127.0.0.1", 0)) as listener:
                    ports[name] = listener.getsockname()[1]
            else:
                ports[name] = stack.enter_context(serving(kinds[name])).port
        yield ports


# --- exit codes -----------------------------------------------------------------------------------


def keep(program: Program) -> None:
    pass


def unlink(program: Program) -> None:
    program.root_file.unlink()


def crl(program: Program) -> None:
    (program.root_file.parent / "root.crl").write_bytes(b"not one")


@pytest.mark.parametrize(
    ("arrange", "server", "words", "code", "status"),
    [
        pytest.param(keep, None, "", 0, "ok", id="healthy"),
        pytest.param(unlink, None, "", 1, "action-needed", id="missing"),
        pytest.param(crl, None, "", 0, "ok", id="a warning"),
        pytest.param(crl, None, "--strict", 3, "action-needed", id="a warning, strictly"),
        pytest.param(unlink, None, "--strict", 1, "action-needed", id="install comes first"),
        pytest.param(keep, "good", "", 0, "ok", id="verified"),
        pytest.param(keep, "unknown", "", 3, "action-needed", id="unknown root"),
        pytest.param(keep, "N", "", 3, "action-needed", id="no TLS"),
        pytest.param(keep, "dead", "", 4, "unknown", id="nobody there"),
        pytest.param(unlink, "dead", "", 4, "unknown", id="missing, and nobody there"),
        pytest.param(unlink, "unknown", "", 3, "action-needed", id="missing, and would not help"),
        pytest.param(crl, "dead", "--strict", 4, "unknown", id="strict changes no other code"),
        pytest.param(keep, "N", "--sslmode prefer", 3, "action-needed", id="prefer without TLS"),
        pytest.param(keep, "N", "--sslmode allow", 0, "ok", id="allow without TLS"),
        pytest.param(keep, "N", "--sslmode disable", 0, "ok", id="disable without TLS"),
        pytest.param(keep, "http", "--sslmode disable", 3, "action-needed", id="disable on HTTP"),
        pytest.param(unlink, "unknown", "--sslmode require", 0, "ok", id="require without a file"),
        pytest.param(
            keep, "unknown", "--sslmode require", 3, "action-needed", id="require with a file"
        ),
        pytest.param(unlink, "unknown", "--sslmode verify-ca", 3, "action-needed", id="verify-ca"),
        pytest.param(keep, "good", "--sslmode verify-ca", 0, "ok", id="verify-ca verified"),
        pytest.param(keep, "good", "--sslmode no-such", 2, "failed", id="no such goal"),
        pytest.param(keep, "good", "--timeout 0", 2, "failed", id="no time"),
        pytest.param(keep, "good", "--timeout nan", 2, "failed", id="time that is no number"),
        pytest.param(keep, None, "--warn-days -1", 2, "failed", id="days before today"),
        pytest.param(keep, None, "--warn-days 99999999999", 2, "failed", id="days beyond all"),
        pytest.param(keep, "good", "--all", 2, "failed", id="one and all"),
        pytest.param(keep, None, "--service gone", 2, "failed", id="no such service"),
        pytest.param(keep, None, "--nonsense", 2, "failed", id="no such option"),
        pytest.param(keep, None, "-p x", 2, "failed", id="no number"),
        pytest.param(keep, None, "a b", 2, "failed", id="too many words"),
    ],
)
def test_the_exit_code_tells_a_script_what_to_do(
    program: Program,
    pki: Pki,
    arrange: Callable[[Program], None],
    server: str | None,
    words: str,
    code: int,
    status: str,
) -> None:
    arrange(program)
    before = snapshot(program.home)
    with bench(pki, *([server] if server else [])) as ports:
        named = [f"localhost:{port}" for port in ports.values()]
        given = [*named, *words.split()]
        done = program("check", *given, "--json")
        assert (done.code, done.document["exit_code"], done.document["status"]) == (
            code,
            code,
            status,
        ), done.out
        assert done.err == ""
        assert problems("check", done.document) == []
        text = program("check", *given)
    assert text.code == code
    assert "Traceback" not in text.err
    assert snapshot(program.home) == before


def test_the_worst_of_several_servers_decides(program: Program, pki: Pki) -> None:
    services = program.home / ".pg_service.conf"
    names = ("good", "dead", "N")
    with bench(pki, *names) as ports:
        for count, code in ((1, 0), (2, 4), (3, 3)):
            services.write_text(
                "".join(f"[{name}]\nhost=localhost\nport={ports[name]}\n" for name in names[:count])
            )
            assert program("check", "--all").code == code


# --- ways to name a server ------------------------------------------------------------------------

FORMS = [
    pytest.param(["localhost:{port}"], b"", id="HOST:PORT"),
    pytest.param(["-h", "localhost", "-p", "{port}"], b"", id="-h -p"),
    pytest.param(["--host", "localhost", "--port", "{port}"], b"", id="--host --port"),
    pytest.param(["host=localhost port={port}"], b"", id="key/value"),
    pytest.param(["postgresql://u@localhost:{port}/db"], b"", id="URI"),
    pytest.param(["jdbc:postgresql://localhost:{port}/db?ssl=true"], b"", id="JDBC"),
    pytest.param(["psql 'host=localhost port={port}'"], b"", id="psql"),
    pytest.param(["host=nowhere port={port}", "-h", "localhost"], b"", id="-h outranks"),
    pytest.param(["--service", "mine"], b"", id="--service"),
    pytest.param(["service=mine"], b"", id="service="),
    pytest.param(["-"], b"localhost:{port}\n", id="standard input"),
    pytest.param(
        ["-"], b"psql 'host=localhost\n  port={port}\n  password=x\xff'\r\n", id="pasted, odd bytes"
    ),
]


@pytest.mark.parametrize(("words", "stdin"), FORMS)
def test_a_server_can_be_named_in_many_ways(
    program: Program, pki: Pki, words: list[str], stdin: bytes
) -> None:
    with bench(pki, "good") as ports:
        port = str(ports["good"])
        (program.home / ".pg_service.conf").write_text(f"[mine]\nhost=localhost\nport={port}\n")
        given = [word.replace("{port}", port) for word in words]
        done = program("check", *given, "--json", stdin=stdin.replace(b"{port}", port.encode()))
    assert done.code == 0, done.out
    (server,) = done.document["servers"]
    assert (server["host"], server["port"]) == ("localhost", int(port))


def test_utf_16_on_standard_input_is_read(program: Program, pki: Pki) -> None:
    with bench(pki, "good") as ports:
        text = f"localhost:{ports['good']}\r\n"
        assert program("check", "-", stdin=text.encode("utf-16")).code == 0


@pytest.mark.parametrize(
    ("env", "mode"),
    [
        pytest.param({}, "require", id="the user's own file first"),
        pytest.param({"PGSYSCONFDIR": "{home}/system"}, "require", id="also before the system's"),
        pytest.param({"PGSERVICEFILE": "{home}/named.conf"}, "verify-ca", id="PGSERVICEFILE"),
        pytest.param(
            {"PGSYSCONFDIR": "{home}/system", "HOME": "{home}/empty"}, "disable", id="the system's"
        ),
    ],
)
@pytest.mark.psql
def test_service_files_are_read_in_libpqs_order(
    program: Program, postgres: Postgres, psql: Psql, env: dict[str, str], mode: str
) -> None:
    postgres.set_hba("host")
    for name, sslmode in (
        (".pg_service.conf", "require"),
        ("named.conf", "verify-ca"),
        ("system/pg_service.conf", "disable"),
    ):
        path = program.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"[mine]\nhost=localhost\nhostaddr=127.0.0.1\nport={postgres.port}\n"
            f"user=app\ndbname=postgres\nsslmode={sslmode}\nsslrootcert={program.root_file}\n"
        )
    env = {name: value.format(home=program.home) for name, value in env.items()}
    done = replace(program, env=env)("check", "--service", "mine", "--json")
    (server,) = done.document["servers"]
    assert server["effective_sslmode"] == mode
    theirs = psql.connect("service=mine", program.home, env)
    assert theirs.outcome == ("plaintext" if mode == "disable" else "encrypted")


def test_a_service_file_that_is_named_but_missing_is_wrong_usage(program: Program) -> None:
    done = replace(program, env={"PGSERVICEFILE": "/nonexistent"})("check", "--service", "mine")
    assert done.code == 2
    assert "/nonexistent" in done.err


# --- --all ----------------------------------------------------------------------------------------


def test_all_finds_every_known_server_and_is_bound_in_time(program: Program, pki: Pki) -> None:
    with bench(pki, "good", "unknown", "N", "http", "silent", "dead") as ports:
        services = [f"[{name}]\nhost=localhost\nport={port}\n" for name, port in ports.items()] + [
            f"[silent{number}]\nhost=localhost\nport={ports['silent']}\nsslmode={mode}\n"
            for number, mode in enumerate(("require", "verify-ca", "verify-full", "allow"))
        ]
        (program.home / ".pg_service.conf").write_text("".join(services) + "[bad]\nport=x\n")
        pgpass = program.home / ".pgpass"
        pgpass.write_text(f"127.0.0.1:{ports['good']}:*:u:Zq7Xv\n*:*:*:u:Zq7Xv\n")
        env = {"PGHOST": "localhost", "PGPORT": str(ports["good"]), "PGSSLMODE": "verify-full"}
        began = time.monotonic()
        done = replace(program, env=env)("check", "--all", "--timeout", "1", "--json")
        took = time.monotonic() - began
    assert took < 1 + 1
    servers = {each["origin"]: each for each in done.document["servers"]}
    path = str(program.home / ".pg_service.conf")
    answers = {name: servers[f"service {name} in {path}"]["answer"] for name in ports}
    assert answers == {
        "good": "tls",
        "unknown": "tls",
        "N": "refused",
        "http": "not-postgresql",
        "silent": "timed-out",
        "dead": "unreachable",
    }
    assert servers[str(pgpass)]["host"] == "127.0.0.1"
    # verify-full is what the environment says for the first of them already: looked at once.
    assert len([each for each in servers if "silent" in each]) == 4
    assert done.code == 3
    assert "service-unusable" in codes(done)
    assert "Zq7Xv" not in done.out
    assert problems("check", done.document) == []


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: SIGINT")
@pytest.mark.parametrize("form", ["text", "json"])
def test_ctrl_c_waits_for_no_server(program: Program, form: str) -> None:
    """Not even for those that are being asked: they are given half a minute each."""
    with serving(silent) as server, socket.create_server(("127.0.0.1", 0)) as asked:
        services = "".join(
            f"[{port}]\nhost=127.0.0.1\nport={port}\n"
            for port in (server.port, asked.getsockname()[1])
        )
        (program.home / ".pg_service.conf").write_text(services)
        process = program.start("check", "--all", "--timeout", "30", "--format", form)
        with process, asked.accept()[0]:  # from here on there are threads that wait
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=25)
            took = time.monotonic() - began
    assert process.returncode == 130, (out, err)
    assert took < 5
    if form == "json":
        assert json.loads(out)["error"]["code"] == "interrupted"
    else:
        assert (out, err) == (b"", b"qs-certs: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="only on POSIX: a pseudo-terminal")
def test_a_terminal_shows_how_many_servers_have_answered(program: Program, pki: Pki) -> None:
    if sys.platform == "win32":
        return  # for the type checker
    with bench(pki, "good", "N", "dead") as ports:
        services = "".join(
            f"[{name}]\nhost=localhost\nport={port}\n" for name, port in ports.items()
        )
        (program.home / ".pg_service.conf").write_text(services)
        leader, follower = os.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "qs_certs", "check", "--all"],
            env=program.environment,
            stdout=subprocess.PIPE,
            stderr=follower,
            check=False,
        )
        os.close(follower)
        shown = os.read(leader, 4096)
        os.close(leader)
        assert shown.startswith(b"\r1 of 3 servers\r2 of 3 servers\r\x1b[K")
        assert b"of 3 servers" not in done.stdout
        assert "of 3 servers" not in program.process("check", "--all").err, "a control: a pipe"


def test_all_of_the_environment(program: Program, pki: Pki) -> None:
    with bench(pki, "good") as ports:
        env = {"PGHOST": "localhost", "PGPORT": str(ports["good"])}
        done = replace(program, env=env)("check", "--all", "--json")
    assert [each["origin"] for each in done.document["servers"]] == ["environment"]
    assert done.code == 0


def test_all_without_any_server_says_so(program: Program) -> None:
    done = program("check", "--all", "--json")
    assert done.code == 0
    assert "no-known-server" in codes(done)
    assert done.document["servers"] == []


# --- monitoring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrange", "words", "code", "word"),
    [
        pytest.param(keep, [], 0, "OK", id="healthy"),
        pytest.param(crl, [], 1, "WARNING", id="warning"),
        pytest.param(unlink, [], 2, "CRITICAL", id="missing"),
        pytest.param(crl, ["--strict"], 2, "CRITICAL", id="strict"),
        pytest.param(keep, ["host=localhost port=1"], 3, "UNKNOWN", id="nobody there"),
        pytest.param(keep, ["host=localhost port=x"], 3, "UNKNOWN", id="wrong string"),
        pytest.param(keep, ["--nonsense"], 3, "UNKNOWN", id="wrong option"),
        pytest.param(keep, ["-p", "x"], 3, "UNKNOWN", id="wrong value"),
    ],
)
def test_nagios_gets_one_line_and_its_own_codes(
    program: Program,
    arrange: Callable[[Program], None],
    words: list[str],
    code: int,
    word: str,
) -> None:
    arrange(program)
    for option in (["--format", "nagios"], ["--format=nagios"]):
        done = program("check", *words, *option)
        assert done.code == code, done
        assert done.out.startswith(f"QS-CERTS {word} - ")
        assert done.out.count("\n") == 1
        assert done.err == ""


@pytest.mark.parametrize(
    ("arrange", "words", "code", "word"),
    [
        pytest.param(keep, [], 0, "ok", id="compliant"),
        pytest.param(unlink, [], 1, "action-needed", id="to remediate"),
        pytest.param(crl, [], 0, "ok", id="warning"),
        pytest.param(crl, ["--strict"], 3, "action-needed", id="strict"),
        pytest.param(keep, ["host=localhost port=1"], 4, "unknown", id="nobody there"),
        pytest.param(keep, ["host=localhost port=x"], 2, "failed", id="wrong string"),
    ],
)
def test_intune_gets_one_short_line_and_the_usual_codes(
    program: Program,
    arrange: Callable[[Program], None],
    words: list[str],
    code: int,
    word: str,
) -> None:
    arrange(program)
    done = program("check", *words, "--format", "intune")
    assert done.code == code
    assert done.out.startswith(f"qs-certs: {word}: ")
    assert done.out.count("\n") == 1
    assert len(done.out) <= INTUNE_LIMIT + 1
    assert done.err == ""


def test_intune_never_gets_more_than_it_keeps(program: Program) -> None:
    services = "".join(f"[s{number}]\nhost=localhost\nport=x{number}\n" for number in range(60))
    (program.home / ".pg_service.conf").write_text(services)
    assert len(program("check", "--all", "--format", "nagios").out) > INTUNE_LIMIT + 1
    done = program("check", "--all", "--format", "intune")
    assert len(done.out) == INTUNE_LIMIT + 1
    assert done.out.endswith("...\n")


# --- text from outside ----------------------------------------------------------------------------

EVIL = "evil\x1b]0;x\x07\x1b[2J\u202eb\u200bc\u2028d\nqs-certs: ok|p=1"


def harmful(text: str) -> list[str]:
    """Characters that a terminal obeys or hides; a newline is ours."""
    return [
        each
        for each in text
        if each != "\n" and unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    ]


def test_nothing_that_a_server_says_acts_on_a_terminal(program: Program) -> None:
    root = Authority.root(EVIL[:64])
    leaf = root.leaf(san=[x509.DNSName("a\x1b[2J.test")], common_name=EVIL[:64])
    assert harmful(EVIL)  # the measure works
    with serving(answering(b"S", certified(root, leaf))) as server:
        for form in ("text", "json", "nagios", "intune"):
            done = program(
                "check", f"localhost:{server.port}", "--sslmode", "require", "--format", form
            )
            assert "evil" in done.out, form
            assert harmful(done.out + done.err) == []
            if form in ("nagios", "intune"):
                assert done.out.count("\n") == 1
            if form == "nagios":
                assert "|" not in done.out
        program.root_file.write_bytes(root.certificate.pem)  # now the name is compared, too
        for form in ("text", "json", "nagios", "intune"):
            done = program("check", f"localhost:{server.port}", "--format", form)
            assert done.code == (2 if form == "nagios" else 3)
            assert "2J.test" in done.out
            assert harmful(done.out + done.err) == []


@pytest.mark.parametrize("reply", [b"E\x1b[2J\x07" * 50, b"\x1b]0;owned\x07", b"S\x1b[2J", b"\x9b"])
def test_no_byte_of_a_server_reaches_the_terminal(program: Program, reply: bytes) -> None:
    with serving(answering(reply)) as server:
        for form in ("text", "json", "nagios", "intune"):
            done = program(
                "check", f"localhost:{server.port}", "--timeout", "0.3", "--format", form
            )
            assert done.code in (2, 3, 4)
            assert harmful(done.out + done.err) == []
            assert "owned" not in done.out + done.err


def test_a_name_beyond_the_terminals_encoding_is_no_bug(program: Program) -> None:
    root = Authority.root("漢 CA")
    with serving(answering(b"S", certified(root, root.leaf(dns=["localhost"])))) as server:
        plain = replace(program, env={"PYTHONIOENCODING": "latin-1"})
        done = plain.process("check", f"localhost:{server.port}")
    assert done.code == 3, done
    assert r"\u6f22 CA" in done.out


# --- JSON and text --------------------------------------------------------------------------------


@cache
def validator(command: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{command}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def problems(command: str, document: object) -> list[str]:
    return [error.message for error in validator(command).iter_errors(document)]


def leaves(value: object) -> Iterator[str]:
    """Every value in a document, as text shows it."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        yield value[:10]
    elif isinstance(value, str):
        yield from value.splitlines()
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


# The words that text adds to the facts.
LABELS = re.compile(
    r"""root|file|does|not|exist|load|certificates?|chosen|by|present|absent|valid|to
    |server|known|from|tls|chain|\(no|name\)|refused|anchor|\(certificate|of|the|file\)
    |sslmode|connection|if|no|plaintext|verified|safe|nothing|and|host|eavesdropping|MITM
    |mode|that|this|has|now|libpq|says|in|use|fix|next|ok|x""",
    re.VERBOSE,
)


@pytest.mark.parametrize("server", ["good", "unknown", "N", "dead", None])
def test_text_tells_no_fact_that_json_lacks(program: Program, pki: Pki, server: str | None) -> None:
    ascii_only = replace(program, env={"PYTHONIOENCODING": "ascii"})
    with bench(pki, *([server] if server else [])) as ports:
        named = [f"localhost:{port}" for port in ports.values()]
        document = ascii_only("check", *named, "--json").document
        text = ascii_only("check", *named).out
    rest = text.replace("✓", "ok").replace("✗", "x").replace("└─", "`-")
    for fact in sorted(set(leaves(document)), key=len, reverse=True):
        rest = rest.replace(fact, " ")
    words = [word.strip(",:;") for word in re.findall(r"\(?\w\S*", rest)]
    assert [word for word in words if not LABELS.fullmatch(word)] == []
    assert len(words) > 5


@pytest.mark.parametrize("server", ["good", "unknown", "N", "dead", None])
def test_json_tells_no_finding_message_or_fix_that_text_lacks(
    program: Program, pki: Pki, server: str | None
) -> None:
    with bench(pki, *([server] if server else [])) as ports:
        named = [f"localhost:{port}" for port in ports.values()]
        document = program("check", *named, "--json").document
        text = program("check", *named).out
    for finding in document["findings"]:
        assert finding["message"] in text
        assert finding["code"] in text
        assert all(fix in text for fix in finding["fix"])
    for each in document["servers"]:
        for mode in each["sslmodes"]:
            assert all(line in text for line in (mode["libpq_message"] or "").splitlines())
        assert all(link["subject"] in text for link in each["chain"])
        assert (each["verify_error"] or "") in text
        assert (each["conninfo"] or "") in text


def test_a_value_outside_the_contract_is_noticed(program: Program, pki: Pki) -> None:
    with bench(pki, "good") as ports:
        document: dict[str, Any] = program("check", f"localhost:{ports['good']}", "--json").document
    assert problems("check", document) == []
    assert problems("check", {**document, "status": "unknown"})
    assert problems("check", {**document, "exit_code": 2})
    assert problems("check", {**document, "added": 1}) == []
    server = document["servers"][0]
    changes: list[dict[str, Any]] = [
        {"answer": "maybe"},
        {"sslmodes": server["sslmodes"][:3]},
        {"goal": "verify"},
        {"port": "80"},
        {"anchor": {}},
        {"chain": None},
    ]
    for change in changes:
        assert problems("check", {**document, "servers": [{**server, **change}]}), change
    for key in server:
        lacking = {name: value for name, value in server.items() if name != key}
        assert problems("check", {**document, "servers": [lacking]}), key


# --- for programs ---------------------------------------------------------------------------------


def test_the_function_returns_what_the_command_renders(
    program: Program, pki: Pki, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [each for each in os.environ if each.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(program.home))
    with bench(pki, "good", "N") as ports:
        report = qs_certs.check(host="localhost", port=ports["good"], timeout=5)
        refused = qs_certs.check(f"localhost:{ports['N']}", timeout=5)
    assert (report.exit_code, report.status) == (0, "ok")
    assert (refused.exit_code, refused.status) == (3, "action-needed")
    with pytest.raises(WrongUsage):
        qs_certs.check("host=h port=x")
    assert capsys.readouterr() == ("", "")


# --- what a check costs ---------------------------------------------------------------------------

PROBE = """
import sys
sys.argv = ["qs-certs", *sys.argv[1:]]
from qs_certs import cli
try:
    cli.main()
except SystemExit as end:
    heavy = {"requests", "certifi", "cryptography", "rich", "urllib3"} & set(sys.modules)
    print(end.code, *sorted(heavy), sep="|", file=sys.stderr)
"""


def loaded(program: Program, *words: str) -> tuple[int, set[str]]:
    """The exit code, and which heavy packages were loaded, in a process of its own."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", PROBE, "check", *words],
        env=program.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, *heavy = done.stderr.strip().splitlines()[-1].split("|")
    return int(code), set(heavy)


@posix
def test_a_check_loads_nothing_heavy_unless_something_must_be_explained(
    program: Program, pki: Pki
) -> None:
    # The password database cannot be changed for a process of its own: HOME differs, a warning.
    assert loaded(program) == (0, set())
    with bench(pki, "good", "unknown") as ports:
        assert loaded(program, f"localhost:{ports['good']}") == (0, set())
        code, heavy = loaded(program, f"localhost:{ports['unknown']}")
    assert code == 3
    assert "cryptography" in heavy  # the measure works


# --- install --impact -----------------------------------------------------------------------------


@pytest.fixture
def affected(program: Program, postgres: Postgres, pki: Pki) -> Program:
    """No root file yet; services at a PostgreSQL under the test root, and one that is dead."""
    program.root_file.unlink()
    own = program.home / "own.crt"
    own.write_bytes(pki.root.certificate.pem)
    where = f"host=localhost\nport={postgres.port}\nuser=app\ndbname=postgres\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()[1]
    (program.home / ".pg_service.conf").write_text(
        f"[strict]\n{where}sslmode=require\n"
        f"[lax]\n{where}sslmode=prefer\n"
        f"[plain]\n{where}sslmode=disable\n"
        f"[own]\n{where}sslmode=verify-full\nsslrootcert={own}\n"
        f"[dead]\nhost=localhost\nport={dead}\n"
    )
    return program


BEFORE = {"strict": "encrypted", "lax": "encrypted", "plain": "plaintext", "dead": None}
AFTER = {"strict": "fails", "lax": "plaintext", "plain": "plaintext", "dead": None}


def impacts(done: Done) -> dict[str, dict[str, Any]]:
    return {each["origin"].split()[1]: each for each in done.document["impact"]}


@pytest.mark.psql
def test_impact_foretells_what_psql_will_do(affected: Program, psql: Psql, pki: Pki) -> None:
    def real(service: str) -> str:
        return psql.connect(f"service={service}", affected.home).outcome

    before = snapshot(affected.home)
    done = affected("install", "--offline", "--impact", "--dry-run", "--json")
    assert done.code == 1
    assert snapshot(affected.home) == before
    told = impacts(done)
    assert {name: each["before"] for name, each in told.items()} == BEFORE  # own: not concerned
    assert {name: each["after"] for name, each in told.items()} == AFTER
    living = [name for name, outcome in BEFORE.items() if outcome is not None]
    assert {name: real(name) for name in living} == {name: BEFORE[name] for name in living}
    assert told["strict"]["note"] == "this connection stops working"
    falls = "this connection silently falls back to plaintext, password included"
    assert told["lax"]["note"] == falls
    assert not any(each["verified_after"] for each in told.values())
    assert told["plain"]["note"] is None
    assert "cannot be reached" in told["dead"]["note"]
    where = f"localhost:{told['strict']['port']}"
    for name in ("strict", "lax"):
        first, second, third = told[name]["fix"]
        assert first.startswith("qs-certs install --from ")
        assert second.startswith("qs-certs install --dedicated ")
        assert third.endswith(f" of {where}")

    done = affected("install", "--offline", "--impact", "--json")
    assert done.code == 0
    assert {name: each["after"] for name, each in impacts(done).items()} == AFTER
    assert {name: real(name) for name in living} == {name: AFTER[name] for name in living}
    assert real("own") == "encrypted"
    # What it advises helps: the server's own root, too.
    own = affected.home / "own.crt"
    sha256 = pki.root.certificate.sha256
    done = affected("install", "--from", own, "--sha256", sha256, "--impact", "--json")
    told = impacts(done)
    assert (told["strict"]["before"], told["strict"]["after"]) == ("fails", "encrypted")
    assert (told["strict"]["note"], told["strict"]["fix"]) == (None, [])
    assert told["strict"]["verified_after"]
    assert not told["strict"]["verified_before"]
    assert {real("strict"), real("lax")} == {"encrypted"}


def test_a_server_that_is_gone_at_the_second_look_is_no_bug(
    affected: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = diagnosis.probe
    looks: list[int] = []

    def probe(*args: Any, **options: Any) -> tuple[diagnosis.Verdict, ...]:
        looks.append(1)
        found = real(*args, **options)
        return found if len(looks) % 2 else found * 2  # the next of several hosts, too

    monkeypatch.setattr(diagnosis, "probe", probe)
    monkeypatch.setattr(diagnosis, "WORKERS", 1)
    done = affected("install", "--offline", "--impact", "--dry-run", "--json")
    assert {name: each["after"] for name, each in impacts(done).items()} == AFTER


def test_a_dedicated_file_has_no_impact(affected: Program) -> None:
    done = affected("install", "--offline", "--dedicated", "--impact", "--json")
    assert done.code == 0
    assert done.document["impact"] == []


def test_the_text_of_an_impact_names_each_server_and_the_way_out(affected: Program) -> None:
    text = affected("install", "--offline", "--impact", "--dry-run").out
    assert "sslmode=require: encrypted -> fails" in text
    assert "sslmode=prefer: encrypted -> plaintext" in text
    assert "sslmode=disable: plaintext -> plaintext" in text
    assert "could not tell -> could not tell" in text
    assert "--dedicated" in text


def test_without_the_option_nothing_is_probed(affected: Program) -> None:
    assert affected("install", "--offline", "--dry-run", "--json").document["impact"] is None


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("VERIFY-FULL", 'invalid sslmode value: "VERIFY-FULL": it is one of disable, '),
        ("u:secret@host", "invalid sslmode value: it is one of disable, "),
        ("", "invalid sslmode value: it is one of disable, "),
    ],
)
def test_an_sslmode_that_is_none_is_told_unless_it_may_be_a_password(
    program: Program, mode: str, said: str
) -> None:
    done = program("check", "--sslmode", mode)
    assert done.code == 2
    assert f"error: {said}" in done.err
