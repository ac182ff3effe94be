"""Windows for real: the program in the real CPython, judged by the real libpq 14, 16 and 18.

One file, because a Wine prefix serves one process of the tests at a time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from windows import LIBPQS, Windows, seen_from_windows

from qs_certs.libpq.outcomes import SSLMODES
from tests.clients import Result
from tests.conftest import Pki
from tests.oracle.judge import PREFIX, REFUSED_IN_PLAINTEXT
from tests.postgres import Hba, Postgres, Settings
from tests.windows.conftest import Count

LONG = bool(os.environ.get("QS_CERTS_LONG"))
pytestmark = [pytest.mark.psql, pytest.mark.libpq, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Profile:
    """The Windows user that everything runs as, whose home is empty when a test begins."""

    windows: Windows
    home: Path

    @property
    def root_file(self) -> Path:
        return self.home / "AppData/Roaming/postgresql/root.crt"

    def qs_certs(self, *words: str, code: int = 0) -> str:
        """What the installed program prints; it must end with *code*."""
        done = self.windows.run(self.windows.program, *words)
        assert done.returncode == code, done
        return done.stdout.decode("cp1252").replace("\r\n", "\n")

    @contextmanager
    def named(self, name: str) -> Iterator[Path]:
        """The root file of this user while AppData lies in the profile of a user called *name*."""
        self._move_appdata(rf"C:\users\{name}\AppData\Roaming")
        try:
            yield self.windows.drive / "users" / name / "AppData/Roaming/postgresql/root.crt"
        finally:
            self._move_appdata(r"%USERPROFILE%\AppData\Roaming")
            shutil.rmtree(self.windows.drive / "users" / name, ignore_errors=True)

    def _move_appdata(self, to: str) -> None:
        key = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
        value = ["/v", "AppData", "/t", "REG_EXPAND_SZ", "/d", to, "/f"]
        assert self.windows.run("reg", "add", key, *value).returncode == 0

    def connect(
        self, requests: Sequence[tuple[int, str]], env: Mapping[str, str] | None = None
    ) -> list[Result]:
        """What each (libpq, connection string) ends as: one process each, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            return list(
                pool.map(lambda request: self._connect(request[0], request[1], env), requests)
            )

    def _connect(self, major: int, conninfo: str, env: Mapping[str, str] | None) -> Result:
        windows = self.windows
        done = windows.run(windows.pqtest, windows.libpq(major), conninfo, env=env)
        lines = done.stdout.decode("cp1252").replace("\r\n", "\n").split("\n", 2)
        assert done.returncode in (0, 1), done
        assert int(lines[0]) // 10000 == major
        outcome = lines[1]
        assert outcome in ("encrypted", "plaintext", "fails")
        return Result(outcome, lines[2].strip())  # type: ignore[arg-type]


@pytest.fixture
def profile(windows: Windows) -> Iterator[Profile]:
    (home,) = [each for each in (windows.drive / "users").iterdir() if each.name != "Public"]
    made = Profile(windows, home)

    def clean() -> None:
        shutil.rmtree(made.root_file.parent, ignore_errors=True)
        shutil.rmtree(home / "AppData/Local/qs-certs", ignore_errors=True)
        shutil.rmtree(home / ".postgresql", ignore_errors=True)

    clean()
    yield made
    clean()


@pytest.fixture
def authority(pki: Pki, tmp_path: Path) -> list[str]:
    """The options of `install` for the root of the test's own server."""
    file = tmp_path / "test root.pem"
    file.write_bytes(pki.root.certificate.pem)
    return ["--from", seen_from_windows(file), "--sha256", pki.root.certificate.sha256]


def test_windows_libpq_fails_before_install_connects_after_and_fails_after_rollback(
    profile: Profile, postgres: Postgres, authority: list[str], pki: Pki, count: Count
) -> None:
    conninfo = postgres.conninfo(host="localhost", sslmode="verify-full")
    requests = [(major, conninfo) for major in LIBPQS]

    def outcomes() -> set[str]:
        return {result.outcome for result in profile.connect(requests)}

    for result in profile.connect(requests):
        assert result.outcome == "fails"
        assert r'AppData\Roaming/postgresql/root.crt" does not exist' in result.message
    profile.qs_certs("install", "--offline")  # a control: another root does not do
    for result in profile.connect(requests):
        assert "certificate verify failed" in result.message
    profile.qs_certs("install", *authority)
    assert outcomes() == {"encrypted"}
    profile.qs_certs("rollback")
    assert outcomes() == {"fails"}
    profile.qs_certs("rollback")  # the rollback of the rollback
    assert outcomes() == {"encrypted"}
    profile.qs_certs("rollback", "1")
    assert not profile.root_file.exists()
    assert outcomes() == {"fails"}
    count(CONNECTIONS, 6 * len(requests))


