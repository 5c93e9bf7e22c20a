"""Every deletion is answered with a signed receipt, which anybody with the public key can check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneglance_apps.cli.main import main
from oneglance_index import IndexSettings, LocalGalleries, ReceiptInvalid, verify_receipt

VECTORS = np.eye(4, dtype=np.float32)


def deleted(data_dir: Path, settings: IndexSettings) -> list[str]:
    """The receipts of an encoding, a subject, and a gallery."""
    with LocalGalleries.open(data_dir, settings=settings) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        first = galleries.enroll("g", "s", VECTORS).result().encoding_ids[0]
        return [
            galleries.delete_encoding("g", "s", first).result().receipt,
            galleries.delete_subject("g", "s").result().receipt,
            galleries.delete_gallery("g").result().receipt,
        ]


def test_a_receipt_says_what_was_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipts = deleted(tmp_path, IndexSettings(backup_seconds=3600))
    key = (tmp_path / "receipts.pub").read_text()
    said = [verify_receipt(receipt, key) for receipt in receipts]
    assert [one["deleted"] for one in said] == ["encoding", "subject", "gallery"]
    assert [one["revision"] for one in said] == [2, 3, 4]
    assert {(one["gallery"], one["store"]) for one in said} == {("g", said[0]["store"])}
    assert (said[1]["subject"], said[1]["encodings"]) == ("s", 3)
    assert all(one["time"] < one["in_backups_until"] for one in said)
    (tmp_path / "receipt").write_text(receipts[1] + "\n")
    assert main(["verify-receipt", str(tmp_path / "receipt"), str(tmp_path / "receipts.pub")]) == 0
    assert "subject: s" in capsys.readouterr().out


def test_without_a_time_for_backups_none_is_promised(tmp_path: Path) -> None:
    receipts = deleted(tmp_path, IndexSettings())
    said = verify_receipt(receipts[1], (tmp_path / "receipts.pub").read_text())
    assert said["in_backups_until"] is None


def test_a_receipt_of_another_store_or_an_altered_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = deleted(tmp_path / "one", IndexSettings())[1]
    other = deleted(tmp_path / "other", IndexSettings())[1]
    key = (tmp_path / "one" / "receipts.pub").read_text()
    body, signature = receipt.split(".")
    altered = (other, body[:-4] + "AAAA." + signature, body, "." + signature, "", "é.é", body + ".!")
    for bad in altered:
        with pytest.raises(ReceiptInvalid):
            verify_receipt(bad, key)
    for bad_key in ("", "zz", key + "00"):
        with pytest.raises(ReceiptInvalid):
            verify_receipt(receipt, bad_key)
    (tmp_path / "receipt").write_text(other)
    for file in ("receipt", "nowhere"):
        assert main(["verify-receipt", str(tmp_path / file), str(tmp_path / "one" / "receipts.pub")]) == 1
    assert "signed" in capsys.readouterr().err


def test_the_key_of_receipts_stays(tmp_path: Path) -> None:
    receipts = deleted(tmp_path, IndexSettings())
    receipts += deleted(tmp_path, IndexSettings())
    key = (tmp_path / "receipts.pub").read_text()
    assert all(verify_receipt(receipt, key) for receipt in receipts)
