"""A way from outside to one port of the lab: a Unix socket, 0600, whose connections go on from the host it runs on.

python -I -S -c BOOT relay SOCKET ADDRESS PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

CHUNK = 65536


def main(arguments: list[str]) -> int:
    path = Path(arguments[0])
    os.umask(0o177)
    os.chdir(path.parent)  # the name of a socket may be 107 bytes long, and this path may be longer
    with contextlib.suppress(FileNotFoundError):
        Path(path.name).unlink()
    asyncio.run(_serve(path.name, arguments[1], int(arguments[2])))
    return 0


async def _serve(name: str, address: str, port: int) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
        for end in (writer, back):
            end.close()

    server = await asyncio.start_unix_server(pass_on, name, backlog=128)
    await server.serve_forever()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Until the source has said all; then the target hears that nothing more comes."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
