#!/usr/bin/python
"""An Ansible module: `qs-certs install`, with check mode and diff."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: qs_certs_install
short_description: Put root certificates into the root files that libpq verifies servers with
description:
  - Runs C(qs-certs install), which adds what is missing and keeps everything else.
  - Check mode is C(--dry-run); the diff is that of the program.
options:
  program:
    description: The path of qs-certs on the host.
    type: path
    default: /usr/local/bin/qs-certs
  roots:
    description: Names of the catalogue, as C(qs-certs roots) lists them; none is the default root.
    type: list
    elements: str
    default: []
  pem:
    description: A certificate that is not in the catalogue, PEM.  Needs O(sha256).
    type: str
  sha256:
    description: The fingerprint that O(pem) must have.
    type: str
  all_users:
    description: Work on every account of the host.  Needs root.
    type: bool
    default: false
  users:
    description:
      - Work on these accounts.  Needs root.
      - With neither this nor O(all_users), the file is that of the user whom the task runs as.
    type: list
    elements: str
    default: []
  options:
    description: More options of C(qs-certs install), such as C(--offline).
    type: list
    elements: str
    default: []
author:
  - The authors of qs-certs
"""

EXAMPLES = r"""
- name: Every account has the root of Query Service
  qs_certs_install:
    all_users: true
  become: true
"""

RETURN = r"""
targets:
  description: One for each root file, as in the JSON of C(qs-certs install).
  returned: always, unless qs-certs could not be run
  type: list
  elements: dict
warnings:
  description: What the program warns of, such as a first root file.
  returned: when there is something to warn of
  type: list
  elements: str
"""

OPTIONS = {
    "program": {"type": "path", "default": "/usr/local/bin/qs-certs"},
    "roots": {"type": "list", "elements": "str", "default": []},
    "pem": {"type": "str"},
    "sha256": {"type": "str"},
    "all_users": {"type": "bool", "default": False},
    "users": {"type": "list", "elements": "str", "default": []},
    "options": {"type": "list", "elements": "str", "default": []},
}


def command_line(params: dict[str, Any], check_mode: bool) -> list[str]:
    """The call of the program for these parameters."""
    command = [params["program"], "install", "--json", *params["options"]]
    if params["pem"]:
        command += ["--from", "-", "--sha256", params["sha256"]]
    if params["all_users"]:
        command.append("--all-users")
    for user in params["users"]:
        command += ["--user", user]
    if check_mode:
        command.append("--dry-run")
    return [*command, "--", *params["roots"]] if params["roots"] else command


def outcome(code: int, document: dict[str, Any]) -> dict[str, Any]:
    """What Ansible reports for the exit code and the JSON document of a run."""
    targets = document.get("targets", [])
    result = {
        "changed": any(each["status"] in ("changed", "would-change") for each in targets),
        "targets": targets,
        "diff": [{"prepared": each["diff"]} for each in targets if each["diff"]],
        "warnings": [
            each["message"] for each in document["findings"] if each["severity"] == "warning"
        ],
    }
    # Exit code 1 is also a dry run with something to do, which is no failure.
    if code != 0 and document["status"] != "would-change":
        errors = [document.get("error"), *(each["error"] for each in targets)]
        said = [": ".join(filter(None, (e["message"], e["why"]))) for e in errors if e]
        result.update(failed=True, rc=code, msg="; ".join(said) or f"it ended with {code}")
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS,
        supports_check_mode=True,
        required_together=[("pem", "sha256")],
    )
    command = command_line(module.params, module.check_mode)
    if not os.access(command[0], os.X_OK):
        missing = f"{command[0]} is not on this host"
        if module.check_mode:  # another task would install it first
            module.exit_json(changed=True, targets=[], msg=f"{missing} yet")
        module.fail_json(msg=missing)
    code, out, err = module.run_command(command, data=module.params["pem"])
    try:
        document = json.loads(out)
    except ValueError:
        module.fail_json(msg=f"qs-certs ended with {code}: {err.strip() or out.strip()}", rc=code)
    result = outcome(code, document)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
