"""What a person is called where the name itself must not be kept; pure.

Not here: erasing (`personal`).
"""

from hashlib import sha256
from typing import Final

# As many of a name the trail keeps on most databases; so it is by these that a person is known.
SUBJECT_CHARACTERS: Final = 200


def subject_digest(subject: str) -> str:
    """Return what the log and the archives call a person.

    Who knows the name can see that something was about it; who does not can only guess names. It is
    no secret: a number of a user is guessed soon. It keeps a name that tells something, an address
    say, out of what can never be changed.
    """
    known = subject[:SUBJECT_CHARACTERS]
    return sha256(f"shipworthy subject:{known}".encode("utf-8", "surrogatepass")).hexdigest()
