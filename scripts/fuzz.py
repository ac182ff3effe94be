"""Coverage-guided fuzzing of everything that reads what strangers send.

    python scripts/fuzz.py [--seconds N] [TARGET ...]

Each target of tests/fuzz/targets.py runs N seconds (30) in a process of its own, from the seeds in
tests/fuzz/corpus.  Ends with 1 where one broke a promise: the input is then in the file that the
output names.  Needs atheris (the dependency group `fuzz`): Linux on x86-64.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CORPUS = CHECKOUT / "tests" / "fuzz" / "corpus"
LONGEST = 8192
"""Bytes of an input."""


def inside(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; never returns."""
    atheris = importlib.import_module("atheris")  # has no types, and is not on every machine
    with atheris.instrument_imports(include=["qs_certs"]):
        from tests.fuzz import targets
    every = targets.TARGETS | targets.CONTROL
    atheris.Setup([sys.argv[0], *arguments], targets.timed(every[name]))
    atheris.Fuzz()


def fuzz(name: str, seconds: int, *, seed: int = 0) -> tuple[int, bool, str]:
    """Executions, whether no promise was broken, and what the fuzzer said.

    The same *seed* tries the same inputs in the same order, as far as the time goes; 0 is random.
    """
    with tempfile.TemporaryDirectory() as grown:
        folders = [grown]
        if (CORPUS / name).is_dir():
            folders.append(str(CORPUS / name))
        options = [f"-max_total_time={seconds}", f"-seed={seed}"]
        options += [f"-max_len={LONGEST}", "-timeout=25", "-rss_limit_mb=1024", "-verbosity=1"]
        options += [
            "-print_final_stats=1",
            "-keep_seed=1",
            f"-artifact_prefix={tempfile.gettempdir()}/qs-certs-",
        ]
        done = subprocess.run(
            [sys.executable, __file__, "--inside", name, *options, *folders],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    said = done.stdout + done.stderr
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    return int(executed[1]) if executed else 0, done.returncode == 0, said


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--inside"]:
        inside(arguments[1], arguments[2:])
    from tests.fuzz import targets

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - targets.TARGETS.keys() - targets.CONTROL.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    broken = 0
    for name in options.targets or targets.TARGETS:
        executed, sound, said = fuzz(name, options.seconds)
        print(f"{name:20}{executed:>12,} executions  {'sound' if sound else 'BROKEN'}", flush=True)
        if not sound:
            broken += 1
            print(said[-6000:])
    return int(bool(broken))


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT)]
    sys.exit(main(sys.argv[1:]))
