"""Pages of the site that are not files of docs/: a hook of mkdocs, which calls it while it builds.

The reference comes out of the program, the overview is the README, and links that leave docs/
(written for who reads the repository) become links within the site, or plain text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

# mkdocs runs this file by its name.
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import reference  # noqa: E402
from reference import CHECKOUT, Command, Parameter  # noqa: E402

from qs_certs import catalogue, render  # noqa: E402
from qs_certs.knowledge import CLIENTS, FINDINGS, MESSAGES, Client, FindingKind  # noqa: E402
from qs_certs.knowledge.clients import OnSystem  # noqa: E402
from qs_certs.knowledge.messages import GAP, WHOLE  # noqa: E402

if TYPE_CHECKING:  # not there where only the pages are wanted
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page


def pages() -> dict[str, str]:
    """Every page that is made here, by its name in the site."""
    made: dict[str, Callable[[], str]] = {
        "index.md": lambda: reference.README,
        "changelog.md": lambda: (CHECKOUT / "CHANGELOG.md").read_text("utf-8"),
        "reference/commands.md": commands,
        "reference/findings.md": findings,
        "reference/exit-codes.md": exit_codes,
        "reference/messages.md": messages,
        "reference/json.md": documents,
        "reference/clients.md": clients,
        "reference/roots.md": roots,
    }
    return {name: make() for name, make in made.items()}


# --- the reference ------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its options and examples."""
    parts = [
        "# Commands",
        (
            "`qs-certs COMMAND --help` prints the same, and `man qs-certs` has it where the man page is "
            "installed."
        ),
        *_options(reference.program()),
    ]
    for command in reference.commands():
        parts += [f"## {command.name}", command.help, _code(command.synopsis)]
        parts += _options(command)
        parts += [
            _code(line) if label == "Example" else f"{label}:\n\n{_code(line)}"
            for label, line in command.examples
        ]
    variables = (
        (f"`{names}`".replace(", ", "`, `"), text) for names, text in reference.ENVIRONMENT
    )
    parts += ["## Environment", _table(("variable", "does"), variables)]
    return _joined(parts)


def _options(command: Command) -> list[str]:
    rows = [
        (_names(each), each.help + (f" Default: {each.default}." if each.default else ""))
        for each in (*command.arguments, *command.options)
    ]
    return [_table(("option", "does"), rows)] if rows else []


def _names(parameter: Parameter) -> str:
    if not parameter.names[0].startswith("-"):
        return f"`{parameter.value}`"
    *others, last = parameter.names
    return ", ".join(f"`{name}`" for name in (*others, f"{last} {parameter.value}".rstrip()))


def findings() -> str:
    """Every finding code."""
    parts = [
        "# Finding codes",
        (
            "What `check` reports carries a code in brackets; so does an error in JSON. "
            "`qs-certs explain CODE` prints its entry. Codes never change their meaning."
        ),
    ]
    severities = {"error": "Errors", "warning": "Warnings", "ok": "Good news"}
    for severity, heading in severities.items():
        chosen = [kind for kind in FINDINGS.values() if kind.severity == severity]
        parts.append(f"## {heading}")
        for kind in chosen:
            parts += _finding(kind)
    return _joined(parts)


def _finding(kind: FindingKind) -> list[str]:
    parts = [f"### {kind.code}", f"**{_text(kind.title)}.** {_text(kind.meaning)}"]
    if kind.fix:
        parts.append(_code(*kind.fix))
    if kind.fix_on_windows:
        parts += ["On Windows, in PowerShell:", _code(*kind.fix_on_windows)]
    return parts


def exit_codes() -> str:
    """What a script can do next."""
    rows = ((f"`{code}`", meaning, then) for code, meaning, then in reference.table("Exit codes"))
    return _joined(
        [
            "# Exit codes",
            _table(("code", "meaning", "for a script"), rows),
            (
                "Where several files or servers end differently, the code is the one that must stop a "
                "script first. `check --format nagios` has those of monitoring plugins instead: 0 OK, "
                "1 warning, 2 critical, 3 unknown."
            ),
        ]
    )


def messages() -> str:
    """Error messages of clients, and where each leads."""
    parts = [
        "# Error messages",
        "What clients say, and the finding code that it stands for. Paste yours:",
        _code('qs-certs explain "SSL error: certificate verify failed"'),
        f"In a phrase, {GAP} stands for anything. Quotes, capitals and line breaks do not matter.",
    ]
    seen: set[str] = set()
    for message in MESSAGES:
        if message.code not in seen:
            parts.append(f"## {message.code}")
            kind = FINDINGS[message.code]
            parts.append(f"{_text(kind.title)}: [what to do](findings.md#{message.code}).")
        else:  # the same trouble in other words, with other causes
            parts.append("Or, with other causes:")
        seen.add(message.code)
        parts.append(_list(_quoted(phrase) for phrase in message.phrases))
        if message.causes:
            parts += [
                "Likely causes, the likeliest first:",
                _list(map(_text, message.causes), "1."),
            ]
    return _joined(parts)


def _quoted(phrase: str) -> str:
    if phrase.startswith(WHOLE):
        phrase = phrase.removeprefix(WHOLE) + " (and nothing else)"
    return f"“{_text(phrase)}”"


