"""Keys: who may use a farm, and what each peer shows to prove who it is.

``KeyStore`` is the farm's side, a folder of files that only its owner can read: the server's keys,
the public keys of peers, hashes of bearer tokens. ``Token`` is a peer's side, one string with the
farm's address, the server's key and the peer's own.
"""

from farm.keys.entries import INVITED, Entry, Kind, Ring, Server, Verdict
from farm.keys.files import KeysLocked
from farm.keys.invites import Newcomer, Refusal
from farm.keys.pairs import Pair, key_id
from farm.keys.store import LOCAL_TOKEN, ROTATED_PORTS, KeyStore, keys_folder
from farm.keys.token import Token, TokenError

__all__ = [
    "INVITED",
    "LOCAL_TOKEN",
    "ROTATED_PORTS",
    "Entry",
    "KeyStore",
    "KeysLocked",
    "Kind",
    "Newcomer",
    "Pair",
    "Refusal",
    "Ring",
    "Server",
    "Token",
    "TokenError",
    "Verdict",
    "key_id",
    "keys_folder",
]
