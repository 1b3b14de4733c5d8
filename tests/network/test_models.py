from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from napari_tokenunify.config import (
    ModelsExportConfig,
    ModelsGetConfig,
    ModelsImportConfig,
    ModelsInfoConfig,
    ModelsListConfig,
)
from napari_tokenunify.errors import ConfigError, ModelError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.network import installed
from napari_tokenunify.network.card import ModelCard, head_file, read_card
from napari_tokenunify.network.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from napari_tokenunify.network.installed import find_model, suggested_model
from napari_tokenunify.network.models import (
    export_model,
    get_model,
    import_model,
    list_models,
    show_model,
)
from napari_tokenunify.network.official import HEAD_SHAPES, export_pth
from napari_tokenunify.network.presets import NetworkConfig
from napari_tokenunify.network.tokenunify import build_network
from tests.network.fake_hub import COMMIT, REPOSITORY, Hub

CONFIG = NetworkConfig(widths=(2, 3, 4, 5), hidden=6, depth=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def official(tmp_path):
    """A file of weights as the official training writes it."""
    torch.manual_seed(0)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": build_network(CONFIG).state_dict(), "optimizer": torch.zeros(700_000)}, path)
    return path


def save(path, size=None, **facts):
    torch.manual_seed(0)
    config = CONFIG.replace(voxel_size_nm=size)
    save_checkpoint(path, build_network(config), ModelCard(network=config, **facts))


def follow(stage):
    """Run a stage to its end; return its events and its result."""
    events = []
    while True:
        try:
            events.append(next(stage))
        except StopIteration as end:
            return events, end.value


@pytest.fixture
def hub(monkeypatch, official):
    hub = Hub()
    hub.files["TokenUnify-100M/checkpoint-400.pth"] = official.read_bytes()
    hub.files["Pretrained_weights/tokenunify_pretrained-100m.pth"] = b"another file"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.close()


def get(name="TokenUnify-100M", **settings):
    return follow(get_model(ModelsGetConfig(name=name, **{"yes": True, **settings})))


# finding


def test_a_model_is_found_by_its_name(folder):
    save(folder / "mine")
    assert find_model("mine") == folder / "mine" / "model.safetensors"


def test_a_bundled_model_is_found_and_hidden_by_the_users_own(folder, tmp_path):
    save(tmp_path / "bundled" / "small")
    assert find_model("small") == tmp_path / "bundled" / "small" / "model.safetensors"
    save(folder / "small")
    assert find_model("small") == folder / "small" / "model.safetensors"


def test_the_bundled_model_of_the_most_similar_voxels_is_suggested(folder, tmp_path):
    assert suggested_model((8, 8, 8)) == "small"  # a size to start from scratch
    for name, size in (("cubes", (10, 10, 10)), ("sections", (50, 10, 10)), ("unknown", None)):
        save(tmp_path / "bundled" / name, size)
    save(folder / "mine", (8, 8, 8))
    assert suggested_model((8, 8, 8)) == suggested_model((16, 16, 20)) == suggested_model(None) == "cubes"
    assert suggested_model((40, 4, 4)) == suggested_model((30, 8, 8)) == "sections"


def test_a_model_is_found_by_a_path(tmp_path):
    save(tmp_path / "somewhere")
    file = tmp_path / "somewhere" / "model.safetensors"
    assert find_model(tmp_path / "somewhere") == find_model(str(file)) == file


def test_of_a_run_the_last_whole_checkpoint_is_taken(tmp_path):
    for name, step in (("a", 20), ("b", 100), ("c", 3)):
        save(tmp_path / "run" / "checkpoints" / f"{name}.safetensors", step=step)
    assert find_model(tmp_path / "run").name == "b.safetensors"
    (tmp_path / "run" / "checkpoints" / "b.safetensors").write_bytes(b"cut")
    assert find_model(tmp_path / "run").name == "a.safetensors"


def test_a_run_folder_among_the_models_has_a_name(folder):
    save(folder / "tuned" / "checkpoints" / "last.safetensors")
    assert find_model("tuned").name == "last.safetensors"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no model and no path; here are mine"),
        ("tiny", "is a network without weights yet; train it with .*finetune --model tiny.*; here are mine"),
        ("TokenUnify-100M", "models get TokenUnify-100M"),
        ("{tmp}/checkpoint.pth", "models import"),
        ("{tmp}", "holds no model.safetensors"),
    ],
)
def test_what_is_not_found_is_said_with_what_to_do(folder, tmp_path, official, name, said):
    save(folder / "mine")
    with pytest.raises(ModelError, match=said):
        find_model(name.format(tmp=tmp_path))


# list and info


