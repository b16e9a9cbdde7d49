"""The README's own code, run as it stands."""

import re
from pathlib import Path

import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_loss_works_in_the_training_loop_that_the_readme_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = code.replace("count=500", "count=40")
    names: dict[str, object] = {}
    exec(code, names)
    assert torch.isfinite(names["loss"])
    assert names["stats"].centroid.shape == (65536,)


def test_links_to_files_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    missing = [link for link in links if not (README.parent / link).exists()]
    assert not missing
