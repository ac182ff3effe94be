"""The base of everything that is passed around here: frozen values with named fields.

They are declared and used like frozen dataclasses, type checkers take them for such, and
`dataclasses.fields`, `replace` and `asdict` take them, too.  Only making the classes is cheaper: a
dataclass compiles eight functions of its own, 0.6 ms for each class on CPython 3.11, and a local
`check` would spend more on that than on all its work.
"""

from __future__ import annotations

# Not from typing, here and in the rooms of `check`: to load it takes nearly as long as their work.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import replace as replace  # noqa: PLC0414 - for its types
    from typing import Any, ClassVar

    from typing_extensions import dataclass_transform
else:

    def replace(value, /, **changes):
        """A copy of *value* with other values in some fields; TypeError for one that it lacks."""
        return type(value)(**{**value.__dict__, **changes})

    def dataclass_transform(**_: object) -> Any:
        return lambda cls: cls


class _Fields:
    """What the functions of `dataclasses` look at, made when they look."""

    def __get__(self, _: object, owner: type[Value]) -> dict[str, Any]:
        import dataclasses

        made = dataclasses.make_dataclass(owner.__name__, owner._fields)
        return dict(made.__dataclass_fields__)  # type: ignore[attr-defined]


def _frozen(value: Value, name: str) -> AttributeError:
    import dataclasses

    return dataclasses.FrozenInstanceError(f"{type(value).__name__}.{name} cannot be changed")


@dataclass_transform(frozen_default=True)
class Value:
    """A frozen value: equal where the class and all fields are.

    Fields are the annotated names of the class body, in order; a default is shared, so it has to be
    immutable.  FrozenInstanceError on assignment, TypeError where a field is missing or unknown.
    """

    __slots__ = ("__dict__", "__weakref__")
    _fields: ClassVar[tuple[str, ...]] = ()
    if not TYPE_CHECKING:
        __dataclass_fields__ = _Fields()

    def __init_subclass__(cls) -> None:
        cls._fields += tuple(cls.__annotations__)

    def __init__(self, *args: object, **fields: object) -> None:
        names = self._fields
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} has {len(names)} fields, not {len(args)}")
        given = dict(zip(names, args, strict=False))
        for name in fields:
            if name in given or name not in names:
                raise TypeError(f"{type(self).__name__} has no field {name}, or it is given twice")
        given.update(fields)
        if len(given) < len(names):
            for name in names:
                if name not in given:
                    try:
                        given[name] = getattr(type(self), name)
                    except AttributeError:
                        raise TypeError(f"{type(self).__name__} needs {name}") from None
        self.__dict__.update(given)
        self.__post_init__()

    def __post_init__(self) -> None:
        """A class may refuse fields here that do not go together."""

    def __setattr__(self, name: str, value: object) -> None:
        raise _frozen(self, name)

    def __delattr__(self, name: str) -> None:
        raise _frozen(self, name)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self._fields))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({inside})"
