"""The Python drivers: `python_driver.py DRIVER [UID]`.

The driver is imported, and has once connected to nothing, before the process becomes the user UID:
who that is may not be able to read the Python that the tests run with.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Any

QUESTION = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()"
Ask = Callable[[str, str, str, str], Any]
"""Given host, port, sslmode and sslrootcert; they bring no types along, so they are imported by name."""


def psycopg() -> tuple[str, Ask]:
    psycopg = import_module("psycopg")

    def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        named = {"sslrootcert": sslrootcert} if sslrootcert else {}
        with psycopg.connect(
            host=host, port=port, user="app", dbname="postgres", sslmode=sslmode, **named
        ) as db:
            return db.execute(QUESTION).fetchone()[0]

    return psycopg.__version__, ask


def psycopg2() -> tuple[str, Ask]:
    psycopg2 = import_module("psycopg2")

    def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        text = f"sslmode={sslmode} host={host} port={port} dbname=postgres user=app"
        text += f" sslrootcert={sslrootcert}" if sslrootcert else ""
        db = psycopg2.connect(text)
        try:
            with db.cursor() as cursor:
                cursor.execute(QUESTION)
                return cursor.fetchone()[0]
        finally:
            db.close()

    return psycopg2.__version__.split()[0], ask


def sqlalchemy() -> tuple[str, Ask]:
    import_module("psycopg2")  # its driver, before the process changes its user
    sqlalchemy = import_module("sqlalchemy")

    def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        named = {"sslrootcert": sslrootcert} if sslrootcert else {}
        engine = sqlalchemy.create_engine(
            f"postgresql+psycopg2://app@{host}:{port}/postgres",
            connect_args={"sslmode": sslmode, **named},
            poolclass=sqlalchemy.NullPool,
        )
        with engine.connect() as db:
            return db.scalar(sqlalchemy.text(QUESTION))

    return sqlalchemy.__version__, ask


def asyncpg() -> tuple[str, Ask]:
    asyncpg = import_module("asyncpg")

    async def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        dsn = f"postgresql://app@{host}:{port}/postgres?sslmode={sslmode}"
        db = await asyncpg.connect(dsn + (f"&sslrootcert={sslrootcert}" if sslrootcert else ""))
        try:
            return await db.fetchval(QUESTION)
        finally:
            await db.close()

    return asyncpg.__version__, lambda *given: asyncio.run(ask(*given))


def pg8000() -> tuple[str, Ask]:
    """It has no modes: `prefer` stands for no ssl_context, `require` for True, else a context."""
    dbapi = import_module("pg8000.dbapi")

    def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        context: Any = {"prefer": None, "require": True}.get(sslmode)
        if sslrootcert:
            context = ssl.create_default_context(cafile=sslrootcert)
        db = dbapi.connect("app", host, "postgres", int(port), ssl_context=context)
        try:
            cursor = db.cursor()
            cursor.execute(QUESTION)
            return cursor.fetchone()[0]
        finally:
            db.close()

    return version_of("pg8000"), ask


def pyodbc() -> tuple[str, Ask]:
    """psqlODBC; UID and PWD are ODBC's own words."""
    pyodbc: Any = import_module("pyodbc")

    pyodbc.pooling = False

    def ask(host: str, port: str, sslmode: str, sslrootcert: str) -> Any:
        text = f"DRIVER={sys.argv[3]};SERVER={host};PORT={port};DATABASE=postgres;UID=app"
        text += f";SSLmode={sslmode}"
        text += f";pqopt={{sslrootcert={sslrootcert}}}" if sslrootcert else ""
        db = pyodbc.connect(text)
        try:
            return db.execute(QUESTION).fetchone()[0]
        finally:
            db.close()

    return "", ask


def main() -> None:
    version, ask = globals()[sys.argv[1]]()
    with suppress(Exception):  # loads what is loaded late: codecs, the resolver's threads
        ask("localhost", "9", "prefer", "")
    if sys.platform != "win32" and os.geteuid() == 0:
        user = int(sys.argv[2])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    print(version, flush=True)
    for line in sys.stdin:
        try:
            said = str(ask(*line.rstrip("\n").split("\t")))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is what it says
            said = f"-{type(error).__name__}: {error}".replace("\n", "\x1f")
        print(said, flush=True)


if __name__ == "__main__":
    main()
