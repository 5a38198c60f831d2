"""The hash that the farm uses where it is about identity: BLAKE2, by itself.

``hashlib`` loads OpenSSL for the other hashes, which takes a quarter of the time in which an empty
interpreter starts; most processes of a farm need none of them.
"""

try:
    from _blake2 import blake2b
except ImportError:  # an interpreter that has it elsewhere
    from hashlib import blake2b

__all__ = ["blake2b"]
