import pytest

from tunetrail import UserError, inputs, records, world

ROWS = [{"instruction": f"a{number}", "input": "", "output": "b"} for number in range(3)]
FILE = {"hub": None, "generate": None, "empty": "refuse", "take": None, "validation_rows": 1, "seed": 0}
TRAIN = {"output_dir": "work/train", "plugins": [inputs.HISTORY_PLUGIN]}
PROMPT = {"key": 1, "prompt": "a", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


@pytest.fixture
def values(tmp_path):
    """Parameters that name a data file of three rows and a prompt file, both good."""
    records.write(tmp_path / "rows.jsonl", ROWS)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])
    return {
        "template": {"with_input": "{instruction} {input}", "without_input": "{instruction}"},
        "accelerate": {"num_processes": 1, "num_machines": 1},
        "prepare": FILE | {"path": str(tmp_path / "rows.jsonl")},
        "evaluate": {"path": str(tmp_path / "prompts.jsonl"), "hub": None},
        "base": {"make": {"train": dict(TRAIN)}, "base_model": "outputs/base/model"},
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


def test_no_row_left_to_train_on_is_said(values):
    values["prepare"]["validation_rows"] = 3
    with pytest.raises(UserError, match=r"3 rows, .* and prepare\.validation_rows=3 leaves none"):
        inputs.check(values)


def test_missing_prompts_are_said(values):
    values["evaluate"]["path"] = "nowhere.jsonl"
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        inputs.check(values)


def test_a_folder_that_is_no_model_is_said(values, tmp_path):
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
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    inputs.check(values)


@pytest.mark.parametrize("place", ["precious", "/models", "work", "work/../precious", ""])
def test_a_folder_that_training_would_empty_is_below_work(values, place):
    for section in (values["train"], values["base"]["make"]["train"]):
        section["output_dir"], before = place, section["output_dir"]
        with pytest.raises(UserError, match=r"train\.output_dir=.*below work/"):
            inputs.check(values)
        section["output_dir"] = before
    inputs.check(values)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("train", "plugins", ["axolotl.integrations.liger.LigerPlugin"], "train.plugins lacks tunetrail.live.HistoryPlugin"),
        ("train", "base_model", "other/model", "is not the base that is evaluated"),
        ("base", "base_model", "folder", "is not the base that is evaluated"),
        ("evaluate", "path", world.SOURCE, "Add evaluate=ifeval"),
        ("evaluate", "hub", {"repo_id": "a/b"}, "Set evaluate.hub=null to take the file"),
        ("prepare", "hub", {"repo_id": "a/b"}, "Set prepare.hub=null to take the file"),
    ],
)
def test_what_two_stages_rely_on_is_held_together(values, section, key, value, says):
    values[section][key] = value
    with pytest.raises(UserError) as error:
        inputs.check(values)
    assert says in str(error.value)


def test_a_folder_for_a_model_that_is_made_is_refused(values):
    values["base"]["base_model"] = values["train"]["base_model"] = "folder"
    with pytest.raises(UserError, match="Add model=local"):
        inputs.check(values)


def test_what_the_hub_has_is_not_looked_for_here_but_punkt_is(values, tmp_path, monkeypatch):
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
def test_a_template_without_its_fields_is_said(values, form, text):
    values["template"][form] = text
    with pytest.raises(UserError, match=rf"template\.{form} holds .* It needs"):
        inputs.check(values)


@pytest.fixture
def made(composed, tmp_path, monkeypatch):
    """The composed values of overrides, with dotted keys changed afterwards, as in a file of the person's own."""
    monkeypatch.chdir(tmp_path)
    records.write(tmp_path / "rows.jsonl", ROWS)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])

    def values(*words, **changes):
        whole = composed(*words)
        for key, value in changes.items():
            *sections, name = key.split("__")
            section = whole
            for part in sections:
                section = section[part]
            section[name] = value
        return whole

    return values


HUB = {"repo_id": "org/rows", "filename": "r.json", "revision": "a" * 40}
OWN = ("prepare=file", "prepare.path=rows.jsonl", "evaluate=ifeval", "evaluate.path=prompts.jsonl", "evaluate.hub=null")


