"""The role qs_certs, run by ansible-core on several real sshd hosts.

One story, because runs of a playbook take seconds: nothing is there; check mode; the first run,
with one host broken and one out of reach; the second; then somebody takes a root out again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.fleet.hosts import USER, Host, HostsMissing, running
from tests.fleet.scripts import FLEET, INSTALL, JAMF, PAGE
from tests.postgres import DATABASE, ROLE, Postgres
from tests.program import NO_NETWORK

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

ROLES = FLEET / "ansible" / "roles"
GOOD = ("lab1", "lab2", "lab3")
BROKEN = "lab4"
UNREACHABLE = "lab5"


def tool(name: str) -> str:
    """A program of the environment that the tests run in."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"needs {name}")
    return found


# --- the bench ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    tool("ansible-playbook")
    try:
        with running((*GOOD, BROKEN)) as machines:
            yield {host.name: host for host in machines}
    except HostsMissing as missing:
        pytest.skip(str(missing))


@dataclass(frozen=True, slots=True)
class Recap:
    """What the last lines of a run say about one host."""

    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True, slots=True)
class Played:
    """How a run of the playbook ended."""

    code: int
    out: str

    @property
    def recaps(self) -> dict[str, Recap]:
        pattern = r"^(\w+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)"
        lines = re.findall(pattern, self.out, re.MULTILINE)
        return {name: Recap(*map(int, numbers)) for name, *numbers in lines}

    def task(self, words: str) -> str:
        """The output of the tasks whose names hold these words."""
        pattern = rf"^TASK \[[^\]]*{words}.*?(?=^(?:TASK|PLAY) )"
        return "".join(re.findall(pattern, self.out, re.MULTILINE | re.DOTALL))


