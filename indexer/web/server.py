"""`indexer serve`: Datasette on one index, on loopback unless told otherwise."""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

import uvicorn
from datasette.app import Datasette

from indexer.errors import IndexerError
from indexer.project import Project
from indexer.queries.opening import open_index
from indexer.web.limits import limit_heap
from indexer.web.reading import PROJECTS, SHARED

SETTINGS = {
    "suggest_facets": False,  # over a second at 200,000 rows
    "default_page_size": 50,
    "sql_time_limit_ms": 2000,
    "default_cache_ttl": 0,  # the index changes under it
}
PAGES = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
"""Content Security Policy of Datasette's own pages, which have inline scripts; ours set a stricter one."""


def serve(project: Project, host: str, port: int, ready: Callable[[str], None], origins: Collection[str] = ()) -> None:
    """Serve the project's index until SIGINT or SIGTERM; `ready` gets the address of the home page.

    `origins` are sites whose pages may read `/api`. Raises IndexFileError if there is no index, IndexerError if the
    address cannot be listened on.
    """
    open_index(project.index).close()
    limit_heap()
    with _listening(host, port) as listening:
        address = listening.getsockname()
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        application = asyncio.run(_application(project, host, origins))
        config = uvicorn.Config(
            application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, server_header=False
        )
        server = uvicorn.Server(config)

        def stop(_number: int, _frame: FrameType | None) -> None:
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)  # until uvicorn sets its handlers, and for the signals that it re-raises
        ready(f"http://{name}:{address[1]}/")
        server.run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _application(project: Project, host: str, origins: Collection[str]) -> Any:
    from datasette import handle_exception  # only complete after datasette.app

    handle_exception.rich = None  # else each wrong query of a client is printed with all local variables
    plugins = {"indexer": {"stale_after": project.stale_after}}
    files = [] if project.shared is not None else [str(project.db)]
    datasette = Datasette(files, settings=SETTINGS, metadata={"plugins": plugins}, memory=not files)
    if project.shared is not None:
        SHARED[datasette] = project.shared
    if is_loopback(host):  # files are shown as they are, with whatever secrets tools left in them
        PROJECTS[datasette] = project
    await datasette.invoke_startup()
    return guarded(datasette.app(), host, origins)


def guarded(app: Any, host: str, origins: Collection[str] = ()) -> Any:
    """Wrap an application: answer only requests for this machine by name or IP address, and add security headers.

    Pages of `origins` may read `/api`.

    A foreign page whose name now resolves to this address (DNS rebinding) sends its own name as Host.
    """
    names = {"localhost", host.lower(), os.uname().nodename.lower(), socket.getfqdn().lower()}

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["method"] not in ("GET", "HEAD", "POST", "OPTIONS"):  # Datasette handles no others
            await send({"type": "http.response.start", "status": 405, "headers": [(b"allow", b"GET, HEAD")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if not _is_own(headers.get(b"host", b"").decode("latin-1"), names):
            await send({"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This server does not answer for that host name.\n"})
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = {b"content-security-policy": PAGES.encode(), b"x-content-type-options": b"nosniff"}
                origin = headers.get(b"origin", b"")
                if origin.decode("latin-1") in origins and scope["path"].startswith("/api"):
                    more |= {b"access-control-allow-origin": origin, b"access-control-expose-headers": b"ETag"}
                message["headers"] = [*message["headers"], *((n, v) for n, v in more.items() if n not in given)]
                message["headers"] += [(b"vary", b"Origin")] if origins else []
            await send(message)

        await app(scope, receive, send_with_headers)

    return answer


def _is_own(host: str, names: set[str]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() in names
    return True


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()  # so that clients can connect as soon as they know the address
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise IndexerError(
            f"cannot listen on {host} port {port}: {why.lower()}; choose another with --host or --port"
        ) from None
    return listening