@pytest.mark.parametrize(
    "words",
    [
        (),
        OWN,
        ("model=llama3_8b", *OWN),
        ("experiment=llama3_8b_alpaca_published",),
        ("evaluate.path=prompts.jsonl", "evaluate.task.task=ifeval"),
        (
            f"prepare.hub={{repo_id:org/rows,filename:r.json,revision:{'a' * 40}}}",
            "prepare.generate=null",
            "evaluate=ifeval",
        ),
    ],
)
def test_what_conf_composes_does_not_contradict_itself(made, words):
    assert inputs.together(made(*words)) is None


@pytest.mark.parametrize(
    ("words", "changes", "says"),
    [
        # Of two sources of rows one would win in silence.
        ((), {"prepare__path": "rows.jsonl"}, "prepare.path=rows.jsonl would not be read"),
        ((), {"prepare__hub": HUB}, "prepare.generate=null takes the hub's"),
        ((), {"prepare__generate": None}, "Set prepare=file prepare.path=FILE"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "rows.jsonl"}, "Set prepare.hub=null"),
        (("prepare=alpaca_cleaned", "evaluate=ifeval"), {"prepare__path": "conf/rows.jsonl"}, "Set prepare.hub=null"),
        (OWN, {"evaluate__hub": HUB}, "Set evaluate.hub=null"),
        (OWN, {"prepare__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        (OWN, {"evaluate__path": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ((), {"evaluate__hub": HUB}, "evaluate=ifeval for the hub's"),
        (OWN[:2], {}, "tunetrail run experiment=alpaca_tiny prepare.path=rows.jsonl evaluate.path=PROMPTS"),
        ((*OWN[:2], "model=llama3_8b"), {}, "Add evaluate=ifeval to take"),
        # A copy that differs from what it was made from.
        ((), {"fetch__generate": None}, "Set prepare.generate alone"),
        (OWN, {"fetch__instructions__path": "other.jsonl"}, "Set prepare.path alone"),
        (OWN, {"fetch__instructions__hub": HUB}, "Set prepare.hub alone"),
        (OWN, {"fetch__prompts__path": "other.jsonl"}, "Set evaluate.path alone"),
        (OWN, {"fetch__prompts__hub": HUB}, "Set evaluate.hub alone"),
        ((), {"contract__license": "mit"}, "Set prepare.license alone"),
        ((), {"contract__expected_rows": 5}, "Set prepare.expected_rows alone"),
        ((), {"contract__sequence_len": 5}, "Set train.sequence_len alone"),
        ((), {"contract__excess_length_strategy": "raise"}, "Set train.excess_length_strategy alone"),
        ((), {"base__template__without_input": "{instruction}"}, "Set template alone"),
        # A model of which two keys say different things.
        (("model=llama3_8b", *OWN), {"train__model_revision": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__revision_of_model": "main"}, "Set base.revision_of_model alone"),
        (("model=llama3_8b", *OWN), {"train__model_revision": None}, "Set train.model_revision="),
        (("model=llama3_8b", *OWN), {"base__base_model": ".", "train__base_model": "."}, "Add model=local"),
        ((), {"base__revision_of_model": "main"}, "Set it to null"),
        ((), {"base__path": "rows.jsonl"}, "is made from data/prepared/text.jsonl"),
        ((), {"base__make__train__base_model": "org/m"}, "starts as work/base/untrained"),
        # What the stage `evaluate` sets itself.
        ((), {"evaluate__model_args__revision": "main"}, "Set base.base_model alone"),
        ((), {"evaluate__model_args__peft": "adapter"}, "Set base.base_model alone"),
        ((), {"evaluate__task__dataset_kwargs": {"data_files": "x"}}, "Set evaluate.path alone"),
        ((), {"evaluate__task__doc_to_text": "{{prompt}}"}, "Set template alone"),
        ((), {"evaluate__gen_kwargs": {"max_gen_toks": 5}}, "Set evaluate.task.generation_kwargs alone"),
    ],
)
def test_two_keys_that_say_different_things_are_one_message_with_its_fix(made, words, changes, says):
    with pytest.raises(UserError) as error:
        inputs.together(made(*words, **changes))
    assert says in str(error.value)
