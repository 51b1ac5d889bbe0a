"""Archives are checked without the database, and name what was altered."""

import gzip
import json

import pytest

from shipworthy.audit.archive import archived_openings, check_archive, read_lines
from shipworthy.audit.ledger.note import PrivateKey


def test_an_archive_is_read_without_the_database(sealed_people):
    """Its lines are the entries; its keys are those that signed it."""
    trail = sealed_people
    [file] = trail.retain().archives
    assert check_archive(trail.folder, file, keys=[trail.key.public]) == []
    stranger = PrivateKey.generate("tests/other")
    [problem] = check_archive(trail.folder, file, keys=[stranger.public])
    assert "signed by no key known here" in problem
    lines = [json.loads(line) for line in read_lines(trail.folder / file)]
    images = [json.loads(line[9]) for line in lines if isinstance(line, list) and line[9]]
    assert {"id": "i2", "email": True, "city": "ty"} in images or {
        "id": "2",
        "email": True,
        "city": "y",
    } in images
    assert [one["value"] for one in archived_openings(trail.folder, "2")] == ["tplanted-two"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("missing", "cannot be read: FileNotFoundError"),
        ("bytes", "was changed: its digest is"),
        ("forged", "do not give its root"),
        ("manifest", "cannot be read: JSONDecodeError"),
        ("short", "is no archive of this format"),
        ("cut", "is no archive of this format"),
        ("empty", "is no archive of this format"),
        ("torn", "is no archive of this format"),
    ],
)
def test_an_altered_archive_is_named(sealed_people, harm, said):
    """Missing, changed, or rewritten together with its manifest."""
    trail = sealed_people
    [file] = trail.retain().archives
    path = trail.folder / file
    manifest = trail.folder / file.replace(".ndjson.gz", ".json")
    match harm:
        case "missing":
            manifest.unlink()
        case "bytes":
            path.write_bytes(path.read_bytes() + b"x")
        case "manifest":
            manifest.write_text("{")
        case "forged" | "short" | "cut" | "empty" | "torn":
            packed = path.read_bytes()
            text = gzip.decompress(packed)
            changed = {
                "forged": text.replace(b':\\"ty\\"', b':\\"tq\\"'),
                "short": text[:200],
                # After the second line of the first batch: its other entries are not there.
                "cut": text[: text.index(b"\n", text.index(b'"batch"')) + 1],
                "empty": b"",
                "torn": text,
            }[harm]
            assert harm == "torn" or changed != text
            middle = len(packed) // 2
            torn = packed[:middle] + bytes(byte ^ 255 for byte in packed[middle : middle + 8])
            path.write_bytes(
                torn + packed[middle + 8 :] if harm == "torn" else gzip.compress(changed)
            )
            facts = json.loads(manifest.read_text())
            from hashlib import sha256

            facts["digest"] = sha256(path.read_bytes()).hexdigest()
            manifest.write_text(json.dumps(facts))
    problems = trail.problems()
    # What is torn may still look packed, by its bytes, until it is read.
    words = (said, "cannot be read") if harm == "torn" else (said,)
    assert any(word in problem for problem in problems for word in words), problems
    assert all(file in problem or file[:-10] in problem for problem in problems)
