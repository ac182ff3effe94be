"""What a shell offers when somebody presses Tab: its script, and the words that we know.

The script asks the program itself, in typer's way: variables in the environment, no arguments.
Everything here only looks, and never fails: where nothing can be read, nothing is offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qs_certs.errors import QsCertsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qs_certs.results import Change

Word = tuple[str, str]
"""A word, and what it stands for: bash shows the first, other shells both."""

_PLAIN = re.compile(r"[\w.+-]+", re.ASCII)
"""What every shell takes as it stands.  Words with other letters are not offered: zsh evaluates
what it is given, and a service file may hold anything."""

SCRIPTS: Mapping[str, str] = {
    "bash": """\
_qs_certs() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _QS_CERTS_COMPLETE=complete_bash "$1" 2>/dev/null))
}
complete -o default -F _qs_certs qs-certs
""",
    # In a file of $fpath it is called for the first word that is completed; evaluated, it is not.
    "zsh": """\
#compdef qs-certs
_qs_certs() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \\
        _QS_CERTS_COMPLETE=complete_zsh "${words[1]}" 2>/dev/null)"
}
if [ "${funcstack[1]}" = _qs-certs ]; then _qs_certs "$@"; else compdef _qs_certs qs-certs; fi
""",
    "fish": """\
function __qs_certs
    set -lx _QS_CERTS_COMPLETE complete_fish
    set -lx _TYPER_COMPLETE_FISH_ACTION $argv[1]
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    qs-certs 2>/dev/null
end
complete -c qs-certs --no-files -n '__qs_certs is-args' -a '(__qs_certs get-args)'
""",
    "powershell": """\
Register-ArgumentCompleter -Native -CommandName qs-certs -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $Env:_QS_CERTS_COMPLETE = 'complete_powershell'
    $Env:_TYPER_COMPLETE_ARGS = $commandAst.ToString()
    $Env:_TYPER_COMPLETE_WORD_TO_COMPLETE = $wordToComplete
    try {
        qs-certs 2>$null | ForEach-Object {
            $word, $meaning = $_ -split ':::', 2
            if (-not "$meaning".Trim()) { $meaning = $word }
            [System.Management.Automation.CompletionResult]::new(
                $word, $word, 'ParameterValue', $meaning)
        }
    } finally {
        Remove-Item 'Env:_QS_CERTS_COMPLETE', 'Env:_TYPER_COMPLETE_ARGS'
        Remove-Item Env:_TYPER_COMPLETE_WORD_TO_COMPLETE -ErrorAction Ignore
    }
}
""",
}


def know_shells() -> None:
    """Let typer answer in each shell's own way.

    By itself it does so only where it also has options that install scripts: those would write
    into the shells' start files, and let PowerShell run any script of anybody.
    """
    from typer import _completion_classes as classes

    classes.completion_init()
    # Our words are plain.  typer would load rich to take its markup out of them: `[ID]`, say.
    classes._sanitize_help_text = lambda text: text


def offered(kind: str, given: Mapping[str, Any], begin: str) -> list[Word]:
    """The words of *kind* that begin with *begin*; *given* are the options typed so far."""
    try:
        words = list(_KINDS[kind](given))
    except (QsCertsError, OSError):
        return []
    typed = {
        str(each) for value in given.values() if isinstance(value, list | tuple) for each in value
    }
    return [
        (word, meaning)
        for word, meaning in words
        if word.startswith(begin) and word not in typed and _PLAIN.fullmatch(word)
    ]


def _roots(_: Mapping[str, Any]) -> Iterable[Word]:
    from qs_certs import catalogue

    for root in catalogue.ROOTS.values():
        yield root.name, "; ".join(root.needed_by) or f"valid to {root.not_after:%Y}"


def _changes(given: Mapping[str, Any]) -> Iterable[Word]:
    """The newest first, of the file that the other options name."""
    from qs_certs import api
    from qs_certs.results import HistoryReport

    if given.get("users") or given.get("all_users"):  # whose numbers are not ours
        return []
    report = api.history(target=given.get("target"), dedicated=bool(given.get("dedicated")))
    if not isinstance(report, HistoryReport):
        return []
    return [(str(change.id), _told(change)) for change in reversed(report.changes)]


def _told(change: Change) -> str:
    what = (*(f"+{name}" for name in change.added), *(f"-{name}" for name in change.removed))
    return " ".join((f"{change.at:%Y-%m-%d}", change.command, *what))


def _services(_: Mapping[str, Any]) -> Iterable[Word]:
    from qs_certs import accounts, servers

    return [(name, "") for name in servers.service_names(accounts.surroundings())]


def _sslmodes(_: Mapping[str, Any]) -> Iterable[Word]:
    from qs_certs.libpq.outcomes import SSLMODES

    return [(mode, "") for mode in reversed(SSLMODES)]


def _clients(_: Mapping[str, Any]) -> Iterable[Word]:
    from qs_certs.knowledge.clients import CLIENTS

    return [(client.slug, client.name) for client in CLIENTS]


def _codes(_: Mapping[str, Any]) -> Iterable[Word]:
    from qs_certs.knowledge.findings import FINDINGS

    return [(code, kind.title) for code, kind in FINDINGS.items()]


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Iterable[Word]]] = {
    "roots": _roots,
    "changes": _changes,
    "services": _services,
    "sslmodes": _sslmodes,
    "clients": _clients,
    "codes": _codes,
}
