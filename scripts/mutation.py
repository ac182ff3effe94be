"""Mutation testing: does a test notice each small mistake that one could make in these rooms?

    python scripts/mutation.py [--part functions|constants] [--lines FIRST-LAST] [--json FILE] [ROOM ...]
    python scripts/mutation.py --again FILE [--json FILE] ROOM

A room is a module below `qs_certs`; all of `ROOMS` without one.  Needs what the tests need, and
`os.fork`, so no Windows.  Ends with 1 where a survivor is not explained in docs/mutation.md; with
one room and --json it only writes what became of each mutant.  --again tries what survived in FILE
with slower tests.

Each mutant runs in a fork of one warm pytest session, with only the tests that execute the mutated
lines, fastest first, until one fails.  Well-kept tools leave out what is decorated (properties,
context managers, so the store's lock) and everything outside functions; here they are in.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import contextlib
import copy
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
EXPLAINED = CHECKOUT / "docs" / "mutation.md"

CORNERS = "test_corners.py"
SWEEP = "faults/test_sweep.py::test_after_any_fault_at_any_call_every_promise_holds"
SETTINGS = (
    "libpq/test_settings.py",
    "libpq/test_settings_oracle.py",
    "libpq/test_passwords.py",
)
ROOMS: dict[str, tuple[str, ...]] = {
    "bundle": ("test_bundle.py", CORNERS, "test_bundle_corners.py"),
    "merging": ("test_merging.py", CORNERS, "test_merging_corners.py"),
    "libpq.hostname": ("libpq/test_hostname.py", CORNERS),
    "libpq.outcomes": ("libpq/test_outcomes.py", CORNERS),
    "libpq.settings": SETTINGS,
    "libpq.pasted": (*SETTINGS, "test_pasted.py"),
    "rootfile": (
        "test_rootfile.py",
        "test_windows_rules.py::test_a_lost_default_is_absent_for_libpq_and_told_with_a_way_out",
    ),
    "diagnosis": (
        "test_diagnosis.py",
        *(
            f"test_check_cli.py::test_{name}"
            for name in (
                "the_exit_code_tells_a_script_what_to_do",
                "the_worst_of_several_servers_decides",
                "all_finds_every_known_server_and_is_bound_in_time",
                "all_of_the_environment",
                "all_without_any_server_says_so",
                "impact_foretells_what_psql_will_do",
                "a_server_that_is_gone_at_the_second_look_is_no_bug",
                "the_text_of_an_impact_names_each_server_and_the_way_out",
            )
        ),
        "test_rootfile.py::test_the_file_that_libpq_would_read_is_judged",
    ),
    "catalogue": ("test_catalogue.py",),
    "files": ("test_files.py", "test_files_corners.py", CORNERS, "test_windows_rules.py"),
    "store": ("test_store.py", CORNERS, f"{SWEEP}[rollback to absence]"),
    "journal": ("test_journal.py", "test_store.py", CORNERS),
    "changes": ("test_changes.py", CORNERS),
    "upkeep": ("test_history.py",),
}
"""The tests of each room, below tests/: the fast ones, which is what makes the figures strict."""

SLOW = (
    "test_files.py::test_whatever_call_fails_the_target_is_old_or_new_and_the_next_run_completes",
    "test_files.py::test_a_rollback_right_after_a_crash_brings_back_what_was_there",
    "test_files.py::test_a_rollback_that_fails_anywhere_can_be_done_again",
)
"""Left out of them in the first round."""

FAULTS = ("faults/test_sweep.py", "faults/test_crash_states.py", "laws/test_state_machine.py")
WITNESSES: dict[str, tuple[str, ...]] = {
    "bundle": ("test_file_shapes.py", "test_bundle_laws.py"),
    "merging": ("test_file_shapes.py", "test_bundle_laws.py"),
    "libpq.settings": ("test_check_cli.py",),
    "libpq.pasted": ("test_check_cli.py",),
    "rootfile": ("test_check_cli.py", "test_diagnosis.py"),
    "files": (*SLOW, "faults/test_editors.py", *FAULTS),
    "store": FAULTS,
    "journal": ("test_history.py", "test_changes.py", *FAULTS),
    "changes": FAULTS,
    "upkeep": FAULTS,
}
"""Slower tests, for what survived the others: see --again.  Only what runs in this process counts:
the command line of the stories is another one, and meets the room as it is."""


# --- mutants --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in *function* (dotted; empty at module level), between *line* and *end*."""

    function: str
    line: int
    end: int
    change: str
    statement: ast.stmt
    """The mutated statement of the module's top level, the one with the index *position*."""
    position: int
    in_function: bool


