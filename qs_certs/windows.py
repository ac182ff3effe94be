"""What only Windows has: access lists, the ANSI code page, short names.  Elsewhere nothing is done.

Everything goes through the documented functions of advapi32 and kernel32; paths are Unicode.
`ctypes` is imported where Windows is at hand: loading it takes milliseconds, and some Pythons elsewhere lack it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

_FILE_OBJECT = 1  # SE_FILE_OBJECT
_DACL = 0x4  # DACL_SECURITY_INFORMATION
_PROTECTED = 0x80000000  # PROTECTED_DACL_SECURITY_INFORMATION
_UNPROTECTED = 0x20000000  # UNPROTECTED_DACL_SECURITY_INFORMATION
_CONTROL_PROTECTED = 0x1000  # SE_DACL_PROTECTED
_INHERITED = 0x10  # INHERITED_ACE
_NO_RIGHTS_HERE = frozenset({1, 50})  # ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED: some shares


_LIST = struct.Struct("<BxHHxx")
"""ACL of winnt.h: revision, size in bytes, count of entries."""
_ENTRY = struct.Struct("<BBH")
"""ACE_HEADER of winnt.h: type, flags, size in bytes."""


def own_rights(access_list: bytes, protected: bool) -> bool:
    """Whether *access_list* (an ACL of winnt.h, as bytes) says more than its folder hands down.

    It does where it is protected from the folder's, or has an entry that was not inherited.
    """
    return protected or any(not flags & _INHERITED for flags in _flags(access_list))


def _flags(access_list: bytes) -> Iterator[int]:
    at = _LIST.size
    for _ in range(_LIST.unpack_from(access_list)[2]):
        _, flags, size = _ENTRY.unpack_from(access_list, at)
        yield flags
        at += size


def copy_rights(source: str, target: str) -> None:
    """Give the file *target* the access list of *source*, where it has one of its own.

    A list that is all inherited is not copied: the folder hands it down again.  Raises OSError.
    """
    if sys.platform != "win32":
        return
    import ctypes

    advapi32 = ctypes.WinDLL("advapi32")
    descriptor, found = ctypes.c_void_p(), ctypes.c_void_p()
    code = advapi32.GetNamedSecurityInfoW(
        ctypes.c_wchar_p(source),
        _FILE_OBJECT,
        _DACL,
        None,
        None,
        ctypes.byref(found),
        None,
        ctypes.byref(descriptor),
    )
    if code in _NO_RIGHTS_HERE:
        return
    _check(code)
    try:
        if found.value is None:
            return  # no list at all: everybody may do everything, as on FAT
        control, revision = ctypes.c_ushort(), ctypes.c_ulong()
        advapi32.GetSecurityDescriptorControl(
            descriptor, ctypes.byref(control), ctypes.byref(revision)
        )
        protected = bool(control.value & _CONTROL_PROTECTED)
        _, size, _ = _LIST.unpack(ctypes.string_at(found, _LIST.size))
        if not own_rights(ctypes.string_at(found, size), protected):
            return
        what = _DACL | (_PROTECTED if protected else _UNPROTECTED)
        _check(
            advapi32.SetNamedSecurityInfoW(
                ctypes.c_wchar_p(target),
                _FILE_OBJECT,
                ctypes.c_ulong(what),
                None,
                None,
                found,
                None,
            )
        )
    finally:
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.LocalFree.argtypes = [ctypes.c_void_p]
        kernel32.LocalFree(descriptor)


def _check(code: int) -> None:
    if sys.platform == "win32" and code != 0:
        import ctypes

        raise ctypes.WinError(code)


def code_page() -> int | None:
    """The ANSI code page, in which libpq names files; None on other systems."""
    if sys.platform != "win32":
        return None
    import ctypes

    return int(ctypes.WinDLL("kernel32").GetACP())


def short_name(path: str) -> str | None:
    """The 8.3 name of a file or folder that exists; None where it has none."""
    if sys.platform != "win32":
        return None
    import ctypes

    room = ctypes.create_unicode_buffer(32_768)
    length = ctypes.WinDLL("kernel32").GetShortPathNameW(ctypes.c_wchar_p(path), room, len(room))
    return room.value if 0 < length < len(room) else None
