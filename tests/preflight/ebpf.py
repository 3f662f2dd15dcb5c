"""A real eBPF program on a link, which hands every packet to another link: what a proxy in eBPF does. Root only.

bpf(2) by number, structures of linux/bpf.h: no compiler is needed for four instructions.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
import time

_CALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, LINK_CREATE = 5, 28
SCHED_CLS, TCX_INGRESS = 3, 46
REDIRECT = 23


def bpf(command: int, attributes: bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    got = library.syscall(_CALL, command, room, 144)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(got)


def _code(to: int) -> bytes:
    def one(op: int, register: int, value: int) -> bytes:
        return struct.pack("<BBhi", op, register, 0, value)

    if not to:  # TC_ACT_OK: on the usual way
        return one(0xB7, 0, 0) + one(0x95, 0, 0)
    return one(0xB7, 1, to) + one(0xB7, 2, 0) + one(0x85, 0, REDIRECT) + one(0x95, 0, 0)


def redirect(source: str, to: str) -> int:
    """Every packet that comes in by `source` goes out by `to` ("": goes on as always). Holds while the fd is open."""
    code = _code(socket.if_nametoindex(to) if to else 0)
    instructions = ctypes.create_string_buffer(code, len(code))
    name = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(65536)
    program = bpf(
        PROG_LOAD,
        struct.pack(
            "<IIQQIIQ", SCHED_CLS, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(name), 1, 65536,
            ctypes.addressof(log),
        ),
    )  # fmt: skip
    return bpf(LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex(source), TCX_INGRESS, 0))


def _exists(name: str) -> bool:
    return not name or name in [other for _, other in socket.if_nameindex()]


if __name__ == "__main__":
    source, to = sys.argv[1:]
    print("ready", flush=True)
    while not (_exists(source) and _exists(to)):  # a link that comes and goes, as a proxy that watches links would
        time.sleep(0.0002)
    held = redirect(source, to)
    print("attached", flush=True)
    sys.stdin.read()
