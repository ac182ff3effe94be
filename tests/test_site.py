"""The documentation site: built without a warning, whole, true, asking nobody, and looked at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
import reference
import site_pages

from qs_certs.catalogue import ROOTS
from qs_certs.errors import ExitCode
from qs_certs.knowledge import CLIENTS, FINDINGS, MESSAGES
from tests.browser import BrowserMissing, Page, chromium
from tests.program import SOURCE
from tests.test_readme import COMMANDS, command_lines, options, parse

pytest.importorskip("mkdocs", reason="needs mkdocs")

ELSEWHERE = {
    "keepachangelog.com": "the form of the changelog",
    "semver.org": "what a version promises",
    "www.mkdocs.org": "the theme's footer",
    "cacerts.digicert.com": "a root's publisher",
    "www.microsoft.com": "a root's publisher",
}
"""The hosts that pages link to.  None is asked for anything, here or by a reader's browser."""


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    return subprocess.run(
        [*command, "--config-file", str(config)],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(SOURCE / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@dataclass
class Html(HTMLParser):
    """What a page names: *links* to follow, *parts* that a browser fetches, *anchors*, its text."""

    links: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.parts.append(given["href"])
        for name in ("src", "srcset", "data", "poster"):
            if name in given:
                self.parts.append(given[name])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: Path) -> Html:
    html = Html()
    html.feed(page.read_text("utf-8"))
    return html


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Html]:
    found = sorted(site.rglob("*.html"))
    return {page.relative_to(site).as_posix(): read(page) for page in found}


def broken(site: Path, pages: dict[str, Html]) -> list[tuple[str, str]]:
    """Links within the site that lead nowhere."""
    found = []
    for name, html in pages.items():
        for link in (*html.links, *html.parts):
            if "://" in link or name == "404.html":  # shown at any address
                continue
            place, _, fragment = link.partition("#")
            target = (site / name).parent / place.partition("?")[0] if place else site / name
            other = pages.get(target.resolve().relative_to(site.resolve()).as_posix())
            missing = other is not None and fragment and fragment not in other.anchors
            if not target.exists() or missing:
                found.append((name, link))
    return found


def test_every_page_is_there(pages: dict[str, Html]) -> None:
    written = {path.stem for path in (SOURCE / "docs").glob("*.md")}
    made = {Path(name).stem for name in site_pages.pages()}
    assert {Path(name).stem for name in pages} == written | made | {"404"}


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[str, Html]) -> None:
    assert broken(site, pages) == []
    assert sum(len(html.links) for html in pages.values()) > 500


def test_a_broken_link_is_noticed(site: Path, pages: dict[str, Html]) -> None:
    links = ["no.html", "why.html#no", "why.html#why-verify-full", "#no", "img/favicon.ico"]
    html = Html(links=links, parts=["no.css"])
    some = {"index.html": html, "why.html": pages["why.html"]}
    assert broken(site, some) == [
        ("index.html", link) for link in ("no.html", "why.html#no", "#no", "no.css")
    ]


def test_no_page_asks_another_host(pages: dict[str, Html]) -> None:
    assert [part for html in pages.values() for part in html.parts if "//" in part] == []


def test_the_hosts_that_pages_link_to_are_known(pages: dict[str, Html]) -> None:
    """Listed, and not asked: whether they answer is not for a test to find out."""
    outside = {link for html in pages.values() for link in html.links if "://" in link}
    assert {re.findall(r"^https://([^/]+)/", link)[0] for link in outside} == set(ELSEWHERE)


