"""The coordinator: the shell around the core, with its loop, its journal and its sockets."""
