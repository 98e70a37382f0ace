"""What the objects on the way of a request have in common.

They are plain classes with a constructor of their own, and no structs made from annotations: of a plain class mypyc
makes a C struct, and reading an attribute is reading a field. Through Python's attribute protocol the same takes ten
times as long, a hundred times a request.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

V = TypeVar("V", bound="Value")


class Value:  # noqa: PLW1641  many of them change
    """Equal by what it holds. `__match_args__` names the attributes, which the constructor takes under these names."""

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and type(self) is type(other) and as_dict(self) == as_dict(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([f'{name}={value!r}' for name, value in as_dict(self).items()])})"


def as_dict(value: Value) -> dict[str, Any]:
    """The attributes by name."""
    return {name: getattr(value, name) for name in type(value).__match_args__}


def replace(value: V, **changes: Any) -> V:
    """The same but for `changes`."""
    return type(value)(**{**as_dict(value), **changes})
