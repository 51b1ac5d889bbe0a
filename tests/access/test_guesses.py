"""Wrong tokens: ten a minute from a network are answered for what they are."""

from shipworthy.access.guesses import MOST_GUESSES, NETWORKS_MOST, Guess, Guesses


def refused(guesses: Guesses, network: str, now: float, times: int) -> list[Guess]:
    """What becomes of so many refused tokens."""
    return [guesses.refused(network, now) for _ in range(times)]


def test_ten_a_minute_are_told_and_the_next_wait() -> None:
    """The first that waits is told, so that the log says it; those after it are not."""
    found = refused(Guesses(), "192.0.2.7", 5.0, MOST_GUESSES + 3)
    assert found[:MOST_GUESSES] == [Guess(0, told=True)] * MOST_GUESSES
    assert found[MOST_GUESSES:] == [
        Guess(60, told=True),
        Guess(60, told=False),
        Guess(60, told=False),
    ]


def test_the_wait_ends_when_it_says_and_the_silence_is_counted() -> None:
    """A second before it does not; then the first line says how many there were without one."""
    guesses = Guesses()
    refused(guesses, "192.0.2.7", 0.0, 25)
    assert guesses.refused("192.0.2.7", 30.5) == Guess(30, told=False)
    assert guesses.refused("192.0.2.7", 59.9) == Guess(1, told=False)
    assert guesses.refused("192.0.2.7", 60.0) == Guess(0, told=True, held_back=16)
    assert guesses.refused("192.0.2.7", 60.0) == Guess(0, told=True)


def test_networks_are_told_apart() -> None:
    """What one does costs another nothing."""
    guesses = Guesses()
    refused(guesses, "192.0.2.7", 0.0, 50)
    assert guesses.refused("192.0.2.8", 0.0) == Guess(0, told=True)


def test_a_flood_of_addresses_does_not_let_the_steady_one_off() -> None:
    """What is kept is bounded, and who was quiet for the longest is forgotten first."""
    guesses = Guesses()
    refused(guesses, "steady", 0.0, MOST_GUESSES)
    for number in range(3 * NETWORKS_MOST):
        guesses.refused(f"network {number}", 1.0)
        if number % (NETWORKS_MOST // 2) == 0:
            assert guesses.refused("steady", 1.0).wait_seconds
    assert guesses.refused("network 0", 1.0) == Guess(0, told=True)
    assert refused(guesses, "new", 1.0, MOST_GUESSES + 1)[-1].wait_seconds
