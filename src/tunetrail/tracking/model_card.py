"""A recorded run and its scores -> the model card of its registered version, Markdown."""

from typing import Any

from tunetrail.data import contract
from tunetrail.report import page
from tunetrail.tracking import tags
from tunetrail.tracking.recorded import RecordedRun

_PROVENANCE = {
    "data, md5": tags.DATA_MD5,
    "data, licence": tags.DATA_LICENSE,
    "base, SHA-256": tags.BASE_SHA256,
    "base, licence": tags.BASE_LICENSE,
    "model, md5": tags.MODEL_MD5,
    "commit": tags.GIT_COMMIT,
    "with changes that are not committed": tags.GIT_DIRTY,
    "DVC experiment": tags.DVC_EXPERIMENT,
}


def render(name: str, run: RecordedRun, values: dict[str, Any], measured: dict[str, Any], adapter: bool) -> str:
    """Return the card: what was trained on what, how it scored, what it may be used for."""
    licenses = ({"license": run.tags.get(tag)} for tag in (tags.DATA_LICENSE, tags.BASE_LICENSE))
    return page.render(
        "model_card.md.jinja",
        model=name,
        run=run,
        base=run.tags.get(tags.BASE_MODEL),
        revision=run.tags.get(tags.BASE_REVISION),
        source=run.tags.get(tags.DATA_SOURCE),
        provenance={label: run.tags[tag] for label, tag in _PROVENANCE.items() if tag in run.tags},
        params=values,
        metrics=measured,
        adapter=adapter,
        notice=contract.license_notice(*licenses),
    )