def test_the_list_shows_what_is_here_and_what_can_be_had(folder):
    save(folder / "mine", licence="CC0-1.0", description="For tests.")
    (folder / "broken").mkdir()
    (folder / "broken" / "model.safetensors").write_bytes(b"cut")
    _, result = follow(list_models(ModelsListConfig()))
    rows = {row["name"]: row for row in result["models"]}
    assert rows["mine"]["here"]
    assert rows["mine"]["licence"] == "CC0-1.0"
    assert rows["mine"]["message"].startswith("mine (local), For tests., 0.")
    assert "damaged" in rows["broken"]["message"]
    assert rows["TokenUnify-1B"]["kind"] == "official"
    assert not rows["TokenUnify-1B"]["here"]


def test_the_list_asks_the_hub_only_when_told(hub):
    _, result = follow(list_models(ModelsListConfig(online=True)))
    rows = {row["name"]: row for row in result["models"]}
    assert rows["TokenUnify-100M"]["bytes"] == len(hub.files["TokenUnify-100M/checkpoint-400.pth"])
    assert rows["TokenUnify_pretrained-100M"]["bytes"] == len(b"another file")
    assert rows["TokenUnify-100M"]["licence"] == "cc-by-nc-4.0"
    assert rows["TokenUnify-1B"]["bytes"] is None