CTRL_Z: dict[str, tuple[Callable[[bytes, bytes], bytes], set[int]]] = {
    # Another root and the right one; which libpq then connect.  That of 14 comes with OpenSSL
    # 1.1.1, whose reading ends at a Ctrl-Z; those of 16 and 18 with 3.6, which reads on.
    "before the right one": (lambda other, right: other + b"\x1a\r\n" + right, {16, 18}),
    "damage behind it": (lambda other, right: right + b"\x1a\r\n" + other[:200], {14}),
    "at the end": (lambda other, right: other + right + b"\x1a", {14, 16, 18}),
    "behind the right one": (lambda other, right: right + b"\x1a\r\n" + other, {14, 16, 18}),
    "glued to the right one": (lambda other, right: other + b"\x1a" + right, set()),
    "at the beginning": (lambda other, right: b"\x1a\r\n" + right, {16, 18}),
}


@pytest.mark.parametrize("where", CTRL_Z if LONG else list(CTRL_Z)[:2])
def test_a_ctrl_z_hides_roots_from_some_libpq_until_install_mends_it(
    profile: Profile, postgres: Postgres, authority: list[str], pki: Pki, where: str, count: Count
) -> None:
    made, connect = CTRL_Z[where]
    content = made(pki.other.certificate.pem, pki.root.certificate.pem)
    profile.root_file.parent.mkdir()
    profile.root_file.write_bytes(content)
    conninfo = postgres.conninfo(host="localhost", sslmode="verify-full")
    requests = [(major, conninfo) for major in LIBPQS]

    def connected() -> set[int]:
        outcomes = zip(requests, profile.connect(requests), strict=True)
        return {major for (major, _), result in outcomes if result.outcome == "encrypted"}

    assert connected() == connect
    done = profile.windows.run(profile.windows.program, "check", conninfo, "--json")
    check = json.loads(done.stdout)
    everyone = connect == set(LIBPQS)
    predicted = check["servers"][0]["sslmodes"][-1]["outcome"]
    assert predicted == ("encrypted" if everyone else "fails")  # what holds for all of them
    hidden = [each for each in check["findings"] if each["code"] == "hidden-content"]
    assert len(hidden) == (where != "at the end")
    profile.qs_certs("install", *authority, "--repair")
    assert connected() == set(LIBPQS)
    assert b"\x1a" not in profile.root_file.read_bytes()
    profile.qs_certs("rollback")
    assert profile.root_file.read_bytes() == content
    count(CONNECTIONS, 2 * len(requests))


@pytest.mark.parametrize(
    ("name", "lost"),
    [pytest.param("Anaïs Müller", False, id="has"), pytest.param("Јелена", True, id="lacks")],
)
def test_a_profile_name_that_the_code_page_has_or_lacks(
    profile: Profile, postgres: Postgres, authority: list[str], name: str, lost: bool, count: Count
) -> None:
    conninfo = postgres.conninfo(host="localhost", sslmode="verify-full")
    requests = [(major, conninfo) for major in LIBPQS]
    with profile.named(name) as root_file:
        profile.qs_certs("install", *authority)
        assert root_file.exists()
        results = profile.connect(requests)
        check = json.loads(profile.qs_certs("check", conninfo, "--json", code=3 if lost else 0))
        (server,) = check["servers"]
        predicted = server["sslmodes"][-1]
        for (major, _), result in zip(requests, results, strict=True):
            assert result.outcome == predicted["outcome"] == ("fails" if lost else "encrypted")
            assert not lost or _same_message(predicted, major, result), (predicted, result)
        asked = len(requests)
        if lost:
            (finding,) = [
                each for each in check["findings"] if each["code"] == "code-page-loses-path"
            ]
            (step,) = finding["advice"]
            root = finding["fix"][-1].removeprefix("setx PGSSLROOTCERT ").strip('"')
            certificate = step.removeprefix("for libpq before 16 also: setx PGSSLCERT ").strip('"')
            env = {"PGSSLROOTCERT": root}
            alone = {major: result.outcome for (major, _), result in
                     zip(requests, profile.connect(requests, env), strict=True)}  # fmt: skip
            assert alone == {14: "fails", 16: "encrypted", 18: "encrypted"}
            for result in profile.connect(requests, env | {"PGSSLCERT": certificate}):
                assert result.outcome == "encrypted", (env, certificate, result)
            asked *= 3
    count(CONNECTIONS, asked)


