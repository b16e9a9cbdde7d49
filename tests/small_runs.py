"""Folders of evaluated runs, written by hand."""

import json

import pandas as pd

from centroidlib.runs import write_record


def write_run(folder, arm, seed, fid, fingerprint="abc", **protocol):
    folder.mkdir(parents=True)
    known = {"arm": arm, "seed": seed, "lambda_": 0.0 if arm == "baseline" else 40.0, "unit": "d_ref"}
    more = {"source": "synthetic", "steps": 5, "batch_size": 4, "width": 8, "layer": 16, "weights": "random"}
    write_record(folder, {"parameters": known, "stages": {"02_train": {"parameters": known | more}}})
    entry = {"low": None, "high": None, "interval": None, "value_at_floor_n": None, "floor_n": None, "floor_heldout": 1.5}
    entry |= {"n_real": 9, "n_fake": 7, "seen_by_loss": False}
    metrics = {
        "fid": entry | {"value": fid, "low": fid - 1, "high": fid + 1, "floor": 1.0, "better": "lower"},
        "lpips_alex": entry | {"value": 0.3 + fid / 100, "floor": 0.29, "better": "floor"},
        "recall": entry | {"value": 0.5, "floor": 0.9, "better": "higher"},
    }
    whole = {"fingerprint": fingerprint, "protocol": {"n_real": 9, "n_fake": 7} | protocol, "metrics": metrics}
    (folder / "metrics.json").write_text(json.dumps(whole))
    pd.DataFrame({"step": [1, 2], "outside": [0.1, 0.2], "loss_centroid": [0.0, 0.1], "gradient_ratio": [0.0, 0.5]}).to_csv(
        folder / "history.csv", index=False
    )
    return folder


def note_curve(folder, text):
    (folder / "curve.csv").write_text(text)
    record = json.loads((folder / "run.json").read_text())
    record["stages"]["03_evaluate"] = {"parameters": {}, "outputs": {"curve.csv": "hash"}}
    (folder / "run.json").write_text(json.dumps(record))
