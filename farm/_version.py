"""The one place that names the version; pyproject.toml and the protocol's HELLO read it here."""

__version__ = "0.1.0"
