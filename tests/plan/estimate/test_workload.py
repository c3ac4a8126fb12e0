"""The counts of `plan`, compared with Axolotl's own tokenised rows; and the estimates for missing data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_models
from tunetrail import UserError, launch
from tunetrail.config import params
from tunetrail.data import records, template
from tunetrail.plan.estimate import workload
from tunetrail.stages import base, fetch, prepare
from tunetrail.training import checkpoint, tiny

COMMIT = "12567cabf869d7c92e573c7c783905fc160e9639"
IFEVAL = ["evaluate=ifeval", "evaluate.path=prompts.jsonl", "evaluate.hub=null"]
PROMPT = {"key": 1, "prompt": "Name a colour.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}

# Axolotl's own loading of the data of each config: the first id of a row, its length, its trained labels, the last.
AXOLOTL = """
import json, os, sys
os.environ["AXOLOTL_IS_PREPROCESS"] = "1"
from axolotl.cli.config import load_cfg
from axolotl.common.datasets import load_datasets

def told(row):
    return row["input_ids"][0], len(row["input_ids"]), sum(label != -100 for label in row["labels"]), row["labels"][-1]

for config in sys.argv[1:]:
    data = load_datasets(cfg=load_cfg(config))
    with open(f"{config}.json", "w") as file:
        json.dump([list(map(told, data.train_dataset)), list(map(told, data.eval_dataset))], file)
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch, composed):
    """Change to a folder with 40 rows, a prompt and an empty hub cache; return the function that composes values."""
    rows = [{"instruction": f"Say {n}.", "input": "", "output": "word " * n} for n in range(1, 41)]
    records.write(tmp_path / "rows.jsonl", rows)
    records.write(tmp_path / "prompts.jsonl", [PROMPT])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def values(*overrides):
        return composed("prepare=file", "prepare.path=rows.jsonl", "prepare.validation_rows=5", *IFEVAL, *overrides)

    return values


def cache(repo_id, filename, commit, content):
    """Put a file into the hub's cache, the folder hub/."""
    file = Path("hub") / repo_id / "snapshots" / commit / filename
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def changed(values, **keys):
    return values | {"train": values["train"] | keys}