TESTS = Path(__file__).resolve().parent.parent
TESTS_INSIDE = "tests that passed inside the Windows Python"
CONNECTIONS = "connections by real Windows libpq 14, 16 and 18"
SINCE_16 = ", use the system's trusted roots with sslrootcert=system,"
"""What libpq 16 added to its message."""

SERVERS: tuple[tuple[Hba, str, Sequence[str]], ...] = (
    ("host", "outcome", SSLMODES),
    # The other modes never ask for a session in plaintext.
    ("hostssl", "outcome_if_plaintext_refused", ("disable", "allow", "prefer")),
)
STATES: dict[str, Callable[[Pki], bytes | None]] = {
    "absent": lambda pki: None,
    "right": lambda pki: pki.root.certificate.pem,
    "another": lambda pki: pki.other.certificate.pem,
    "damaged": lambda pki: pki.root.certificate.pem + pki.root.certificate.pem[:200],
    "CRLF": lambda pki: pki.root.certificate.pem.replace(b"\n", b"\r\n"),
    "UTF-16": lambda pki: pki.root.certificate.pem.decode().encode("utf-16"),
    "empty": lambda pki: b"",
}


@pytest.mark.parametrize("state", STATES if LONG else list(STATES)[:4])
def test_check_and_every_windows_libpq_agree_in_all_six_sslmodes(
    profile: Profile, postgres: Postgres, pki: Pki, state: str, count: Count
) -> None:
    content = STATES[state](pki)
    if content is not None:
        profile.root_file.parent.mkdir()
        profile.root_file.write_bytes(content)
    done = profile.windows.run(profile.windows.program, "check", postgres.conninfo(), "--json")
    (server,) = json.loads(done.stdout)["servers"]
    predicted = {each["mode"]: each for each in server["sslmodes"]}
    disagreements, asked = [], 0
    for hba, column, modes in SERVERS:
        postgres.configure(Settings(chain=pki.chain, key=pki.leaf.key_pem, hba=hba))
        cells = [(major, mode) for major in LIBPQS for mode in modes]
        results = profile.connect(
            [(major, postgres.conninfo(sslmode=mode)) for major, mode in cells]
        )
        asked += len(cells)
        for (major, mode), result in zip(cells, results, strict=True):
            expected = predicted[mode]
            if result.outcome != expected[column] or not _same_message(expected, major, result):
                disagreements.append(f"{hba}, libpq {major}: {expected} predicted, got {result}")
    count(CONNECTIONS, asked)
    assert not disagreements, "\n".join(disagreements)


def _same_message(predicted: dict[str, Any], major: int, result: Result) -> bool:
    message = PREFIX.sub("", result.message)
    if result.outcome != "fails":
        return message == ""
    if REFUSED_IN_PLAINTEXT in message:
        return predicted["mode"] in ("disable", "allow", "prefer")
    expected: str = predicted["libpq_message"] or ""
    if major < 16:
        expected = expected.replace(SINCE_16, "")
    return message == expected


def test_the_comparison_of_messages_sees_a_difference() -> None:
    same = "SSL error: certificate verify failed"
    told = 'connection to server at "localhost" (127.0.0.1), port 1 failed: ' + same
    require = {"mode": "require", "libpq_message": same}
    assert _same_message(require, 18, Result("fails", told))
    assert not _same_message({**require, "libpq_message": "another"}, 18, Result("fails", told))
    assert not _same_message(require, 18, Result("fails", told + SINCE_16))
    assert not _same_message(require, 18, Result("fails", REFUSED_IN_PLAINTEXT))
    assert not _same_message(require, 18, Result("encrypted", told))


# --- inside ---------------------------------------------------------------------------------------