def documents() -> str:
    """The JSON documents, and the schema of each."""
    rows = [(keys, what) for keys, what in reference.table("JSON")]
    schemas = _list(
        f"[`{command.name}`](schemas/{command.name}.json)" for command in reference.commands()
    )
    return _joined(
        [
            "# JSON documents",
            (
                "Every command takes `--json` and then prints exactly one document, also when it "
                "fails. All have `schema`, `command`, `exit_code` and `status`, and:"
            ),
            _table(("command", "keys"), rows),
            "The JSON Schema of each, as `--json-schema` prints it:",
            schemas,
            "Keys may be added; where one is removed or changes its type, `schema` goes up.",
        ]
    )


def clients() -> str:
    """Clients and drivers."""
    parts = [
        "# Clients and drivers",
        (
            "Whether the root file matters to each, and what does where it does not. "
            "`qs-certs clients NAME` prints the entry for your system."
        ),
        _table(
            ("client", "Linux", "macOS", "Windows"),
            (
                (f"[{_text(each.name)}](#{_anchor(each)})", *map(_reads, _systems(each).values()))
                for each in CLIENTS
            ),
        ),
    ]
    for client in CLIENTS:
        parts += _client(client)
    return _joined(parts)


def _systems(client: Client) -> dict[str, OnSystem]:
    return {"Linux": client.linux, "macOS": client.macos, "Windows": client.windows}


def _reads(on: OnSystem) -> str:
    if not on.runs_here:
        return "-"
    return f"from {on.sslmodes[0]} on" if on.root_file_matters else "ignores it"


def _anchor(client: Client) -> str:
    """Without the dots of versions, which scripts take for something else."""
    return client.slug.replace(".", "-")


def _client(client: Client) -> list[str]:
    lines = [f"Driver: {_text(client.driver)}, {_text(client.versions)}."]
    by_behaviour: dict[OnSystem, list[str]] = {}
    for name, on in _systems(client).items():
        if on.runs_here:
            by_behaviour.setdefault(on, []).append(name)
    rows = []
    for on, names in by_behaviour.items():
        modes = ", ".join(on.sslmodes) or "no mode"
        rows.append((", ".join(names), _text(on.looks_in), modes, _text(on.set_instead)))
    head = ("on", "looks in", "reads the root file in", "set")
    more = (f"Verified: {client.verified_when}", *client.notes, f"Known from: {client.evidence}")
    return [
        f"## {_text(client.name)} {{ #{_anchor(client)} }}",
        *lines,
        _table(head, rows),
        _list(map(_text, more)),
    ]


def roots() -> str:
    """The catalogue."""
    parts = [
        "# Roots",
        "The catalogue. A root is identified by the SHA-256 of its DER bytes, and by nothing else.",
    ]
    for root in catalogue.ROOTS.values():
        rows = [
            ("subject", f"`{root.subject}`"),
            ("SHA-256", f"`{render.colons(root.sha256)}`"),
            ("SHA-1", f"`{render.colons(root.sha1)}`"),
            ("serial", f"`{root.serial}`"),
            ("valid", f"{root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}"),
        ]
        if root.distrust_after:
            rows.append(("distrusted by Mozilla", f"after {root.distrust_after:%Y-%m-%d}"))
        if root.needed_by:
            rows.append(("needed by", "; ".join(root.needed_by)))
        rows.append(("downloaded from", f"<{root.url}>"))
        parts += [f"## {root.name}", _table(("", ""), rows)]
    return _joined(parts)


# --- Markdown -----------------------------------------------------------------------------------


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """*text* with what Markdown and HTML would take for their own made plain."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", lambda found: f"&#{ord(found[1])};", text)


def _code(*lines: str) -> str:
    return "\n".join(("```sh", *lines, "```"))


def _list(items: Iterable[str], mark: str = "-") -> str:
    return "\n".join(f"{mark} {item}" for item in items)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)


def _cell(text: str) -> str:
    """A bar ends a cell, but not within `code`."""
    parts = text.split("`")
    return "`".join(part if n % 2 else part.replace("|", "&#124;") for n, part in enumerate(parts))


# --- links --------------------------------------------------------------------------------------

_MOVED: Mapping[str, str] = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def within_site(text: str, *, of_docs: bool) -> str:
    """*text* with links as the site has them; *of_docs*: written in docs/, not at the top."""

    def moved(link: re.Match[str]) -> str:
        words, target, fragment = link[1], link[2], link[3] or ""
        if of_docs and not target.startswith("../"):
            return link[0]
        path = target.removeprefix("../")
        place = _MOVED.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is not None and place.endswith((".md", ".svg")):
            return f"[{words}]({place}{fragment})"
        return words if path in words else f"{words} (`{path}`)"

    text = text if of_docs else re.sub(r'(src|srcset)="docs/', r'\1="', text)
    return _LINK.sub(moved, text)


# --- what mkdocs calls --------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> None:
    """Put pages that the plan does not name into its last section, so that none is lost."""
    plan = str(config.nav)
    found = sorted(path.name for path in (CHECKOUT / "docs").glob("*.md"))
    (last,) = (config.nav or [{"": []}])[-1].values()
    last += [name for name in found if f"'{name}'" not in plan] + ["changelog.md"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    for schema in sorted((CHECKOUT / "qs_certs" / "schemas").glob("*.json")):
        content = schema.read_text("utf-8")
        files.append(File.generated(config, f"reference/schemas/{schema.name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to where they go in the site."""
    return within_site(markdown, of_docs=page.file.src_uri not in ("index.md", "changelog.md"))