def test_a_warning_stops_the_build(tmp_path: Path) -> None:
    """A control of the strictness: a link to nowhere, and to a heading that is not there."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n[b](no.md) [c](#no)\n")
    plan = (SOURCE / "mkdocs.yml").read_text("utf-8")
    plan = re.sub(r"^(nav|hooks|extra_css|exclude_docs|theme):.*?(?=^\w)", "", plan + "\nx",
                  flags=re.MULTILINE | re.DOTALL).removesuffix("x")  # fmt: skip
    (tmp_path / "mkdocs.yml").write_text(plan)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert done.stderr.count("WARNING") == 2, done.stderr


# --- what the reference holds ---------------------------------------------------------------------


def said(html: Html) -> str:
    return " ".join("".join(html.text).split())


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("commands", [*COMMANDS, *options() - {"--help"}]),
        ("commands", [line for each in reference.commands() for _, line in each.examples]),
        ("commands", [names for names, _ in reference.ENVIRONMENT]),
        ("findings", [word for kind in FINDINGS.values() for word in (kind.code, *kind.fix)]),
        ("findings", [word for kind in FINDINGS.values() for word in kind.fix_on_windows]),
        ("findings", [kind.meaning for kind in FINDINGS.values()]),
        ("exit-codes", [str(int(code)) for code in ExitCode]),
        ("messages", [phrase.removeprefix("=") for each in MESSAGES for phrase in each.phrases]),
        ("messages", [cause for each in MESSAGES for cause in each.causes]),
        ("clients", [text for each in CLIENTS for text in (each.name, each.evidence, *each.notes)]),
        ("clients", [each.linux.set_instead for each in CLIENTS if each.linux.runs_here]),
        (
            "roots",
            [word for root in ROOTS.values() for word in (root.name, root.subject, root.url)],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reference_holds_all_that_the_program_knows(
    pages: dict[str, Html], page: str, words: list[str]
) -> None:
    text = said(pages[f"reference/{page}.html"])
    assert [word for word in words if " ".join(word.split()) not in text] == []


def test_the_schemas_are_those_of_the_package(site: Path) -> None:
    for schema in (SOURCE / "qs_certs" / "schemas").glob("*.json"):
        copy = site / "reference" / "schemas" / schema.name
        assert json.loads(copy.read_text("utf-8")) == json.loads(schema.read_text("utf-8"))


@pytest.mark.parametrize(
    ("text", "of_docs", "moved"),
    [
        ("[a](docs/why.md#b)", False, "[a](why.md#b)"),
        ("[a](CHANGELOG.md)", False, "[a](changelog.md)"),
        ("[MIT](LICENSE)", False, "MIT (`LICENSE`)"),
        ("[a](#b) [c](https://example.com/)", False, "[a](#b) [c](https://example.com/)"),
        ('<img src="docs/picture-light.svg">', False, '<img src="picture-light.svg">'),
        ("[a](why.md)", True, "[a](why.md)"),
        ("[a](../README.md#b)", True, "[a](index.md#b)"),
        ("[`scripts/x.sh`](../scripts/x.sh)", True, "`scripts/x.sh`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_links_are_led_to_where_they_go_in_the_site(text: str, of_docs: bool, moved: str) -> None:
    assert site_pages.within_site(text, of_docs=of_docs) == moved


# --- what the written pages say -------------------------------------------------------------------

WRITTEN = [SOURCE / "docs" / f"{name}.md" for name in ("tutorial", "how-to", "why")]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_every_command_line_of_a_page_parses(page: Path) -> None:
    lines = command_lines(page.read_text("utf-8"))
    for line in lines:
        parse(line)
    assert len(lines) > 3 or page.stem == "why"


# --- looked at ------------------------------------------------------------------------------------

BLIND = "Failed to construct 'Worker'"
"""The search needs a server: from a disk, a browser loads no worker."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as opened:
            yield opened
    except BrowserMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_look_right(
    browser: Page, site: Path, tmp_path: Path, scheme: str, width: int
) -> None:
    for name in ("index", "tutorial", "how-to", "why", "reference/commands", "reference/clients",
                 "reference/roots", "reference/findings", "durability"):  # fmt: skip
        browser.picture(tmp_path / "before.png", scheme, width)  # sets scheme and width
        browser.open(site / f"{name}.html")
        assert [each for each in browser.complaints if BLIND not in each] == [], name
        wide = browser.value("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} scrolls sideways: {wide} in {width}"
        paper, ink = (
            browser.value(_LIGHTNESS.format(what)) for what in ("backgroundColor", "color")
        )
        assert (paper < 60 < 180 < ink) if scheme == "dark" else (ink < 80 < 240 < paper), name
        loaded = browser.value("[...document.images].every(each => each.naturalWidth > 0)")
        assert loaded, f"{name} lacks a picture"


_LIGHTNESS = "Math.max(...getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3))"


def test_the_reader_s_scheme_chooses_the_picture(browser: Page, site: Path, tmp_path: Path) -> None:
    for scheme in ("light", "dark"):
        browser.picture(tmp_path / "before.png", scheme)
        browser.open(site / "index.html")
        shown = browser.value("document.querySelector('picture img').currentSrc")
        assert shown.endswith(f"picture-{scheme}.svg")
