"""Where the running kernel keeps its structure members, read from its BTF with libbpf's own functions.

Offsets are in bytes from the start of the named structure; members of anonymous structs and unions inside count as the
structure's own. Names that do not exist give None, because kernels differ; whoever needs one says what is lost without.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from otelbpf.errors import DependencyError, KernelError

_VMLINUX = Path("/sys/kernel/btf/vmlinux")
# https://docs.kernel.org/bpf/btf.html#type-encoding
_STRUCT, _UNION, _ENUM, _FUNC, _ENUM64 = 4, 5, 6, 12, 19
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 8, 9, 10, 11, 18
_MODIFIERS = frozenset((_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG))


class _Type(ctypes.Structure):
    _fields_ = [("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32)]


class _Triple(ctypes.Structure):
    """struct btf_member {name, type, offset}; struct btf_enum64 {name, low, high} has the same shape."""

    _fields_ = [("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32)]


class _Pair(ctypes.Structure):
    """struct btf_enum {name, value}; struct btf_param {name, type} has the same shape."""

    _fields_ = [("name_off", ctypes.c_uint32), ("value", ctypes.c_int32)]


@functools.cache
def _libbpf() -> ctypes.CDLL:
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        for function in ("btf__parse", "btf__type_by_id", "btf__name_by_offset"):
            getattr(library, function).restype = ctypes.c_void_p
        library.libbpf_get_error.restype = ctypes.c_long
        library.libbpf_get_error.argtypes = [ctypes.c_void_p]
        library.btf__find_by_name_kind.restype = ctypes.c_int32
        library.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        library.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        library.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        library.btf__parse.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        library.btf__free.argtypes = [ctypes.c_void_p]
        library.btf__free.restype = None
        return library
    raise DependencyError("libbpf.so.1 is missing", "apt-get install libbpf1")


class Btf:
    """The type information of one file; use as a context manager."""

    def __init__(self, path: Path = _VMLINUX) -> None:
        self._library = _libbpf()
        if not path.exists():
            raise KernelError(
                f"this kernel has no type information ({path})",
                "otelbpf needs a kernel built with CONFIG_DEBUG_INFO_BTF (every current distribution's since 5.8)",
            )
        handle = self._library.btf__parse(str(path).encode(), None)
        error = -ctypes.get_errno() if not handle else self._library.libbpf_get_error(handle)
        if not handle or error:
            raise KernelError(f"{path} cannot be read as BTF (error {-error})", "check the file's permissions")
        self._handle = ctypes.c_void_p(handle)

    def __enter__(self) -> Btf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the type information; harmless when called twice."""
        self._library.btf__free(self._handle)
        self._handle = ctypes.c_void_p()

    def offset(self, structure: str, member: str) -> int | None:
        """Bytes from the start of `structure` to `member`, which may name a path: "ns.inum"."""
        kind = self._find(structure, _STRUCT)
        bits: int | None = 0
        for name in member.split("."):
            found = self._member(kind, name) if kind else None
            if found is None:
                return None
            kind, more = found
            bits = bits + more if bits is not None else None
        return None if bits is None or bits % 8 else bits // 8

    def enumerator(self, enumeration: str, name: str) -> int | None:
        """The value of `name` in `enumeration`; an empty `enumeration` is not searched for."""
        kind = self._find(enumeration, _ENUM)
        if not kind:
            return None
        return next((pair.value for pair in self._pairs(kind) if self._name(pair.name_off) == name), None)

    def parameters(self, function: str) -> list[str] | None:
        """The names of a kernel function's parameters, in order; None where BTF does not know it."""
        kind = self._find(function, _FUNC)
        if not kind:
            return None
        return [self._name(pair.name_off) for pair in self._pairs(self._type(kind).size_or_type)]

    def _find(self, name: str, kind: int) -> int:
        return max(0, int(self._library.btf__find_by_name_kind(self._handle, name.encode(), kind)))

    def _type(self, number: int) -> _Type:
        return _Type.from_address(self._library.btf__type_by_id(self._handle, number))

    def _name(self, offset: int) -> str:
        return ctypes.string_at(self._library.btf__name_by_offset(self._handle, offset)).decode()

    def _pairs(self, number: int) -> list[_Pair]:
        address = self._library.btf__type_by_id(self._handle, number)
        return list((_Pair * (self._type(number).info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type)))

    def _strip(self, number: int) -> int:
        while self._type(number).info >> 24 & 0x1F in _MODIFIERS:
            number = self._type(number).size_or_type
        return number

    def _member(self, number: int, name: str) -> tuple[int, int] | None:
        """Type and bit offset of a member, looked for in anonymous structs and unions too."""
        number = self._strip(number)
        info = self._type(number).info
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        address = self._library.btf__type_by_id(self._handle, number)
        for member in (_Triple * (info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type)):
            # With the kind flag the upper byte is a bit field's size.
            offset = member.offset & 0xFFFFFF if info >> 31 else member.offset
            own = self._name(member.name_off)
            if own == name:
                return member.type, offset
            if not own and (found := self._member(member.type, name)):
                return found[0], found[1] + offset
        return None
