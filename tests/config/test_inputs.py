import pytest

from tunetrail import UserError
from tunetrail.config import inputs
from tunetrail.data import records, world
from tunetrail.plan import gate

ROWS = [{"instruction": f"a{number}", "input": "", "output": "b"} for number in range(3)]
FILE = {"hub": None, "generate": None, "empty": "refuse", "take": None, "validation_rows": 1, "seed": 0}
TRAIN = {"output_dir": "work/train", "plugins": [inputs.HISTORY_PLUGIN]}
PROMPT = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.fixture
def values(tmp_path):
    """Return parameters with a valid file of three rows and a valid file of prompts."""
    records.write(tmp_path / "rows.jsonl", ROWS)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])
    return {
        "template": {"with_input": "{instruction} {input}", "without_input": "{instruction}"},
        "accelerate": {"num_processes": 1, "num_machines": 1},
        "prepare": FILE | {"path": str(tmp_path / "rows.jsonl")},
        "evaluate": {"path": str(tmp_path / "prompts.jsonl"), "hub": None},
        "base": {"make": {"train": TRAIN | {"reinit_weights": True}}, "base_model": "outputs/base/model"},
        "train": TRAIN | {"base_model": "outputs/base/model"},
    }


def test_good_inputs_pass(values):
    assert inputs.check(values) is None


def test_several_gpus_are_more_than_one_process(values):
    values["accelerate"] |= {"multi_gpu": True}
    with pytest.raises(UserError, match=r"Add accelerate\.multi_gpu=false"):
        inputs.check(values)
    values["accelerate"] |= {"num_processes": 2}
    assert inputs.check(values) is None


def test_a_generated_world_needs_no_file(values):
    values["prepare"]["generate"] = {"rows": 1}
    values["prepare"]["path"] = values["evaluate"]["path"] = world.SOURCE
    inputs.check(values)


def test_no_row_left_to_train_on_is_an_error(values):
    values["prepare"]["validation_rows"] = 3
    with pytest.raises(UserError, match=r"3 rows, .* and prepare\.validation_rows=3 leaves none"):
        inputs.check(values)


def test_missing_prompts_are_an_error(values):
    values["evaluate"]["path"] = "nowhere.jsonl"
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        inputs.check(values)


def test_a_folder_without_a_model_is_an_error(values, tmp_path):
    values["base"] = {"make": None, "base_model": str(tmp_path), "path": str(tmp_path)}
    values["train"]["base_model"] = str(tmp_path)
    with pytest.raises(UserError, match="no model"):
        inputs.check(values)
    hub = "meta-llama/Meta-Llama-3-8B"
    values["base"] = {"make": None, "base_model": hub, "path": "conf/model/llama3_8b.yaml"}
    values["train"]["base_model"] = hub
    inputs.check(values)


def test_sentence_counts_need_punkt_and_the_message_says_how_to_get_it(values, tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    inputs.check(values)
    prompt = PROMPT | {"instruction_id_list": ["length_constraints:number_sentences"], "kwargs": [{"num_sentences": 2}]}
    records.write(tmp_path / "prompts.jsonl", [prompt])
    with pytest.raises(UserError, match="NLTK_DATA"):
        inputs.check(values)
    with pytest.raises(UserError, match="NLTK_DATA"):  # for each job of a sweep, before any job starts
        gate.check_job(values, tmp_path)
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    inputs.check(values)


@pytest.mark.parametrize("path", ["precious", "/models", "work", "work/../precious", ""])
def test_the_folder_that_training_empties_must_be_below_work(values, path):
    for section in (values["train"], values["base"]["make"]["train"]):
        section["output_dir"], before = path, section["output_dir"]
        with pytest.raises(UserError, match=r"train\.output_dir=.*below work/"):
            inputs.check(values)
        section["output_dir"] = before
    inputs.check(values)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        (
            "train",
            "plugins",
            ["axolotl.integrations.liger.LigerPlugin"],
            "train.plugins lacks tunetrail.training.plugin.HistoryPlugin",
        ),
        ("train", "base_model", "other/model", "is not the base that is evaluated"),
        ("base", "base_model", "folder", "is not the base that is evaluated"),
        ("evaluate", "path", world.SOURCE, "Add evaluate=ifeval"),
        ("evaluate", "hub", {"repo_id": "a/b"}, "set evaluate.hub=null"),
        ("prepare", "hub", {"repo_id": "a/b"}, "set prepare.hub=null"),
    ],
)
def test_values_that_two_stages_rely_on_agree(values, section, key, value, says):
    values[section][key] = value
    with pytest.raises(UserError) as error:
        inputs.check(values)
    assert says in str(error.value)