_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_REPLACED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_TESTS = (ast.If, ast.While, ast.IfExp)
_NONE = ast.Constant(None)


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What *node* could have been by mistake."""
    match node:
        case ast.Compare(left, [operator], right):
            yield ast.Compare(left, [_COMPARED[type(operator)]()], right)
        case ast.Compare(left, operators, right):
            for index, operator in enumerate(operators):
                other = [*operators]
                other[index] = _COMPARED[type(operator)]()
                yield ast.Compare(left, other, right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            if len(values) > 1:
                yield from (
                    ast.BoolOp(operator, values[:at] + values[at + 1 :])
                    if len(values) > 2
                    else values[1 - at]
                    for at in range(len(values))
                )
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.BinOp(left, operator, right) if type(operator) in _REPLACED:
            yield ast.BinOp(left, _REPLACED[type(operator)](), right)
        case ast.AugAssign(target, operator, value) if type(operator) in _REPLACED:
            yield ast.AugAssign(target, _REPLACED[type(operator)](), value)
            yield ast.Assign([target], value)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(str() as value):
            yield ast.Constant(f"XX{value}")
        case ast.Constant(bytes() as value):
            yield ast.Constant(b"XX" + value)
        case ast.Return(value) if value is not None and not _is_none(value):
            yield ast.Return(_NONE)
        case ast.Assign(targets, value) if not _is_none(value):
            yield ast.Assign(targets, _NONE)
        case ast.AnnAssign(target, annotation, value, simple) if value and not _is_none(value):
            yield ast.AnnAssign(target, annotation, _NONE, simple)
        case ast.Expr(ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _negated(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The plain conditions of *node*, turned round; the others have mutants of their own."""
    if isinstance(node, _TESTS) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
        yield "test", ast.UnaryOp(ast.Not(), node.test)


def _is_for_type_checkers(statement: ast.stmt) -> bool:
    """Judge = Callable[...], Outcome = TypeVar(...), and TYPE_CHECKING = False itself."""
    value = getattr(statement, "value", None)
    return (
        isinstance(value, ast.Subscript)
        or (isinstance(value, ast.Call) and ast.unparse(value.func) == "TypeVar")
        or ast.unparse(statement) == "TYPE_CHECKING = False"
    )


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


_SPEAKING = re.compile(
    r"[A-Z]\w*(Usage|Read|Write|Refused|Damaged|Changed|Unusable|Timeout)|Finding|"
    r"StoreTampered|_Drift|ChangedUnconfirmed|_tampered|_refused"
)


def _is_wording(node: ast.AST, calls: tuple[str, ...]) -> bool:
    """Sentences for people: their words are the business of other tests."""
    spoken = isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    )
    return spoken and any(_SPEAKING.fullmatch(name) for name in calls)


def _is_system(node: ast.AST) -> bool:
    """A question for the system: only one of its answers can be tried here."""
    return isinstance(node, (ast.Compare, ast.BoolOp)) and "sys.platform" in ast.unparse(node)


def _elsewhere(node: ast.AST) -> str:
    """The field of *node* that only other systems execute: no test here can notice it."""
    if isinstance(node, (ast.If, ast.IfExp)):
        match node.test:
            case ast.Compare(left, [ast.Eq() | ast.NotEq() as operator], [ast.Constant(name)]):
                if ast.unparse(left) == "sys.platform":
                    here = isinstance(operator, ast.Eq) == (name == sys.platform)
                    return "orelse" if here else "body"
    return ""


