"""What a user reads who trains and loads a model, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import warnings
warnings.simplefilter("default")
import scmetaq
adata = scmetaq.data.demo_batches()[:240].copy()
scmetaq.MetaQModel.setup_anndata(adata, batch_key="batch")
model = scmetaq.MetaQModel(adata, 6)
print("trains", flush=True)
model.train(9, "cpu", logger=False)
print(sorted(model.trainer.progress_bar_metrics), flush=True)
model.save("model")
scmetaq.MetaQModel.load("model", adata)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    call = [sys.executable, "-c", SCRIPT]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    folder = tmp_path_factory.mktemp("quiet")
    said = subprocess.run(call, cwd=folder, check=True, text=True, **pipe).stdout
    lines = [line.strip() for line in said.split("trains\n")[1].replace("\r", "\n").splitlines()]
    return [line for line in lines if line]


@pytest.mark.slow
def test_training_shows_a_bar_and_one_line_and_loading_nothing(lines):
    bar = [line for line in lines if line.startswith(("Epoch", "Training:"))]
    others = [line for line in lines if line not in bar]
    assert others[0].startswith("Trained 6 metacells on 240 cells")
    assert others[1:] == ["['reconstruction_loss_train']", "done"]


@pytest.mark.slow
def test_the_number_beside_the_bar_falls(lines):
    losses = [line.split("loss_train=")[1].rstrip("]") for line in lines if "loss_train=" in line]
    assert float(losses[-1]) < float(losses[0])
