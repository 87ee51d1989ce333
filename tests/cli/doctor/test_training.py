"""What training needs: names that exist, the data's files, memory, cores and a disk."""

import os
import shutil

import pytest
import torch

from comdml_flwr.agents.measuring.memory import available_memory_bytes
from comdml_flwr.cli.doctor.configuration import check_fleet, check_method
from comdml_flwr.cli.doctor.data_files import check_data
from comdml_flwr.cli.doctor.machine import check_cores, check_disks
from comdml_flwr.cli.doctor.memory import IMAGES, Images, check_memory
from comdml_flwr.core.config import parse_config
from comdml_flwr.learning.cut_profile import profile_model
from comdml_flwr.learning.data import published_files
from comdml_flwr.learning.data.digits import load_digits
from comdml_flwr.learning.task import Classification
from comdml_flwr.planning.bounded_queue import offloading_bytes
from comdml_flwr.runs.assemble import CODEC, cut_table
from comdml_flwr.runs.catalogue import MODELS
from tests.published import write_cifar, write_cinic, write_fashion, write_folder
from tests.small import fleet_text


def config(**keys):
    return parse_config({name.replace("_", "-"): value for name, value in keys.items()})


def test_a_method_that_there_is_not_is_wrong():
    assert check_method(config(method="gossip")).state == "ok"
    finding = check_method(config(method="magic"))
    assert (finding.state, "comdml|" in finding.mend) == ("wrong", True)


def test_the_fleet_file_must_have_this_agent(tmp_path):
    path = tmp_path / "fleet.toml"
    missing = check_fleet(config(fleet=str(path)), None)
    assert (missing.state, str(path) in missing.says) == ("wrong", True)
    path.write_text(fleet_text(3))
    states = [check_fleet(config(fleet=str(path)), agent).state for agent in (None, 2, 3)]
    assert states == ["ok", "ok", "wrong"]


def test_the_default_fleet_is_there_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert check_fleet(config(), 0).says == "10 agents in ten, agent 0 among them"
    assert check_fleet(config(fleet="comdml-20"), 19).state == "ok"


def of_data(folder, dataset, **keys):
    finding = check_data(config(dataset=dataset, data_dir=str(folder), **keys))
    return finding.state, finding.says


def test_digits_need_no_files():
    assert of_data("none", "digits")[0] == "ok"


