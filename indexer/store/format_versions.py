"""The formats and versions an index was read with: only runs of formats that changed are read again."""

from collections.abc import Mapping

from indexer.store.transaction import Transaction

_UNLOADED = -1
"""The version noted for a format that cannot be loaded: once it can, its runs are read again."""


def bring_in_line(transaction: Transaction, versions: Mapping[str, int]) -> None:
    """Have runs of changed or removed formats read again, and search all refs for runs of new formats."""
    database = transaction.database
    known = dict(database.execute("SELECT name, version FROM _formats"))
    unloaded = known.keys() & transaction.unloaded
    versions = dict.fromkeys(unloaded, _UNLOADED) | dict(versions)
    if known == versions:
        return
    changed = {name for name in known.keys() | versions.keys() if versions.get(name) != known.get(name)} - unloaded
    for name in sorted(changed & known.keys()):
        places = "SELECT id FROM places WHERE format = ?"
        transaction.run(f"DELETE FROM _files WHERE place_pk IN ({places})", (name,))
        transaction.run("UPDATE places SET fingerprint = '' WHERE format = ?", (name,))
    if changed:
        transaction.run("UPDATE _refs SET tree = '', history = ''")  # every tree is walked once, and its history read
    transaction.run("DELETE FROM _formats")
    for name, version in versions.items():
        transaction.run("INSERT INTO _formats VALUES (?, ?)", (name, version))
