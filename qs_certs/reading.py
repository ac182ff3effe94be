"""What `list`, `history` and `roots` show.  Nothing here writes, locks or uses the network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from qs_certs import accounts, bundle, catalogue, changes, files, openssl, secrecy
from qs_certs.catalogue import Root
from qs_certs.changes import Target
from qs_certs.errors import CouldNotRead, QsCertsError, TargetRefused, WrongUsage
from qs_certs.results import (
    Finding,
    HistoryReport,
    ListedCertificate,
    ListReport,
    RootEntry,
    RootsReport,
    spans,
)
from qs_certs.rights import Task
from qs_certs.store import Store


def listing(target: Target) -> Task[ListReport]:
    """The certificates that libpq would load from *target*, in their order.

    Raises CouldNotRead and TargetRefused.
    """
    path = os.path.abspath(target.path)  # noqa: PTH100 - a link stays a link
    if target.account is not None:  # the child may not be able to read it
        import cryptography.x509  # noqa: F401

    # All of it with the user's rights: what is in their file is not for root to decode.
    return Task(target.account, lambda: _listed(path, target))


def _listed(path: str, target: Target) -> ListReport:
    content = files.read(files.resolve(path))
    if content is None:
        return ListReport(path, False, ())
    parsed = openssl.parse(content)
    listed = []
    for position, block in enumerate(parsed.readable, start=1):
        subject, not_before, not_after = _described(block.der or b"")
        root = catalogue.by_fingerprint(block.sha256 or "")
        listed.append(
            ListedCertificate(
                position=position,
                line=block.line,
                subject=subject,
                sha256=block.sha256 or "",
                not_before=not_before,
                not_after=not_after,
                root=None if root is None else root.name,
            )
        )
    findings: tuple[Finding, ...] = ()
    if (damaged := parsed.damaged) is not None:
        findings = (
            Finding(
                "root-unloadable",
                "warning",
                f"libpq refuses this whole file: line {damaged.line}, block {damaged.number}: "
                f"{damaged.problem}",
                (f"qs-certs install --repair{changes.options_of(target)}",),
            ),
        )
    elif not listed and (problem := openssl.load_bytes(content).error) is not None:
        findings = (
            Finding(
                "root-unloadable",
                "warning",
                f"libpq refuses this file: {problem}",
                (f"qs-certs install{changes.options_of(target)}",),
            ),
        )
    return ListReport(path, True, tuple(listed), findings)


def _described(der: bytes) -> tuple[str, datetime | None, datetime | None]:
    """Subject and validity.  OpenSSL accepts certificates that a stricter reader refuses."""
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string()
        return subject, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, x509.InvalidVersion):
        return "(cannot be described)", None, None


def history(
    target: Target, identity: int | None = None, *, limit: int | None = None
) -> Task[HistoryReport]:
    """The changes of *target*, oldest first, or one of them as a diff; the newest *limit*, or all.

    Raises WrongUsage for an unknown change, StoreTampered for a damaged store.
    """
    path = os.path.abspath(target.path)  # noqa: PTH100

    def look() -> HistoryReport:
        store = Store(accounts.store_folder())
        findings = quarantined(store)
        try:
            content = files.read(files.resolve(path))
        except (CouldNotRead, TargetRefused) as error:
            entries = store.changes(path)
            unsure = [each.change.id for each in entries if each.applied is None]
            if unsure:
                findings += (_unsure(unsure, error),)
        else:
            entries = store.happened(path, content)
        if identity is not None:
            found = changes.numbered(entries, identity, path).change
            before, after = store.content(found.before), store.content(found.after)
            diff = changes.diff(before, after, path)
            return HistoryReport(path, (found,), diff, findings)
        earlier = 0 if limit is None else max(0, len(entries) - limit)
        shown = tuple(entry.change for entry in entries[earlier:])
        return HistoryReport(path, shown, findings=findings, earlier=earlier)

    return Task(target.account, look)


def _unsure(changes: Sequence[int], error: QsCertsError) -> Finding:
    return Finding(
        "change-interrupted",
        "warning",
        f"change {spans(changes)} was interrupted, and whether it happened cannot be told: "
        f"{error.message}",
        error.fix,
    )


def quarantined(store: Store) -> tuple[Finding, ...]:
    """Say where an earlier history is that was damaged."""
    try:
        broken = sorted(store.broken().items())
    except OSError:
        return ()
    return tuple(
        Finding(
            "journal-quarantined",
            "warning",
            f"an earlier history was damaged, and lies in {path}; the contents that it names are "
            f"in {os.path.join(store.folder, 'blobs')}, and none is deleted while it is there",  # noqa: PTH118
            (f"how to bring one back: {os.path.join(store.folder, 'README.txt')}",),  # noqa: PTH118
        )
        for _, path in broken
    )


def roots(names: Sequence[str] = (), *, pem: bool = False) -> RootsReport:
    """The catalogue, or the named roots of it; with *pem* their certificates."""
    chosen = tuple(named(name) for name in names) or tuple(catalogue.ROOTS.values())
    text = None
    if pem:
        from qs_certs import sources

        text = b"".join(bundle.canonical(sources.embedded(root)) for root in chosen).decode()
    return RootsReport(tuple(_entry(root) for root in chosen), text)


def named(name: str) -> Root:
    """A root of the catalogue by name or fingerprint.  Raises WrongUsage."""
    root = catalogue.find(name)
    if root is None or root.name not in catalogue.ROOTS:
        raise WrongUsage(
            f"there is no root {secrecy.repeated(name)} in the catalogue",
            why="it knows " + ", ".join(catalogue.ROOTS),
            fix=(
                "qs-certs roots",
                "another root: qs-certs install --from FILE --sha256 FINGERPRINT",
            ),
        )
    return root


def _entry(root: Root) -> RootEntry:
    return RootEntry(
        name=root.name,
        subject=root.subject,
        sha256=root.sha256,
        sha1=root.sha1,
        serial=root.serial,
        not_before=root.not_before,
        not_after=root.not_after,
        distrust_after=root.distrust_after,
        url=root.url,
        needed_by=root.needed_by,
    )