def _sites(
    node: ast.AST, function: str, in_function: bool, calls: tuple[str, ...] = ()
) -> Iterator[tuple[ast.AST, str, Any, str, bool]]:
    """Every place below *node*, annotations left out: parent, field, index, function, whether
    within one."""
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        calls = (*calls, name)
    for field, value in ast.iter_fields(node):
        left_out = ("annotation", "returns", "decorator_list", "type_comment", "ctx")
        if field in (*left_out, _elsewhere(node)):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_docstring(child) or _is_system(child):
                continue
            if _is_wording(child, calls) or isinstance(child, ast.JoinedStr):
                continue
            within = function
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                within = f"{function}.{child.name}".lstrip(".")
            inside = in_function or isinstance(node, ast.FunctionDef)
            yield node, field, index if isinstance(value, list) else None, within, inside
            yield from _sites(child, within, inside, calls)


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module."""
    found: list[Mutant] = []
    tree = ast.parse(source)
    for position, top in enumerate(tree.body):
        if not isinstance(top, (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)):
            continue
        if _is_for_type_checkers(top):
            continue
        holder = ast.Module([top], [])
        for parent, field, index, function, inside in list(_sites(holder, "", False)):
            node = getattr(parent, field) if index is None else getattr(parent, field)[index]
            changes: list[tuple[ast.AST, str, Any, ast.AST]] = [
                (parent, field, index, other) for other in variants(node)
            ]
            changes += [(node, where, None, other) for where, other in _negated(node)]
            for holding, where, at, other in changes:
                before = _exchange(holding, where, at, ast.fix_missing_locations(other))
                ast.copy_location(other, before)
                text = f"{_text(before)} → {_text(other)}"
                line, end = _span(tree, before)
                mutated = copy.deepcopy(holder.body[0])
                found.append(Mutant(function, line, end, text, mutated, position, inside))
                _exchange(holding, where, at, before)
    return found


def _exchange(parent: ast.AST, field: str, index: int | None, new: ast.AST) -> ast.AST:
    if index is None:
        old = getattr(parent, field)
        setattr(parent, field, new)
    else:
        old = getattr(parent, field)[index]
        getattr(parent, field)[index] = new
    assert isinstance(old, ast.AST)
    return old


def _text(node: ast.AST) -> str:
    words = " ".join(ast.unparse(node).split())
    return words if len(words) <= 70 else f"{words[:40]} … {words[-27:]}"


def _span(tree: ast.AST, node: ast.AST) -> tuple[int, int]:
    """The lines of the innermost simple statement, or the head of a compound one, with *node*."""
    line = getattr(node, "lineno", 1)
    end = getattr(node, "end_lineno", line)
    best = (line, end)
    size = 1 << 30
    for each in ast.walk(tree):
        if isinstance(each, ast.stmt) and each.lineno <= line and end <= (each.end_lineno or 0):
            length = (each.end_lineno or 0) - each.lineno
            if length < size and not hasattr(each, "body"):
                size, best = length, (each.lineno, each.end_lineno or each.lineno)
    return best


# --- putting a mutant into the living module ------------------------------------------------------


def plant(mutant: Mutant, module: ModuleType) -> None:
    """Make the functions of *module* those of *mutant*, in this process."""
    scratch = dict(vars(module))
    statement = ast.Module([mutant.statement], [])
    ast.fix_missing_locations(statement)
    code = compile(statement, str(module.__file__), "exec", dont_inherit=True, flags=_ANNOTATIONS)
    exec(code, scratch)
    assert isinstance(mutant.statement, (ast.FunctionDef, ast.ClassDef))
    name = mutant.statement.name
    living = dict(_functions(name, vars(module)[name]))
    for path, new in _functions(name, scratch[name]):
        old = living.get(path)
        if old is not None and old.__code__.co_filename == module.__file__:
            old.__code__ = new.__code__
            old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


_ANNOTATIONS = __future__.annotations.compiler_flag


def _functions(path: str, value: object) -> Iterator[tuple[str, FunctionType]]:
    """The functions of a definition, by dotted name, behind whatever decorates them."""
    if isinstance(value, type):
        for name, each in vars(value).items():
            yield from _functions(f"{path}.{name}", each)
        return
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if hasattr(value, "cache_clear"):
        value.cache_clear()
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, FunctionType):
        yield path, value


# --- running --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant: killed, timeout, survived, or uncovered; *by* names the killer."""

    room: str
    function: str
    line: int
    change: str
    fate: str
    by: str = ""


