"""Real processes on a network of namespaces, and faults between them as well as of them."""