def same_as_axolotls(values, cases):
    """Compare `workload.read` with Axolotl's rows for the config `train` of `values`, changed by each of `cases`.

    The data are those that the stages wrote. BOS is token 0 and EOS token 1.
    """
    files = [Path(f"axolotl{number}.yaml") for number in range(len(cases))]
    for file, case in zip(files, cases, strict=True):
        params.write_yaml(file, values["train"] | case | {"dataset_prepared_path": f"work/{file.stem}"})
    environment = launch.environment(offline=True) | {"HF_DATASETS_CACHE": "datasets"}
    command = [sys.executable, "-c", AXOLOTL, *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    workloads = []
    for file, case in zip(files, cases, strict=True):
        rows, held_out = json.loads(Path(f"{file}.json").read_text())
        firsts, lengths, supervised, lasts = zip(*rows, strict=True)
        work = workload.read(changed(values, **case), Path())
        assert sorted(work.lengths) == sorted(lengths), case
        assert work.supervised == sum(supervised), case
        assert (work.kept, work.dropped) == (len(rows), work.train - len(rows)), case
        assert sorted(work.validation_lengths) == sorted(length for _, length, _, _ in held_out), case
        assert work.bos_trained == all(first == 0 for first in firsts), case
        assert work.eos_supervised
        assert work.cut == sum(last != 1 for last in lasts), case
        workloads.append(work)
    return workloads


@pytest.mark.stage
@pytest.mark.slow
def test_the_demos_rows_and_tokens_equal_axolotls(tmp_path, monkeypatch, composed):
    """The stage `base` makes the tokenizer; only the training of its model is skipped."""

    def trained(command, log, label, offline):
        tiny_models.add_weights(Path("work/base/untrained"))
        checkpoint.copy(Path("work/base/untrained"), Path("work/base/trained"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run_tool", trained)
    values = composed()
    params.write_yaml(Path("params.yaml"), values)
    for stage in (fetch, prepare, base):
        stage.main()
    cases = [{}, {"sequence_len": 90}, {"sequence_len": 90, "excess_length_strategy": "truncate", "train_on_inputs": True}]
    uncut, dropped, cut = same_as_axolotls(values, cases)
    assert (uncut.source, uncut.why, uncut.raw, uncut.kept, uncut.dropped) == ("counted", "", 4000, 3900, 0)
    assert 100 < dropped.dropped < 3000
    assert (cut.cut, cut.dropped) == (dropped.dropped, 0)
    prompts = [row["prompt"] for row in records.read(Path("data/raw/prompts/world.jsonl"))]
    assert (uncut.prompts, uncut.overlap, uncut.contaminated) == (len(prompts), 0, [])


@pytest.mark.stage
@pytest.mark.slow
def test_real_rows_and_their_tokens_equal_axolotls(checkout, shared):
    """The tokenizer adds no BOS, and 14 of the rows are exact duplicates."""
    model = Path("model")
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes(shared(f"toy_tokenizer/{name}").read_bytes())
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    rows = shared("alpaca/alpaca_en_demo.jsonl")
    values = checkout(f"prepare.path={rows}", "model=local", "base.base_model=model", "prepare.validation_rows=50")
    params.write_yaml(Path("params.yaml"), values)
    for stage in (fetch, prepare):
        stage.main()
    tokens = {"special_tokens": {"pad_token": "<pad>", "additional_special_tokens": ["### Response:"]}, "tokens": ["ing"]}
    cases = [
        {"sequence_len": 1024},
        {"sequence_len": 300, "dataset_exact_deduplication": True, "min_sample_len": 70} | tokens,
        {"sequence_len": 96, "excess_length_strategy": "truncate", "eval_sequence_len": 200},
        {"sequence_len": 96, "excess_length_strategy": "truncate", "sample_packing": False, "eval_sample_packing": False},
    ]
    uncut, dropped, cut, unpacked = same_as_axolotls(values, cases)
    assert (uncut.source, uncut.raw, uncut.kept, uncut.longest) == ("counted", 999, 949, 872)
    assert dropped.dropped > 100
    assert cut.cut > 100
    assert cut.dropped > 0  # nothing is left of their answers
    assert (unpacked.dropped, unpacked.supervised) == (0, cut.supervised)


def test_real_rows_are_counted(checkout, shared):
    rows = shared("alpaca/alpaca_en_demo.jsonl")
    model = shared("toy_tokenizer/tokenizer.json").parent
    values = checkout(f"prepare.path={rows}", "model=local", f"base.base_model={model}")
    assert workload.read(values, Path()).source == "counted"


def test_rows_are_cut_or_dropped_by_the_keys_of_axolotl(checkout):
    values = checkout("base.make.vocab_size=300", "prepare.validation_rows=1", "train.sample_packing=false")
    uncut = workload.read(changed(values, sequence_len=4096), Path())
    assert (uncut.raw, uncut.train, uncut.validation, uncut.kept, uncut.dropped, uncut.cut) == (40, 39, 1, 39, 0, 0)
    assert uncut.lengths.max() == uncut.longest
    prompt = int(uncut.lengths.sum() - uncut.supervised) // 39
    shorter = changed(values, sequence_len=prompt + 20)
    dropped = workload.read(shorter, Path())
    assert (dropped.kept, dropped.longest) == (int((uncut.lengths <= prompt + 20).sum()), uncut.longest)
    assert 0 < dropped.kept < 39
    cut = workload.read(changed(shorter, excess_length_strategy="truncate"), Path())
    assert (cut.kept, cut.cut, cut.lengths.max()) == (39, dropped.dropped, prompt + 20)
    long = workload.read(changed(values, min_sample_len=prompt + 20, sequence_len=4096), Path())
    assert long.kept == int((uncut.lengths >= prompt + 20).sum())
    with pytest.raises(UserError, match=rf"raise, and a row has {uncut.longest} tokens, .*sequence_len={prompt + 20}"):
        workload.read(changed(shorter, excess_length_strategy="raise"), Path())
    assert workload.read(changed(values, excess_length_strategy="raise", sequence_len=4096), Path()).kept == 39


def test_truncated_rows_without_an_answer_are_dropped_if_rows_are_packed(checkout):
    values = changed(checkout("base.make.vocab_size=300"), sequence_len=8, excess_length_strategy="truncate")
    packed, unpacked = (workload.read(changed(values, sample_packing=flag), Path()) for flag in (True, False))
    assert (packed.kept, packed.dropped, packed.supervised) == (0, 35, 0)
    assert (unpacked.kept, unpacked.dropped, unpacked.supervised) == (35, 0, 0)
    assert len(packed.lengths) == 0
    trained = workload.read(changed(values, train_on_inputs=True), Path())
    assert (trained.kept, trained.supervised) == (35, 35 * 8)


def test_evaluation_prompts_and_validation_rows_that_occur_in_training_are_counted(checkout):
    rows = records.read(Path("rows.jsonl"))
    rows += [{"instruction": "name a  COLOUR.", "input": "", "output": "Red."}] * 2  # twice: never held out
    records.write(Path("rows.jsonl"), rows)
    more = [PROMPT | {"prompt": "Name a colour, please."}, PROMPT, PROMPT]
    records.write(Path("prompts.jsonl"), more)
    work = workload.read(checkout("base.make.vocab_size=300"), Path())
    assert (work.prompts, len(work.contaminated), work.overlap) == (3, 2, 0)


@pytest.mark.parametrize(("limit", "count", "contaminated"), [(None, 5, 1), (3, 3, 0), (9, 5, 1), (0.5, 3, 0), (0.9, 5, 1)])
def test_as_many_prompts_are_counted_as_lm_eval_evaluates(checkout, limit, count, contaminated):
    """The last of the five prompts is also a training row."""
    prompts = [PROMPT | {"prompt": f"No row {n}."} for n in range(4)] + [PROMPT | {"prompt": "Say 1."}]
    records.write(Path("prompts.jsonl"), prompts)
    values = checkout("base.make.vocab_size=300", "prepare.validation_rows=1", f"evaluate.limit={limit or 'null'}")
    rows = records.split(records.read(Path("rows.jsonl")), None, 1, values["seed"])[1]
    assert rows[0]["instruction"] != "Say 1."
    work = workload.read(values, Path())
    assert (work.prompts, len(work.contaminated)) == (count, contaminated)


@pytest.mark.usefixtures("checkout")
def test_statistics_of_alpaca_cleaned_and_of_ifeval_are_on_record(composed):
    values = composed("experiment=llama3_8b_alpaca_published")
    work, again = (workload.read(values, Path()) for _ in range(2))
    assert work.source == "recorded"
    assert "yahma/alpaca-cleaned is not in the hub's cache" in work.why
    assert "google/IFEval is not in the hub's cache" in work.why
    assert (work.raw, work.train, work.validation, work.kept) == (51760, 49172, 2588, 49172)
    assert work.lengths.mean() == pytest.approx(193.1, rel=0.002)
    assert work.supervised / work.kept == pytest.approx(144.7, rel=0.002)
    assert (work.prompts, work.longest_prompt) == (541, 385)
    assert (work.overlap, work.contaminated, work.bos_trained, work.eos_supervised) == (None, None, True, None)
    assert (work.lengths == again.lengths).all()
    assert abs(np.corrcoef(work.lengths, range(work.kept))[0, 1]) < 0.02  # in no order
    short = workload.read(changed(values, sequence_len=512), Path())
    assert short.dropped / short.train == pytest.approx(0.016, abs=0.001)
    fewer = workload.read(composed("experiment=llama3_8b_alpaca_published", "prepare.take=3000"), Path())
    assert (fewer.raw, fewer.train, fewer.validation) == (51760, 412, 2588)
    assert fewer.lengths.mean() == pytest.approx(193.1, rel=0.01)


def test_data_neither_in_the_cache_nor_on_record_are_an_error_with_the_command_that_fetches_them(checkout):
    values = checkout()
    values["prepare"]["hub"] = {"repo_id": "org/other", "filename": "rows.json", "revision": COMMIT}
    command = f"hf download --repo-type dataset org/other rows.json --revision {COMMIT}"
    with pytest.raises(UserError, match=f"org/other is not in the hub's cache.*{command}"):
        workload.read(values, Path())


def test_files_in_the_hubs_cache_are_counted(checkout):
    values = checkout("prepare=alpaca_cleaned", "model=smollm2_135m", "prepare.validation_rows=5", "prepare.empty=drop")
    values["evaluate"]["hub"] = {"repo_id": "org/prompts", "filename": "p.jsonl", "revision": COMMIT}
    rows = records.read(Path("rows.jsonl"))
    empty = {"instruction": "Say nothing.", "input": "", "output": " "}
    cache("datasets--yahma--alpaca-cleaned", "alpaca_data_cleaned.json", COMMIT, json.dumps([*rows, empty]))
    cache("datasets--org--prompts", "p.jsonl", COMMIT, json.dumps(PROMPT))
    trained = tiny.train_tokenizer(["Say it. Below is an instruction"], 300)
    model = "models--HuggingFaceTB--SmolLM2-135M", values["base"]["revision_of_model"]
    estimated = workload.read(values, Path())
    cache(model[0], "tokenizer.json", model[1], trained.to_str())
    cache(model[0], "tokenizer_config.json", model[1], json.dumps(tiny.SPECIAL_TOKENS))
    work = workload.read(values, Path())
    assert (estimated.source, work.source, work.why) == ("estimated", "counted", "")
    assert "no tokenizer of HuggingFaceTB/SmolLM2-135M is here" in estimated.why
    assert (work.raw, work.train, work.validation, work.prompts) == (41, 35, 5, 1)
    assert (estimated.raw, estimated.train, estimated.prompts, estimated.contaminated) == (41, 35, 1, [])
    assert (work.bos_trained, estimated.bos_trained) == (True, False)  # the second comes from the record
    prompt = template.prompt(values["template"], PROMPT["prompt"])
    assert work.longest_prompt == len(trained.encode(prompt).ids)


def test_without_a_tokenizer_the_bytes_of_real_rows_give_llama_3s_number_of_tokens(checkout, shared):
    values = checkout(
        f"prepare.path={shared('alpaca/alpaca_en_demo.jsonl')}", "model=llama3_8b", "prepare.validation_rows=1"
    )
    work = workload.read(values, Path())
    assert work.source == "estimated"
    assert work.lengths.mean() == pytest.approx(193.1, rel=0.002)
    assert work.supervised / work.kept == pytest.approx(144.7, rel=0.002)
    assert work.longest == pytest.approx(615, rel=0.05)


def test_other_data_sets_of_the_training_are_reported_as_left_out(checkout):
    values = checkout("base.make.vocab_size=300")
    named = values["train"]["datasets"]
    for other in ([*named, *named], [named[0] | {"path": "mine.jsonl"}], [named[0] | {"type": "alpaca"}], None):
        work = workload.read(changed(values, datasets=other), Path())
        assert work.source == "estimated"
        assert "train.datasets has other rows" in work.why


def test_a_template_of_the_section_train_is_the_one_that_is_counted(checkout):
    values = checkout("base.make.vocab_size=300")
    own = [values["train"]["datasets"][0]]
    own = [own[0] | {"type": own[0]["type"] | {"no_input_format": "{instruction}\n"}}]
    assert workload.read(changed(values, datasets=own), Path()).lengths.mean() < workload.read(values, Path()).lengths.mean()


def test_rows_under_a_key_and_fields_that_are_left_out_are_those_of_the_file(checkout):
    rows = [
        row | {"system": "Be brief." if number < 3 else ""} for number, row in enumerate(records.read(Path("rows.jsonl")))
    ]
    Path("rows.jsonl").write_text(json.dumps({"rows": rows}))
    work = workload.read(checkout("base.make.vocab_size=300", "prepare.field=rows"), Path())
    assert (work.raw, work.train, work.left_out) == (40, 35, {"system": 3})
