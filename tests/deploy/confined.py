"""What a unit's sandbox asks of the kernel, applied to this process by itself: no systemd is needed.

``confine(unit)`` takes NoNewPrivileges, SystemCallFilter, RestrictAddressFamilies and MemoryDenyWriteExecute from the
text of a unit; what concerns users and the file system is systemd's alone.
"""

import ctypes
import errno
import re
import socket
import subprocess
from pathlib import Path

_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_EQUAL = 4
_NO_NEW_PRIVILEGES, _SET_MDWE = 38, 65


class _Argument(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


def confine(unit: Path) -> None:
    """Raises OSError where the kernel, libseccomp or systemd-analyze isn't there."""
    settings = re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE)
    of: dict[str, list[str]] = {}
    for name, value in settings:
        of.setdefault(name, []).append(value)
    assert of["NoNewPrivileges"] == of["MemoryDenyWriteExecute"] == ["yes"]
    allowed, denied = of["SystemCallFilter"]
    names = _calls(allowed.split()) - _calls(denied.removeprefix("~").split())
    families = [getattr(socket, name) for name in of["RestrictAddressFamilies"][0].split()]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SET_MDWE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    _filter(names, families)


def _calls(names: list[str]) -> set[str]:
    """The system calls of these sets (``@name``) and names."""
    found: set[str] = set()
    for name in names:
        if name.startswith("@"):
            asked = ["systemd-analyze", "syscall-filter", name]
            lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
            found |= _calls([line.strip() for line in lines[1:] if line.strip() and "#" not in line])
        else:
            found.add(name)
    return found


def _filter(names: set[str], families: list[int]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_REFUSE)))
    allow = ctypes.c_uint32(_ALLOW)
    for name in names - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other processors, or newer than this libseccomp
            seccomp.seccomp_rule_add_array(context, allow, number, 0, None)
    for family in families:
        argument = _Argument(0, _EQUAL, family, 0)
        number = seccomp.seccomp_syscall_resolve_name(b"socket")
        seccomp.seccomp_rule_add_array(context, allow, number, 1, ctypes.byref(argument))
    if trouble := seccomp.seccomp_load(context):
        raise OSError(-trouble, "seccomp_load")
