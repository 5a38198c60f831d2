"""The protocol: messages between processes, records of the journal, and their encoding.

Promises: a message or record that this version wrote is read by this and the next version; a
decoder given any bytes at all either returns a message or raises ``ProtocolError``, and costs
no more memory than the bytes. ``PROTOCOL.md`` tells the whole in prose.
"""