LEFT = ("survived", "uncovered")


class Session:
    """The pytest plugin that takes the place of the usual loop over the tests."""

    def __init__(self, room: str, wanted: Callable[[Mutant], bool]) -> None:
        self.room = room
        self.wanted = wanted
        self.outcomes: list[Outcome] = []
        self.failed: list[str] = []

    def pytest_runtestloop(self, session: Any) -> bool:
        """First every test as it is, then every mutant."""
        module = importlib.import_module(f"qs_certs.{self.room}")
        covering, seconds = self._measure(session.items, str(module.__file__))
        if self.failed:
            print("these fail without any mutant:", *self.failed, sep="\n  ")
            return True
        by_name = {item.nodeid: item for item in session.items}
        all_mutants = mutants(Path(str(module.__file__)).read_text("utf-8"))
        self._control(module, session.items, seconds)
        if self.failed:
            print("planting alone is noticed:", *self.failed)
            return True
        for mutant in all_mutants:
            if not (mutant.in_function and self.wanted(mutant)):
                continue
            hit: set[str] = set()
            for line in range(mutant.line, mutant.end + 1):
                hit |= covering.get(line, set())
            if not hit:  # a default of a parameter
                for line in range(mutant.statement.lineno, (mutant.statement.end_lineno or 0) + 1):
                    hit |= covering.get(line, set())
            chosen = sorted(hit & by_name.keys(), key=lambda name: seconds[name])
            fate, by = (
                ("uncovered", "")
                if not chosen
                else self._try(mutant, module, [by_name[name] for name in chosen], seconds)
            )
            self.outcomes.append(_outcome(self.room, mutant, fate, by))
        return True

    def _measure(self, items: list[Any], path: str) -> tuple[dict[int, set[str]], dict[str, float]]:
        """Which tests execute each line of the room, and how long each takes."""
        import coverage

        measured = coverage.Coverage(data_file=None, include=[path], config_file=False)
        seconds: dict[str, float] = {}
        measured.start()
        for item, following in zip(items, [*items[1:], _Nothing(items[0])], strict=True):
            measured.switch_context(item.nodeid)
            started = time.monotonic()
            if not _passes(item, following):
                self.failed.append(item.nodeid)
            seconds[item.nodeid] = time.monotonic() - started
        measured.stop()
        data = measured.get_data()
        lines = data.contexts_by_lineno(path)
        return {line: set(contexts) for line, contexts in lines.items()}, seconds

    def _control(self, module: ModuleType, items: list[Any], seconds: dict[str, float]) -> None:
        """Planting without a mistake must go unnoticed."""
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))

        def attempt() -> str | None:
            for position, top in enumerate(tree.body):
                if isinstance(top, (ast.FunctionDef, ast.ClassDef)):
                    plant(Mutant(top.name, 0, 0, "", top, position, True), module)
            return next((each.nodeid for each in items if not _passes(each, _Nothing(each))), None)

        fate, by = _forked(attempt, 5 + 6 * sum(seconds.values()))
        if fate != "survived":
            self.failed.append(f"{fate} {by}")

    def _try(
        self, mutant: Mutant, module: ModuleType, items: list[Any], seconds: dict[str, float]
    ) -> tuple[str, str]:
        def attempt() -> str | None:
            try:
                plant(mutant, module)
            except Exception:  # noqa: BLE001 - a mutant that cannot even be made is noticed
                return "import"
            return next((each.nodeid for each in items if not _passes(each, _Nothing(each))), None)

        return _forked(attempt, 5 + 6 * sum(seconds[item.nodeid] for item in items))


