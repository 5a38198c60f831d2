"""A catalog on top of another, in memory: what is built on it is seen by nobody else."""

from collections.abc import Iterable, Mapping

from farm_scheduler.aggregates.catalog import Catalog, Run
from farm_scheduler.aggregates.manifest import Manifest

__all__ = ["Overlay"]


class Overlay(Catalog):
    """Reads from ``base`` and writes nowhere; ``published`` is what was published on it."""

    def __init__(self, base: Catalog) -> None:
        self._base = base
        self._own: dict[str, bytes] = {}
        self.path = base.path
        self.published: Manifest | None = None

    def close(self) -> None:
        """Forget it; the base stays open."""
        self._own.clear()

    def head(self, name: str) -> int:
        """See ``Catalog``."""
        return self._base.head(name)

    def manifest(self, name: str, version: int = 0) -> Manifest | None:
        """See ``Catalog``."""
        return self._base.manifest(name, version)

    def runs(self, name: str, limit: int = 20) -> list[Run]:
        """See ``Catalog``."""
        return self._base.runs(name, limit)

    def node(self, key: str) -> bytes:
        """See ``Catalog``."""
        return self._own[key] if key in self._own else self._base.node(key)

    def nodes(self, keys: Iterable[str]) -> dict[str, bytes]:
        """See ``Catalog``."""
        every = set(keys)
        own = {key: self._own[key] for key in every if key in self._own}
        return {**self._base.nodes(every - own.keys()), **own}

    def present(self, keys: Iterable[str]) -> set[str]:
        """See ``Catalog``."""
        every = set(keys)
        own = every & self._own.keys()
        return own | self._base.present(every - own)

    def put(self, nodes: Mapping[str, bytes]) -> None:
        """Keep nodes here."""
        self._own.update(nodes)

    def touch(self, keys: Iterable[str]) -> None:
        """Nothing here is collected."""

    def publish(self, manifest: Manifest, expected: int) -> int:
        """Keep it here, as the version that it would be."""
        manifest.version = expected
        self.published = manifest
        return expected or 1

    def put_checked(self, name: str, version: int, at: float) -> None:
        """What is served is not touched."""

    def put_run(self, run: Run) -> None:
        """A run for one reader is no run that anybody else hears of."""
