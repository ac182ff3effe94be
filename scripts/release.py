"""What a release is made of and described by.

    python3 scripts/release.py build FOLDER     the wheel and the sdist
    python3 scripts/release.py sbom FILE        CycloneDX 1.6: what the wheel pulls in, by hash
    python3 scripts/release.py audit            known vulnerabilities in what we pin

Runs in .venv, which it makes from the lock as `scripts/test.py` does.  Built twice from one
checkout, wheel, sdist and SBOM are the same, byte for byte, whatever the clock, the folder and the
umask.  .github/workflows/release.yml calls this.

Exit codes: 0 done, or nothing known; 2 wrong usage; 4 the advisories could not be had for
everything, so nobody can tell; 5 a pinned version has a known vulnerability; 6 anything else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from environment import (
    CHECKOUT,
    Recipe,
    SetupFailed,
    ensure,
    program,
    report,
    run,
    with_new_enough_python,
)

ENVIRONMENT = CHECKOUT / ".venv"
LOCKS = (CHECKOUT / "requirements" / "dev.txt",)
RUNTIME = CHECKOUT / "requirements" / "runtime.txt"
AUDITED = ("runtime", "build", "single")
EPOCH = "1580601600"  # hatchling's own: 2020-02-02


def version() -> str:
    """The version of this checkout."""
    text = (CHECKOUT / "qs_certs" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SetupFailed("qs_certs/__init__.py names no version", "no __version__ in there", ())
    return found[1]


def _ran(command: list[str], checkout: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    done = subprocess.run(
        command, check=False, cwd=checkout, env=environ, capture_output=True, text=True
    )
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip()[-2000:]
        raise SetupFailed(f"{command[2]} failed", why or f"it ended with {done.returncode}", ())
    return done


def build(folder: Path, checkout: Path = CHECKOUT) -> list[Path]:
    """The wheel and the sdist of *checkout*, in *folder*."""
    _ran([sys.executable, "-m", "hatchling", "build", "--directory", str(folder)], checkout)
    return sorted(folder.iterdir())


def sbom(file: Path) -> None:
    """Write the bill of materials of the wheel, judged by the schema."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject"]
    command += ["pyproject.toml", "--output-reproducible", "--spec-version", "1.6"]
    command += ["--no-validate", str(RUNTIME)]  # what is written is judged, below
    document = json.loads(_ran(command).stdout)
    text = json.dumps(completed(document), indent=2, sort_keys=True) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise SetupFailed("the SBOM is not CycloneDX 1.6", str(wrong), ())
    file.write_text(text, encoding="utf-8", newline="\n")


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """*document* with what the tool cannot know: our version, and that the rest is ours."""
    ours = document["metadata"]["component"]
    ours.update(version=version(), purl=f"pkg:pypi/qs-certs@{version()}")
    parts = sorted(component["bom-ref"] for component in document["components"])
    kept = [each for each in document.get("dependencies", []) if each["ref"] != ours["bom-ref"]]
    document["dependencies"] = [{"ref": ours["bom-ref"], "dependsOn": parts}, *kept]
    # Without a graph in the lock, all parts count as direct: as the lock installs them.
    for component in document["components"]:
        component.pop("description", None)  # the line of the lock, hashes and all, once more
    return document


def audit(lock: Path) -> tuple[int, list[str]]:
    """What the advisory service knows about one lock: an exit code, and lines to print.

    pip-audit calls what it could not look up "skipped" and ends with 0; here that is 4.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
        command += ["--require-hashes", "--format", "json", "--output", str(answer)]
        command += ["--progress-spinner", "off", "--timeout", "15"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not answer.is_file():
            return 4, [f"could not tell: {(done.stderr.strip().splitlines() or ['?'])[-1]}"]
        return judged(json.loads(answer.read_text("utf-8")))


def judged(answer: Mapping[str, Any]) -> tuple[int, list[str]]:
    """pip-audit's JSON as an exit code and lines."""
    known, skipped = [], []
    for package in answer["dependencies"]:
        if "skip_reason" in package:
            skipped.append(f"could not tell about {package['name']}: {package['skip_reason']}")
        for found in package.get("vulns", ()):
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            pin = f"{package['name']} {package['version']}"
            known.append(f"{pin}: {found['id']}, fixed in {fixed}")
    if not answer["dependencies"]:
        skipped.append("could not tell: nothing was looked at")
    return 5 if known else 4 if skipped else 0, [*known, *skipped]


def _audit_all() -> int:
    codes = []
    for name in AUDITED:
        code, lines = audit(CHECKOUT / "requirements" / f"{name}.txt")
        codes.append(code)
        verdict = {0: "nothing known", 4: "could not tell", 5: "known vulnerabilities"}[code]
        print(f"requirements/{name}.txt: {verdict}", *lines, sep="\n  ")
    return max(codes)


def main(arguments: list[str]) -> int:
    """Do what the words say; the exit code."""
    named = dict(zip(("command", "place"), arguments, strict=False))
    command, place = named.get("command"), named.get("place")
    if (command, len(arguments)) not in (("build", 2), ("sbom", 2), ("audit", 1)):
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    try:
        elsewhere = with_new_enough_python(Path(__file__), arguments)
        if elsewhere is not None:
            return elsewhere
        if importlib.util.find_spec("cyclonedx_py") is None:
            ensure(ENVIRONMENT, Recipe(LOCKS, editable=True))
            python = str(program(ENVIRONMENT, "python"))
            return run([python, str(Path(__file__).resolve()), *arguments])
        if command == "audit":
            return _audit_all()
        target = Path(str(place)).absolute()
        if command == "sbom":
            sbom(target)
        else:
            print(*build(target), sep="\n")
    except SetupFailed as failure:
        return report(failure)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
