"""Commands about keys, on the coordinator's machine: who may use the farm."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from farm.cli.output import Column
from farm.cli.run import Run, command, command_group
from farm.cli.words import ago_text, dash, seconds_text
from farm.errors import ConfigError
from farm.identity import Role
from farm.model import seconds

__all__ = ["key_store", "token_file"]

PANEL = "Keys"
GROUP = command_group("keys", PANEL, "Say who may use the farm: keys for clients, hosts and HTTP.")
USES_MAX = 10_000

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="PATH",
        help="Write the token there, for this user alone, instead of printing it.",
        show_default=False,
    ),
]


def key_store(run: Run) -> Any:
    """The keys of this user's farm."""
    from farm.keys import KeyStore, keys_folder

    return KeyStore(keys_folder(run.config().coordinator.keys))


def token_file(config: Any) -> str:
    """The file with the token that commands use, unless the environment has the token itself."""
    from farm.transport.credentials import TOKEN_VARIABLE

    return "" if os.environ.get(TOKEN_VARIABLE) else str(config.client.token_file)


@command(
    "init",
    panel=PANEL,
    examples=["farm keys init --address tcp://farm-host:7070"],
    group=GROUP,
)
def init(
    run: Run,
    *,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where other machines find the coordinator. Default: this machine's name, with the"
            " port of coordinator.listen.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the farm's own key pair, or only note a new address if there is one.

    A coordinator that runs without keys uses them when it is started again.
    """
    import socket

    from farm.transport import parse_address

    listen = parse_address(run.config().coordinator.listen)
    default = f"tcp://{socket.getfqdn()}:{listen.port or 7070}"
    where = parse_address(address or default)
    if where.scheme != "tcp" or where.host == "*":
        raise ConfigError(f"{where}: other machines need tcp:// and the name of this machine")
    store = key_store(run)
    store.create(str(where))
    run.output.answer(
        {"folder": str(store.folder), "address": str(where)},
        f"The farm's keys are in {store.folder}; tokens will say that it is at {where}.",
    )
    run.output.note("Next: farm keys new NAME --role host, and the same with --role client.")


@command(
    "new",
    panel=PANEL,
    examples=[
        "farm keys new north --role host",
        "farm keys new ann --role client --expires 30d",
        "farm keys new dashboard --role client --scope all --http",
    ],
    group=GROUP,
)
def new(  # noqa: PLR0913 - one for each option
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    *,
    role: Annotated[Role, typer.Option(help="What it is for.", show_default=False)],
    scope: Annotated[
        str | None,
        typer.Option(
            metavar="own|all",
            help="Whose tasks a client may see and cancel: what was submitted under its name, or"
            " all. Default: own.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it is good for. Default: until it is revoked."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="A bearer token for HTTP, instead of a key.")
    ] = False,
    one: Annotated[
        bool, typer.Option("--one", help="Of a host: it may connect only the host NAME.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="A second key for a name; the first ends with the rotation."),
    ] = False,
    file: FileOption = None,
) -> None:
    """Make a key for a client, a host or an admin, and print its token, which is kept nowhere.

    The token is all that its holder needs: FARM_TOKEN=… farm worker, or FARM_TOKEN=… and a
    program. Set it as a variable or keep it in a file; it is never said on a command line.
    """
    if scope not in {None, "own", "all"}:
        raise typer.BadParameter(f"--scope is {scope!r}; it is own or all")
    if scope and role is not Role.CLIENT:
        raise typer.BadParameter("--scope is for clients; hosts and admins have one of their own")
    if one and role is not Role.HOST:
        raise typer.BadParameter("--one goes with --role host")
    _check_file(file)
    token = key_store(run).new(
        name,
        role,
        scope="own" if one else scope or "",
        expires=_lasts(expires) if expires else 0.0,
        http=http,
        again=again,
    )
    use = "Authorization: Bearer …" if http else _use(role)
    _say_token(run, token, file, {"name": name, "role": str(role)}, use)


def _use(role: Role) -> str:
    return f"FARM_TOKEN=… farm {'worker' if role is Role.HOST else 'status'}"


def _lasts(expires: str) -> float:
    lasts = seconds(expires, "--expires")
    if lasts <= 0:
        raise typer.BadParameter("--expires must be more than 0")
    return lasts


def _check_file(file: Path | None) -> None:
    """Before a key is made, of which the token would be lost."""
    if file is None:
        return
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file in it with --file")
    if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        raise ConfigError(f"there is no folder {file.absolute().parent} to which you may write")


def _say_token(run: Run, token: str, file: Path | None, data: dict[str, str], use: str) -> None:
    from farm.keys.files import write_private

    if file is not None:
        write_private(file.absolute(), token.encode("ascii") + b"\n")
        run.output.answer(data | {"file": str(file)}, str(file))
        run.output.note(f"Its token is in {file}; use it so: FARM_TOKEN={file}")
        return
    run.output.answer(data | {"token": token}, token)
    run.output.note(f"This is shown once. Use it so: {use}")


@command("list", panel=PANEL, examples=["farm keys list", "farm keys list --json"], group=GROUP)
def list_keys(run: Run) -> None:
    """List all keys: whose they are, what they may, and whether they are in force."""
    store, now = key_store(run), time.time()
    server, entries = store.server(), store.ring().entries
    invites = {one.id: one.name for one in entries}
    rows = [
        {
            "name": one.name,
            "role": str(one.role),
            "kind": str(one.kind),
            "scope": one.scope,
            "state": one.state(now),
            "id": one.id,
            "age_seconds": max(0.0, now - one.made),
            "expires_seconds": one.expires - now if one.expires else None,
            "uses": f"{len(one.joined)} of {one.uses}" if one.uses else "",
            "invite": invites.get(one.invite, ""),
        }
        for one in entries
    ]
    columns = [
        Column("name", "NAME"),
        Column("role", "ROLE"),
        Column("kind", "KIND"),
        Column("scope", "SCOPE"),
        Column("state", "STATE"),
        Column("age_seconds", "MADE", ago_text, right=True),
        Column("expires_seconds", "EXPIRES IN", _left, right=True),
        Column("uses", "USES", dash),
        Column("invite", "JOINED BY", dash),
        Column("id", "KEY"),
    ]
    run.output.table(rows, columns, empty="No keys.")
    if len(server.secrets) > 1:
        run.output.note("The server key is being changed; when every peer has its new token:")
        run.output.note("  farm keys rotate --finish")


def _left(found: float | None) -> str:
    return "never" if found is None else seconds_text(max(0.0, found))


@command("revoke", panel=PANEL, examples=["farm keys revoke north"], group=GROUP)
def revoke(
    run: Run, name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key ends.")]
) -> None:
    """End a key at once: what is connected with it is cut, and never comes back."""
    ended = key_store(run).revoke(name)
    run.output.answer(
        {"name": name, "keys": [one.id for one in ended]}, f"The key {name} is revoked."
    )
    if joined := sum(bool(one.invite) and one.name != name for one in ended):
        run.output.note(f"With it go the keys of {joined} hosts that have joined with it.")


@command(
    "rotate", panel=PANEL, examples=["farm keys rotate", "farm keys rotate --finish"], group=GROUP
)
def rotate(
    run: Run,
    *,
    finish: Annotated[
        bool, typer.Option("--finish", help="End the old server key: all peers have new tokens.")
    ] = False,
) -> None:
    """Change the farm's own key while it runs: a second one listens two ports above the first.

    Then give every peer a new token (farm keys new NAME --role … --again), and end the old key
    with --finish; the new one has the first ports from then on.
    """
    store = key_store(run)
    if finish:
        names = store.finish_rotation()
        run.output.answer({"ended": names}, "The old server key has ended.")
        return
    store.rotate()
    names = [one.name for one in store.ring().entries if one.state(time.time()) == "valid"]
    run.output.answer({"names": names}, "A second server key is in force.")
    run.output.note("Make a new token for each name (--again), then: farm keys rotate --finish")


@command(
    "invite",
    panel=PANEL,
    examples=["farm keys invite --role host --uses 20 --expires 1h"],
    group=GROUP,
)
def invite(
    run: Run,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="What it is called.", show_default=False)
    ] = None,
    *,
    role: Annotated[Role, typer.Option(help="Only hosts can be invited.")] = Role.HOST,
    uses: Annotated[int, typer.Option(min=1, max=USES_MAX, help="How many hosts may join.")] = 1,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="Until when they may; what has joined stays.")
    ] = "1h",
    file: FileOption = None,
) -> None:
    """Make one token with which several hosts join, for those that are started by a machine.

    Each host that joins makes a key of its own, under its name, which can be revoked alone. One
    that has joined may come back, also when the invite has expired.
    """
    if role is not Role.HOST:
        raise typer.BadParameter("only hosts can be invited: clients have people who ask for keys")
    called = name or f"invite-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    lasts = _lasts(expires)
    _check_file(file)
    token = key_store(run).invite(called, uses=uses, expires=lasts)
    _say_token(run, token, file, {"name": called, "role": "host"}, "FARM_TOKEN=… farm worker")
