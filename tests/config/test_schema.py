def test_the_schema_of_each_section_comes_from_its_tool(known):
    properties = known["properties"]
    assert {"learning_rate", "sample_packing", "datasets"} <= set(properties["train"]["properties"])
    assert {"batch_size", "limit", "log_samples"} <= set(properties["evaluate"]["properties"])
    assert {"doc_to_text", "generation_kwargs"} <= set(properties["evaluate"]["properties"]["task"]["properties"])
    assert {"num_processes", "cpu", "multi_gpu"} <= set(properties["accelerate"]["properties"])
    assert "rope_theta" in str(properties["base"]) or "hidden_size" in str(properties["base"])
    assert all(part["additionalProperties"] is False for part in properties.values() if part.get("type") == "object")