def test_listing_loads_neither_torch_nor_the_library_of_the_hub():
    code = (
        "import sys\nfrom napari_tokenunify.config import ModelsListConfig\n"
        "from napari_tokenunify.network.models import list_models\nlist(list_models(ModelsListConfig()))\n"
        "print([name for name in ('torch', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_info_tells_the_card(folder):
    save(folder / "mine", licence="CC0-1.0", step=7)
    _, result = follow(show_model(ModelsInfoConfig(model="mine")))
    assert (result["name"], result["step"], result["licence"]) == ("mine", 7, "CC0-1.0")
    assert result["network"]["widths"] == [2, 3, 4, 5]
    json.dumps(result)


def test_info_of_an_official_model_tells_what_the_hub_says(hub):
    _, result = follow(show_model(ModelsInfoConfig(model="TokenUnify-100M")))
    assert result["path"] == "TokenUnify-100M/checkpoint-400.pth"
    assert result["licence"] == "cc-by-nc-4.0"
    assert not result["here"]


# import


def test_official_weights_are_imported_as_ours(official, folder):
    config = ModelsImportConfig(path=str(official), name="mine", licence="CC-BY-4.0", voxel_size="8,8,8")
    events, result = follow(import_model(config))
    assert any("tensors loaded from" in event.text for event in events if isinstance(event, Message))
    assert result["loaded"].split()[0] == result["loaded"].split()[2]
    module, card = load_checkpoint(find_model("mine"))
    assert (card.name, card.licence, card.source) == ("mine", "CC-BY-4.0", "checkpoint.pth")
    assert card.network == CONFIG.replace(voxel_size_nm=(8, 8, 8))
    torch.manual_seed(0)
    torch.testing.assert_close(module.out.conv.conv.weight, build_network(CONFIG).out.conv.conv.weight)


def test_a_checkpoint_of_ours_keeps_its_card_when_it_is_imported(tmp_path):
    save(tmp_path / "run" / "checkpoints" / "last.safetensors", licence="CC0-1.0", step=9)
    follow(import_model(ModelsImportConfig(path=str(tmp_path / "run"), name="tuned")))
    card = read_card(find_model("tuned"))
    assert (card.name, card.licence, card.step) == ("tuned", "CC0-1.0", 9)


def test_offsets_are_given_where_the_file_does_not_tell(tmp_path):
    config = CONFIG.replace(offsets=((-1, 0, 0), (0, -9, 0)))
    torch.save(build_network(config).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match="2 outputs"):
        follow(import_model(ModelsImportConfig(path=str(tmp_path / "a.pth"), name="far")))
    follow(import_model(ModelsImportConfig(path=str(tmp_path / "a.pth"), name="far", offsets="-1,0,0 0,-9,0")))
    assert read_card(find_model("far")).network == config


def test_an_exported_model_can_be_imported_again(tmp_path, folder):
    save(folder / "mine", name="mine")
    _, result = follow(export_model(ModelsExportConfig(model="mine", out=str(tmp_path / "mine.pth"))))
    follow(import_model(ModelsImportConfig(path=result["out"], name="again")))
    assert read_card(folder / "again").weights_sha256 == read_card(folder / "mine").weights_sha256


def test_an_export_needs_an_ending_that_says_what_it_is(tmp_path, folder):
    save(folder / "mine")
    with pytest.raises(ModelError, match=r"\.pth for the official code"):
        follow(export_model(ModelsExportConfig(model="mine", out=str(tmp_path / "mine.onnx"))))


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b"])
def test_a_name_must_be_one_for_a_folder(official, name):
    with pytest.raises(ConfigError, match="cannot name a model"):
        follow(import_model(ModelsImportConfig(path=str(official), name=name)))


def test_a_name_is_given_once(official):
    config = ModelsImportConfig(path=str(official), name="mine")
    follow(import_model(config))
    with pytest.raises(ModelError, match="is a model mine already"):
        follow(import_model(config))


def test_bad_offsets_are_said_in_one_sentence(official):
    with pytest.raises(ConfigError, match="is no offset"):
        follow(import_model(ModelsImportConfig(path=str(official), name="mine", offsets="1,2")))


def test_an_official_pre_training_is_imported_with_its_head_and_exported_again(tmp_path, folder):
    config = CONFIG.replace(offsets=((0, 0, 0),))
    head = {name: torch.rand(shape) for name, shape in HEAD_SHAPES.items()}
    official = {"model": build_network(config).state_dict() | {f"preciever.{name}": head[name] for name in head}}
    torch.save(official, tmp_path / "checkpoint-400.pth")
    _, result = follow(import_model(ModelsImportConfig(path=str(tmp_path / "checkpoint-400.pth"), name="pre")))
    assert result["loaded"].endswith(f"of {len(official['model'])} tensors")
    assert result["head"] == "kept, to go on with pre-training"
    card = read_card(find_model("pre"))
    assert (card.network, card.description) == (config, "Pre-trained without labels; fine-tune it before use.")
    assert list(installed.installed_models()) == ["pre"]
    follow(export_model(ModelsExportConfig(model="pre", out=str(tmp_path / "again.pth"))))
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert again.keys() == official["model"].keys()
    torch.testing.assert_close(again["preciever.mlp.weight"], head["mlp.weight"])


def test_a_pre_training_of_ours_keeps_its_head_when_it_is_imported(tmp_path, folder):
    save(tmp_path / "run" / "checkpoints" / "last.safetensors")
    (tmp_path / "run" / "heads").mkdir()
    save_file({"latents": torch.ones(3)}, tmp_path / "run" / "heads" / "last.safetensors")
    follow(import_model(ModelsImportConfig(path=str(tmp_path / "run"), name="mine")))
    assert read_tensors(head_file(find_model("mine")))["latents"].sum() == 3
    follow(export_model(ModelsExportConfig(model="mine", out=str(tmp_path / "mine.pth"))))
    assert "preciever.latents" not in torch.load(tmp_path / "mine.pth", weights_only=True)["model"]


def test_a_head_that_is_not_whole_is_left_out_of_the_import(tmp_path, folder):
    given = build_network(CONFIG).state_dict() | {"preciever.mlp.bias": torch.ones(7)}
    torch.save(given, tmp_path / "a.pth")
    _, result = follow(import_model(ModelsImportConfig(path=str(tmp_path / "a.pth"), name="mine")))
    assert result["head"] == "left out: it is not whole"
    assert result["mismatched"] == ["preciever.mlp.bias 7 for 1024"]
    assert not (folder / "mine" / "heads").exists()


def test_a_failed_import_leaves_nothing(tmp_path, folder):
    (tmp_path / "a.pth").write_bytes(b"PK")
    with pytest.raises(ModelError, match="damaged"):
        follow(import_model(ModelsImportConfig(path=str(tmp_path / "a.pth"), name="mine")))
    assert not folder.exists()


# get


def test_licence_and_size_are_shown_before_anything_is_downloaded(hub, folder):
    with pytest.raises(ModelError, match=r"2\.9 MB, licence: cc-by-nc-4\.0; add --yes"):
        get(yes=False)
    assert hub.asked == []
    assert not folder.exists()


def test_a_model_is_downloaded_checked_and_kept(hub, folder):
    events, result = get()
    assert result["downloaded"]
    assert [event.done for event in events if isinstance(event, Progress) and "downloading" in event.what]
    assert any("licence: cc-by-nc-4.0" in event.text for event in events if isinstance(event, Message))
    module, card = load_checkpoint(find_model("TokenUnify-100M"))
    assert module.config == CONFIG
    assert card.licence == "cc-by-nc-4.0"
    assert card.source == f"https://huggingface.co/{REPOSITORY}/blob/{COMMIT}/TokenUnify-100M/checkpoint-400.pth"
    assert sorted(path.name for path in folder.iterdir()) == [".downloads", "TokenUnify-100M"]
    assert not list((folder / ".downloads").iterdir())


def test_what_is_here_is_not_downloaded_again(hub):
    get()
    hub.asked.clear()
    _, result = get()
    assert not result["downloaded"]
    assert hub.asked == []


def test_a_broken_connection_goes_on_where_it_stopped(hub):
    size = len(hub.files["TokenUnify-100M/checkpoint-400.pth"])
    hub.breaks_after = size // 3
    get()
    assert hub.asked[:2] == [0, size // 3]
    assert find_model("TokenUnify-100M").exists()


def test_an_interrupted_download_goes_on_in_the_next_call(hub):
    stage = get_model(ModelsGetConfig(name="TokenUnify-100M", yes=True))
    for event in stage:
        if isinstance(event, Progress) and "downloading" in event.what:
            break
    stage.close()  # as Ctrl-C does
    get()
    assert hub.asked == [0, event.done]


def test_a_server_that_cannot_send_parts_sends_all_again(hub, folder):
    content = hub.files["TokenUnify-100M/checkpoint-400.pth"]
    downloads = folder / ".downloads"
    downloads.mkdir(parents=True)
    (downloads / f"{hashlib.sha256(content).hexdigest()}.part").write_bytes(b"half")
    hub.takes_ranges = False
    get()
    assert read_card(find_model("TokenUnify-100M")).network == CONFIG


def test_a_server_that_sends_nothing_is_not_asked_for_ever(hub):
    hub.breaks_after = 0
    with pytest.raises(ModelError, match="cannot be reached"):
        get()


def test_a_file_that_is_not_what_was_promised_is_deleted(hub, folder):
    hub.changed = True
    with pytest.raises(ModelError, match=r"not what .* promises"):
        get()
    assert not list((folder / ".downloads").iterdir())
    assert not (folder / "TokenUnify-100M").exists()


def test_a_disk_that_is_too_small_is_said_before_the_download(hub, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(ModelError, match="has only 0 free"):
        get()
    assert hub.asked == []


def test_offline_is_said_in_one_sentence(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        get()


def test_the_librarys_offline_mode_is_respected(hub):
    code = (
        "from napari_tokenunify.network.hub import list_weights\nfrom napari_tokenunify.errors import ModelError\n"
        "try:\n    list_weights('cyd0806/TokenUnify')\nexcept ModelError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be reached" in done.stdout


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", "agree to its terms"),
        (401, "GatedRepo", "agree to its terms"),
        (404, "RepoNotFound", "no such repository, or it is private"),
        (404, "RevisionNotFound", "answered 404"),
        (500, None, "answered 500"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence(hub, status, code, said):
    hub.status, hub.error_code = status, code
    with pytest.raises(ModelError, match=said):
        get()


def test_a_refusal_in_the_download_is_said_too(hub, folder):
    stage = get_model(ModelsGetConfig(name="TokenUnify-100M", yes=True))
    for event in stage:
        if isinstance(event, Message):
            break
    hub.status, hub.error_code = 403, "GatedRepo"
    with pytest.raises(ModelError, match="agree to its terms"):
        follow(stage)


def test_a_file_is_chosen_by_its_path(hub, tmp_path):
    export_pth(tmp_path / "b.pth", build_network(CONFIG))
    hub.files["other/b.pth"] = (tmp_path / "b.pth").read_bytes()
    get("mine", file="other/b.pth")
    assert read_card(find_model("mine")).name == "mine"
    with pytest.raises(ModelError, match=r"has no weights c\.pth; it has .*other/b\.pth"):
        get("more", file="c.pth")


def test_a_name_that_fits_none_or_two_files_lists_them(hub):
    with pytest.raises(ModelError, match=r"none of its files go by the name TokenUnify-1B; .*checkpoint-400\.pth"):
        get("TokenUnify-1B")
    hub.files["TokenUnify-100M/checkpoint-300.pth"] = b"x"
    with pytest.raises(ModelError, match="2 of its files"):
        get()


def test_a_hash_that_is_none_never_names_a_file(hub):
    hub.sha256 = "../" * 20 + "tmp/x"
    with pytest.raises(ModelError, match="none of its files"):
        get()


def test_a_licence_that_is_not_stated_is_unknown(hub):
    hub.licence = None
    with pytest.raises(ModelError, match="licence: unknown"):
        get(yes=False)


def test_the_best_checkpoint_of_a_run_is_taken_before_a_later_one(tmp_path):
    for name, step in (("best", 3), ("last", 9)):
        save(tmp_path / "run" / "checkpoints" / f"{name}.safetensors", step=step)
    assert find_model(tmp_path / "run").name == "best.safetensors"
    (tmp_path / "run" / "checkpoints" / "best.safetensors").write_bytes(b"half")
    assert find_model(tmp_path / "run").name == "last.safetensors"
