r"""Set qs-certs up on this machine, then run `qs-certs install`.

    python3 scripts/onboard.py [OPTIONS OF qs-certs install ...]
    python3 scripts/onboard.py --uninstall

Needs Python 3.10 or newer and nothing else.  Makes a virtual environment of its own, installs this
checkout into it and puts `qs-certs` into ~/.local/bin (Windows: says where it is).  The exit code
is that of `qs-certs install`.  Run again, it changes nothing; after an update of the checkout, it
installs the new version.

--uninstall removes what this script made.  Root files stay as they are, and so does the rollback
store: to take a certificate out again, run `qs-certs rollback` first.

Where things go: ~/.local/share/qs-certs-app (Linux), ~/Library/Application Support/qs-certs-app
(macOS), %LOCALAPPDATA%\qs-certs-app (Windows); for root acting for others (under sudo, or with
--user or --all-users) /usr/local/lib/qs-certs-app and /usr/local/bin, where those users can read
it; everything under $QS_CERTS_HOME where that is set.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from environment import (
    CHECKOUT,
    OURS,
    Recipe,
    SetupFailed,
    ensure,
    program,
    report,
    run,
    say,
    with_new_enough_python,
)

LOCKS = (CHECKOUT / "requirements" / "build.txt", CHECKOUT / "requirements" / "runtime.txt")


class Places(NamedTuple):
    """*app* holds one environment per version, *launcher* is what the user types."""

    app: Path
    launcher: Path


def places(system: str, environ: Mapping[str, str], home: Path, for_others: bool) -> Places:
    """Where things go.  *system* is `sys.platform`."""
    windows = system == "win32"
    name = "qs-certs.cmd" if windows else "qs-certs"
    if environ.get("QS_CERTS_HOME"):
        app = Path(environ["QS_CERTS_HOME"]).absolute()
        return Places(app, app / "bin" / name)
    if windows:
        local = environ.get("LOCALAPPDATA") or str(home / "AppData" / "Local")
        app = Path(local) / "qs-certs-app"
        return Places(app, app / "bin" / name)
    if for_others:
        # Root's home is closed to others, and work for a user is done with that user's rights.
        return Places(Path("/usr/local/lib/qs-certs-app"), Path("/usr/local/bin") / name)
    launcher = home / ".local" / "bin" / name
    if system == "darwin":
        return Places(home / "Library" / "Application Support" / "qs-certs-app", launcher)
    data = environ.get("XDG_DATA_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    share = Path(data) if data.startswith("/") else home / ".local" / "share"
    return Places(share / "qs-certs-app", launcher)


def acts_for_others(environ: Mapping[str, str], arguments: list[str]) -> bool:
    """Root who works on other people's homes."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return False
    options = {argument.split("=")[0] for argument in arguments}
    return "SUDO_UID" in environ or not options.isdisjoint({"--user", "--all-users"})


def link(launcher: Path, app: Path, environment: Path) -> Path:
    """Make *launcher* start the program of *environment*; what to type.

    A file there that is not ours is left alone: then that is the program in *environment* itself.
    """
    target = program(environment, "qs-certs")
    if os.path.lexists(launcher) and not is_ours(launcher, app):
        say(f"warning: {launcher} is not ours and stays as it is", f"hint: qs-certs is {target}")
        return target
    new = launcher.with_name(f"{launcher.name}.new-{os.getpid()}")
    try:
        launcher.parent.mkdir(parents=True, exist_ok=True)
        if launcher.suffix == ".cmd":
            # Relative, because cmd reads batch files in the code page of the console.
            relative = os.path.relpath(target, launcher.parent)
            new.write_text(f'@"%~dp0{relative}" %*\n', encoding="ascii", newline="\r\n")
        else:
            new.symlink_to(target)
        new.replace(launcher)
    except OSError as error:
        say(f"warning: cannot write {launcher}: {error.strerror}", f"hint: qs-certs is {target}")
        return target
    return launcher


def is_ours(launcher: Path, app: Path) -> bool:
    """A link into *app*, or (Windows) a batch file inside it."""
    if launcher.suffix == ".cmd":
        return app in launcher.parents
    return launcher.is_symlink() and app in launcher.readlink().parents


def path_hint(launcher: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """How to add the launcher's folder to PATH, where it is not in there."""
    folder = str(launcher.parent)
    if folder in environ.get("PATH", "").split(os.pathsep):
        return ()
    if sys.platform == "win32":
        command = (
            "[Environment]::SetEnvironmentVariable('Path', "
            f"[Environment]::GetEnvironmentVariable('Path', 'User') + ';{folder}', 'User')"
        )
        return (f"hint: it is {launcher}; to type just `qs-certs`, run in PowerShell:", command)
    profile = "~/.zprofile" if sys.platform == "darwin" else "~/.profile"
    line = f"echo 'export PATH=\"{folder}:$PATH\"' >> {profile}"
    return (f"hint: it is {launcher}; to type just `qs-certs`, run:", line)


def environments(app: Path) -> list[Path]:
    """The environments in *app* that this script made."""
    return sorted(found for found in app.glob("env-*") if (found / OURS).is_file())


def set_up(where: Places, recipe: Recipe) -> tuple[Path, bool]:
    """Make the environment and its launcher.  The environment, and whether it is new.

    Each version has its own, so an interrupted update leaves the old one working.
    """
    environment = where.app / f"env-{recipe.fingerprint()}"
    new = ensure(environment, recipe)
    typed = link(where.launcher, where.app, environment)
    for old in environments(where.app):
        if old != environment:
            shutil.rmtree(old, ignore_errors=True)  # Windows: one that is running stays until then
    if new:
        say(f"installed {typed}", *path_hint(typed, os.environ))
    return environment, new


def uninstall(where: Places) -> int:
    """Remove what `set_up` made, and nothing else."""
    found = environments(where.app)
    for environment in found:
        shutil.rmtree(environment)
    if os.path.lexists(where.launcher) and is_ours(where.launcher, where.app):
        where.launcher.unlink()
        found.append(where.launcher)
    for folder in (where.app / "bin", where.app):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    say(*(f"removed {path}" for path in found) if found else ("nothing to remove",))
    say("root files and the rollback store stay as they are")
    return 0


def onboard(script: Path, about: str, recipe: Recipe, arguments: list[str]) -> int:
    """Set up from *recipe*, then `qs-certs install`: its exit code.

    *script* is what the user called, *about* its help text.
    """
    if arguments in (["--help"], ["-h"]):
        print(about.rstrip())
        return 0
    try:
        elsewhere = with_new_enough_python(script, arguments)
        if elsewhere is not None:
            return elsewhere
        for_others = acts_for_others(os.environ, arguments)
        where = places(sys.platform, os.environ, Path.home(), for_others)
        if "--uninstall" in arguments:
            return uninstall(where)
        environment, _ = set_up(where, recipe)
    except SetupFailed as failure:
        return report(failure)
    except KeyboardInterrupt:
        say("interrupted; run the same command again to go on")
        return 130
    return run([str(program(environment, "qs-certs")), "install", *arguments])


def main(arguments: list[str]) -> int:
    return onboard(Path(__file__), __doc__ or "", Recipe(LOCKS, editable=False), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