def test_a_folder_or_a_hub_id_for_a_model_that_is_made_is_refused(values):
    values["base"]["base_model"] = values["train"]["base_model"] = "folder"
    with pytest.raises(UserError, match="Add model=local"):
        inputs.check(values)
    for name in ("HuggingFaceTB/SmolLM2-135M", "gpt2"):
        values["base"]["base_model"] = values["train"]["base_model"] = name
        with pytest.raises(UserError, match=rf"model=hub base\.base_model={name} base\.revision_of_model=COMMIT"):
            inputs.check(values)
    values["base"]["base_model"] = values["train"]["base_model"] = "./folder"
    with pytest.raises(UserError) as error:
        inputs.check(values)
    assert "model=hub" not in str(error.value)


def test_files_of_the_hub_are_not_read_here_but_punkt_is_needed(values, tmp_path, monkeypatch):
    import nltk

    for name in ("prepare", "evaluate"):
        values[name] |= {"path": f"conf/{name}/x.yaml", "hub": {"repo_id": "a/b"}}
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"prepare\.path=conf/prepare/x\.yaml: no such file"):
        inputs.check(values)
    for name in ("prepare", "evaluate"):
        (tmp_path / "conf" / name).mkdir(parents=True)
        (tmp_path / "conf" / name / "x.yaml").touch()
    with pytest.raises(UserError, match="punkt_tab"):
        inputs.check(values)
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    inputs.check(values)


@pytest.mark.parametrize(
    ("form", "text"),
    [("without_input", "no slot"), ("without_input", "{instruction}{instruction}"), ("with_input", "{instruction} {inptu}")],
)
def test_a_template_without_its_fields_is_refused(values, form, text):
    values["template"][form] = text
    with pytest.raises(UserError, match=rf"template\.{form} has .* It needs"):
        inputs.check(values)


@pytest.mark.parametrize(
    ("form", "text", "says"),
    [
        ("without_input", "Do {instruction!r}:", r"formats \{instruction\}.* Write \{instruction\} alone"),
        ("without_input", "Do {instruction:>10}:", r"formats \{instruction\}"),
        ("with_input", "{instruction} {input!s}", r"formats \{input\}"),
        ("without_input", "Do {instruction.x}:", r"has \['instruction\.x'\]"),
        ("without_input", "Do {instruction[0]}:", "has"),
        ("without_input", "{{instruction}} is text", "has no field"),
        ("without_input", "{ {instruction}", "written twice"),
        ("without_input", "} {instruction}", "written twice"),
        ("without_input", "{{ {% if x %} {instruction}", "written twice"),
        ("without_input", "{# {instruction} #}", "written twice"),
    ],
)
def test_a_template_that_training_or_lm_eval_cannot_fill_in_is_refused(values, form, text, says):
    values["template"][form] = text
    with pytest.raises(UserError, match=rf"^template\.{form}.*{says}"):
        inputs.check_consistency(values)


def test_a_template_of_the_evaluation_alone_is_checked_too(composed):
    values = composed()
    values["evaluate"]["template"] = values["template"] | {"without_input": "{instruction!r}"}
    with pytest.raises(UserError, match=r"^evaluate\.template\.without_input formats"):
        inputs.check_consistency(values)
