"""A whole gateway, put together: modules, session, socket, server.

Promises: it listens where it was told or says why not. SIGTERM and SIGINT stop it in order: what
waits is answered as it stands, what was accepted goes on in the farm; a second one, or the end of
the parent, stops it at once.
"""

import asyncio
import contextlib
import importlib
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator

import msgspec
import uvicorn

from farm import errors
from farm._version import __version__
from farm.client.relay import Relay
from farm.errors import ConfigError, FarmError
from farm.gateway.aggregates import Library
from farm.gateway.app import Application
from farm.gateway.door import Door
from farm.gateway.gateway import Gateway
from farm.gateway.protocol import guarded
from farm.gateway.schedules import Desk
from farm.gateway.settings import ExitCode, GatewaySettings, Word, parse_listen
from farm.logs import Seldom, setup
from farm.parent import watch_parent
from farm.registry import import_modules, registered

__all__ = ["serve"]

logger = logging.getLogger("farm.gateway")

STOP_SECONDS = 5
"""How long requests have to end when it stops."""
BACKLOG = 512


class Unsafe(ConfigError):
    """Other machines could connect, and nothing would keep them from running functions here."""


def serve(
    settings: GatewaySettings, desk: Desk | None = None, library: Library | None = None
) -> ExitCode:
    """Run a gateway until it is told to stop or cannot go on.

    ``desk`` is for schedules, ``library`` for aggregates.
    """
    setup(settings.log_format, settings.log_level)
    _hear_server()
    watch_parent(lambda: os._exit(ExitCode.OK), settings.parent_fd, settings.parent_pid)
    try:
        return _serve(settings, desk, library)
    except FarmError as error:
        logger.error("the gateway cannot serve: %s", error)  # noqa: TRY400
        known = {*errors.__all__}
        kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in known)
        _say(settings, Word(error=kind, message=str(error)))
        return ExitCode.REFUSED if isinstance(error, Unsafe) else ExitCode.CONFIG
    except OSError as error:
        logger.error("the gateway cannot listen at %s: %s", settings.listen, error)  # noqa: TRY400
        _say(settings, Word(error="ServiceFailed", message=f"{settings.listen}: {error}"))
        return ExitCode.REFUSED
    except Exception as error:
        logger.exception("the gateway cannot serve: this is a bug")
        _say(settings, Word(error=type(error).__name__, message=repr(error)))
        return ExitCode.BUG


class _Forward(logging.Handler):
    """What the HTTP server says: in the log of this service, and not for each request of a peer."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seldom = Seldom(logger)

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, or count it."""
        if record.exc_info:
            logger.error("%s", record.getMessage().strip(), exc_info=record.exc_info)
        else:
            self._seldom.warning(record.getMessage())


def _hear_server() -> None:
    for name in ("uvicorn", "asyncio"):
        server = logging.getLogger(name)
        server.handlers = [_Forward()]
        server.propagate = False


def _serve(settings: GatewaySettings, desk: Desk | None, library: Library | None) -> ExitCode:
    if settings.sys_path is not None:
        sys.path[:] = settings.sys_path
        importlib.invalidate_caches()
    import_modules(settings.modules)
    if not registered():
        logger.info("no function is registered: name the modules that have them with --import")
    _check_tls(settings)
    with _listen(settings) as listening:
        relay = Relay(settings.address, settings.token, settings.keys)
        try:
            return asyncio.run(_run(Gateway(settings, relay, desk, library), listening))
        finally:
            relay.close()


def _listen(settings: GatewaySettings) -> socket.socket:
    host, port = parse_listen(settings.listen)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    if not ipaddress.ip_address(address[0]).is_loopback:
        _check_open(settings)
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # before anybody is told that it serves
    except BaseException:
        listening.close()
        raise
    return listening


def _check_open(settings: GatewaySettings) -> None:
    """Other machines can connect: only with tokens; without TLS it is said that these can be read.

    Raises ``Unsafe``.
    """
    if not Door(settings).asks:
        if settings.insecure:
            return
        raise Unsafe(
            f"{settings.listen} is open to other machines, and without tokens everyone who can"
            " connect can run the registered functions: make keys and a token with  farm keys init "
            " and  farm keys new NAME --role client --http , listen on 127.0.0.1, or allow it with"
            " --insecure on a network where you trust everyone"
        )
    if not settings.tls_cert:
        logger.warning(
            "without TLS tokens can be read on the way to %s: give a certificate (--tls-cert,"
            " --tls-key), or have a proxy with one before it",
            settings.listen,
        )


def _check_tls(settings: GatewaySettings) -> None:
    """Raise ``ConfigError`` if there is to be TLS, and its files are not good for that."""
    if not settings.tls_cert and not settings.tls_key:
        return
    if not (settings.tls_cert and settings.tls_key):
        raise ConfigError("TLS takes two files: --tls-cert and --tls-key")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_cert, settings.tls_key
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{settings.tls_cert} and {settings.tls_key} are no certificate and its key, in PEM:"
            f" {error}"
        ) from None


async def _run(gateway: Gateway, listening: socket.socket) -> ExitCode:
    settings, relay = gateway.settings, gateway.relay
    config = uvicorn.Config(
        Application(gateway),
        http=guarded(settings.max_connections),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
    )
    server = _Server(config, gateway)
    host, port = listening.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    logger.info("serving at %s", url, extra={"farm": settings.address, "version": __version__})
    _say(settings, Word(url=url))
    watching = asyncio.ensure_future(_watch(relay, server))
    try:
        await server.serve(sockets=[listening])
    finally:
        watching.cancel()
        await asyncio.to_thread(gateway.seats.close)
    if relay.error is not None:
        logger.error("the gateway ends: %s", relay.error)
        return ExitCode.FAILED
    logger.info("the gateway ends")
    return ExitCode.OK


class _Server(uvicorn.Server):
    """Stops by signals as services here do, and tells the gateway, so that nobody waits on."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop it in order; a second one at once."""

        def at_once(number: int, _frame: object) -> None:
            os._exit(128 + number)

        def in_order(_number: int, _frame: object) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, at_once)
            self.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, in_order)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order."""
        self._gateway.stopping.set()
        await super().shutdown(sockets)


async def _watch(relay: Relay, server: uvicorn.Server) -> None:
    """Stop when the farm refuses this session for good."""
    await relay.over()
    server.should_exit = True


def _say(settings: GatewaySettings, word: Word) -> None:
    """Tell whoever started this process; that it listens no more is its own affair."""
    if settings.ready_fd is not None:
        with contextlib.suppress(OSError), open(settings.ready_fd, "wb") as ready:  # noqa: PTH123
            ready.write(msgspec.json.encode(word) + b"\n")
