"""The notebooks as a reader meets them: opened in JupyterLab by a browser, all cells run from its menu, and looked at.

SCREENSHOTS=folder keeps a picture of each, whole, for a person to look at.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from copies import ROOT, TINY, TINY_BENCHMARK, Copy

from centroidlib.batch import declared_parameters
from centroidlib.runs import folder_name, read_record

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not here: pip install '.[test]'")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # cells out of sight are in the page, too
}
QUICK = TINY | TINY_BENCHMARK | {"toy_steps": 40, "calibration": 20, "punished_batch": 24, "explored": "manual"}
ARMS = {"centroid": {}, "baseline": {"arm": "baseline", "lambda_": 0.0}}
# In their order: each reads what those before it wrote. What 05, 07 and 08 want of the baseline, 02 and 03 make.
SOURCES = [path for folder in ("notebooks", "notebooks/examples") for path in sorted((ROOT / folder).glob("*.ipynb"))]
VISITS = [(path, arm) for path in SOURCES for arm in ARMS if arm == "centroid" or path.stem in ("02_train", "03_evaluate")]

# Progress bars are gone when their cell is done, so widgets are counted as they come.
COUNT_WIDGETS = """
window.drawn = 0;
new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {
    if (node.querySelectorAll)
        window.drawn += node.matches('.jupyter-widgets') + node.querySelectorAll('.jupyter-widgets').length;
}))).observe(document, {childList: true, subtree: true});
"""
IDLE = "| Idle"  # what the status bar says of the kernel
ENDED = """idle => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(node => node.textContent);
    return /\\d/.test(prompts[0]) && !prompts.some(text => text.includes('*')) && document.body.textContent.includes(idle);
}"""
LOOK = """() => {
    const all = (selector, part = document.querySelector('.jp-Notebook')) => [...part.querySelectorAll(selector)];
    const texts = selector => all(selector).map(node => node.textContent);
    const outputs = kind => texts(`.jp-OutputArea-output[data-mime-type="${kind}"]`);
    const widgets = all('.jp-OutputArea-output:not([data-mime-type])');
    const cells = all('.jp-CodeCell');
    return {
        stderr: outputs('application/vnd.jupyter.stderr').join(''), // tracebacks, too
        plain: outputs('text/plain'),
        prompts: texts('.jp-CodeCell .jp-InputArea-prompt'),
        question: all('.jp-MarkdownCell .jp-RenderedMarkdown strong')[0]?.textContent,
        answer: all('.jp-RenderedMarkdown strong', cells.at(-1))[0]?.textContent,
        prose: texts('.jp-MarkdownCell .jp-RenderedMarkdown'),
        formulas: all('.jp-MarkdownCell mjx-container').length,
        displayed: all('.jp-MarkdownCell mjx-container[display="true"]').length,
        wrong: texts('mjx-merror, [data-mjx-error]'),
        pictures: cells.map(cell => all('.jp-OutputArea-output img', cell).map(img => [img.src, img.naturalWidth])),
        widgets: widgets.length,
        undrawn: widgets.filter(part => part.checkVisibility() && !all('.jupyter-widgets', part).length)
            .map(part => part.outerHTML),
        drawn: window.drawn,
    };
}"""
HEIGHT = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
    return Math.ceil(cells.at(-1).getBoundingClientRect().bottom - cells[0].getBoundingClientRect().top);
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = next(filter(None, map(shutil.which, BROWSERS)), started.chromium.executable_path)
        if not Path(found).is_file():
            pytest.skip("no Chromium is here: install the system's package, or run `playwright install chromium`")
        with started.chromium.launch(executable_path=found, args=FLAGS.split()) as launched:
            yield launched


@pytest.fixture(scope="module")
def project(tmp_path_factory, browser):
    return Copy(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def lab(project, browser):
    """JupyterLab in the copy: its address, and a browser's context that may see it."""
    home, token = project.root.parent, secrets.token_hex()
    (home / "config" / "labconfig").mkdir(parents=True)
    (home / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    own = {f"JUPYTER_{kind.upper()}_DIR": str(home / kind) for kind in ("config", "data", "runtime")}
    own |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_TOKEN": token, "PYTHONPATH": str(project.root)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0"
    options += " --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"
    address, log = f"http://127.0.0.1:{port}", home / "lab.log"
    context = browser.new_context(viewport={"width": 1400, "height": 900}, extra_http_headers={"Authorization": f"token {token}"})
    context.set_default_timeout(120_000)
    context.add_init_script(COUNT_WIDGETS)
    with log.open("w") as out, context:
        command = [sys.executable, "-m", "jupyterlab", *options.split()]
        server = subprocess.Popen(command, cwd=project.root, env=project.environment | own, stdout=out, stderr=out)
        try:
            until = time.monotonic() + 120
            while not answers(context, address):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.3)
            yield address, context
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(context, address):
    try:
        return context.request.get(f"{address}/api/status").ok
    except playwright.Error:
        return False


