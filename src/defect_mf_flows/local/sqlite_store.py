"""A maggma store that keeps its documents in memory and in an SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bson import json_util
from maggma.stores import MemoryStore


class SqliteStore(MemoryStore):
    """A MemoryStore that survives its process.

    maggma's JSONStore rewrites its whole file, not atomically, at every write; its MontyStore takes
    about 30 ms per write and another dependency. Here a write is one SQLite transaction.
    One process may write at a time; a reader sees what was there when it connected.

    Parameters
    ----------
    path
        The SQLite file.
    collection_name
        The table; several stores can share a file.
    """

    def __init__(self, path: str, collection_name: str = "documents", **kwargs: Any) -> None:
        self.path = path
        super().__init__(collection_name=collection_name, **kwargs)

    @property
    def name(self) -> str:
        """Name of the store."""
        return f"sqlite://{self.path}/{self.collection_name}"

    def connect(self, force_reset: bool = False) -> None:
        """Load the documents of the file."""
        if self._coll is not None and not force_reset:
            return
        super().connect(force_reset=force_reset)
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as database, database:
            database.execute(
                f'CREATE TABLE IF NOT EXISTS "{self.collection_name}" '
                "(id TEXT PRIMARY KEY, document TEXT NOT NULL)"
            )
            rows = database.execute(f'SELECT document FROM "{self.collection_name}"').fetchall()
        documents = [json_util.loads(row[0]) for row in rows]
        if documents:
            self._collection.insert_many(documents)

    def update(self, docs: list[dict[str, Any]] | dict[str, Any], key: Any = None) -> None:
        """Insert or replace documents, in memory and in the file."""
        docs = docs if isinstance(docs, list) else [docs]
        super().update(docs, key=key)
        fields = key or self.key
        fields = [fields] if isinstance(fields, str) else fields
        stored = [self._collection.find_one({field: d[field] for field in fields}) for d in docs]
        rows = [(str(d["_id"]), json_util.dumps(d)) for d in stored if d is not None]
        with closing(self._open()) as database, database:
            database.executemany(
                f'INSERT OR REPLACE INTO "{self.collection_name}" VALUES (?, ?)', rows
            )

    def remove_docs(self, criteria: dict[str, Any]) -> None:
        """Remove documents, in memory and in the file."""
        rows = [(str(d["_id"]),) for d in self._collection.find(criteria, {"_id": 1})]
        super().remove_docs(criteria)
        with closing(self._open()) as database, database:
            database.executemany(f'DELETE FROM "{self.collection_name}" WHERE id = ?', rows)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)
