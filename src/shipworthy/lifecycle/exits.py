"""What the exit code of a process tells whoever started it."""

from enum import IntEnum


class Exit(IntEnum):
    """How the process ended; never a negative number, for we do not end by re-raised signals.

    A supervisor that re-raises the signal it was stopped with turns every deploy into an error in
    the eyes of Kubernetes and systemd.
    """

    CLEAN = 0
    MISUSE = 2  # the command line cannot be followed
    START_FAILED = 3
    FORCED = 70  # something had to be left behind to keep the time
    RECYCLE = 75  # wants to be started anew, sysexits' EX_TEMPFAIL
    SETTINGS = 78  # settings that cannot work, or a crash loop: a person must look
