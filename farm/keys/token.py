"""A token: all that a peer needs to connect, as one string to paste into a variable or a file.

It holds secret keys. It has no ``repr`` that shows them, and is never a command-line argument.
"""

import base64
import re
import zlib

import msgspec

from farm.errors import ConfigError
from farm.keys.pairs import KEY_BYTES

__all__ = ["PREFIX", "Token", "TokenError"]

PREFIX = "farm1-"
CHECK_BYTES = 4
ADDRESSES_MAX = 16


class TokenError(ConfigError):
    """A token, or the file that should hold one, cannot be used."""


class Token(msgspec.Struct, frozen=True, array_like=True, repr_omit_defaults=True):
    """Addresses of one farm, its server's public key, and secret keys of this peer.

    ``client`` is for where clients connect, ``host`` for where hosts do, ``tasks`` is what a host
    gives to its tasks, for the farm's clients that they are; empty is a key that there is not.
    With one that ``invites``, a host joins with keys that it makes itself.
    """

    addresses: tuple[str, ...]
    server: bytes
    client: bytes = b""
    host: bytes = b""
    tasks: bytes = b""
    invites: bool = False

    def __repr__(self) -> str:
        return f"<token for {' or '.join(self.addresses) or 'this machine'}>"

    def __str__(self) -> str:
        return repr(self)

    def text(self) -> str:
        """The string for people."""
        data = msgspec.msgpack.encode(self)
        check = zlib.crc32(data).to_bytes(CHECK_BYTES, "big")
        return PREFIX + base64.urlsafe_b64encode(data + check).rstrip(b"=").decode("ascii")

    @classmethod
    def parse(cls, text: str, where: str) -> "Token":
        """Read one; raises ``TokenError`` that says where, and never shows it."""
        text = text.strip()
        body = re.sub(r"\s", "", text.removeprefix(PREFIX))
        if not text.startswith(PREFIX):
            raise TokenError(f"{where} is no token: one begins with {PREFIX}")
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except ValueError:  # binascii.Error is one
            data = b""
        data, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
        if zlib.crc32(data).to_bytes(CHECK_BYTES, "big") != check:
            raise TokenError(f"{where} is cut short or has a wrong character: copy it again")
        try:
            token = msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError:
            raise TokenError(f"{where} is a token of another version of farm") from None
        keys = (token.client, token.host, token.tasks)
        if (
            len(token.server) != KEY_BYTES
            or any(len(key) not in (0, KEY_BYTES) for key in keys)
            or len(token.addresses) > ADDRESSES_MAX
        ):
            raise TokenError(f"{where} is a token of another version of farm")
        return token
