"""Where certificates come from: the embedded copy, a file, HTTPS.  Out come bytes that match a pin.

Trust is the pinned SHA-256 of the DER bytes, and nothing else; HTTPS is a courtesy that keeps
curious proxies out.  So a failed download may be answered by the embedded copy, but a download
that holds *another* certificate is never passed over: somebody has to look.

This is the only room that uses requests, and through it certifi.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
import socket
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from qs_certs import __version__, catalogue, secrecy
from qs_certs.catalogue import Root
from qs_certs.errors import (
    CouldNotFetch,
    CouldNotRead,
    RefusedSource,
    WrongFingerprint,
    WrongUsage,
)
from qs_certs.merging import certificates_in, holds_private_key
from qs_certs.results import Source
from qs_certs.values import Value

if TYPE_CHECKING:
    import requests

DOWNLOAD_LIMIT = 256 * 1024
"""Bytes of an answer, before and after decompression.  A root is about 2 KB."""
FILE_LIMIT = 16 * 1024 * 1024
"""Bytes of a file: any collection of roots fits, and `--from /dev/zero` ends, as does `--from -`."""
REDIRECTS = 3

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: `C:\` is no scheme
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_SHOWN_FINGERPRINTS = 3
_CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH = 10, 62  # openssl:x509_vfy.h X509_V_ERR_*
_HTTP_CAUSES = {  # http.client's, and urllib3's of the same names
    "IncompleteRead": "the answer was cut off",
    "RemoteDisconnected": "the server hung up without an answer",
    "BadStatusLine": "what answered does not speak HTTP",
}
_TOO_LATE = "no complete answer in time"
_CHUNK = 64  # the clock is looked at after each: a server may send one byte a second


class Fetched(Value):
    """A certificate that matches its pin, and where it came from.

    *origin* is for people: a file name or an address, without anything secret.  *warning* is a
    sentence on why it did not come from where it should.  *others* counts the further
    certificates that the source held, and that were left alone.
    """

    der: bytes
    source: Source
    origin: str
    warning: str | None = None
    others: int = 0


def embedded(root: Root) -> bytes:
    """The DER of the copy that comes with this package, held against the pin like any other.

    Raises CouldNotRead when this installation has lost it, WrongFingerprint when it was altered.
    """
    import pkgutil  # asks the package's own loader: also right in a zip and in a frozen program

    origin = f"the embedded copy of {root.name}"
    fix = ("reinstall qs-certs",)
    try:
        pem = pkgutil.get_data("qs_certs", f"roots/{root.name}.pem")
    except OSError as error:
        raise CouldNotRead(f"could not read {origin}", why=error.strerror, fix=fix) from error
    found = certificates_in(pem or b"")
    if not found:
        raise CouldNotRead(f"could not read {origin}", why="it holds no certificate", fix=fix)
    return _pinned(found, root.sha256, origin)


def read(
    origin: str,
    sha256: str,
    *,
    stdin: Callable[[], bytes],
    timeout: float,
    ca_bundle: str | None,
) -> Fetched:
    """The certificate with fingerprint *sha256* from a file, `-` (*stdin*) or an HTTPS URL.

    There is no fallback: the user named this source.  *timeout* is in seconds and covers a whole
    download.  Raises CouldNotRead or CouldNotFetch when no certificate can be had,
    WrongFingerprint when there are only others, and RefusedSource when the source holds a private
    key, or when a certificate outside the catalogue is no CA certificate.
    """
    wanted = catalogue.fingerprint(sha256)
    if wanted is None:
        raise WrongUsage("the fingerprint is not a SHA-256", why="64 hexadecimal digits are needed")
    source: Source = "file"
    if _URL.match(origin):
        source = "download"
        data = _download(origin, timeout=timeout, ca_bundle=ca_bundle)
        origin = _shown(urlsplit(origin))
    elif origin == "-":
        origin = "standard input"
        data = stdin()
        if len(data) > FILE_LIMIT:
            raise CouldNotRead(
                f"could not read {origin}", why=f"it is larger than {FILE_LIMIT} bytes"
            )
    else:
        if not origin:
            raise WrongUsage("--from names nothing", fix=("--from FILE, --from - or --from URL",))
        secrecy.require_file_name("--from", origin)
        data = _file(origin)

    if holds_private_key(data):
        raise RefusedSource(
            f"{origin} holds a private key",
            why="a root file is for certificates, and a private key belongs to its owner alone",
            fix=("pass a file that holds the certificate only",),
        )
    found = certificates_in(data)
    if not found:
        failed = CouldNotFetch if source == "download" else CouldNotRead
        raise failed(f"found no certificate in {origin}", why=_instead(data))
    der = _pinned(found, wanted, origin)
    if catalogue.by_fingerprint(wanted) is None:
        _require_ca(der, origin)
    return Fetched(der, source, origin, others=len(set(found)) - 1)


def fetch(
    root: Root,
    *,
    url: str | None,
    timeout: float = 10.0,
    ca_bundle: str | None,
    offline: bool,
) -> Fetched:
    """*root* from *url* (None: the catalogue's) over HTTPS, or else its embedded copy.

    The embedded copy answers for a failed download, and then there is a warning; with *offline*
    it is what was asked for.  *timeout* is in seconds and covers everything, name resolution
    too.  Raises WrongFingerprint when the download holds only other certificates.
    """
    if offline:
        return Fetched(embedded(root), "embedded", "embedded copy")
    url = root.url if url is None else url
    try:
        data = _download(url, timeout=timeout, ca_bundle=ca_bundle)
        origin = _shown(urlsplit(url))
        found = certificates_in(data)
        if not found:
            raise CouldNotFetch(f"found no certificate in {origin}", why=_instead(data))
    except CouldNotFetch as failure:
        return Fetched(
            embedded(root),
            "embedded",
            "embedded copy",
            warning=f"{failure.message} ({failure.why}); used the embedded copy of {root.name}",
        )
    der = _pinned(found, root.sha256, origin)
    return Fetched(der, "download", origin, others=len(set(found)) - 1)


# --- what is in a source ---------------------------------------------------------------------


def _pinned(found: tuple[bytes, ...], wanted: str, origin: str) -> bytes:
    """The one certificate that matches; raises WrongFingerprint, showing what is there instead."""
    by_fingerprint = {hashlib.sha256(der).hexdigest(): der for der in found}
    if wanted in by_fingerprint:
        return by_fingerprint[wanted]
    shown = ", ".join(list(by_fingerprint)[:_SHOWN_FINGERPRINTS])
    more = len(by_fingerprint) - _SHOWN_FINGERPRINTS
    raise WrongFingerprint(
        f"{origin} does not hold the certificate that was asked for",
        why=f"wanted SHA-256 {wanted}, found {shown}" + (f" and {more} more" if more > 0 else ""),
        fix=("find out why this source differs before trusting it, or anything near it",),
    )


def _require_ca(der: bytes, origin: str) -> None:
    """Refuse what OpenSSL would not accept as an issuer (RFC 5280 §4.2.1.3, §4.2.1.9)."""
    from cryptography import x509

    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    except (
        ValueError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise RefusedSource(
            f"the certificate in {origin} cannot be understood", why=str(error)
        ) from error
    if is_ca:
        try:
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            return  # no restriction
        is_ca = usage.key_cert_sign
    if not is_ca:
        raise RefusedSource(
            f"the certificate in {origin} is not a CA certificate",
            why="it cannot vouch for others, so as a trust anchor it would be useless",
            fix=("pass the root that issued it",),
        )


def _instead(data: bytes) -> str:
    """What there is where a certificate should be."""
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "it is empty"
    if text.startswith(b"<"):
        return "a web page answered instead of a certificate"
    return "it holds something else"


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (pathlib would tidy the user's spelling)
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise CouldNotRead(f"could not read {path}", why=error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise WrongUsage("this is not a file name", why=str(error)) from error
    if len(data) > FILE_LIMIT:
        raise CouldNotRead(f"could not read {path}", why=f"it is larger than {FILE_LIMIT} bytes")
    return data


# --- HTTPS -----------------------------------------------------------------------------------


class _Failed(Exception):
    """Why a download did not work out, in plain words that hold nothing secret."""


def _download(url: str, *, timeout: float, ca_bundle: str | None) -> bytes:
    """The body at *url*, within *timeout* seconds whatever the network does.

    Raises WrongUsage for a call that can never work, CouldNotFetch for everything else.
    """
    address = _address(url)
    if not timeout > 0:
        raise WrongUsage("the timeout must be more than 0 seconds")
    if ca_bundle is not None:
        _require_ca_bundle(ca_bundle)

    import requests  # noqa: F401 (loading it is slow, and not the network's fault)

    answer: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
    deadline = time.monotonic() + timeout

    def work() -> None:
        try:
            answer.put(_body(address.geturl(), deadline, ca_bundle))
        except BaseException as error:  # noqa: BLE001 (raised again on the other side)
            answer.put(error)

    # A thread, because a timeout of a socket starts anew with every byte and there is none at all
    # for name resolution. A daemon, because a program must be able to end before its resolver.
    threading.Thread(target=work, name="qs-certs download", daemon=True).start()
    try:
        outcome = answer.get(timeout=max(deadline - time.monotonic(), 0))
    except queue.Empty:
        outcome = _Failed(_TOO_LATE)
    if isinstance(outcome, _Failed):
        message = f"could not download {_shown(address)}"
        raise CouldNotFetch(message, why=str(outcome)) from outcome.__cause__
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _address(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        has_host = bool(address.hostname) and address.port != 0
    except ValueError:
        # Without its words: what stands where the port should be may be a password.
        raise WrongUsage("this is not a URL", why="host and port cannot be told apart") from None
    if address.scheme != "https":
        raise WrongUsage(f"cannot download {_shown(address)}", why="only https:// is accepted")
    if "@" in address.netloc:
        raise WrongUsage(
            f"cannot download {_shown(address)}",
            why="the URL holds a user name or password, and none is ever sent",
        )
    if not has_host:
        raise WrongUsage(f"cannot download {_shown(address)}", why="the URL names no host")
    return address


def _shown(address: SplitResult) -> str:
    """An address for people: user names, passwords and tokens live in the parts left out.

    Where there is an `@`, nothing is shown: in a password that is not percent-encoded, the slash or
    the question mark ends the host for `urlsplit`, and the rest of it stands where host or path do.
    """
    if not address.netloc or "@" in address.geturl() or secrecy.suspicious(address.path):
        return "this URL"
    return f"{address.scheme}://{address.netloc}{address.path}"


def _require_ca_bundle(path: str) -> None:
    """The user named this file, so that it does not work is no fault of the network."""
    import ssl

    secrecy.require_file_name("the CA bundle", path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (pathlib is not needed for one call)
        if not stat.S_ISREG(mode):  # OpenSSL would wait at a pipe
            raise OSError(errno.EINVAL, "it is not a regular file")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = "no certificate could be loaded from it"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            reason = error.strerror or reason
        raise WrongUsage(f"cannot use the CA bundle {path}", why=reason) from error


def _body(url: str, deadline: float, ca_bundle: str | None) -> bytes:
    """Follow *url* to a body; raises _Failed."""
    import http.client

    import requests
    import urllib3.exceptions

    failures = (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        UnicodeError,  # of a host name
    )
    with requests.Session() as session:
        # Without an answer of our own requests would look one up in ~/.netrc and send it along.
        session.auth = _anonymous
        session.headers.update(
            {"Accept-Encoding": "identity", "User-Agent": f"qs-certs/{__version__}"}
        )
        for _ in range(1 + REDIRECTS):
            try:
                with _get(session, url, deadline, ca_bundle) as response:
                    if response.status_code not in _REDIRECT_STATUS:
                        return _content(response, deadline)
                    url = _next(url, response.headers.get("Location", ""))
            except failures as error:
                raise _Failed(_cause(error)) from error
    raise _Failed(f"more than {REDIRECTS} redirects")


def _get(
    session: requests.Session, url: str, deadline: float, ca_bundle: str | None
) -> requests.Response:
    import requests

    # A path given here outranks REQUESTS_CA_BUNDLE; given to the session, it would not.
    verify = True if ca_bundle is None else ca_bundle
    timeout = _left(deadline)
    try:
        return session.get(url, stream=True, allow_redirects=False, timeout=timeout, verify=verify)
    except (requests.RequestException, UnicodeError):
        raise
    except TypeError:  # what requests makes of a proxy `http://user:password@`
        raise _Failed("the proxy's address names no host") from None
    except ValueError:  # half a bracket, as in a password that is not percent-encoded
        raise _Failed("the proxy's address is not a URL") from None


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _Failed(_TOO_LATE)
    return left


def _next(url: str, location: str) -> str:
    try:
        address = _address(urljoin(url, location))
    except (WrongUsage, ValueError):
        raise _Failed("it redirects to something that is not a plain https:// URL") from None
    if not location:
        raise _Failed("it redirects to nowhere")
    return address.geturl()


def _content(response: requests.Response, deadline: float) -> bytes:
    if response.status_code != 200:
        raise _Failed(f"HTTP status {response.status_code}")
    too_large = _Failed(f"the answer is larger than {DOWNLOAD_LIMIT} bytes")
    promised = response.headers.get("Content-Length", "")
    length = int(promised) if re.fullmatch(r"[0-9]{1,18}", promised) else None
    if length is not None and length > DOWNLOAD_LIMIT:
        raise too_large
    body = bytearray()
    while chunk := response.raw.read(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > DOWNLOAD_LIMIT:
            raise too_large
        _left(deadline)
    # urllib3 before 2 does not compare; with chunks the length has no meaning (RFC 9112 §6.3).
    if length is not None and len(body) < length and "Transfer-Encoding" not in response.headers:
        raise _Failed("the answer was cut off")

    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return bytes(body)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _Failed("the answer is compressed in a way that was not asked for")
    content = _decompressed(bytes(body))
    if len(content) > DOWNLOAD_LIMIT:
        raise too_large
    return content


def _decompressed(body: bytes) -> bytes:
    """At most one byte more than DOWNLOAD_LIMIT of what *body* holds."""
    # gzip or zlib, whichever it says it is; or bare deflate, which some servers send (RFC 9110 §8.4.1.2).
    for wbits in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):
        decoder = zlib.decompressobj(wbits)
        try:
            content = decoder.decompress(body, DOWNLOAD_LIMIT + 1)
        except zlib.error:
            continue
        if len(content) > DOWNLOAD_LIMIT or decoder.eof:
            return content
        raise _Failed("the answer was cut off")
    raise _Failed("the answer cannot be decompressed")


# --- why it failed ---------------------------------------------------------------------------


def _cause(error: BaseException) -> str:
    """A plain reason.

    The words of requests and urllib3 are not passed on: they hold addresses, and with them the
    credentials of a proxy.
    """
    import requests

    causes = tuple(_causes(error))
    if _first_match(r"(suitable TLS CA certificate bundle)", causes) is not None:
        return "the file that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names does not exist"
    settings = _proxy_cause(causes)
    if settings is not None:
        return settings
    via = "through the proxy: " if isinstance(error, requests.exceptions.ProxyError) else ""
    return via + (_tls_cause(causes) or _connection_cause(causes))


def _proxy_cause(causes: tuple[BaseException, ...]) -> str | None:
    import requests
    import urllib3.exceptions

    unsupported = (requests.exceptions.InvalidSchema, urllib3.exceptions.ProxySchemeUnknown)
    status = _first_match(r"Tunnel connection failed: (\d{3})", causes)
    if status is not None:
        return f"the proxy refused with HTTP status {status}"
    if any(isinstance(cause, requests.exceptions.InvalidProxyURL) for cause in causes):
        return "the proxy's address is not a URL"
    if any(isinstance(cause, unsupported) for cause in causes):
        return "this kind of proxy is not supported"
    return None


def _tls_cause(causes: tuple[BaseException, ...]) -> str | None:
    import ssl

    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _distrust(cause.verify_code)
        if type(cause).__name__ == "CertificateError":  # urllib3 before 2 compares names itself
            return _distrust(_HOSTNAME_MISMATCH)
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'no reason given'})"
    return None


def _connection_cause(causes: tuple[BaseException, ...]) -> str:
    import requests

    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return "the host name could not be resolved"
        if isinstance(cause, (TimeoutError, requests.Timeout)):
            return _TOO_LATE
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return f"the connection failed ({cause.strerror})"
        if type(cause).__name__ in _HTTP_CAUSES:
            return _HTTP_CAUSES[type(cause).__name__]
    return f"the connection failed ({type(causes[-1]).__name__})"


def _distrust(verify_code: int) -> str:
    if verify_code == _CERT_HAS_EXPIRED:
        return "the server's certificate has expired, or the clock of this machine is wrong"
    if verify_code == _HOSTNAME_MISMATCH:
        return "the server's certificate is for another host name"
    return "the server's certificate is not trusted here (TLS inspection? use --ca-bundle)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and all that is wrapped in it, outermost first.

    requests wraps urllib3 in an argument, urllib3 wraps the rest in `reason`, `original_error`
    or an argument, and either in a chain.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (
            getattr(current, "reason", None),
            getattr(current, "original_error", None),
            *current.args,
            current.__cause__,
            current.__context__,
        )
        waiting += [candidate for candidate in inner if isinstance(candidate, BaseException)]


def _first_match(pattern: str, causes: tuple[BaseException, ...]) -> str | None:
    matches = (re.search(pattern, str(cause)) for cause in causes)
    return next((match[1] for match in matches if match), None)