def _forked(attempt: Callable[[], str | None], limit: float) -> tuple[str, str]:
    """The fate of a mutant that *attempt* names the killer of, in a process of its own."""
    if sys.platform == "win32":
        raise SystemExit("mutants are tried in forks, which Windows has not")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setpgid(0, 0)
        _quiet()
        killer: str | None
        try:
            killer = attempt()
        except BaseException as error:  # noqa: BLE001 - pytest itself gave up
            killer = repr(error)
        os.write(writing, (killer or "").encode()[:3000])
        os._exit(killer is not None)
    os.close(writing)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    status = _wait(child, limit)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        by = pipe.read().decode("utf-8", "replace")
    if status is None:
        return "timeout", ""
    return ("survived", "") if status == 0 else ("killed", by)


def _outcome(room: str, mutant: Mutant, fate: str, by: str) -> Outcome:
    if fate in LEFT:
        print(f"{fate:10}{room}:{mutant.line} {mutant.function}: {mutant.change}", flush=True)
    return Outcome(room, mutant.function, mutant.line, mutant.change, fate, by)


def outside_functions(room: str, lines: tuple[int, int]) -> list[Outcome]:
    """Constants and fields: what was made of them is everywhere, so each gets a fresh import."""
    path = CHECKOUT.joinpath("qs_certs", *room.split(".")).with_suffix(".py")
    source = path.read_text("utf-8")
    found = []
    started = time.monotonic()
    fate, by = _forked(lambda: _imported(room, path, ast.parse(source)), 600)
    limit = 10 + 6 * (time.monotonic() - started)
    if fate != "survived":
        raise SystemExit(f"{room}: the unaltered room does not survive: {fate} {by}")
    for mutant in mutants(source):
        if not mutant.in_function and lines[0] <= mutant.line <= lines[1]:
            tree = ast.parse(source)
            tree.body[mutant.position] = mutant.statement
            ast.fix_missing_locations(tree)
            fate, by = _forked(lambda tree=tree: _imported(room, path, tree), limit)  # type: ignore[misc]
            found.append(_outcome(room, mutant, fate, by))
    return found


