"""Where functions stand in an executable or a library: offsets in the file, as uprobes want them, by symbol."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.hash import GNUHashSection
from elftools.elf.sections import NoteSection, SymbolTableSection

_MACHINE: Final = "EM_X86_64"
_SYMBOL: Final = struct.Struct("<IBBHQQ")  # Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
_LARGEST: Final = 1 << 28
"""Bytes of a section that is read; Chromium's symbols, all of them, are a fifth of that."""
_DEFECTS: Final = (
    ELFError,
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a file leads to that is cut short, or made to deceive: anybody may start a program."""
_FUNCTIONS: Final = (2, 10)  # STT_FUNC, STT_GNU_IFUNC


class Program:
    """An ELF file, read as far as it is asked."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises ValueError where it is none of this machine's."""
        try:
            self._elf: Any = ELFFile(file)
            machine = self._elf["e_machine"]
        except _DEFECTS as error:
            raise ValueError(f"no ELF file: {error}") from None
        if machine != _MACHINE or self._elf.elfclass != 64:
            raise ValueError(f"of another machine: {machine}")

    @property
    def build_id(self) -> str:
        """What names its very bytes; empty where the linker wrote none."""
        try:
            section = self._elf.get_section_by_name(".note.gnu.build-id")
            if isinstance(section, NoteSection) and section.data_size <= _LARGEST:
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
        except _DEFECTS:
            pass  # it will not be recognised when it is met again
        return ""

    @property
    def entry(self) -> int | None:
        """Where in the file it starts to run."""
        try:
            return self._offset(self._elf["e_entry"])
        except _DEFECTS:
            return None

    def offsets(self, names: Collection[str]) -> dict[str, int]:
        """Offsets in the file of those functions it defines: by what it exports, else by its full table."""
        try:
            values = dict(self._exported(names)) or dict(self._listed(names))
            return {name: offset for name, value in values.items() if (offset := self._offset(value)) is not None}
        except _DEFECTS:
            return {}  # cut short, or made to deceive: no function can be told

    def _exported(self, names: Collection[str]) -> Iterator[tuple[str, int]]:
        table = self._elf.get_section_by_name(".gnu.hash")
        if not isinstance(table, GNUHashSection):
            yield from self._search(".dynsym", names)
            return
        for name in names:
            symbol = table.get_symbol(name)
            if symbol is not None and symbol["st_shndx"] != "SHN_UNDEF":
                yield name, symbol["st_value"]

    def _listed(self, names: Collection[str]) -> Iterator[tuple[str, int]]:
        yield from self._search(".symtab", names)

    def _search(self, section: str, names: Collection[str]) -> Iterator[tuple[str, int]]:
        """Goes through a table of symbols that may have hundreds of thousands."""
        table = self._elf.get_section_by_name(section)
        if not isinstance(table, SymbolTableSection):
            return
        names_of = self._elf.get_section(table["sh_link"])
        if table.data_size > _LARGEST or names_of.data_size > _LARGEST:
            return
        strings = names_of.data()
        wanted = {at + 1: name for name in names if (at := strings.find(b"\0" + name.encode() + b"\0")) >= 0}
        if not wanted:
            return
        data = table.data()
        whole = len(data) - len(data) % _SYMBOL.size
        for at, info, _, index, value, _ in _SYMBOL.iter_unpack(data[:whole]):
            if at in wanted and index and info & 0xF in _FUNCTIONS:
                yield wanted[at], value

    def _offset(self, value: int) -> int | None:
        for segment in self._elf.iter_segments():
            if segment["p_type"] == "PT_LOAD" and 0 <= value - segment["p_vaddr"] < segment["p_filesz"]:
                return int(value - segment["p_vaddr"] + segment["p_offset"])
        return None
