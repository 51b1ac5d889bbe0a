"""The ledger: the log sealed in batches, so that what was changed afterwards shows.

Entries that are final are hashed into a Merkle tree, a batch at a time; the batches are the leaves
of one log, whose size and root are signed. Never a chain from row to row: it would have all writers
wait for each other.

Not here: how entries come about (`dialects`), and what is kept for how long (`retention`).
"""