@dataclass(frozen=True, slots=True)
class Controller:
    """Where playbooks are started."""

    folder: Path

    def play(self, *options: str) -> Played:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_ROLES_PATH": str(ROLES),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=30s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/qs-certs-{os.getpid()}",
        }
        done = subprocess.run(
            [tool("ansible-playbook"), "-i", "inventory", "site.yml", *options],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Played(done.returncode, done.stdout)


SITE = """\
- name: Connections can be verified
  hosts: all
  remote_user: root
  gather_facts: false
  roles:
    - role: qs_certs
      qs_certs_kit: {kit}
      qs_certs_users: [{user}]
      qs_certs_options: [--offline]
      qs_certs_own_roots:
        - pem: "{{{{ lookup('file', 'ca.pem') }}}}"
          sha256: {sha256}
"""


@pytest.fixture(scope="module")
def controller(
    hosts: dict[str, Host], kit: Path, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    folder = tmp_path_factory.mktemp("controller")
    (folder / "ca.pem").write_bytes(pki.root.certificate.pem)
    site = SITE.format(kit=kit, user=USER, sha256=pki.root.certificate.sha256)
    (folder / "site.yml").write_text(site, "utf-8")
    nobody = f"{UNREACHABLE} ansible_host=127.0.0.19 ansible_port=9"
    lines = [*(host.inventory for host in hosts.values()), nobody]
    (folder / "inventory").write_text("\n".join(lines) + "\n", "utf-8")
    yield Controller(folder)
    shutil.rmtree(f"/tmp/qs-certs-{os.getpid()}", ignore_errors=True)


def written(*hosts: Host) -> set[str]:
    return {line for host in hosts for line in host.written()}


# --- the story ----------------------------------------------------------------------------------


def test_ansible_from_bare_hosts_to_verified_connections(
    controller: Controller, hosts: dict[str, Host], pki: Pki, postgres: Postgres
) -> None:
    conninfo = (
        f"host=db.test hostaddr=127.0.0.1 port={postgres.port} user={ROLE} dbname={DATABASE}"
        " sslmode=verify-full"
    )
    psql = f"psql -XAtc 'select 42' '{conninfo}'"
    root_file = f"/home/{USER}/.postgresql/root.crt"
    good = [hosts[name] for name in GOOD]
    damage = f"mkdir -m 700 .postgresql; printf '%s' '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' > {root_file}"
    hosts[BROKEN].ok(damage, USER)

    # A control: without the roots, psql refuses.
    refused = good[0].run(psql, USER)
    assert (refused.returncode, "does not exist" in refused.stderr) == (2, True), refused

    # Check mode on bare hosts: it says that there is something to do, and does nothing.
    before = written(*good)
    checked = controller.play("--check", "--diff", "--limit", ",".join(GOOD))
    assert written(*good) ^ before == set(), checked.out
    for name in GOOD:
        assert checked.recaps[name].changed > 0, checked.out
        assert checked.recaps[name].failed == 0, checked.out

    # The first run: changed; the broken host says why; the others finish.
    first = controller.play("--diff")
    assert first.code != 0
    for name in GOOD:
        assert (first.recaps[name].changed, first.recaps[name].failed) == (7, 0), first.out
    assert first.recaps[BROKEN].failed == 1, first.out
    assert "--repair" in first.out or "does not load" in first.out, first.out
    assert first.recaps[UNREACHABLE].unreachable == 1
    assert "+-----BEGIN CERTIFICATE-----" in first.task("Roots of the catalogue")
    for host in good:
        assert host.ok(f"stat -c '%U %a' {root_file}", USER) == f"{USER} 644\n"
        assert host.ok(psql, USER) == "42\n"
    shown = hosts[BROKEN].ok(f"cat {root_file}", USER)
    assert "AAAA" in shown
    assert shown.count("BEGIN") == 1, "nothing was changed there"

    # The second run: unchanged, to the byte and the time.
    before = written(*good)
    second = controller.play("--limit", ",".join(GOOD))
    assert second.code == 0, second.out
    assert {name: second.recaps[name].changed for name in GOOD} == dict.fromkeys(GOOD, 0)
    assert written(*good) ^ before == set()

    # Somebody takes a root out on one host: check mode shows that as a diff there, and nothing else.
    good[0].ok("qs-certs remove", USER)
    before = written(*good)
    checked = controller.play("--check", "--diff", "--limit", "lab1,lab2")
    assert checked.code == 0, checked.out
    assert [checked.recaps[name].changed for name in ("lab1", "lab2")] == [1, 0], checked.out
    diff = checked.task("Roots of the catalogue")
    assert diff.count("+-----BEGIN CERTIFICATE-----") == 1
    assert f"+++ {root_file}" in diff
    assert written(*good) ^ before == set()

    # The golden image of docs/fleet.md: who comes later has the file from the start.
    skeleton = "/etc/skel/.postgresql/root.crt"
    assert f"qs-certs install --target {skeleton}" in PAGE
    good[1].ok(f"qs-certs install --offline --target {skeleton} && useradd -m -p '*' kim")
    owned = good[1].ok(
        "stat -c '%U %a' /home/kim/.postgresql /home/kim/.postgresql/root.crt", "kim"
    )
    assert owned == "kim 700\nkim 644\n"
    assert "[root-present]" in good[1].ok("qs-certs check", "kim")

    # The other tools' scripts, as root, on that host: the file stays its user's.
    assert f"{USER}" in good[0].ok(f"sh {INSTALL} / lab1 {USER} --offline --user {USER}")
    assert good[0].ok(f"stat -c '%U %a' {root_file}", USER) == f"{USER} 644\n"
    assert good[0].ok(psql, USER) == "42\n"
    assert good[0].ok("qs-certs list", USER).count("digicert-global-root-g2") == 1
    assert re.match("<result>[a-z-]+ qs-certs: .*</result>", good[0].ok(f"sh {JAMF}"))


def test_ansible_lint_finds_nothing_at_its_strictest(tmp_path: Path) -> None:
    folder = tmp_path / "ansible"
    shutil.copytree(FLEET / "ansible", folder)
    found = lint(folder)
    assert found.returncode == 0, found.stdout + found.stderr


def test_ansible_lint_would_find_a_task_that_always_changes(tmp_path: Path) -> None:
    folder = tmp_path / "ansible"
    shutil.copytree(FLEET / "ansible", folder)
    tasks = folder / "roles/qs_certs/tasks/roots.yml"
    tasks.write_text(tasks.read_text() + "\n- name: Always\n  ansible.builtin.command: date\n")
    found = lint(folder)
    assert found.returncode != 0
    assert "no-changed-when" in found.stdout


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("ansible-lint"), "--offline", "--nocolor", "--profile", "production", "site.yml"],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder.parent),
            "ANSIBLE_HOME": str(folder.parent / "home"),
            "LC_ALL": "C.UTF-8",
            "HTTPS_PROXY": NO_NETWORK,
        },
        capture_output=True,
        text=True,
        check=False,
    )