NEUTRAL = {
    # What each file tests is the same on every system; nothing of it needs this machine's tools.
    "in a minute": [
        "test_bundle.py",
        "test_changes.py",
        "test_catalogue.py",
        "test_contract.py",
        "test_merging.py",
        "test_render.py",
        "test_windows_rules.py",
        "libpq/test_hostname.py",
        "libpq/test_outcomes.py",
        "libpq/test_settings.py",
    ],
    "in many": [
        "test_bundle_laws.py",
        "test_diagnosis.py",
        "test_knowledge.py",
        "test_sources.py",
        "libpq/test_handshake.py",
        "libpq/test_misbehaving_servers.py",
        "libpq/test_passwords.py",
    ],
}
INET_ATON = "test_unusual_ipv4_forms_are_read_as_inet_aton_reads_them[4294967295]"
ELSEWHERE = [
    # Compares with Python's own, which is not inet_aton there and refuses this one.
    f"tests/libpq/test_hostname.py::{INET_ATON}",
    # Wants a file with control characters in its name.
    "tests/test_contract.py::test_text_from_outside_cannot_act_on_a_terminal",
    # Want tools of this machine, or say what POSIX gets.
    "tests/test_changes.py::test_a_diff_is_what_patch_needs",
    "tests/test_explain_clients.py::test_what_psql_says_is_explained",
    "tests/test_explain_clients.py::test_windows_gets_commands_for_windows",
    # Compares with a page of the checkout, which is not there.
    "tests/test_explain_clients.py::test_the_page_of_clients_is_what_the_program_knows",
]
DEBIAN = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture
def inside(
    windows: Windows, profile: Profile, postgres: Postgres, pki: Pki, tmp_path: Path, count: Count
) -> Callable[..., str]:
    """Run pytest in the Windows Python on copies of the tests; all must pass, and none skip."""
    suite = windows.drive / "suite"
    shutil.rmtree(suite, ignore_errors=True)
    shutil.copytree(TESTS, suite / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TESTS.parent / "pyproject.toml", suite)
    (suite / "scripts").mkdir()  # what the tests of `clients` import
    shutil.copy(TESTS.parent / "scripts" / "clients_page.py", suite / "scripts")
    bundle = windows.drive / str(DEBIAN)[1:]  # tests of the catalogue compare with it
    bundle.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(DEBIAN, bundle)
    root = tmp_path / "root.pem"
    root.write_bytes(pki.root.certificate.pem)
    told = f"{postgres.port}|{seen_from_windows(root)}|{pki.root.certificate.sha256}"

    def run(*words: str) -> str:
        done = windows.run(
            windows.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.skips",
            "-c", r"C:\suite\pyproject.toml", "--rootdir", r"C:\suite", *words,
            env={
                "CI": "true",
                "QS_CERTS_REDIRECT": "allowed",
                "QS_CERTS_SERVER": told,
                "QS_CERTS_SHARE": windows.share[1],
                "QS_CERTS_LONG": "1" if LONG else "",
                "PYTHONUTF8": "0",
            },
            patience=1800,
        )  # fmt: skip
        said = done.stdout.decode("cp1252", "replace")
        passed = re.search(r"^(\d+) passed", said, re.M)
        assert done.returncode == 0, said[-6000:] + done.stderr.decode(errors="replace")
        assert passed is not None, said
        count(TESTS_INSIDE, int(passed[1]))
        return said

    return run


def test_windows_itself(inside: Callable[..., str]) -> None:
    said = inside(r"C:\suite\tests\windows\inside")
    assert " skipped" not in said.splitlines()[-1], said


def test_what_is_the_same_on_every_system(inside: Callable[..., str]) -> None:
    names = NEUTRAL["in a minute"] + (NEUTRAL["in many"] if LONG else [])
    files = ["C:\\suite\\tests\\" + name.replace("/", "\\") for name in names]
    inside(*files, *(f"--deselect={name}" for name in ELSEWHERE))


def test_a_failure_inside_is_a_failure_here(inside: Callable[..., str], windows: Windows) -> None:
    (windows.drive / "suite" / "test_no.py").write_text("def test_no(): assert False\n")
    with pytest.raises(AssertionError, match="1 failed"):
        inside(r"C:\suite\test_no.py")
    (windows.drive / "suite" / "test_no.py").write_text(
        "import pytest\ndef test_no(): pytest.skip('no such tool')\n"
    )
    with pytest.raises(AssertionError, match="nothing may be skipped"):
        inside(r"C:\suite\test_no.py")