@pytest.fixture
def page(lab, request):
    """A new tab; at its end it is photographed and the kernels are shut down."""
    address, context = lab
    with context.new_page() as tab:
        yield tab
        if os.environ.get("SCREENSHOTS"):
            tab.set_viewport_size({"width": 1400, "height": 250 + tab.evaluate(HEIGHT)})
            tab.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0)")
            file = Path(os.environ["SCREENSHOTS"], f"{request.node.callspec.id}.png")
            tab.locator(".jp-NotebookPanel").screenshot(path=file)
    for kernel in context.request.get(f"{address}/api/kernels").json():
        context.request.delete(f"{address}/api/kernels/{kernel['id']}")


def put(path, arm, project):
    """A notebook into the copy, its parameters edited to a tiny size."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in (QUICK | ARMS[arm]).items():
        cell.source = re.sub(rf"^{name} = .*?(?=  #)", f"{name} = {value!r}", cell.source, flags=re.M)
    copied = project.root / path.relative_to(ROOT)
    nbformat.write(notebook, copied)
    return copied, notebook.cells


def look(page):
    """What is on the page, as soon as it stands still: outputs are drawn a moment after their cell is done."""
    seen = None
    while seen != (now := page.evaluate(LOOK)):
        seen = now
        page.wait_for_timeout(300)
    return seen


@pytest.mark.parametrize(("path", "arm"), VISITS, ids=[f"{path.stem}-{arm}" for path, arm in VISITS])
def test_a_reader_opens_it_runs_all_cells_and_sees_everything(path, arm, project, lab, page):
    copied, cells = put(path, arm, project)
    page.goto(f"{lab[0]}/lab/tree/{copied.relative_to(project.root).as_posix()}?reset")
    page.get_by_text(IDLE).wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, arg=IDLE, timeout=600_000)
    seen = look(page)

    ran = [prompt for prompt in seen["prompts"] if re.fullmatch(r"\[\d+\]:", prompt)]
    assert len(ran) == sum(cell.cell_type == "code" for cell in cells), seen["stderr"]
    warnings = [line for line in seen["stderr"].splitlines() if line]
    assert all(re.match("Note: .*the covariance is singular", line) for line in warnings), seen["stderr"]

    # Words and formulas.
    assert seen["question"] == "Question."
    assert seen["answer"] == "Answer."
    words = "\n".join(re.sub(r"`[^`]*`", "", cell.source) for cell in cells if cell.cell_type == "markdown")
    inline, displayed = re.subn(r"\$\$.+?\$\$", "", words, flags=re.S)
    assert seen["displayed"] == displayed
    assert seen["formulas"] == displayed + len(re.findall(r"\$[^$]+\$", inline))
    assert seen["wrong"] == []
    assert not [text for text in seen["prose"] if re.search(r"\$|\*\*|\\", text)]

    # Figures: all that it saved, and none of them twice under one cell.
    record = read_record(project.root / "results" / "manual" / folder_name(path.stem, declared_parameters(copied)))
    saved = [name for name in record.get("stages", {}).get(path.stem, {}).get("outputs", []) if name.endswith(".png")]
    pictures = [picture for shown in seen["pictures"] for picture in shown]
    assert len(pictures) >= max(1, len(saved))
    assert all(width > 0 for _, width in pictures)
    twice = [cell for cell, shown in enumerate(seen["pictures"]) if len(shown) > len({source for source, _ in shown})]
    assert twice == [], f"code cells {twice} show a picture twice"

    # Widgets, and no words in their place.
    assert seen["undrawn"] == []
    assert seen["drawn"] > 0 or not seen["widgets"]
    assert not [text for text in seen["plain"] if re.match(r"<[\w.]+|\w+\(children=|\s*\d+%\|", text)]
