"""Flag mode: rows of chosen tables stay where they are, marked as deleted, and are not read.

For the few tables whose deleted rows others must still refer to. What a flag cannot hide is
measured and listed in the documentation; the trash, which is the default, has no such list. Its
public names are those of the room's own door, `shipworthy.records`.
"""
