"""Which servers: the one that was asked for, or every one that this user's files name.

Reads service files and `.pgpass` (hosts only) where libpq would; nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from qs_certs import files, secrecy
from qs_certs.errors import QsCertsError, WrongUsage
from qs_certs.libpq import pasted, settings
from qs_certs.libpq.locations import Surroundings
from qs_certs.libpq.settings import Given, Settings
from qs_certs.values import Value, replace


class Connection(Value):
    """A connection that somebody would make, and where we know it from."""

    settings: Settings
    given: Given
    origin: str | None = None


def asked_for(
    around: Surroundings,
    conninfo: str | None,
    host: str | None,
    port: int | None,
    service: str | None,
) -> Connection | None:
    """The connection that the command line names; None where it names none.

    Raises WrongUsage for what libpq would refuse, and where an option holds a connection string,
    with its password as likely as not.
    """
    if conninfo is None and host is None and port is None and service is None:
        return None
    given = pasted.parse_conninfo(conninfo) if conninfo is not None else Given()
    values = dict(given.values)
    for keyword, value in (("host", host), ("port", port), ("service", service)):
        if value is not None:
            values[keyword] = str(value)
    if host is not None:
        values.pop("hostaddr", None)
    named = Given(values, given.form, given.variables)
    slips = (each for each in (host, service) if each)
    if any(re.search(r"[=@\s]|//", each) or secrecy.suspicious(each) for each in slips):
        named = settings.sieved(named)  # else it may be called after passwords
    return resolved(named, around)


def resolved(given: Given, around: Surroundings, origin: str | None = None) -> Connection:
    """*given* with its service, the environment and libpq's defaults."""
    around = replace(around, env={**around.env, **given.variables})
    name = settings.service_of(given, around.env)
    if name is not None and secrecy.suspicious_file(name):
        raise WrongUsage("the name of the service is a URL, or holds what looks like a password")
    section = None if name is None else _service(name, around)
    return Connection(settings.resolve(given, section, around.env), given, origin)


def _service(name: str, around: Surroundings) -> dict[str, str]:
    """libpq:fe-connect.c parseServiceInfo: the user's file, then the system's."""
    own = around.user_service_file
    if around.env.get("PGSERVICEFILE") and own is not None and _text(own) is None:
        raise WrongUsage(f'service file "{own}" not found', fix=("unset PGSERVICEFILE",))
    for path in _service_files(around):
        text = _text(path)
        section = None if text is None else settings.parse_service_file(text, name, path=path)
        if section is not None:
            return section
    raise WrongUsage(
        f'definition of service "{name}" not found',
        why="looked in " + ", ".join(_service_files(around)),
    )


def _service_files(around: Surroundings) -> tuple[str, ...]:
    own = around.user_service_file
    return (*((own,) if own is not None else ()), *around.system_service_files)


def service_names(around: Surroundings) -> tuple[str, ...]:
    """The services that `--service` and `service=` can name here, the user's own first."""
    texts = (_text(path) or "" for path in _service_files(around))
    return tuple(dict.fromkeys(name for text in texts for name in settings.service_names(text)))


def _text(path: str) -> str | None:
    """A file's text; None where there is none or it cannot be read."""
    try:
        content = files.read(path)
    except QsCertsError:
        return None
    return None if content is None else content.decode("utf-8", "surrogateescape")


def known(around: Surroundings) -> tuple[tuple[Connection, ...], tuple[str, ...]]:
    """Every connection that service files, `.pgpass` and the environment name, each server once,
    and sentences about what could not be understood."""
    found: list[Connection] = []
    problems: list[str] = []
    for given, origin in _named(around):
        try:
            found.append(resolved(given, around, origin))
        except WrongUsage as error:
            problems.append(f"{origin}: {error.message}")
    seen: dict[object, Connection] = {}
    for connection in found:
        chosen = connection.settings
        seen.setdefault((chosen.servers, chosen.sslmode, chosen.sslrootcert), connection)
    return tuple(seen.values()), tuple(problems)


def _named(around: Surroundings) -> Iterable[tuple[Given, str]]:
    for path in dict.fromkeys(_service_files(around)):
        for name in settings.service_names(_text(path) or ""):
            yield Given({"service": name}), f"service {secrecy.repeated(name)} in {path}"
    if any(around.env.get(name) for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE")):
        yield Given(), "environment"
    password_file = around.password_file
    if password_file is not None:
        for host, port in settings.pgpass_hosts(_text(password_file) or ""):
            values = {"host": host} if port is None else {"host": host, "port": str(port)}
            yield Given(values), password_file
