"""Certificates from everywhere: each way ends as the contract says, and in time.

Downloads go to a real HTTPS server on the loopback address (`https.py`), through requests,
urllib3 and OpenSSL as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import hashlib
import os
import pkgutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

import qs_certs
from qs_certs import catalogue, sources
from qs_certs.catalogue import Root
from qs_certs.errors import (
    CouldNotFetch,
    CouldNotRead,
    QsCertsError,
    RefusedSource,
    WrongFingerprint,
    WrongUsage,
)
from qs_certs.sources import Fetched
from tests import https

PACKAGE = Path(qs_certs.__file__).parent
TIMEOUT = 10.0
SLOW = ("/dripping-body", "/dripping-headers", "/silent")
SLOW_TIMEOUT = 0.6
GRACE = 0.5

G2 = catalogue.ROOTS["digicert-global-root-g2"]
G3 = catalogue.ROOTS["digicert-global-root-g3"]
G2_PEM = (PACKAGE / "roots" / f"{G2.name}.pem").read_bytes()
G3_PEM = (PACKAGE / "roots" / f"{G3.name}.pem").read_bytes()
G2_DER = ssl.PEM_cert_to_DER_cert(G2_PEM.decode("ascii"))


@dataclass(frozen=True)
class World:
    """A site that a CA bundle makes trusted, and that bundle."""

    site: https.Site
    ca_bundle: str
    authority: trustme.CA

    def root(self, path: str, root: Root = G2) -> Root:
        """*root*, as if its publisher served it here."""
        return dataclasses.replace(root, url=self.site.url(path))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    authority = trustme.CA()
    bundle = https.authority_file(authority, tmp_path_factory.mktemp("authority"))
    with https.serving(authority, https.pages(G2_PEM, G3_PEM)) as site:
        yield World(site, str(bundle), authority)


@pytest.fixture(autouse=True)
def plain_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No proxy, no CA bundle and no .netrc of this machine reaches a test."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    if "world" in request.fixturenames:
        request.getfixturevalue("world").site.seen.clear()


def fetch(world: World, path: str, *, timeout: float = TIMEOUT) -> Fetched:
    return sources.fetch(
        world.root(path), url=None, timeout=timeout, ca_bundle=world.ca_bundle, offline=False
    )


def read(
    origin: str,
    sha256: str = G2.sha256,
    *,
    stdin: Callable[[], bytes] = lambda: pytest.fail("nobody asked for standard input"),
    timeout: float = TIMEOUT,
    ca_bundle: str | None = None,
) -> Fetched:
    return sources.read(origin, sha256, stdin=stdin, timeout=timeout, ca_bundle=ca_bundle)


def _everything_said(error: QsCertsError | Fetched) -> str:
    if isinstance(error, Fetched):
        return f"{error.origin} {error.warning}"
    return " ".join([str(error), error.message, error.why or "", *error.fix])


# --- the embedded copy ---------------------------------------------------------------------------


@pytest.mark.parametrize("root", catalogue.ROOTS.values(), ids=catalogue.ROOTS.keys())
def test_the_embedded_copy_matches_its_pin(root: Root) -> None:
    assert hashlib.sha256(sources.embedded(root)).hexdigest() == root.sha256


def _altered(pem: bytes) -> bytes:
    der = bytearray(ssl.PEM_cert_to_DER_cert(pem.decode("ascii")))
    der[-1] ^= 1
    return ssl.DER_cert_to_PEM_cert(bytes(der)).encode("ascii")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(_altered(G2_PEM), WrongFingerprint, id="one bit changed"),
        pytest.param(G3_PEM, WrongFingerprint, id="another root"),
        pytest.param(b"", CouldNotRead, id="empty"),
    ],
)
def test_an_embedded_copy_that_was_altered_is_not_used(
    content: bytes, error: type[QsCertsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pkgutil, "get_data", lambda package, resource: content)
    with pytest.raises(error):
        sources.embedded(G2)


def test_an_embedded_copy_that_is_missing_says_what_to_do() -> None:
    with pytest.raises(CouldNotRead) as raised:
        sources.embedded(dataclasses.replace(G2, name="no-such-root"))
    assert raised.value.fix == ("reinstall qs-certs",)


def test_the_embedded_copy_is_found_in_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in PACKAGE.rglob("*"):
            if path.suffix in (".py", ".pem"):
                packed.write(path, path.relative_to(PACKAGE.parent))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from qs_certs import catalogue, sources\n"
        "assert sources.__file__.startswith(sys.argv[1]), sources.__file__\n"
        "sys.stdout.write(sources.embedded(catalogue.ROOTS[catalogue.DEFAULT]).hex())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(archive)], capture_output=True, check=False
    )
    assert (done.stdout.decode(), done.stderr.decode()) == (G2_DER.hex(), "")


def test_offline_uses_the_embedded_copy_without_a_warning_and_asks_nobody(world: World) -> None:
    got = sources.fetch(world.root("/wrong"), url=None, ca_bundle=None, offline=True)
    assert got == Fetched(G2_DER, "embedded", "embedded copy")
    assert world.site.seen == []


# --- downloads that work -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/pem", 0),
        ("/der", 0),
        ("/crlf-bom", 0),
        ("/among-others", 1),
        ("/as-html", 0),
        ("/chunked", 0),
        ("/to-the-end", 0),
        ("/gzip", 0),
        ("/deflate", 0),
        ("/bare-deflate", 0),
        ("/identity", 0),
        ("/redirect", 0),
        ("/redirect-3", 0),
    ],
)
def test_a_download_that_holds_the_pinned_certificate_is_used(
    world: World, path: str, others: int
) -> None:
    got = fetch(world, path)
    assert got == Fetched(G2_DER, "download", world.site.url(path), others=others)


def test_the_catalogue_s_address_is_asked_unless_another_is_given(world: World) -> None:
    fetch(world, "/pem")
    sources.fetch(
        world.root("/wrong"),
        url=world.site.url("/der"),
        ca_bundle=world.ca_bundle,
        offline=False,
    )
    assert [seen.line for seen in world.site.seen] == ["GET /pem HTTP/1.1", "GET /der HTTP/1.1"]


# --- downloads that fail -------------------------------------------------------------------------

FAILURES = [
    ("/block-page", "a web page answered instead of a certificate"),
    ("/empty", "it is empty"),
    ("/text", "it holds something else"),
    ("/404", "HTTP status 404"),
    ("/500", "HTTP status 500"),
    ("/204", "HTTP status 204"),
    ("/endless", "larger than 262144 bytes"),
    ("/large", "larger than 262144 bytes"),
    ("/bomb", "larger than 262144 bytes"),
    ("/half-gzip", "cut off"),
    ("/no-gzip", "cannot be decompressed"),
    ("/br", "compressed in a way that was not asked for"),
    ("/twice", "compressed in a way that was not asked for"),
    ("/dripping-body", "no complete answer in time"),
    ("/dripping-headers", "no complete answer in time"),
    ("/silent", "no complete answer in time"),
    ("/cut", "cut off"),
    ("/cut-chunk", "cut off"),
    ("/not-http", "does not speak HTTP"),
    ("/hang-up", "hung up without an answer"),
    ("/redirect-loop", "more than 3 redirects"),
    ("/redirect-4", "more than 3 redirects"),
    ("/redirect-nowhere", "redirects to nowhere"),
    ("/redirect-http", "not a plain https:// URL"),
    ("/redirect-file", "not a plain https:// URL"),
    ("/redirect-user", "not a plain https:// URL"),
]


@pytest.mark.parametrize(("path", "reason"), FAILURES)
def test_a_failed_download_is_answered_by_the_embedded_copy_with_a_warning(
    world: World, path: str, reason: str
) -> None:
    timeout = SLOW_TIMEOUT if path in SLOW else TIMEOUT
    begun = time.monotonic()
    got = fetch(world, path, timeout=timeout)
    assert time.monotonic() - begun < timeout + GRACE
    assert (got.der, got.source) == (G2_DER, "embedded")
    assert got.warning is not None
    assert world.site.url(path) in got.warning
    assert reason in got.warning
    assert "hunter2" not in got.warning


@pytest.mark.parametrize(("path", "reason"), FAILURES)
def test_a_failed_download_of_a_named_source_is_an_error(
    world: World, path: str, reason: str
) -> None:
    timeout = SLOW_TIMEOUT if path in SLOW else TIMEOUT
    begun = time.monotonic()
    with pytest.raises(CouldNotFetch) as raised:
        read(world.site.url(path), timeout=timeout, ca_bundle=world.ca_bundle)
    assert time.monotonic() - begun < timeout + GRACE
    assert world.site.url(path) in raised.value.message
    assert reason in (raised.value.why or "")
    assert "hunter2" not in _everything_said(raised.value)


def test_a_bomb_does_not_go_off(world: World) -> None:
    """50 MB are promised; we are content with what is over the limit by one byte."""
    fetch(world, "/pem")  # whatever is loaded once is loaded now
    tracemalloc.start()
    try:
        fetch(world, "/bomb")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("path", ["/wrong", "/wrong-gzip", "/redirect-wrong"])
def test_another_certificate_is_refused_and_never_passed_over(world: World, path: str) -> None:
    with pytest.raises(WrongFingerprint) as raised:
        fetch(world, path)
    assert G2.sha256 in (raised.value.why or "")
    assert G3.sha256 in (raised.value.why or "")


def test_a_refusal_shows_a_few_fingerprints_and_counts_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "many.pem"
    ca = trustme.CA()
    many = [ca.issue_cert(f"{n}.example").cert_chain_pems[0].bytes() for n in range(5)]
    source.write_bytes(b"".join(many))
    with pytest.raises(WrongFingerprint, match="does not hold") as raised:
        read(str(source))
    why = raised.value.why or ""
    shown = [hashlib.sha256(ssl.PEM_cert_to_DER_cert(p.decode())).hexdigest() in why for p in many]
    assert shown == [True, True, True, False, False]
    assert why.endswith("and 2 more")


def test_a_slow_server_does_not_keep_its_thread_for_long(world: World) -> None:
    """The clock is also looked at between the bytes, so a long-lived program loses nothing."""
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

    def trickle(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(raw)
        while not stop.wait(0.005):
            connection.sendall(b"x")

    world.site.pages["/trickle"] = trickle
    before = set(threading.enumerate())
    with pytest.raises(CouldNotFetch):
        read(world.site.url("/trickle"), timeout=0.3, ca_bundle=world.ca_bundle)
    (worker,) = (t for t in set(threading.enumerate()) - before if t.name == "qs-certs download")
    worker.join(3)
    assert not worker.is_alive()


def test_name_resolution_is_inside_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, done = threading.Event(), threading.Event()

    def never(*args: object, **kwargs: object) -> list[object]:
        asked.set()
        done.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "gave up")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    begun = time.monotonic()
    root = dataclasses.replace(G2, url="https://slow.invalid/")
    got = sources.fetch(root, url=None, timeout=0.3, ca_bundle=None, offline=False)
    took = time.monotonic() - begun
    done.set()
    assert asked.is_set()
    assert took < 0.3 + GRACE
    assert got.warning is not None
    assert "no complete answer in time" in got.warning


def test_a_name_that_does_not_resolve_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(CouldNotFetch) as raised:
        read("https://nowhere.invalid/root.pem")
    assert raised.value.why == "the host name could not be resolved"


def test_a_closed_port_is_called_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CouldNotFetch) as raised:
        read(f"https://127.0.0.1:{port}/root.pem")
    assert "the connection failed (" in (raised.value.why or "")
    assert "refused" in (raised.value.why or "")


# --- whom we believe -----------------------------------------------------------------------------


def test_a_server_of_an_untrusted_ca_counts_as_failed(world: World) -> None:
    with https.serving(trustme.CA(), https.pages(G2_PEM, G3_PEM)) as stranger:
        root = dataclasses.replace(G2, url=stranger.url("/pem"))
        got = sources.fetch(root, url=None, ca_bundle=world.ca_bundle, offline=False)
        assert stranger.seen == []
    assert got.source == "embedded"
    assert "is not trusted here (TLS inspection? use --ca-bundle)" in (got.warning or "")


def test_without_a_ca_bundle_certifi_decides(world: World) -> None:
    got = sources.fetch(world.root("/pem"), url=None, ca_bundle=None, offline=False)
    assert "is not trusted here" in (got.warning or "")


def test_an_expired_certificate_of_the_server_is_called_so(world: World) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with https.serving(world.authority, {}, not_after=long_ago) as site:
        root = dataclasses.replace(G2, url=site.url("/pem"))
        got = sources.fetch(root, url=None, ca_bundle=world.ca_bundle, offline=False)
    assert "has expired" in (got.warning or "")


def test_a_certificate_for_another_host_counts_as_failed(world: World) -> None:
    with https.serving(world.authority, https.pages(G2_PEM, G3_PEM), "other.example") as site:
        root = dataclasses.replace(G2, url=site.url("/pem"))
        got = sources.fetch(root, url=None, ca_bundle=world.ca_bundle, offline=False)
    assert "is for another host name" in (got.warning or "")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_ca_bundle_of_the_environment_is_honoured(
    world: World, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, world.ca_bundle)
    got = sources.fetch(world.root("/pem"), url=None, ca_bundle=None, offline=False)
    assert got.source == "download"


def test_the_option_outranks_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stranger = str(https.authority_file(trustme.CA(), tmp_path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger)
    assert fetch(world, "/pem").source == "download"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", world.ca_bundle)
    got = sources.fetch(world.root("/pem"), url=None, ca_bundle=stranger, offline=False)
    assert "is not trusted here" in (got.warning or "")


def test_a_ca_bundle_of_the_environment_that_is_missing_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    got = sources.fetch(world.root("/pem"), url=None, ca_bundle=None, offline=False)
    assert got.source == "embedded"
    assert "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist" in (got.warning or "")


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"], ids=repr)
def test_a_ca_bundle_that_cannot_be_used_is_wrong_usage(
    world: World, tmp_path: Path, content: bytes | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(WrongUsage) as raised:
        sources.fetch(world.root("/pem"), url=None, ca_bundle=str(bundle), offline=False)
    assert str(bundle) in raised.value.message
    assert world.site.seen == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://localhost/pem", id="http"),
        pytest.param("ftp://localhost/pem", id="ftp"),
        pytest.param("file:///etc/hosts", id="file"),
        pytest.param("https:///pem", id="no host"),
        pytest.param("https://user:hunter2@localhost/pem", id="user and password"),
        pytest.param("http://user:hunter2@localhost/pem", id="user and password, http"),
        pytest.param("https://user:hunter2/@localhost/pem", id="password that reads as a port"),
        pytest.param("https://[::1/pem", id="half a bracket"),
    ],
)
def test_a_url_that_is_not_plain_https_is_wrong_usage(url: str) -> None:
    with pytest.raises(WrongUsage) as of_fetch:
        sources.fetch(G2, url=url, ca_bundle=None, offline=False)
    with pytest.raises(WrongUsage) as of_read:
        read(url)
    for raised in (of_fetch, of_read):
        assert "hunter2" not in _everything_said(raised.value)
        assert raised.value.__cause__ is None  # whose words a traceback would show


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_timeout_that_leaves_no_time_is_wrong_usage(world: World, timeout: float) -> None:
    with pytest.raises(WrongUsage):
        fetch(world, "/pem", timeout=timeout)


# --- what is sent --------------------------------------------------------------------------------


def test_no_credentials_are_sent_although_there_is_a_netrc(world: World) -> None:
    import requests

    netrc = Path.home() / ".netrc"
    netrc.write_text("machine localhost login user password hunter2\n")
    netrc.chmod(0o600)
    assert fetch(world, "/redirect").source == "download"
    assert ["authorization" in seen.headers for seen in world.site.seen] == [False, False]

    world.site.seen.clear()  # requests left to itself does send them
    requests.get(world.site.url("/pem"), verify=world.ca_bundle, timeout=10)
    basic = "Basic " + base64.b64encode(b"user:hunter2").decode()
    assert [seen.headers.get("authorization") for seen in world.site.seen] == [basic]


def test_compression_is_not_asked_for(world: World) -> None:
    fetch(world, "/redirect")
    assert [seen.headers["accept-encoding"] for seen in world.site.seen] == ["identity"] * 2


def test_neither_query_nor_fragment_of_a_url_is_shown(world: World) -> None:
    got = fetch(world, "/pem?token=hunter2#hunter3")
    assert world.site.seen[0].line == "GET /pem?token=hunter2 HTTP/1.1"
    assert got.source == "embedded"  # this server has no page with such a name
    assert "hunter" not in _everything_said(got)


def test_the_proxy_of_the_environment_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with https.proxying() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{proxy.port}")
        assert fetch(world, "/redirect").source == "download"
        asked = {seen.line.rpartition(" ")[0] for seen in proxy.seen}
        assert asked == {f"CONNECT localhost:{world.site.port}"}
        proxy.seen.clear()
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert fetch(world, "/pem").source == "download"
        assert proxy.seen == []


def test_the_credentials_of_a_proxy_go_to_the_proxy_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    basic = "Basic " + base64.b64encode(b"user:hunter2").decode()
    with https.proxying(basic) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@localhost:{proxy.port}")
        got = fetch(world, "/pem")
        assert got.source == "download"
        assert proxy.seen[0].headers["proxy-authorization"] == basic
    (seen,) = world.site.seen
    assert not {"authorization", "proxy-authorization"} & set(seen.headers)


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        pytest.param(
            "http://user:hunter2@localhost:{wants_other}", "HTTP status 407", id="wrong password"
        ),
        pytest.param("http://user:hunter2@localhost:{closed}", "proxy", id="closed port"),
        pytest.param("http://user:hunter2@", "proxy", id="no host"),
        pytest.param("http://user:[hunter2@localhost:1", "proxy", id="half a bracket"),
        pytest.param("socks5://user:hunter2@localhost:1", "proxy", id="socks"),
        pytest.param("weird://user:hunter2@localhost:1", "proxy", id="unknown scheme"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # urllib3 before 2
def test_a_failing_proxy_is_named_without_its_credentials(
    world: World, monkeypatch: pytest.MonkeyPatch, spelling: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with https.proxying("Basic other") as proxy:
        url = spelling.format(wants_other=proxy.port, closed=closed)
        monkeypatch.setenv("HTTPS_PROXY", url)
        got = fetch(world, "/pem")
        with pytest.raises(CouldNotFetch) as raised:
            read(world.site.url("/pem"), ca_bundle=world.ca_bundle)
    assert (got.der, got.source) == (G2_DER, "embedded")
    assert reason in (got.warning or "")
    assert "hunter2" not in _everything_said(got) + _everything_said(raised.value)
    del raised
    gc.collect()  # or another test would get that warning
    assert world.site.seen == []


# --- files, standard input, URLs -----------------------------------------------------------------


def test_a_named_file_standard_input_and_url_all_give_the_certificate(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "bought.pem"
    path.write_bytes(G3_PEM + G2_PEM)
    url = world.site.url("/among-others")
    assert read(str(path)) == Fetched(G2_DER, "file", str(path), others=1)
    assert read("-", stdin=lambda: G2_DER) == Fetched(G2_DER, "file", "standard input")
    assert read(url, ca_bundle=world.ca_bundle) == Fetched(G2_DER, "download", url, others=1)


def test_a_fingerprint_may_be_spelled_as_openssl_prints_it() -> None:
    colons = G2.sha256.upper()
    colons = ":".join(colons[at : at + 2] for at in range(0, 64, 2))
    assert read("-", colons, stdin=lambda: G2_PEM).der == G2_DER
    with pytest.raises(WrongUsage):
        read("-", G2.sha1, stdin=lambda: G2_PEM)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"", CouldNotRead, id="empty"),
        pytest.param(b"hello", CouldNotRead, id="text"),
        pytest.param(https.BLOCK_PAGE, CouldNotRead, id="block page"),
        pytest.param(G3_PEM, WrongFingerprint, id="another certificate"),
        pytest.param(_altered(G2_PEM), WrongFingerprint, id="one bit changed"),
    ],
)
@pytest.mark.parametrize("form", ["file", "stdin"])
def test_a_source_without_the_pinned_certificate_is_an_error(
    tmp_path: Path, content: bytes, error: type[QsCertsError], form: str
) -> None:
    path = tmp_path / "source.pem"
    path.write_bytes(content)
    origin = "-" if form == "stdin" else str(path)
    with pytest.raises(error) as raised:
        read(origin, stdin=lambda: content)
    assert ("standard input" if form == "stdin" else origin) in raised.value.message


def test_a_file_that_cannot_be_read_is_an_error_with_the_system_s_reason(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead) as raised:
        read(str(tmp_path / "missing.pem"))
    assert raised.value.why == os.strerror(2)
    with pytest.raises(CouldNotRead):
        read(str(tmp_path))
    with pytest.raises(WrongUsage):
        read("nul\0byte")


def test_a_file_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "source.pem"
    path.write_bytes(G2_PEM)
    monkeypatch.setattr(sources, "FILE_LIMIT", len(G2_PEM))
    assert read(str(path)).der == G2_DER
    path.write_bytes(G2_PEM + b"\n")
    with pytest.raises(CouldNotRead, match="could not read"):
        read(str(path))


def test_a_source_with_a_private_key_is_refused(world: World, tmp_path: Path) -> None:
    pair = world.authority.issue_cert("key.example")
    path = tmp_path / "pair.pem"
    path.write_bytes(G2_PEM + pair.private_key_pem.bytes())
    with pytest.raises(RefusedSource, match="private key") as raised:
        read(str(path))
    assert "BEGIN" not in _everything_said(raised.value)


def test_outside_the_catalogue_only_a_ca_certificate_is_accepted(world: World) -> None:
    ca = world.authority.cert_pem.bytes()
    leaf = world.authority.issue_cert("leaf.example").cert_chain_pems[0].bytes()
    both = ca + leaf
    ca_der, leaf_der = (ssl.PEM_cert_to_DER_cert(pem.decode("ascii")) for pem in (ca, leaf))
    got = read("-", hashlib.sha256(ca_der).hexdigest(), stdin=lambda: both)
    assert got == Fetched(ca_der, "file", "standard input", others=1)
    with pytest.raises(RefusedSource, match="not a CA certificate"):
        read("-", hashlib.sha256(leaf_der).hexdigest(), stdin=lambda: both)


@dataclass(frozen=True)
class Extension:
    ca: bool | None
    signs: bool | None


@pytest.mark.parametrize(
    ("extension", "accepted"),
    [
        pytest.param(Extension(ca=True, signs=True), True, id="CA that signs"),
        pytest.param(Extension(ca=True, signs=None), True, id="CA without key usage"),
        pytest.param(Extension(ca=True, signs=False), False, id="CA that may not sign"),
        pytest.param(Extension(ca=False, signs=True), False, id="no CA"),
        pytest.param(Extension(ca=None, signs=None), False, id="no basic constraints"),
    ],
)
def test_what_a_ca_certificate_is_follows_rfc_5280(extension: Extension, accepted: bool) -> None:
    der = _self_signed(extension)
    sha256 = hashlib.sha256(der).hexdigest()
    if accepted:
        assert read("-", sha256, stdin=lambda: der).der == der
    else:
        with pytest.raises(RefusedSource):
            read("-", sha256, stdin=lambda: der)


def _self_signed(extension: Extension) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test root")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
    )
    if extension.ca is not None:
        constraints = x509.BasicConstraints(ca=extension.ca, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    if extension.signs is not None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=extension.signs,
            crl_sign=extension.signs,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_certificate_that_cannot_be_understood_is_refused() -> None:
    der = _self_signed(Extension(ca=True, signs=True))
    at = der.index(b"\x55\x1d\x13")  # id-ce-basicConstraints
    broken = der[: at + 5] + b"\x00\x00" + der[at + 7 :]
    with pytest.raises(RefusedSource):
        read("-", hashlib.sha256(broken).hexdigest(), stdin=lambda: broken)


# --- cost ----------------------------------------------------------------------------------------


def test_nothing_heavy_is_loaded_without_a_download() -> None:
    code = (
        "import sys\n"
        "from qs_certs import catalogue, sources\n"
        "sources.embedded(catalogue.ROOTS[catalogue.DEFAULT])\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "qs_certs.sources" in loaded
    assert not {"requests", "urllib3", "certifi", "cryptography"} & set(loaded)