@pytest.mark.parametrize("num_classes", [10, 100])
def test_cifar_is_there_whole_or_one_is_told_what_it_lacks(tmp_path, monkeypatch, num_classes):
    name = f"cifar-{num_classes}"
    assert of_data(tmp_path, name)[0] == "wrong"
    assert of_data(tmp_path, name, download=True)[0] == "warning"
    write_cifar(tmp_path, num_classes, monkeypatch)
    assert of_data(tmp_path, name)[0] == "ok"
    part = next(tmp_path.glob("*/test*"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    state, says = of_data(tmp_path, name)
    assert (state, f"lacks {part.name}," in says) == ("wrong", True)
    part.write_bytes(whole)
    assert of_data(tmp_path, name)[0] == "ok"


def test_cinic_is_there_whole_or_one_is_told_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(published_files, "CINIC_IMAGES", 2)
    assert of_data(tmp_path, "cinic-10")[0] == "wrong"
    write_cinic(tmp_path, num_per_class=2)
    assert of_data(tmp_path, "cinic-10")[0] == "ok"
    first, second = (tmp_path / "CINIC-10" / "test" / "dog").iterdir()
    first.unlink()
    state, says = of_data(tmp_path, "cinic-10")
    assert (state, "test/dog lacks 1 of 2 images" in says) == ("warning", True)
    second.unlink()
    assert of_data(tmp_path, "cinic-10")[0] == "wrong", "a run would not begin without a class"


def test_fashion_mnist_is_there_whole_or_one_is_told_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(published_files, "FASHION_OF_DEBIAN", tmp_path / "debian")
    assert of_data(tmp_path, "fashion-mnist")[0] == "wrong"
    assert of_data(tmp_path, "fashion-mnist", download=True)[0] == "warning"
    write_fashion(tmp_path / "debian", ".gz")
    assert of_data(tmp_path, "fashion-mnist") == ("ok", f"Fashion-MNIST: all files in {tmp_path / 'debian'}")
    next((tmp_path / "debian").glob("t10k-images*")).unlink()
    state, says = of_data(tmp_path, "fashion-mnist")
    assert (state, "lacks t10k-images-idx3-ubyte (plain" in says) == ("wrong", True)


def test_a_folder_of_images_is_counted_or_one_is_told_what_it_lacks(tmp_path):
    assert of_data(tmp_path, "folder")[0] == "wrong"
    write_folder(tmp_path)
    says = f"{tmp_path}: 10 classes, 20 in train, 10 in test; not decoded here"
    assert of_data(tmp_path, "folder") == ("ok", says)
    shutil.rmtree(tmp_path / "test")
    state, says = of_data(tmp_path, "folder")
    assert (state, "has no test part" in says) == ("wrong", True)
    assert of_data(tmp_path, "folder", test_share=0.2)[0] == "ok"


def test_a_data_set_of_the_hub_may_need_the_network(tmp_path):
    assert of_data("none", "hf:somebody/something")[0] == "warning"
    assert of_data("none", f"hf:{tmp_path}")[0] == "ok"
    assert of_data("none", f"hf:{tmp_path / 'nowhere'}")[0] == "wrong"


def test_data_and_models_of_an_app_of_ones_own_are_not_looked_at():
    assert of_data("none", "sensors")[0] == "warning"
    assert check_memory(config(dataset="sensors")).state == "warning"
    assert check_memory(config(model="my-net")).state == "warning"


def test_the_shapes_that_are_counted_with_are_those_of_the_data():
    digits = load_digits()
    num_samples = len(digits.y_train_N) + len(digits.y_test_N)
    task = Classification(input_shape=digits.input_shape, num_classes=digits.num_classes)
    assert IMAGES["digits"] == Images(task, num_samples)


def test_what_training_takes_is_what_the_model_is_profiled_at():
    task = Classification(input_shape=(3, 32, 32), num_classes=100)
    profile = profile_model(MODELS["resnet-56"]((3, 32, 32), 100, torch.Generator()), task, 16, CODEC)
    facts = check_memory(config(dataset="cifar-100", batch_size=16)).facts
    assert facts["whole_bytes"] == profile.peak_bytes
    assert facts["least_bytes"] == min(map(offloading_bytes, cut_table(profile, 16)))
    assert facts["least_bytes"] > min(cut.slow_peak_bytes for cut in profile.cuts)
    assert facts["helping_bytes"] > facts["whole_bytes"] + max(cut.fast_peak_bytes for cut in profile.cuts)
    assert facts["data_bytes"] == 60_000 * 3 * 32 * 32 * 4


def test_the_less_memory_the_less_an_agent_can_do():
    facts = check_memory(config()).facts
    bounds = [facts[name] + facts["data_bytes"] for name in ("helping_bytes", "whole_bytes", "least_bytes")]
    at = [check_memory(config(), num_bytes) for bound in bounds for num_bytes in (bound, bound - 1)]
    assert [finding.state for finding in at] == ["ok", *["warning"] * 4, "wrong"]
    assert "cannot help at every cut" in at[1].says
    assert "cannot train the whole model" in at[3].says
    assert "memory_bytes = " in at[1].mend
    assert all("--set batch-size=16" in finding.mend for finding in at[1:])


def test_smaller_batches_mend_what_they_are_said_to_mend():
    whole = check_memory(config(batch_size=100)).facts
    least = whole["least_bytes"] + whole["data_bytes"]
    assert check_memory(config(batch_size=100), least - 1).state == "wrong"
    assert check_memory(config(batch_size=50), least - 1).state == "warning"


def test_the_memory_of_this_machine_is_some_of_what_it_has():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1e8 < available_memory_bytes() <= total
    assert check_memory(config()).facts["available_bytes"] > 1e8


def test_more_threads_than_cores_are_a_warning():
    assert check_cores(config(threads_per_agent=2), cores=2).state == "ok"
    assert check_cores(config(), cores=0.25).state == "ok", "slow, but nothing waits"
    finding = check_cores(config(threads_per_agent=4), cores=2.5)
    assert (finding.state, "threads-per-agent = 2" in finding.mend) == ("warning", True)


def test_results_need_a_folder_to_write_in(tmp_path):
    fine, _ = check_disks(config(results_dir=str(tmp_path / "not" / "there" / "yet")))
    (tmp_path / "file").write_text("")
    wrong, _ = check_disks(config(results_dir=str(tmp_path / "file" / "results")))
    assert (fine.state, wrong.state) == ("ok", "wrong")
    assert not (tmp_path / "not").exists()
