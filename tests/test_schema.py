import json

from tunetrail import schema


def test_a_made_schema_is_kept_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []
    monkeypatch.setattr(schema.launch, "output", lambda command: asked.append(command) or json.dumps({"type": "object"}))
    assert schema.params() == schema.params() == {"type": "object"}
    assert len(asked) == 1


def test_each_tool_is_asked_for_its_own_keys(known):
    properties = known["properties"]
    assert {"learning_rate", "sample_packing", "datasets"} <= set(properties["train"]["properties"])
    assert {"batch_size", "limit", "log_samples"} <= set(properties["evaluate"]["properties"])
    assert {"doc_to_text", "generation_kwargs"} <= set(properties["evaluate"]["properties"]["task"]["properties"])
    assert {"num_processes", "cpu", "multi_gpu"} <= set(properties["accelerate"]["properties"])
    assert "rope_theta" in str(properties["base"]) or "hidden_size" in str(properties["base"])
    assert all(part["additionalProperties"] is False for part in properties.values() if part.get("type") == "object")
