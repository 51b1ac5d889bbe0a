"""What a store of leases can do, whatever keeps them."""

from typing import Protocol

from shipworthy.store.lease import Lease, LeaseRow


class Leases(Protocol):
    """Leases by name. Every call answers at once, or within the bounds of what keeps them."""

    def take(self, name: str, *, holder: str, seconds: float) -> Lease | None:
        """Take the lease for so long; None while somebody holds it, also when that is `holder`."""
        ...

    def renew(self, lease: Lease, *, seconds: float) -> bool:
        """Hold it for so long from now on; False where it is another's by now."""
        ...

    def give_back(self, lease: Lease) -> bool:
        """Let others have it at once; False where it was another's already."""
        ...

    def look(self, name: str) -> LeaseRow | None:
        """Return what is known of it; None for one that nobody ever took."""
        ...
