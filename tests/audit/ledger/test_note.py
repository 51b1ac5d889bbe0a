"""Notes, checkpoints and keys are the text that C2SP has, there and back, and nothing looser."""

import base64

import pytest
from hypothesis import given, strategies as st

from shipworthy.audit.ledger.note import (
    Checkpoint,
    Note,
    NoteInvalid,
    PrivateKey,
    PublicKey,
    read_notes,
)

# The example of the Go package sumdb/note, which the format was written down from.
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngot"
    "pRZb6KE6RyyBwJnAM=\n"
)
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1)


def key(name: str = "shipworthy.audit/1") -> PrivateKey:
    return PrivateKey(name, bytes(range(32)))


def test_a_note_of_another_program_is_read_checked_and_written_back():
    note = Note.parse(GO_NOTE)
    public = PublicKey.parse(GO_PUBLIC)
    assert public.signed(note)
    assert str(note) == GO_NOTE
    assert str(public) == GO_PUBLIC
    assert not public.signed(Note.parse(GO_NOTE.replace("answer", "cause")))


@given(text=texts)
def test_a_note_is_signed_written_read_and_checked(text):
    note = Note.signed_by(text + "\n", [key(), key("other")])
    again = Note.parse(str(note))
    assert again == note
    assert key().public.signed(again)
    assert key("other").public.signed(again)
    assert not PrivateKey.generate("other").public.signed(again)


def test_a_key_with_the_same_name_and_id_and_another_signature_did_not_sign():
    """The id only says which key to try."""
    note = Note.signed_by("a\n", [key()])
    other = Note("b\n", note.signatures)
    assert not key().public.signed(other)


def test_keys_are_text_there_and_back():
    private = key()
    assert PrivateKey.parse(private.reveal() + "\n").reveal() == private.reveal()
    assert PublicKey.parse(f" {private.public}\n") == private.public
    assert private.reveal().split("+")[-1] not in repr(private)


@given(size=st.integers(0, 2**63), root=st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_text_there_and_back(size, root):
    checkpoint = Checkpoint(origin="shipworthy.audit/1", size=size, root=root)
    note = checkpoint.signed_by([key()])
    assert Checkpoint.of(Note.parse(str(note))) == checkpoint
    assert str(note).split("\n")[:3] == [
        "shipworthy.audit/1", str(size), base64.b64encode(root).decode(),
    ]  # fmt: skip


def test_what_others_add_to_a_checkpoint_is_left_out():
    text = Checkpoint(origin="log", size=3, root=bytes(32)).text + "a line of a witness\n"
    assert Checkpoint.of(Note.signed_by(text, [key()])).size == 3


def test_a_file_of_notes_is_read_one_by_one():
    """With an empty line between them, or none."""
    notes = [
        Checkpoint(origin="log", size=size, root=bytes(32)).signed_by([key(), key("b")])
        for size in range(3)
    ]
    assert read_notes("".join(map(str, notes))) == notes
    assert read_notes("\n" + "\n".join(map(str, notes)) + "\n") == notes
    assert read_notes("") == []
    with pytest.raises(NoteInvalid):
        read_notes("".join(map(str, notes))[:-100])


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("log\n", "a name, a size and a root"),
        ("\n1\n" + ROOT + "\n", "a name, a size and a root"),
        ("log\n01\n" + ROOT + "\n", "not a whole number"),
        ("log\n-1\n" + ROOT + "\n", "not a whole number"),
        ("log\n\n" + ROOT + "\n", "not a whole number"),
        ("log\n1\nAAAA\n", "its root has 3 bytes"),
        ("log\n1\n%%%\n", "is not base64"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_said(text, because):
    with pytest.raises(NoteInvalid, match=because):
        Checkpoint.of(Note(text, ()))


@pytest.mark.parametrize(
    ("note", "because"),
    [
        ("no signature\n", "an empty line and signature lines"),
        ("text\n\n— name AAAAAAAA", "an empty line and signature lines"),
        ("text\n\nname AAAAAAAA\n", "no signature line"),
        ("text\n\n— nameAAAAAAAA\n", "no signature line"),
        ("text\n\n— name %%\n", "is not base64"),
        ("text\n\n— name AAAA\n", "too few"),
        ("te\txt\n\n— name AAAAAAAA\n", "control characters"),
        ("x" * 100_001, "are the most"),
    ],
)
def test_what_is_no_note_is_said(note, because):
    with pytest.raises(NoteInvalid, match=because):
        Note.parse(note)


def test_a_text_without_its_last_line_break_is_not_signed():
    with pytest.raises(NoteInvalid, match="ends with a line break"):
        Note.signed_by("text", [key()])


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("name", "a name, an id and the key"),
        ("name+00000000+AAAA", "not of Ed25519"),
        ("na me+00000000+AAAA", "a name without blanks"),
        (GO_PUBLIC.replace("c74f20a3", "c74f20a4"), "is not that of its bytes"),
    ],
)
def test_what_is_no_public_key_is_said(text, because):
    with pytest.raises(NoteInvalid, match=because):
        PublicKey.parse(text)


def test_what_is_no_signing_key_is_said_without_repeating_it():
    good = key().reveal()
    wrong_id = good.replace(key().public.key_id.hex(), "00000000")
    for text, because in (
        (str(key().public), "begins with PRIVATE"),
        (wrong_id, "is not that of its bytes"),
        (good[:-8], "signing key"),
    ):
        with pytest.raises(NoteInvalid, match=because) as caught:
            PrivateKey.parse(text)
        assert good.split("+")[-1][:20] not in str(caught.value)
    with pytest.raises(NoteInvalid, match="without blanks and plus"):
        PrivateKey.generate("a+b")


def test_a_key_of_the_wrong_length_signed_nothing():
    """Read from a database that somebody changed, it is no reason to fail."""
    note = Note.signed_by("a\n", [key()])
    broken = PublicKey("shipworthy.audit/1", b"short")
    forged = Note(note.text, (type(note.signatures[0])(broken.name, broken.key_id, b"x" * 64),))
    assert not broken.signed(forged)