def _imported(room: str, path: Path, tree: ast.Module) -> str | None:
    """Run the room's tests with *tree* in place of the module's source."""
    import pytest

    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, name: str) -> CodeType | None:
        if name == f"qs_certs.{room}":
            return compile(tree, str(path), "exec", dont_inherit=True)
        return original(self, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    code = pytest.main([*_options(ROOMS[room], SLOW), "-x"])
    return None if code == 0 else f"exit code {code}"


def _options(tests: tuple[str, ...], left_out: tuple[str, ...]) -> list[str]:
    paths = [str(CHECKOUT / "tests" / name) for name in tests]
    return [
        *(f"--deselect=tests/{name}" for name in left_out),
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--rootdir",
        str(CHECKOUT),
        *paths,
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]


class _Nothing:
    """Stands for the next test where there may be any: only the session's fixtures stay."""

    def __init__(self, item: Any) -> None:
        self.session = item.session

    def listchain(self) -> list[Any]:
        return [self.session]


def _passes(item: Any, following: Any) -> bool:
    from _pytest.runner import runtestprotocol

    reports = runtestprotocol(item, log=False, nextitem=following)
    return not any(report.failed for report in reports)


def _wait(child: int, limit: float) -> int | None:
    """The child's status; None where it took longer than *limit* seconds and was killed."""
    if sys.platform == "win32":
        raise SystemExit("mutants are tried in forks, which Windows has not")
    end = time.monotonic() + limit
    pause = 0.002
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.dup2(nowhere, 0)


def run(room: str, lines: tuple[int, int], parts: tuple[str, ...]) -> list[Outcome]:
    """Try every mutant of *room* between these lines.  Once in a process: see _imported."""
    import cryptography.x509  # noqa: F401 - so that no fork has to
    import hypothesis  # noqa: F401

    if any(name.startswith("qs_certs") for name in sys.modules):
        raise SystemExit("one room for each process")
    outcomes = outside_functions(room, lines) if "constants" in parts else []
    if "functions" not in parts:
        return outcomes
    return outcomes + _session(
        room, ROOMS[room], SLOW, lambda each: lines[0] <= each.line <= lines[1]
    )


def _session(
    room: str,
    tests: tuple[str, ...],
    left_out: tuple[str, ...],
    wanted: Callable[[Mutant], bool],
) -> list[Outcome]:
    import pytest

    session = Session(room, wanted)
    pytest.main(_options(tests, left_out), plugins=[session])
    if session.failed:
        raise SystemExit(f"{room}: the tests do not pass as they are")
    return session.outcomes


def again(room: str, earlier: list[Outcome]) -> list[Outcome]:
    """*earlier*, with what survived within functions tried once more, by slower tests."""
    left = {(each.function, each.change) for each in earlier if each.fate in LEFT}
    tests = (*ROOMS[room], *WITNESSES.get(room, ()))
    tried = _session(room, tests, (), lambda each: (each.function, each.change) in left)
    new = {(each.function, each.line, each.change): each for each in tried if each.fate not in LEFT}
    return [new.get((each.function, each.line, each.change), each) for each in earlier]


# --- the report -----------------------------------------------------------------------------------


def explained() -> set[tuple[str, str, str]]:
    """Room, function and change of the survivors that docs/mutation.md gives a reason for."""
    found = set()
    room = ""
    for line in EXPLAINED.read_text("utf-8").splitlines() if EXPLAINED.exists() else ():
        if heading := re.fullmatch(r"### `([\w.]+)`", line):
            room = heading[1]
        if row := re.fullmatch(r"\| `([^`]*)` \| `` (.*) `` \| .+ \|", line):
            found.add((room, row[1], row[2].replace("\\|", "|")))
    return found


def summary(outcomes: list[Outcome]) -> tuple[str, list[Outcome]]:
    """A table row per room, and the survivors without a reason."""
    known = explained()
    rows = ["| room | mutants | killed | survived | explained |", "|---|---:|---:|---:|---:|"]
    open_: list[Outcome] = []
    for room in dict.fromkeys(each.room for each in outcomes):
        mine = [each for each in outcomes if each.room == room]
        fates = Counter(each.fate for each in mine)
        left = [each for each in mine if each.fate in LEFT]
        unknown = [each for each in left if (room, each.function, each.change) not in known]
        open_ += unknown
        killed = fates["killed"] + fates["timeout"]
        share = 100 * killed / len(mine)
        rows.append(
            f"| `{room}` | {len(mine):,} | {killed:,} ({share:.1f} %) | {len(left)} "
            f"| {len(left) - len(unknown)} |"
        )
    return "\n".join(rows), open_


def _in_a_process(room: str, part: str | None, lines: str) -> list[Outcome]:
    """`run` in a fresh process, since a room's first import must be that process's first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcomes.json")
        command = [sys.executable, __file__, room, "--json", str(path), "--lines", lines]
        subprocess.run([*command, *(["--part", part] if part else [])], check=True)
        return [Outcome(**each) for each in json.loads(path.read_text())]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(ROOMS))
    parser.add_argument("--json", type=Path, help="write every outcome there")
    parser.add_argument("--again", type=Path, help="outcomes that --json wrote")
    parser.add_argument("--part", choices=["constants", "functions"])
    parser.add_argument("--lines", default="1-100000", help="only mutants on these lines")
    options = parser.parse_args(arguments)
    if unknown := set(options.rooms) - ROOMS.keys():
        parser.error(f"no such room: {', '.join(sorted(unknown))}")
    parts = (options.part,) if options.part else ("constants", "functions")
    first, last = map(int, options.lines.split("-"))
    outcomes: list[Outcome] = []
    if options.again:
        earlier = [Outcome(**each) for each in json.loads(options.again.read_text())]
        outcomes = again(options.rooms[0], earlier)
    elif len(options.rooms) == 1:
        outcomes = run(options.rooms[0], (first, last), parts)
    else:
        for room in options.rooms or ROOMS:
            outcomes += _in_a_process(room, options.part, options.lines)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1))
        if len(options.rooms) == 1:
            return 0
    table, left = summary(outcomes)
    print(table)
    for each in left:
        print(f"{each.fate:10}{each.room}:{each.line} {each.function}: {each.change}")
    return int(bool(left))


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "scripts")]
    os.chdir(CHECKOUT)
    sys.exit(main(sys.argv[1:]))
