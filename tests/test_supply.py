"""The supply chain: what is built is the same everywhere, what is claimed about it is checked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lock
import pins
import pytest
import release
import trustme
from environment import SetupFailed
from pins import DIFFERENT, SAME, UNKNOWN

from qs_certs import catalogue
from tests import https

ROOT = Path(release.__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NOWHERE = "http://127.0.0.1:9"

# --- the same bytes everywhere ------------------------------------------------------------------


def checkout(folder: Path, seconds: int, mode: int) -> Path:
    """A copy of what is built, with other dates and other rights."""
    folder.mkdir(parents=True)
    for name in ("qs_certs", "tests", "scripts", "requirements"):
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for path in folder.rglob("*"):
        os.utime(path, (seconds, seconds))
        if path.is_file():
            path.chmod(mode)
    return folder


def built(folder: Path, source: Path, umask: int) -> dict[str, str]:
    """Name → hash of what a build of *source* makes."""
    before = os.umask(umask)
    try:
        return {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in release.build(folder, source)
        }
    finally:
        os.umask(before)


def test_wheel_and_sdist_are_the_same_whatever_the_clock_the_folder_and_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling, the build backend")
    one = checkout(tmp_path / "one", 1_000_000_000, 0o644)
    two = checkout(tmp_path / "a longer" / "place", 1_700_000_001, 0o600)
    first = built(tmp_path / "dist1", one, 0o022)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    second = built(tmp_path / "dist2", two, 0o077)
    assert {name.rpartition(".")[2] for name in first} == {"whl", "gz"}
    assert first == second

    with (two / "qs_certs" / "__init__.py").open("a", encoding="utf-8") as module:
        module.write("\n")
    third = built(tmp_path / "dist3", two, 0o077)
    assert not set(third.values()) & set(first.values())


# --- the bill of materials ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cyclonedx_py", reason="needs cyclonedx-bom")
    file = tmp_path_factory.mktemp("sbom") / "qs-certs.cdx.json"
    release.sbom(file)
    return file


def test_the_bill_of_materials_holds_every_pin_with_every_hash(bill: Path) -> None:
    document = json.loads(bill.read_text("utf-8"))
    found = {
        f"{part['name']}=={part['version']}": {
            f"sha256:{each['content']}"
            for reference in part["externalReferences"]
            for each in reference["hashes"]
        }
        for part in document["components"]
    }
    assert found == pins.hashes(release.RUNTIME.read_text("utf-8"))
    ours = document["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("qs-certs", release.version())
    (graph,) = [each for each in document["dependencies"] if each["ref"] == ours["bom-ref"]]
    assert len(graph["dependsOn"]) == len(found)


def test_the_bill_of_materials_is_the_same_each_time(bill: Path, tmp_path: Path) -> None:
    release.sbom(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == bill.read_bytes()


def test_a_bill_that_breaks_the_schema_is_refused(
    bill: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(document: dict[str, Any]) -> dict[str, Any]:
        document["components"][0]["type"] = "spaceship"
        return document

    made = subprocess.CompletedProcess([], 0, bill.read_text("utf-8"))
    monkeypatch.setattr(release, "_ran", lambda command: made)
    release.sbom(tmp_path / "good.json")
    monkeypatch.setattr(release, "completed", broken)
    with pytest.raises(SetupFailed, match=r"not CycloneDX 1\.6"):
        release.sbom(tmp_path / "bad.json")
    assert not (tmp_path / "bad.json").exists()


# --- the audit ----------------------------------------------------------------------------------

FINE = {"name": "idna", "version": "3.20", "vulns": []}
SKIPPED = {"name": "typer", "skip_reason": "Dependency not found"}
BAD = {
    "name": "certifi",
    "version": "2022.1",
    "vulns": [{"id": "PYSEC-2023-135", "fix_versions": ["2023.7.22"], "aliases": []}],
}


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        pytest.param([FINE], 0, "", id="nothing known"),
        pytest.param([FINE, SKIPPED], 4, "typer", id="one could not be looked up"),
        pytest.param([], 4, "nothing was looked at", id="nothing at all"),
        pytest.param([SKIPPED, BAD], 5, "PYSEC-2023-135, fixed in 2023.7.22", id="known"),
    ],
)
def test_an_audit_is_clean_only_where_everything_was_looked_up(
    dependencies: list[object], code: int, words: str
) -> None:
    found, lines = release.judged({"dependencies": dependencies})
    assert found == code
    assert words in "\n".join(lines)


def test_without_the_advisory_service_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pip_audit", reason="needs pip-audit")
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    code, lines = release.audit(lock.path_of("build"))
    assert code == 4
    assert lines[0].startswith("could not tell")


# --- the pins of roots --------------------------------------------------------------------------

G2 = (ROOT / "qs_certs" / "roots" / f"{catalogue.DEFAULT}.pem").read_bytes()
G3 = (ROOT / "qs_certs" / "roots" / "digicert-global-root-g3.pem").read_bytes()


def test_the_pins_are_those_of_the_catalogue_and_of_the_embedded_copies() -> None:
    found = {pin.name: pin for pin in pins.catalogue_pins()}
    assert {name: (pin.sha256, pin.url) for name, pin in found.items()} == {
        name: (root.sha256, root.url) for name, root in catalogue.ROOTS.items()
    }
    assert all(pin.embedded == pin.sha256 for pin in found.values())


@pytest.mark.parametrize(
    ("page", "code", "words"),
    [
        pytest.param("/pem", SAME, "as published", id="the same"),
        pytest.param("/der", SAME, "as published", id="the same, as DER"),
        pytest.param("/redirect", SAME, "as published", id="the same, elsewhere"),
        pytest.param("/wrong", DIFFERENT, "published 31ad6648", id="another certificate"),
        pytest.param("/among-others", UNKNOWN, "3 certificates", id="several"),
        pytest.param("/block-page", UNKNOWN, "0 certificates", id="a block page"),
        pytest.param("/empty", UNKNOWN, "0 certificates", id="nothing"),
        pytest.param("/404", UNKNOWN, "404", id="gone"),
    ],
)
def test_a_root_is_compared_with_what_its_publisher_serves(
    page: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    monkeypatch.setenv("SSL_CERT_FILE", str(https.authority_file(authority, tmp_path)))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    root = catalogue.ROOTS[catalogue.DEFAULT]
    with https.serving(authority, https.pages(G2, G3)) as site:
        pin = pins.Pin(root.name, site.url(page), root.sha256, root.sha256)
        verdict = pins.judge_root(pin)
    assert verdict.code == code, verdict
    assert words in verdict.words


def test_a_server_that_nobody_vouches_for_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with https.serving(trustme.CA(), https.pages(G2, G3)) as site:
        verdict = pins.judge_root(pins.Pin("g2", site.url("/wrong"), "0", "0"))
        plain = pins.judge_root(pins.Pin("g2", f"http://127.0.0.1:{site.port}/wrong", "0", "0"))
    assert (verdict.code, plain.code) == (UNKNOWN, UNKNOWN)
    assert "certificate verify failed" in verdict.words


def test_a_copy_in_the_package_that_differs_needs_no_network_to_be_seen() -> None:
    def unreachable(url: str) -> bytes:
        raise OSError(url)

    root = catalogue.ROOTS[catalogue.DEFAULT]
    pin = pins.Pin(root.name, root.url, root.sha256, pins.fingerprint(G3))
    assert pins.judge_root(pin, unreachable).code == DIFFERENT
    good = pin._replace(embedded=pins.fingerprint(G2))
    assert pins.judge_root(good, unreachable).code == UNKNOWN


# --- the pins of packages -----------------------------------------------------------------------

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def locked(*pairs: tuple[str, tuple[str, ...]]) -> str:
    return "# made\n" + "".join(
        f"{pin} ; sys_platform == 'win32' \\\n"
        + " \\\n".join(f"    --hash={digest}" for digest in digests)
        + "\n"
        for pin, digests in pairs
    )


@pytest.mark.parametrize(
    ("now", "code", "words"),
    [
        pytest.param(locked(("a==1", (A, B))), SAME, "2 hashes of 1 packages", id="the same"),
        pytest.param(locked(("a==1", (A, B, C))), SAME, "as published", id="one came later"),
        pytest.param(locked(("a==1", (A, C))), DIFFERENT, f"a==1 {B}", id="one was replaced"),
        pytest.param(locked(("a==1", (A,))), DIFFERENT, f"a==1 {B}", id="one was taken back"),
        pytest.param(locked(("a==2", (A, B))), UNKNOWN, "a==1", id="another version came back"),
        pytest.param("", UNKNOWN, "a==1", id="nothing came back"),
    ],
)
def test_a_lock_is_compared_with_the_index(now: str, code: int, words: str) -> None:
    verdict = pins.compare("lock.txt", locked(("a==1", (A, B))), now)
    assert verdict.code == code
    assert words in verdict.words


def test_a_pin_without_a_hash_is_a_difference() -> None:
    text = locked(("a==1", (A,))) + "b==1\n"
    assert pins.compare("lock.txt", text, text).code == DIFFERENT
    assert pins.compare("lock.txt", "", "").code == DIFFERENT


def test_what_is_asked_anew_has_lost_its_hashes_and_nothing_else() -> None:
    text = lock.path_of("runtime").read_text("utf-8")
    asked = pins.without_hashes(text)
    assert "--hash" not in asked
    assert {line.split(" ")[0] for line in asked.splitlines()} == pins.hashes(text).keys()
    assert "; sys_platform == 'win32'" in asked


@pytest.mark.parametrize("error", [OSError("no"), subprocess.CalledProcessError(1, "pip")])
def test_without_uv_nobody_can_tell(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def missing(folder: str) -> list[str]:
        raise error

    monkeypatch.setattr(lock, "uv_in", missing)
    verdicts = pins.judge_locks()
    assert [verdict.code for verdict in verdicts] == [UNKNOWN] * len(lock.LOCKS)
    assert pins.exit_code(verdicts) == 4


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((SAME, SAME), 0), ((SAME, UNKNOWN), 4), ((DIFFERENT, UNKNOWN), 5), ((), 4)],
)
def test_a_difference_outranks_what_nobody_could_look_at(
    codes: tuple[int, ...], expected: int
) -> None:
    assert pins.exit_code(pins.Verdict("", code, "") for code in codes) == expected


if os.environ.get("QS_CERTS_LONG") == "1":

    @pytest.mark.slow
    def test_the_real_index_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        uv = lock.uv_in(str(tmp_path / "uv"))
        text = lock.path_of("build").read_text("utf-8")
        now = pins.published(uv, "build", tmp_path)
        assert pins.compare("build.txt", text, now).code == SAME
        first = pins._HASH.search(text)
        assert first is not None
        changed = text.replace(first[1], A)
        assert pins.compare("build.txt", changed, now).code == DIFFERENT
        monkeypatch.setenv("UV_INDEX_URL", f"{NOWHERE}/simple")
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        with pytest.raises(OSError, match="uv ended with"):
            pins.published(uv, "build", tmp_path)


# --- the workflows ------------------------------------------------------------------------------


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    found = Path(sys.executable).with_name("zizmor")
    if not found.exists():
        pytest.skip("needs zizmor")
    command = [str(found), "--offline", "--quiet", "--no-progress", "--config"]
    command += [str(ROOT / ".github" / "zizmor.yml"), str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def schema(*files: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-workflows", *map(str, files)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_workflows_are_what_github_takes(tmp_path: Path) -> None:
    assert len(WORKFLOWS) == 2
    done = schema(*WORKFLOWS)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "release.yml"
    text = WORKFLOWS[0].read_text("utf-8").replace("runs-on:", "runs-off:")
    broken.write_text(text, encoding="utf-8")
    assert schema(broken).returncode == 1


def test_the_workflows_do_nothing_that_is_known_to_be_dangerous(tmp_path: Path) -> None:
    done = zizmor(ROOT / ".github" / "workflows")
    assert done.returncode == 0, done.stdout
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    injected = text.replace('grep -qx "', 'echo "${{ github.head_ref }}"; grep -qx "')
    assert injected != text
    (folder / "release.yml").write_text(injected, encoding="utf-8")
    assert "template-injection" in zizmor(folder).stdout


def test_the_release_runs_scripts_that_are_there_and_only_one_job_may_write() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    named = set(re.findall(r"scripts/(\w+\.py)", text))
    assert named >= {"pins.py", "release.py", "kit.py", "single.py"}
    assert all((ROOT / "scripts" / name).is_file() for name in named)
    assert text.count("contents: write") == 1
    assert "permissions: {}" in text
    assert not re.search(r"secrets\.", text), "publishing needs no password"
